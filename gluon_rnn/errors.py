"""The one exception that a user can cause."""


class UserError(Exception):
    """A mistake that whoever started the command can mend.

    Its text is one line that names the thing and the mend. The command line prints it and exits with status 2; nothing
    has been started by then.
    """
