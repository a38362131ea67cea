"""Files are whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gluon_rnn.files import remove_leftovers, seal, set_aside, unseal, write_atomically


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
