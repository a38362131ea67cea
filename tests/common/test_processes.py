"""How processes start: nothing in the current folder replaces a module, and a user's own cell is found there."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_rnn import load_results
from gluon_rnn.common import processes
from tests.cli.test_cli import CHECKOUT, RUN_SWEEP, environment
from tests.conftest import small_config

#: Python's own, of those that are imported as it starts and later, and others'.
SHADOWS = ("random", "json", "types", "site", "logging", "yaml", "numpy", "pandas/__init__", "mxnet/__init__", "tests")


@pytest.fixture
def shadowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, full of modules of others' names, and with a cell of one's own."""
    for name in SHADOWS:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"raise SystemExit('{name} is shadowed')\n")
    (tmp_path / "gluonnlp").mkdir()
    shutil.copy(CHECKOUT / "tests" / "cells_for_tests.py", tmp_path / "mine.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path


#: Prints where modules come from, and where the current folder is on Python's path, from its end.
WHERE = """
import json, os, random, sys, types
import yaml
files = [module.__file__ for module in (random, types, yaml)]
print(json.dumps([files, sys.path[::-1].index(os.getcwd()), sys.argv[1:]]))
"""


@pytest.mark.parametrize(
    "variables",
    [{}, {"PYTHONSAFEPATH": "1"}, {"PYTHONPATH": ":"}, {"PYTHONPATH": "."}, {"PYTHONPATH": "/nowhere::{here}/:lib"}],
    ids=str,
)
def test_a_module_in_the_current_folder_replaces_no_other(shadowed: Path, variables: dict[str, str]) -> None:
    (shadowed / "where.py").write_text(WHERE)
    (shadowed / "lib").mkdir()
    given = {name: value.format(here=shadowed) for name, value in variables.items()}
    done = subprocess.run(
        processes.command("where", "one", "two words"),
        env=processes.environment(environment(**given)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    files, place, arguments = json.loads(done.stdout)
    assert not [file for file in files if str(shadowed) in file]
    assert (place, arguments) == (0, ["one", "two words"])


def test_an_empty_entry_of_pythonpath_is_dropped_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    paths = {"": None, ":": None, ".": None, f"{tmp_path}/link": None, ":/a:": "/a", "/a::lib:..": "/a:lib:.."}
    for given, kept in paths.items():
        assert processes.environment({"PYTHONPATH": given, "A": "b"}) == {
            "A": "b",
            **({"PYTHONPATH": kept} if kept else {}),
        }
    assert processes.environment({}) == {}


def test_a_process_starts_where_the_current_folder_has_been_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    command = processes.command("this")
    done = subprocess.run(command, env=processes.environment(environment()), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("The Zen of Python")


@pytest.mark.slow
def test_a_sweep_and_its_text_want_nothing_of_what_lies_in_the_current_folder(
    shadowed: Path, small_folder: Path
) -> None:
    """Planned and trained with a cell that lies there, too, and with a variable that would hide it."""
    settings = small_config(dataset=str(small_folder), epochs=1).model_dump(exclude_unset=True)
    pairs = [f"{name}={value}" for name, value in {**settings, "cell": "mine:OwnCell"}.items()]
    shell = environment(PYTHONSAFEPATH="1", PYTHONPATH="")
    done = subprocess.run([*RUN_SWEEP, "--set", *pairs], env=shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert load_results("results/quick")[["cell", "status"]].values.tolist() == [["mine:OwnCell", "ok"]]
    (run,) = Path("results/quick/runs").iterdir()
    script = str(CHECKOUT / "scripts" / "generate.py")
    done = subprocess.run(
        [sys.executable, script, str(run), "--prompt", "the cat", "--tokens", "3", "--greedy"],
        env=shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the cat")


def test_the_package_is_found_in_a_folder_that_holds_another_of_its_name(tmp_path: Path) -> None:
    """As in the folder above a checkout; such a folder is a namespace package, if no other is found."""
    (tmp_path / "gluon_rnn" / "docs").mkdir(parents=True)
    code = "from gluon_rnn import load_results, train; import gluon_rnn.cli; print(gluon_rnn.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{CHECKOUT / 'gluon_rnn' / '__init__.py'}\n", "")


def test_the_planner_and_a_worker_find_the_same_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two modules of one name, and with helpers of one name, that before the current folder on Python's path."""
    (tmp_path / "here").mkdir()
    (tmp_path / "ask.py").write_text(
        "import importlib\nfrom gluon_rnn.config.identity import source_files\n"
        "print([importlib.import_module('mine').__file__, *source_files('mine:Cell')])\n"
    )
    for folder in (tmp_path, tmp_path / "here"):
        (folder / "mine.py").write_text("import helper\n")
        (folder / "helper.py").touch()
    monkeypatch.chdir(tmp_path / "here")
    shell = environment(PYTHONPATH=f":{os.path.pardir}:.")
    done = subprocess.run(
        processes.command("ask"), env=processes.environment(shell), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{[str(tmp_path / 'mine.py'), 'helper.py', 'mine.py']}\n", "")


@pytest.mark.parametrize("collecting", [True, False])
def test_no_garbage_is_collected_during_an_import_and_afterwards_as_before(collecting: bool) -> None:
    def fail() -> None:
        with processes.importing():
            assert not gc.isenabled()
            raise ImportError

    try:
        if not collecting:
            gc.disable()
        with pytest.raises(ImportError):
            fail()
        assert gc.isenabled() == collecting
    finally:
        gc.enable()
