"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from gluon_rnn.errors import UserError

#: Of a file that is read as a whole; the tables of thousands of runs do not come near.
_MOST_BYTES = 2**30


def read_whole(path: Path) -> bytes:
    """The content of `path`, which others may have put there.

    Raises:
        OSError: it cannot be read, is longer than a GiB, or no file: a pipe would be waited for, a device has no end.
    """
    # Else a pipe that nobody writes to would be waited for before it can be seen to be one.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "Is no file", str(path))
        if state.st_size > _MOST_BYTES:
            raise OSError(errno.EFBIG, "Is longer than a GiB", str(path))
        return file.read()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` at once (text as UTF-8): written beside it, flushed to the disk, then renamed.

    Raises:
        OSError: the disk is full or the folder cannot be written; `path` is then as it was.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner reads; a table is for everyone the folder is for.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_named(path: Path, content: str) -> None:
    """`write_atomically` to a file that the user named.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; name a file in a folder that is there"
        ) from None
