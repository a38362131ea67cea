"""A user's own cell by its name: which file defines it, and which go to another machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from gluon_rnn.errors import UserError
from gluon_rnn.own_cells import source_file, source_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one, with a module, and a package of packages; nothing in them can be imported."""
    for name in ("single.py", "package/__init__.py", "package/inner/__init__.py", "package/inner/cells.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"raise RuntimeError({name!r})")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "cells.py").write_text("bare")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("cell", "file"), [
    ("single:Cell", "single.py"),
    ("package:Cell", "package/__init__.py"),
    ("package.inner.cells:Cell", "package/inner/cells.py"),
    ("bare.cells:Cell", "bare/cells.py"),
])  # fmt: skip
def test_the_file_of_a_cell(folder: Path, cell: str, file: str) -> None:
    assert source_file(cell) == folder / file


def test_a_package_goes_whole_to_another_machine(folder: Path) -> None:
    assert source_files("single:Cell") == {"single.py": b"raise RuntimeError('single.py')"}
    assert source_files("package.inner.cells:Cell") == {
        name: f"raise RuntimeError({name!r})".encode()
        for name in ("package/__init__.py", "package/inner/__init__.py", "package/inner/cells.py")
    }
    assert source_files("bare.cells:Cell") == {"bare/cells.py": b"bare"}


@pytest.mark.parametrize("cell", ["nowhere:Cell", "package.nowhere:Cell", "single.nowhere:Cell", "bare:Cell"])
def test_a_cell_that_is_nowhere_is_one_line(folder: Path, cell: str) -> None:
    with pytest.raises(UserError, match=f"cell {cell}: there is no module {cell.partition(':')[0]} in this folder"):
        source_file(cell)


def test_a_module_that_is_nowhere_goes_nowhere(folder: Path) -> None:
    with pytest.raises(UserError, match=r"there is no module package\.nowhere"):
        source_files("package.nowhere:Cell")
