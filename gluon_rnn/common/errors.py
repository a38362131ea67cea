"""The exception for users' errors, and one-line messages for errors of the operating system."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

#: Limits of a process or of the machine, and the fix.
_LIMITS = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs: the machine can open no more files",
    errno.EAGAIN: "end other programs, or raise the limit of processes (ulimit -u)",
    errno.ENOMEM: "end other programs, or raise the limit of memory (ulimit -v)",
}
#: The dynamic linker's message about a shared library for which there is not enough memory.
_UNMAPPED = ("failed to map segment", "cannot allocate memory")
_MENDS = {**_LIMITS, errno.EFBIG: "raise the limit of a file's size (ulimit -f)"}


class UserError(Exception):
    """An error that the user can fix.

    Its text is one line that names the thing and the fix. The command line prints it and exits with status 2; nothing
    has been started by then.
    """


def is_limit(error: OSError) -> bool:
    """Whether a limit of the process or of the machine was reached, independently of the file or command."""
    return error.errno in _LIMITS


def reason(error: BaseException) -> str:
    """The message of the operating system or, without one, of the exception, in one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def fix(error: OSError, otherwise: str = "") -> str:
    """What to do about it; `otherwise` where the error does not tell."""
    return _MENDS.get(error.errno or 0, otherwise)


def refusal(error: OSError) -> str:
    """The operating system's error, the file, and the fix if one is known, in one line."""
    named = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
    return "; ".join(filter(None, [named + reason(error), fix(error)]))


def shortage(error: Exception) -> str | None:
    """The operating system's error in one line, however Python reports it; None if `error` is something else."""
    if isinstance(error, OSError):
        return refusal(error)
    if isinstance(error, MemoryError):
        return f"out of memory; {_LIMITS[errno.ENOMEM]}"
    if isinstance(error, ImportError) and any(sign in str(error) for sign in _UNMAPPED):
        # NumPy adds a page of advice, which ends with the reason.
        return f"cannot load a library: {str(error).strip().splitlines()[-1]}; {_LIMITS[errno.ENOMEM]}"
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return f"cannot start a thread; {_LIMITS[errno.EAGAIN]}"
    return None


@contextmanager
def starting(program: str) -> Iterator[None]:
    """A context for starting a process.

    Raises:
        UserError: the operating system refused it.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot start {program}: {refusal(error)}") from error


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where one of `known` is close to `word`, in whatever case, else nothing."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1) if isinstance(word, str) else []
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""
