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


def test_a_seal_holds_for_the_content_however_it_is_laid_out() -> None:
    content = {"a": [1.5, 1e-05, None, "é\u2028"], "b": {"c": True}, "d": 3}
    text = seal(content)
    assert unseal(text.encode()) == content
    assert unseal(json.dumps(json.loads(text), sort_keys=True).encode()) == content
    for damaged in (
        text.replace("1.5", "1.25"),
        text.replace("true", "false"),
        text.replace('"d"', '"e"'),
        text[:-3],
        json.dumps(content),
        "[]",
        "",
        "[" * 100_000,
        b"\xff",
    ):
        with pytest.raises(ValueError, match=r"."):
            unseal(damaged if isinstance(damaged, bytes) else damaged.encode())
