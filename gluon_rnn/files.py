"""Files that are either whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gluon_rnn.errors import UserError


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
