"""Files that are written atomically, and checksums that reveal damage."""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import pwd
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import platformdirs
from filelock import lock_descriptor

from gluon_rnn.common.errors import UserError

#: The largest file that is read as a whole. The tables of thousands of runs are much smaller.
_MOST_BYTES = 2**30
#: Errors by which a file system says that it does not support an operation.
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
#: The same of locks; the last is a network file system's without a lock server.
_NO_LOCKS = (*_UNSUPPORTED, errno.ENOLCK)


def home_directory() -> Path | None:
    """The user's home folder, from ``HOME`` or the system's list of users; None if neither has one, as in a container
    that runs under an unlisted user id.
    """
    try:
        home = os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None
    return Path(home) if os.path.isabs(home) else None


def cache_directory() -> Path | None:
    """The suite's cache, for files that can be made again: ``gluon_rnn`` in the user's cache, which is
    ``XDG_CACHE_HOME`` or ``~/.cache`` on Linux. WikiText-2 takes 11 MB there. The folder may be deleted at any time.

    None if the user has no home folder; then nothing is cached.
    """
    try:
        folder = platformdirs.user_cache_path("gluon_rnn")
    except RuntimeError:  # before platformdirs 4.12 it would be ~/.cache in the current folder
        return None
    return folder if folder.is_absolute() else None


def expand(path: Path | str) -> Path:
    """`path` with a leading ``~`` or ``~user`` replaced by that home folder.

    Raises:
        UserError: there is no such folder.
    """
    text, path = os.fspath(path), Path(path)
    first = path.parts[0] if path.parts else ""
    if not first.startswith("~"):
        return path
    if not text.startswith("~"):  # ./~/x, of which a Path keeps ~/x
        return path.absolute()
    if first == "~":
        if home := home_directory():
            return home.joinpath(*path.parts[1:])
        raise UserError(f"{path}: this user has no home folder; set HOME, or write the path in full")
    try:
        return path.expanduser()
    except RuntimeError:
        raise UserError(
            f"{path}: there is no user {first[1:]}; write the path in full, or ./{path} for what is called so here"
        ) from None


def read_whole(path: Path) -> bytes:
    """The content of `path`, which may come from anyone.

    Raises:
        OSError: it cannot be read, is larger than 1 GiB, or is not a regular file (a pipe could block, and a device may
            be endless).
    """
    # Otherwise, opening a pipe without a writer would block before the check.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "Is not a file", str(path))
        if state.st_size > _MOST_BYTES:
            raise OSError(errno.EFBIG, "Is longer than a GiB", str(path))
        return file.read()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` at once (text as UTF-8): written beside it, flushed to the disk, then renamed.

    When this returns, the new content survives a loss of power. A process that is killed meanwhile leaves `path` as it
    was and perhaps a file for `remove_leftovers`.

    Raises:
        OSError: the disk is full or the folder cannot be written; it names `path`, which is then as it was.
    """
    with _replacing(path) as name, name.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        _flush_to_disk(file.fileno())


def replicate(source: Path, path: Path) -> None:
    """Atomically replace `path` by the content of `source`, as a hard link where the file system supports that.

    Only for files that are replaced and never modified.

    Raises:
        OSError: see `write_atomically`.
    """
    try:
        with _replacing(path) as name:
            os.link(source, name)
    except OSError:
        write_atomically(path, source.read_bytes())


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that `remove_leftovers` recognises. The file written there replaces `path` at the
    end.
    """
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with _naming(path):
        try:
            yield name
            os.replace(name, path)
        finally:
            # It is still there after an error, which says more than one of this, and where both name the same file.
            with suppress(OSError):
                name.unlink()
    _flush_folder(path.parent)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error in here is about `path`: a full disk's names no file, others would name the one beside it."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        del error.filename2
        raise


def append(path: Path, content: bytes) -> None:
    """Add `content` to the end of `path`, which is made unless it is there.

    Raises:
        OSError: it cannot be written; the error names it.
    """
    with _naming(path), path.open("ab") as file:
        file.write(content)


def _flush_to_disk(handle: int) -> None:
    """``fsync``, where the file system has one."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _flush_folder(folder: Path) -> None:
    """``fsync`` of a folder. Some file systems do not support it; the files are written nevertheless."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def try_lock(handle: int) -> bool | None:
    """Lock an open file. Returns False if another process holds the lock and None if the file system has no locks.

    Raises:
        OSError: the lock cannot be taken, for some other reason.
    """
    try:
        return lock_descriptor(handle, blocking=False)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise


@contextmanager
def locked_file(path: Path) -> Iterator[bool]:
    """Wait for the lock of the file `path`, which is created if necessary, and hold it.

    Yields whether the lock is held: it is not on a file system without locks.
    """
    with path.open("a") as file:
        while (held := try_lock(file.fileno())) is False:
            time.sleep(0.05)
        yield held is True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which is created if necessary; see `locked_file`.

    Leftovers of killed processes are removed, except on a file system without locks, where they may belong to a running
    process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked_file(folder / ".lock") as held:
        if held:
            remove_leftovers(folder)
        yield


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left unfinished; the caller must be the only process that writes to `folder`."""
    for path in folder.glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to ``NAME.damaged``, or ``NAME.damaged-2`` and so on. Returns the new path."""
    return move_beside(path, path.with_name(f"{path.name}.damaged"))


def move_beside(path: Path, to: Path) -> Path:
    """Rename a file or folder to `to` or, if that exists, to ``to-2`` and so on. Returns the new path."""
    names = (to.with_name(f"{to.name}{f'-{number}' if number > 1 else ''}") for number in count(1))
    free = next(name for name in names if not os.path.lexists(name))
    path.rename(free)
    return free


def sha256_of(content: bytes) -> str:
    """The SHA-256 of `content` in hexadecimal, which reveals damage."""
    return hashlib.sha256(content, usedforsecurity=False).hexdigest()


def sha1_of(content: bytes) -> str:
    """The SHA-1 of `content` in hexadecimal. It identifies files and is not a defence against forgery."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


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
        raise UserError(f"cannot write {path}: {error.strerror or error}; name a file in an existing folder") from None
