"""A user's own cell by its name: which file defines it, and of which sources it is made."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.identity import run_id, source_file, source_files, source_sha1
from gluon_rnn.config.run import configure


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
    with pytest.raises(UserError, match=f"cell {cell}: no module {cell.partition(':')[0]} in this folder"):
        source_file(cell)


def test_a_module_that_is_nowhere_goes_nowhere(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no module package\.nowhere"):
        source_files("package.nowhere:Cell")


@pytest.mark.parametrize(("cell", "file"), [("single:Cell", "single.py"), ("bare.cells:Cell", "bare/cells.py")])
def test_a_cell_in_one_file_is_known_by_that_files_bytes(folder: Path, cell: str, file: str) -> None:
    assert source_sha1(cell) == hashlib.sha1((folder / file).read_bytes()).hexdigest()


def write(folder: Path, **sources: str) -> None:
    """Modules by name; ``a__b`` is ``a/b.py``."""
    for name, text in sources.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("changed", ["package/__init__.py", "package/inner/__init__.py", "package/inner/cells.py"])
def test_a_change_anywhere_in_its_package_makes_another_cell(folder: Path, changed: str) -> None:
    before = source_sha1("package.inner.cells:Cell")
    text = (folder / changed).read_text()
    (folder / changed).write_text("changed")
    assert source_sha1("package.inner.cells:Cell") != before
    (folder / changed).write_text(text)
    assert source_sha1("package.inner.cells:Cell") == before
    # The same text by another name is another source.
    shutil.copy(folder / changed, folder / "package" / "moved.py")
    assert source_sha1("package.inner.cells:Cell") != before


@pytest.mark.parametrize("statement", ["import near", "import near as n, os", "from near import gate", "import near.x"])
def test_what_a_module_imports_from_beside_it_is_part_of_the_cell(folder: Path, statement: str) -> None:
    write(folder, mine=f"def late():\n    {statement}\n", near="from farther import *\n", farther="1\n", idle="2\n")
    assert sorted(source_files("mine:Cell")) == ["farther.py", "mine.py", "near.py"]
    before = source_sha1("mine:Cell")
    write(folder, idle="3\n")
    assert source_sha1("mine:Cell") == before
    write(folder, farther="4\n")
    assert source_sha1("mine:Cell") != before


def test_a_package_that_is_imported_from_beside_comes_whole_and_so_does_what_it_imports(folder: Path) -> None:
    write(folder, mine="import package.inner\n", package__more="import single, mine\n")
    assert sorted(source_files("mine:Cell")) == [
        "mine.py",
        "package/__init__.py",
        "package/inner/__init__.py",
        "package/inner/cells.py",
        "package/more.py",
        "single.py",
    ]


def test_what_a_node_has_of_its_own_is_not_part_of_a_cell(folder: Path) -> None:
    """This package, Python's modules, and packages that are installed, though something lies beside by their name."""
    write(folder, mine="import gluon_rnn.networks.layers, random, numpy, elsewhere\n", gluon_rnn="", random="")
    (folder / "numpy").mkdir()
    (folder / "numpy" / "notes.py").touch()
    assert list(source_files("mine:Cell")) == ["mine.py"]
    write(folder, installed="import single\n", single="")
    assert list(source_files("installed:Cell")) == ["installed.py", "single.py"]
    (folder / "single-1.0.dist-info").mkdir()
    assert list(source_files("installed:Cell")) == ["installed.py"]


def test_what_python_cannot_import_is_not_part_of_a_package(folder: Path) -> None:
    before = source_files("package:Cell")
    (folder / "package" / ".#cells.py").symlink_to("someone@somewhere.123")  # Emacs, while a file is edited
    (folder / "package" / "cells-copy.py").touch()
    (folder / "package" / ".ipynb_checkpoints").mkdir()
    (folder / "package" / ".ipynb_checkpoints" / "cells.py").touch()
    (folder / "package" / "folder.py").mkdir()
    assert source_files("package:Cell") == before


@pytest.mark.parametrize("text", ["class (", "import near\nclass (", "\0", "(" * 500 + ")" * 500])
def test_a_source_that_is_no_python_imports_nothing(folder: Path, text: str) -> None:
    write(folder, mine=text, near="")
    assert source_sha1("mine:Cell") == hashlib.sha1(text.encode()).hexdigest()


def test_the_sources_are_the_same_cell_in_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, mine="import near, package\n", near="")
    before, files = source_sha1("mine:Cell"), source_files("mine:Cell")
    there = folder / "there"
    for name, content in files.items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(content)
    monkeypatch.chdir(there)
    assert source_sha1("mine:Cell") == before
    shutil.rmtree(there / "package" / "inner")
    assert source_sha1("mine:Cell") != before


def test_a_source_that_cannot_be_read_is_one_line(folder: Path) -> None:
    # A file that root cannot read either.
    (folder / "package" / "memory.py").symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match=r"^cell package:Cell: cannot read .*memory\.py: Input/output error; fix that"):
        source_files("package:Cell")


@pytest.mark.parametrize("module", ["random", "time", "json", "collections"])
def test_a_cell_that_is_called_as_a_module_of_pythons_own_is_refused(folder: Path, module: str) -> None:
    """Python would import its own, wherever it keeps that."""
    write(folder, **{module: "class Cell: pass\n"})
    with pytest.raises(
        UserError, match=rf"^cell {module}:Cell: Python's own module {module} comes before yours; rename"
    ):
        source_file(f"{module}:Cell")


def test_the_current_folder_comes_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the cell and for what it imports; also where it comes first in this process, as in an interactive one."""
    write(folder, mine="import helper\n", helper="1\n", lib__helper="22\n")
    monkeypatch.setattr("sys.path", ["", str(folder), *sys.path, str(folder / "lib")])
    assert source_files("mine:Cell") == {"mine.py": b"import helper\n"}
    write(folder, lib__mine="import helper\n")
    assert source_file("mine:Cell") == folder / "lib" / "mine.py"
    assert source_files("mine:Cell") == {"helper.py": b"22\n", "mine.py": b"import helper\n"}


@pytest.mark.parametrize(("file", "module"), [
    ("single.py", "single"),
    ("./single.py", "single"),
    ("package/inner/cells.py", "package.inner.cells"),
    ("bare/cells.py", "bare.cells"),
])  # fmt: skip
def test_a_cell_named_by_its_file_is_that_of_its_module(folder: Path, file: str, module: str) -> None:
    for written in (file, str(folder / file)):
        config = configure({"cell": f"{written}:Cell"})
        assert config == configure({"cell": f"{module}:Cell"})
        assert source_file(config.cell) == folder / file
        content = {"cell": source_sha1(config.cell)}
        assert run_id(config, content=content) == run_id(configure({"cell": f"{module}:Cell"}), content=content)


@pytest.mark.parametrize(("file", "line"), [
    ("../elsewhere.py", "is not in this folder or on Python's path; set PYTHONPATH=.. and name its class as else"),
    ("my-cell.py", "cannot be imported; rename it to letters, digits and '_'"),
    ("package/1.py", "cannot be imported; rename it"),
])  # fmt: skip
def test_a_file_that_python_would_not_find_is_one_line(folder: Path, file: str, line: str) -> None:
    with pytest.raises(UserError) as refused:
        configure({"cell": f"{file}:Cell"})
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_on_pythons_path_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path)
    assert configure({"cell": "../package/inner/cells.py:Cell"}).cell == "package.inner.cells:Cell"
