"""Which parts of a sweep's folder are stale, and that nothing else is removed."""

from __future__ import annotations

import fcntl
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gluon_rnn import load_results
from gluon_rnn.cli import main
from gluon_rnn.common.errors import UserError
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.records import read_records, write_record
from gluon_rnn.sweeps.pruning import list_stale, remove_runs
from gluon_rnn.sweeps.running import run_sweep
from tests.conftest import small_config
from tests.sweeps.test_sweep import FakeExecutor, finish, plan, tree

CELL = "from mxnet.gluon import rnn\nclass Cell(rnn.LSTMCell):\n    pass\n"


@pytest.fixture(scope="module")
def made(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `grid` is a copy of: each of its plans tries the cell in a process of its own."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "pruned_cell.py").write_text(CELL)
        settings = small_config(dataset=str(small_folder), device="auto").model_dump(exclude_unset=True)
        sweep = Sweep("grid", settings=settings, axes={"cell": ("lstm", "pruned_cell:Cell"), "bptt": (5, 6)})
        run_sweep(plan(replace(sweep, axes={"bptt": (7,)}), folder), executor=FakeExecutor())
        run_sweep(plan(sweep, folder), executor=FakeExecutor())
        (folder / "pruned_cell.py").write_text(f"{CELL}# another version\n")

        def fail_some(job: Job, directory: Path) -> tuple[str | None, str]:
            return finish(job, directory) if job.config.bptt == 5 else ("failed", "no reason")

        run_sweep(plan(sweep, folder), executor=FakeExecutor(fail_some))
        (folder / "grid" / "runs" / "unfinished").mkdir()
    return folder


@pytest.fixture
def grid(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep's folder with two versions of a cell, a failed run, an unfinished one and a damaged record; and, of an
    earlier sweep with another axis, a run that is as good as any.
    """
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "grid"


@pytest.mark.slow
def test_stale_runs_are_listed_with_their_reasons(grid: Path) -> None:
    stale = list_stale(grid)
    assert sorted(reason.partition(": ")[2] or reason for reason in stale.values()) == [
        "failed",
        "no record",
        "ok; the sweep now has another version",
        "ok; the sweep now has another version",
    ]
    assert all("cell=pruned_cell:Cell@" in reason for reason in stale.values() if reason != "no record")
    (damaged, *_) = sorted({path.name for path in (grid / "runs").iterdir()} - {*stale})
    (grid / "runs" / damaged / "record.json").write_text("{}")
    assert list_stale(grid) == {**stale, damaged: "its record is damaged"}


@pytest.mark.slow
def test_only_what_is_stale_is_removed(grid: Path) -> None:
    stale = list_stale(grid)
    rows = load_results(grid)
    kept = {name: content for name, content in tree(grid / "runs").items() if name.split("/")[0] not in stale}
    remove_runs(grid, stale, pytest.fail)
    assert tree(grid / "runs") == kept
    assert not (grid / "runs" / "unfinished").exists()
    assert load_results(grid)["run_id"].tolist() == [name for name in rows["run_id"] if name not in stale]
    assert len(load_results(grid)) == 4
    assert list_stale(grid) == {}


@pytest.mark.slow
def test_nothing_is_removed_before_somebody_said_yes(
    grid: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(grid)
    assert main(["prune", str(grid)]) == 2  # no terminal
    said = capsys.readouterr()
    assert said.err == "error: cannot ask for confirmation without a terminal; add --yes to delete them\n"
    assert len(said.out.splitlines()) == 4
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert main(["prune", str(grid)]) == 0
    assert tree(grid) == before

    def end(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", end)
    assert main(["prune", str(grid)]) == 0
    assert capsys.readouterr().out.endswith("\nnothing was deleted\n")
    assert tree(grid) == before
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert main(["prune", str(grid)]) == 0
    assert list_stale(grid) == {}
    assert main(["prune", str(grid), "--yes"]) == 0
    assert capsys.readouterr().out.endswith(f"{grid} has nothing to remove\n")


@pytest.mark.slow
def test_a_run_that_has_finished_since_it_was_listed_is_kept(grid: Path) -> None:
    stale = list_stale(grid)
    failed = next(name for name, why in stale.items() if "failed" in why)
    record = next(record for record in read_records(grid)[0] if record.run_id == failed)
    write_record(grid / "runs" / failed, record.with_columns({"status": "ok", "reason": ""}))
    notices: list[str] = []
    assert remove_runs(grid, stale, notices.append) == len(stale) - 1
    assert notices == [f"kept {failed}: it has changed since it was listed"]
    assert (grid / "runs" / failed / "record.json").exists()
    assert failed in set(load_results(grid)["run_id"])


@pytest.mark.slow
def test_a_folder_at_which_a_sweep_is_at_work_is_left_alone(grid: Path) -> None:
    with (grid / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="a sweep is running in"):
            list_stale(grid)
        with pytest.raises(UserError, match="another sweep is running in"):
            remove_runs(grid, {}, pytest.fail)


def test_a_folder_that_is_no_sweeps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a sweep's folder"):
        list_stale(tmp_path)
