"""Files that are either whole or not there, and that show when they are no longer what was written."""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import platformdirs

from gluon_rnn.errors import UserError

#: Of a file that is read as a whole; the tables of thousands of runs do not come near.
_MOST_BYTES = 2**30


def cache_directory() -> Path:
    """Where this suite keeps what it can make again: ``gluon_rnn`` in the user's cache, which is ``XDG_CACHE_HOME`` or
    ``~/.cache`` on Linux. WikiText-2 takes 11 MB there. The folder may be deleted at any time.
    """
    return platformdirs.user_cache_path("gluon_rnn")


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

    When this returns, the new content survives a loss of power. A process that is killed meanwhile leaves `path` as it
    was and perhaps a file for `remove_leftovers`.

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
    with suppress(OSError):  # some file systems cannot flush a folder; its file is there all the same
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed in `write_atomically` left; for whoever has `folder` to himself."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to ``NAME.damaged``, or ``NAME.damaged-2`` and so on, and return that."""
    return move_beside(path, path.with_name(f"{path.name}.damaged"))


def move_beside(path: Path, to: Path) -> Path:
    """Rename a file or folder to `to` or, where there is such a one already, ``to-2`` and so on, and return that."""
    names = (to.with_name(f"{to.name}{f'-{number}' if number > 1 else ''}") for number in count(1))
    free = next(name for name in names if not os.path.lexists(name))
    path.rename(free)
    return free


def sha256_of(content: bytes) -> str:
    """The SHA-256 of `content` in hexadecimal, which tells damage from what was written."""
    return hashlib.sha256(content, usedforsecurity=False).hexdigest()


def sha1_of_file(path: Path) -> str:
    """The SHA-1 of a file of any length in hexadecimal, which recognises it; a UTF-8 byte-order mark does not count.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        digest.update(file.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8))
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


_SEAL = ',\n "sha256": "{}"\n}}\n'


def seal(content: Mapping[str, Any]) -> str:
    """`content`, which is not empty, as JSON whose last entry is the SHA-256 of all that stands before it."""
    body = json.dumps(content, indent=1).removesuffix("\n}")
    return body + _SEAL.format(sha256_of(body.encode()))


def unseal(text: bytes) -> dict[str, Any]:
    """What `seal` was given, and its ``sha256``.

    Raises:
        ValueError: it is not what `seal` wrote. Line ends that Git has changed to those of Windows are let pass.
    """
    text = text.replace(b"\r\n", b"\n")
    body = text[: -len(_SEAL.format("0" * 64))]
    if text != body + _SEAL.format(sha256_of(body)).encode():
        raise ValueError("its content does not fit its checksum")
    content: dict[str, Any] = json.loads(text)
    return content


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
