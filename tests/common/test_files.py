"""Files are whole or not there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import (
    append,
    cache_directory,
    expand,
    home_directory,
    remove_leftovers,
    seal,
    set_aside,
    try_lock,
    unseal,
    write_atomically,
)


@contextmanager
def no_more_open_files() -> Iterator[None]:
    """This process may open no other file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)  # the lowest number, below which all are taken
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def refuse(number: int) -> Callable[..., NoReturn]:
    """What a file system does that answers with this number."""

    def refusing(*arguments: object, **options: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refusing


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_atomically(path, "old\n")
    write_atomically(path, "new é\r\n")
    assert path.read_bytes() == "new é\r\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_whoever_may_read_the_folder_may_read_the_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "table.csv", "")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (tmp_path / "table.csv").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_modes_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Nor is the umask touched, which is all threads'."""
    for name in ("chmod", "fchmod", "lchmod", "umask"):
        monkeypatch.setattr(os, name, refuse(number), raising=False)
    write_atomically(tmp_path / "table.csv", "new\n")
    assert (tmp_path / "table.csv").read_text() == "new\n"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_cannot_flush_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "fsync", refuse(number))
    write_atomically(tmp_path / "table.csv", "new\n")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new\n"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_flush_that_fails_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refuse(number))
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        write_atomically(tmp_path / "table.csv", "new\n")
    assert (raised.value.errno, raised.value.filename) == (number, str(tmp_path / "table.csv"))
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    path, folder = tmp_path / "table.csv", tmp_path / "folder"
    write_atomically(path, "old\n")
    folder.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match=r"^\[Errno 27\] File too large: '[^']*table.csv'$"):
            write_atomically(path, "new\n" * 10)
        with pytest.raises(OSError, match=r"^\[Errno 27\] File too large: '[^']*table.csv'$"):
            append(path, b"more\n" * 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for name in (folder, tmp_path / "none" / "table.csv"):
        with pytest.raises(OSError, match=name.name) as raised:
            write_atomically(name, "new\n")
        assert str(raised.value).endswith(f": '{name}'")
    assert path.read_bytes().startswith(b"old\n")
    assert sorted(tmp_path.iterdir()) == [folder, path]


def test_a_long_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 241)
    write_atomically(path, "old\n")
    write_atomically(path, "new\n")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("new\n", [path])


def test_a_lock_is_held_once_and_is_unknown_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "lock").open("w") as one, (tmp_path / "lock").open() as other:
        assert try_lock(one.fileno()) is True
        assert try_lock(other.fileno()) is False
        for number in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            monkeypatch.setattr(fcntl, "flock", refuse(number))
            assert try_lock(one.fileno()) is None
        monkeypatch.setattr(fcntl, "flock", refuse(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            try_lock(one.fileno())


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / "table.csv"
    write_atomically(path, "old\n")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new\n")
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    write_atomically(path, "old\n")
    seen: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (seen.append(path.read_text()), fsync(handle)))
    write_atomically(path, "new\n")
    # The second is the folder's: from then on the new name lasts.
    assert (seen, path.read_text()) == (["old\n", "new\n"], "new\n")


def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path: Path) -> None:
    for name in (".table.csv.ab12.tmp", "table.csv", ".lock", "notes.tmp", ".hidden"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", ".lock", "notes.tmp", "table.csv"]


def test_nothing_that_was_set_aside_is_overwritten(tmp_path: Path) -> None:
    for content in ("first", "second", "third"):
        (tmp_path / "x.csv").write_text(content)
        set_aside(tmp_path / "x.csv")
    (tmp_path / "folder").mkdir()
    assert set_aside(tmp_path / "folder") == tmp_path / "folder.damaged"
    names = ["x.csv.damaged", "x.csv.damaged-2", "x.csv.damaged-3"]
    assert [(tmp_path / name).read_text() for name in names] == ["first", "second", "third"]


def test_a_seal_holds_for_what_was_sealed() -> None:
    content = {"a": [1.5, 1e-05, None, "é\u2028"], "b": {"c": True}, "d": 3}
    text = seal(content)
    assert {**content, "sha256": json.loads(text)["sha256"]} == json.loads(text) == unseal(text.encode())
    assert unseal(text.replace("\n", "\r\n").encode()) == json.loads(text)
    whole = text.encode()
    turned = [
        whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
        for place in range(len(whole))
        for bit in range(8)
    ]
    other = [b"", b"[]", json.dumps(content).encode(), json.dumps(json.loads(text)).encode(), b"[" * 100_000, b"\xff"]
    for damaged in (*turned, *(whole[:place] for place in range(len(whole))), *other):
        with pytest.raises(ValueError, match="does not fit its checksum"):
            unseal(damaged)


# Home folders


def nobody(number: int) -> pwd.struct_passwd:
    """What the system says of a user who is in no list."""
    raise KeyError(f"getpwuid(): uid not found: {number}")


@pytest.mark.parametrize("home", [None, "", "relative", "~"])
def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str | None) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert home_directory() is cache_directory() is None
    with pytest.raises(UserError, match=r"^~/x: this user has no home folder; set HOME, or write the path in full$"):
        expand("~/x")
    # A user who names a folder for it has one.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_directory() == tmp_path / "cache" / "gluon_rnn"
    for nowhere in ("~/.cache", "cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", nowhere)
        assert cache_directory() is None
    assert list(tmp_path.iterdir()) == []


def test_without_a_variable_the_home_is_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda number: SimpleNamespace(pw_dir=str(tmp_path)))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "")
    assert (home_directory(), cache_directory()) == (tmp_path, tmp_path / ".cache" / "gluon_rnn")
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    assert (home_directory(), expand("~/x/y")) == (tmp_path / "other", tmp_path / "other" / "x" / "y")


def test_a_tilde_is_a_home_folder_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    same = ("x/~", "./~/x", "/~", "x~", "")
    assert [expand(path) for path in ("~", "~/", "~/a b/é", *same)] == [
        Path("/home/me"),
        Path("/home/me"),
        Path("/home/me/a b/é"),
        Path("x/~"),
        Path.cwd() / "~/x",
        *map(Path, same[2:]),
    ]
    assert expand(f"~{pwd.getpwuid(0).pw_name}/x") == Path(pwd.getpwuid(0).pw_dir, "x")
    with pytest.raises(
        UserError, match=r"^~no-such-user/x: there is no user no-such-user; write .* or \./~no-such-user/x "
    ):
        expand("~no-such-user/x")
