"""The command line, as a user types it: sweeps with real workers, and whatever can be typed wrongly."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import pytest
import yaml

from gluon_rnn import cli, load_epochs, load_results
from gluon_rnn.cli import status as cli_status
from gluon_rnn.cli import sweep as cli_sweep
from gluon_rnn.config.run import RunConfig
from gluon_rnn.config.sweep_file import Sweep, load_sweep
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.machine.hardware import default_threads, describe_machine
from gluon_rnn.runs.records import read_records
from gluon_rnn.runs.tables import write_tables
from gluon_rnn.sweeps.planning import Plan, plan_sweep
from tests.conftest import small_config, write_folder
from tests.faults.trials import INJECT, MID_WRITE
from tests.reporting.terminal.conftest import console_of
from tests.runs.test_records import epoch, keep, make_done, make_job

CHECKOUT = Path(__file__).parents[2]
RUN_SWEEP = [sys.executable, str(CHECKOUT / "scripts" / "run_sweep.py")]
SETTINGS = small_config().model_dump(exclude_unset=True)


def environment(**more: str) -> dict[str, str]:
    """Of a user's shell."""
    return {**os.environ, "OMP_WAIT_POLICY": "passive", **more}


def stopping_midway(folder: Path, write: int = MID_WRITE) -> dict[str, str]:
    """Of a shell whose sweeps below `folder` have workers that stop at a write of theirs, as by kill -STOP."""
    return environment(PYTHONPATH=str(INJECT), FAULT_FOLDER=str(folder), FAULT=f"worker stop {write}")


def run(*arguments: object, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*RUN_SWEEP, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)


def status(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHECKOUT / "scripts" / "status.py"), str(directory)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command line is refused."""
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    return line


def write_sweep(path: Path, content: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds; for as long as the test may take."""
    while not condition():
        time.sleep(0.02)


def workers_of(directory: Path) -> list[int]:
    """The processes that work in `directory`, whose command line may name it from their current folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            here = os.readlink(process / "cwd")
        except OSError:
            continue
        if b"gluon_rnn.training.worker" in words:
            named = os.fsdecode(words[words.index(b"gluon_rnn.training.worker") + 1])
            if Path(here, named).is_relative_to(directory):
                found.append(int(process.name))
    return found


def is_halted(process: int) -> bool:
    """Whether it was stopped, and could be continued; not if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


# One sweep in which everything happens


class Mixed:
    """A sweep of five points: two go well, one diverges, one crashes, one fails with a path in its message."""

    def __init__(self, folder: Path) -> None:
        self.cwd = folder
        self.corpus = write_folder(folder / "somewhere" / "[red]x")
        shutil.copy(CHECKOUT / "tests" / "cells_for_tests.py", folder / "own_cells.py")
        self.file = write_sweep(
            folder / "mixed.yaml",
            {
                "set": {**SETTINGS, "dataset": str(self.corpus), "epochs": 3},
                "axes": {
                    "cell": [
                        "lstm",
                        "own_cells:OwnCell",
                        "rnn_relu",
                        "own_cells:Crashing",
                        "own_cells:Telling",
                        "own_cells:Greedy",
                    ]
                },
                "overrides": [{"when": {"cell": "rnn_relu"}, "set": {"learning_rate": 1e30, "clip": None}}],
            },
        )
        self.directory = folder / "results" / "mixed"
        self.done = run(self.file, "--jobs", 2, cwd=folder)
        self.runs = load_results(self.directory)
        self.epochs = load_epochs(self.directory)

    def label(self, own: str) -> str:
        return f"cell=own_cells:{own} learning_rate=1.0 clip=0.25"

    def row(self, cell: str) -> pd.Series:
        (row,) = [row for _, row in self.runs.iterrows() if row["cell"] == cell]
        return row


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    return Mixed(tmp_path_factory.mktemp("mixed"))


@pytest.mark.slow
def test_a_sweep_goes_on_whatever_becomes_of_a_run(mixed: Mixed) -> None:
    assert dict(zip(mixed.runs["cell"], mixed.runs["status"], strict=True)) == {
        "lstm": "ok",
        "own_cells:OwnCell": "ok",
        "rnn_relu": "diverged",
        "own_cells:Crashing": "failed",
        "own_cells:Telling": "failed",
        "own_cells:Greedy": "oom",
    }
    assert mixed.done.returncode == 1
    assert "Traceback" not in mixed.done.stderr + mixed.done.stdout


@pytest.mark.slow
def test_every_failure_has_its_reason_and_its_log(mixed: Mixed) -> None:
    for cell, reason, logged in (
        ("Crashing", "the worker was ended by SIGSEGV", "in build_layer"),
        ("Telling", "FileNotFoundError: no weights in 'my weights.bin' nor in others", "Traceback"),
        (
            "Greedy",
            "MemoryError: no room for the weights; lower batch_size, bptt, hidden_size or num_layers, or run fewer "
            "points side by side (--jobs)",
            "Traceback",
        ),
    ):
        row = mixed.row(f"own_cells:{cell}")
        log = Path("results/mixed/runs") / row["run_id"] / "log.txt"
        assert row["reason"] == reason
        assert f"{row['status']}: {mixed.label(cell)}: {row['reason']}; log: {log}" in mixed.done.stdout
        assert logged in (mixed.cwd / log).read_text()
    assert "--rerun-failed" in mixed.done.stdout


@pytest.mark.slow
def test_a_divergence_names_its_step_and_keeps_its_infinity(mixed: Mixed) -> None:
    row = mixed.row("rnn_relu")
    assert re.fullmatch(r"the loss was (nan|inf) at step \d+ of epoch 1", row["reason"])
    assert row["train_perplexity"] == math.inf
    assert row["epochs_run"] == 0
    assert pd.isna(row["valid_loss"])
    assert row["parameters"] > 0


@pytest.mark.slow
def test_the_columns_of_a_run_agree_with_each_other(mixed: Mixed) -> None:
    planned = plan_sweep(Sweep("one", settings={**SETTINGS, "dataset": str(mixed.corpus)}), results=mixed.cwd)
    corpus = planned.jobs[0].corpus
    words = {"<unk>", "<eos>", *(mixed.corpus / "train.txt").read_text().split()}
    for cell in ("lstm", "own_cells:OwnCell"):
        row = mixed.row(cell)
        epochs = mixed.epochs[mixed.epochs["run_id"] == row["run_id"]].set_index("epoch")
        assert (row["times_resumed"], set(epochs["sitting"]), set(epochs["threads"])) == (0, {1}, {row["threads"]})
        assert (row["schema_version"], row["dataset"], row["dataset_sha1"]) == (2, "[red]x", corpus.sha1)
        assert row["vocab_size"] == len(words)
        windows = (corpus.train_tokens // 4 - 1) // 5
        assert row["train_tokens"] == windows * 4 * 5
        assert row["steps"] == 3 * windows
        assert row["valid_tokens_scored"] == corpus.valid_tokens - 1
        assert row["test_tokens_scored"] == corpus.test_tokens - 1
        assert row["epochs_run"] == len(epochs) == 3
        best = epochs["valid_loss"].idxmin()
        assert row["best_epoch"] == best
        assert row["valid_loss"] == epochs.loc[best, "valid_loss"]
        assert row["test_loss"] == epochs.loc[best, "test_loss"]
        assert row["test_perplexity"] == epochs.loc[best, "test_perplexity"]
        assert row["test_perplexity"] == pytest.approx(math.exp(row["test_loss"]))
        assert row["valid_perplexity"] == pytest.approx(math.exp(row["valid_loss"]))
        assert row["train_perplexity"] == pytest.approx(math.exp(epochs.loc[3, "train_loss"]))
        # No worse than guessing, after three epochs.
        assert 1 < row["valid_perplexity"] < len(words)
        assert row["sequences_per_second"] == pytest.approx(row["tokens_per_second"] / 5)
        assert 0 < row["step_ms_p50"] <= row["step_ms_p95"]
        assert row["train_seconds"] == pytest.approx(epochs["seconds"].sum())
        assert row["train_seconds"] > 0
        assert row["evaluation_seconds"] > 0
        assert row["train_seconds"] + row["evaluation_seconds"] < row["wall_seconds"] < 300
        # MXNet alone takes more than the one. That no other process has it is in test_worker.py.
        assert 100 < row["peak_rss_mb"] < 1500
        assert pd.isna(row["peak_gpu_mb"])


@pytest.mark.slow
def test_a_row_says_where_it_comes_from(mixed: Mixed) -> None:
    row = mixed.row("lstm")
    machine = subprocess.run(["uname", "-n"], capture_output=True, text=True, check=True).stdout.strip()
    assert (row["device"], row["host"], row["mxnet_version"]) == ("cpu", machine, "1.9.1")
    assert row["threads"] == default_threads(describe_machine().cores, jobs=2)
    assert re.match(r"(mkl|openblas) \d", row["blas"])
    settings = dict(item.split("=", 1) for item in row["environment"].split(" "))
    assert settings["OMP_NUM_THREADS"] == str(row["threads"])
    assert settings["OMP_WAIT_POLICY"] == os.environ.get("OMP_WAIT_POLICY", "passive")
    assert "/" not in row["environment"]
    assert len(row["machine_id"]) == 12
    assert row["device_name"]
    began = datetime.fromisoformat(row["started_at"])
    assert 0 <= (datetime.now(timezone.utc) - began).total_seconds() < 600
    assert mixed.row("own_cells:Crashing")["machine_id"] == row["machine_id"]


@pytest.mark.slow
def test_nothing_that_may_be_committed_holds_a_path_of_this_machine(mixed: Mixed) -> None:
    tables = [mixed.directory / "runs.csv", mixed.directory / "epochs.csv"]
    kept = [*tables, *mixed.directory.glob("runs/*/record.json")]
    assert len(kept) == 2 + 6
    for name in ("report.md", "report.html"):
        text = (mixed.directory / name).read_text()
        # The end of a log is there, and the folders that its traceback names are not.
        assert "no weights in" in text
        assert str(mixed.cwd) not in text
    for path in kept:
        assert not re.search(r"(?<![\w.:])/\w", path.read_text()), path
        assert str(mixed.cwd) not in path.read_text()


@pytest.mark.slow
def test_a_piped_sweep_prints_plain_lines(mixed: Mixed) -> None:
    lines = mixed.done.stdout.splitlines()
    assert lines[0].startswith(
        "mixed: 6 points, 0 done already, 6 to run on cpu, 2 at a time; results in results/mixed"
    )
    assert "\x1b" not in mixed.done.stdout
    assert sum(line.startswith("started cell=") for line in lines) == 6
    assert sorted(re.findall(r"(?m)^\[./6", mixed.done.stdout)) == [f"[{n}/6" for n in range(1, 7)]
    assert any("validation perplexity" in line and "tokens/s" in line for line in lines)
    assert mixed.done.stderr == ""


@pytest.mark.slow
def test_finished_points_are_not_run_again_and_failed_ones_are_left(mixed: Mixed) -> None:
    before = (mixed.directory / "runs.csv").read_bytes()
    again = run(mixed.file, "--dry-run", cwd=mixed.cwd)
    assert again.stdout.splitlines()[-1] == "6 points, 0 to run"
    again = run(mixed.file, "--dry-run", "--rerun-failed", cwd=mixed.cwd)
    assert again.stdout.splitlines()[-1] == "6 points, 3 to run"
    assert "to run  cell=own_cells:Crashing" in again.stdout
    # The failed rows are still there, and so the status still tells.
    again = run(mixed.file, "--quiet", cwd=mixed.cwd)
    assert again.returncode == 1
    assert "started" not in again.stdout
    assert (mixed.directory / "runs.csv").read_bytes() == before


@pytest.mark.slow
def test_a_sweep_ends_with_its_report_and_stands_without_one(mixed: Mixed) -> None:
    lines = mixed.done.stdout.splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith("tables: ")]
    assert lines[place + 1] == "report: results/mixed/report.html"
    page = mixed.directory / "report.html"
    before = page.read_bytes()
    page.unlink()
    page.mkdir()
    again = run(mixed.file, "--quiet", cwd=mixed.cwd)
    page.rmdir()
    assert again.returncode == mixed.done.returncode == 1
    (line,) = again.stderr.splitlines()
    assert line.startswith("no report: cannot write the report to results/mixed: ")
    assert "tables: results/mixed/runs.csv" in again.stdout
    again = run(mixed.file, "--quiet", cwd=mixed.cwd)
    assert (again.stderr, page.read_bytes()) == ("", before)


@pytest.mark.slow
def test_status_of_a_sweep_that_has_ended(mixed: Mixed) -> None:
    said = status(mixed.directory)
    assert said.returncode == 0
    first, *points = said.stdout.splitlines()
    assert first.endswith("6 of 6 points ended (2 ok, 1 diverged, 1 oom, 2 failed); no sweep is running")
    assert len(points) == 7
    assert points[6].startswith("best so far: cell=lstm")
    assert points[3] == f"  {mixed.label('Crashing')}: failed (the worker was ended by SIGSEGV)"


@pytest.mark.slow
def test_progress_on_a_terminal_shows_labels_as_they_are(mixed: Mixed) -> None:
    """Throughput runs on a terminal: bars, and a corpus whose name looks like the bars' own markup."""
    import pty

    other = write_folder(mixed.cwd / "[/red] :cat: two words")
    settings = {**SETTINGS, "max_steps": 60, "warmup_steps": 3, "cell": "rnn_relu"}
    file = write_sweep(mixed.cwd / "fast.yaml", {"set": settings, "axes": {"dataset": [str(mixed.corpus), str(other)]}})
    (other / "test.txt").write_text("the cat sat on a mat\n" * 4)
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [*RUN_SWEEP, str(file)],
        cwd=mixed.cwd,
        env=environment(TERM="xterm", COLUMNS="200", LINES="50"),
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
    )
    os.close(secondary)
    shown = b""
    try:
        while chunk := os.read(primary, 65536):
            shown += chunk
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(primary)
    assert process.wait() == 0, shown.decode()
    text = shown.decode()
    assert "━" in text
    assert "\x1b[" in text
    for folder in (mixed.corpus, other):
        assert f"dataset={folder}: ok" in text
        # In the table at the end.
        assert re.search(rf"^ ?{re.escape(folder.name)} .* ok\s*$", text.replace("\r", ""), re.MULTILINE), text

    frame = load_results(mixed.cwd / "results" / "fast")
    assert frame["status"].tolist() == ["ok", "ok"]
    assert frame["steps"].tolist() == [63, 63]
    # The corpus has fewer windows than that.
    assert (frame["train_tokens"] // 20 < 63).all()
    for name in ("valid_loss", "valid_perplexity", "test_loss", "test_perplexity", "best_epoch", "valid_tokens_scored"):
        assert frame[name].isna().all(), name
    assert (frame["epochs_run"] == 0).all()
    assert (frame["tokens_per_second"] > 0).all()
    assert frame["train_perplexity"].notna().all()
    assert len(load_epochs(mixed.cwd / "results" / "fast")) == 0


# Interrupted


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a sweep; whatever a failing test leaves is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object, cwd: Path, ignoring: int | None = None) -> subprocess.Popen[str]:
        # A shell that is not interactive starts what it puts in the background so.
        prefix = ["sh", "-c", f"trap '' {ignoring}; exec \"$@\"", "sh"] if ignoring else []
        process = subprocess.Popen(
            [*prefix, *RUN_SWEEP, *map(str, arguments)],
            cwd=cwd,
            env=stopping_midway(cwd),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_to_the_same_bits(
    tmp_path: Path, small_folder: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    settings = {**SETTINGS, "dataset": str(small_folder), "threads": 1, "epochs": 10, "dropout": 0.5}
    settings |= {"optimizer": "adam", "learning_rate": 0.01, "lr_decay": 0.9}
    write_sweep(tmp_path / "long.yaml", {"set": settings})
    done = run("long.yaml", "--results", "whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whole = load_epochs(tmp_path / "whole" / "long")
    assert len(whole) == 10
    directory = tmp_path / "results" / "long"
    (run_id,) = whole["run_id"].unique()
    epochs = directory / "runs" / run_id / "epochs.csv"

    def epochs_done() -> int:
        return len(epochs.read_text().splitlines()) - 1 if epochs.exists() else 0

    def is_stopped_by(number: int, **options: int) -> subprocess.Popen[str]:
        before = epochs_done()
        process = started("long.yaml", cwd=tmp_path, **options)
        wait_for(lambda: any(map(is_halted, workers_of(directory))) or process.poll() is not None)
        assert epochs_done() > before
        if number == signal.SIGKILL:
            # Meanwhile, from other terminals.
            said = status(directory)
            assert said.stdout.splitlines()[0].endswith("0 of 1 point ended (none ended); a sweep is running")
            assert re.search(r": epoch \d+/10", said.stdout), said.stdout
            second = run("long.yaml", cwd=tmp_path)
            assert second.returncode == 2
            assert second.stderr.splitlines() == [
                "error: another sweep is running in results/long; wait for it, or give --results another folder"
            ]
        process.send_signal(number)
        process.wait()
        wait_for(lambda: not workers_of(directory))
        assert 0 < epochs_done() < 10
        return process

    for number, options in ((signal.SIGINT, {"ignoring": 2}), (signal.SIGTERM, {})):
        process = is_stopped_by(number, **options)
        out, err = process.communicate()
        assert process.returncode == 130
        assert "stopped; the finished runs are in results/long" in err
        assert err.rstrip().endswith(f"python {shlex.quote(RUN_SWEEP[1])} long.yaml")
        assert "Traceback" not in out + err
        assert len(load_results(directory)) == 0
    assert re.search(
        r"0 of 1 point ended .*; no sweep is running\n  .*: interrupted$", status(directory).stdout.strip()
    )

    is_stopped_by(signal.SIGKILL)
    resumed_after = epochs_done()
    done = run("long.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    resumed = load_epochs(directory)
    for name in ("run_id", "epoch", "learning_rate", "train_loss", "valid_loss", "valid_perplexity", "test_perplexity"):
        pd.testing.assert_series_equal(resumed[name], whole[name], check_exact=True)
    assert not list(directory.rglob("*.tmp"))
    # It did go on, rather than begin again.
    log = (directory / "runs" / run_id / "log.txt").read_text()
    last_start = log.rindex("words) on")
    assert f"[epoch {resumed_after - 1}] throughput" not in log[last_start:]
    first, second = (load_results(folder).iloc[0] for folder in (tmp_path / "whole" / "long", directory))
    for name in ("status", "best_epoch", "valid_loss", "test_loss", "steps", "train_perplexity", "epochs_run"):
        assert first[name] == second[name], name


@pytest.mark.slow
def test_a_sweep_whose_output_is_not_read_goes_on_to_its_end(tmp_path: Path, small_folder: Path) -> None:
    pairs = [f"{name}={value}" for name, value in {**SETTINGS, "dataset": small_folder}.items()]
    command = [*RUN_SWEEP, "--set", *pairs, "--axis", "cell=lstm,gru"]
    results = tmp_path / "results" / "quick"

    def redirected(redirection: str, *options: str) -> subprocess.CompletedProcess[str]:
        shell = ["sh", "-c", f'("$@"; echo $? > status) {redirection}', "sh", *command, *options]
        return subprocess.run(shell, cwd=tmp_path, env=environment(), capture_output=True, text=True)

    done = redirected("| head -1", "--dry-run")
    assert (len(done.stdout.splitlines()), done.stderr, results.exists()) == (1, "", False)
    done = redirected("| head -1")
    assert (len(done.stdout.splitlines()), done.stderr, (tmp_path / "status").read_text()) == (1, "", "0\n")
    assert load_results(results)["status"].tolist() == ["ok", "ok"]
    assert (results / "report.html").exists()
    for run_id in load_results(results)["run_id"]:
        log = (results / "runs" / run_id / "log.txt").read_text()
        assert re.match(rf"\d\d:\d\d:\d\d {run_id}: ", log), log
        assert "points" not in log


@pytest.mark.slow
def test_a_sweep_on_closed_streams_is_as_any_other(tmp_path: Path, small_folder: Path) -> None:
    """No file of its own gets the number of one of them."""
    pairs = [f"{name}={value}" for name, value in {**SETTINGS, "dataset": small_folder}.items()]
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *RUN_SWEEP, "--axis", "cell=lstm", "--set", *pairs]
    done = subprocess.run(shell, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    results = tmp_path / "results" / "quick"
    (run_id,) = load_results(results)["run_id"]
    assert re.match(rf"\d\d:\d\d:\d\d {run_id}: ", (results / "runs" / run_id / "log.txt").read_text())
    assert (results / ".lock").read_text() == ""
    assert (results / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "gone", "full"),
    [
        ("status", ["{}"], 1, 2),
        # The verdict stands.
        ("check_regression", ["{}", "{}", "--json", "verdict.json"], 0, 2),
        ("run_sweep", ["--help"], 1, 2),
    ],
)
def test_output_that_a_reader_leaves_or_a_disk_lacks_room_for(
    mixed: Mixed, tmp_path: Path, script: str, arguments: list[str], gone: int, full: int
) -> None:
    names = [argument.replace("{}", str(mixed.directory)) for argument in arguments]
    command = [sys.executable, str(CHECKOUT / "scripts" / f"{script}.py"), *names]
    reading, writing = os.pipe()
    os.close(reading)
    # As long as it is buffered, what is said goes out at the very end.
    options = {"cwd": tmp_path, "env": environment(PYTHONUNBUFFERED=""), "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run(command, stdout=writing, check=False, **options)
    os.close(writing)
    assert (done.returncode, done.stderr) == (gone, "")
    with open("/dev/full", "w") as nowhere:
        done = subprocess.run(command, stdout=nowhere, check=False, **options)
    assert done.returncode == full
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"
    assert (tmp_path / "verdict.json").exists() == ("verdict.json" in arguments)


@pytest.mark.slow
def test_a_sweep_on_a_full_standard_output_says_so_and_has_its_own_status(mixed: Mixed) -> None:
    with open("/dev/full", "w") as nowhere:
        done = subprocess.run(
            [*RUN_SWEEP, str(mixed.file)], cwd=mixed.cwd, env=environment(), stdout=nowhere, stderr=subprocess.PIPE
        )
    assert done.returncode == 1  # of the runs that failed
    assert done.stderr.decode() == (
        "warning: cannot write to standard output: No space left on device; the results are in results/mixed\n"
    )


# What is typed wrongly


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "bbtt=35"], ["unknown setting 'bbtt'", "did you mean 'bptt'?"]),
        (["--set", "bptt=x"], ["bptt='x'"]),
        (["--set", "dropout=1.5"], ["dropout='1.5'", "less than 1"]),
        (["--set", "bptt=5,6"], ["several values go to --axis"]),
        (["--set", "bptt"], ["--set takes KEY=VALUE, not 'bptt'"]),
        (["--set", "bptt=5", "sweep.yaml"], ["'sweep.yaml'", "a sweep file goes before the options"]),
        (["--axis", "bptt=5", "sweep.yaml"], ["'sweep.yaml'", "a sweep file goes before the options"]),
        (["--set", "seed=1", "--set", "seed=2"], ["--set gives seed twice"]),
        (["--axis", "seed=1", "seed=2"], ["--axis gives seed twice"]),
        (["--set", "seed=1", "--axis", "seed=2"], ["seed is given both to --set and to --axis"]),
        (["--axis", "bptt="], ["axis bptt has no values"]),
        (["--axis", "bptt=5,"], ["bptt=''"]),
        (["--axis", "bbtt=5"], ["did you mean 'bptt'?"]),
        (["--set", "=5"], ["unknown setting ''"]),
        (["--set"], ["--set", "expected at least one argument"]),
        (["--jobs", "0"], ["--jobs 0 must be at least 1"]),
        (["--jobs", "two"], ["--jobs", "'two'"]),
        (["--timeout", "0"], ["--timeout", "'0' is not a number of seconds above 0"]),
        (["--timeout", "-3"], ["--timeout"]),
        (["--timeout", "nan"], ["--timeout", "'nan'"]),
        (["--timeout", "inf"], ["--timeout", "'inf'"]),
        (["--timeout", "soon"], ["--timeout", "'soon'"]),
        (["--results", ""], ["--results", "''"]),
        (["--results", "file"], ["file is not a folder", "--results"]),
        (["--results", "file/below"], ["file is not a folder", "--results"]),
        (["--data-dir", "nowhere"], ["--data-dir nowhere"]),
        (["--data-dir", ""], ["--data-dir", "''"]),
        (["--device", "tpu"], ["unknown device 'tpu'"]),
        (["--set", "dataset=nowhere"], ["'nowhere'", "train.txt"]),
        (["--set", "batch_size=100000"], ["batch_size=100000", "lower them"]),
        (["--set", "cell=no_such_module:Cell"], ["no_such_module", "PYTHONPATH"]),
        (["--set", "cell=lsmt"], ["did you mean 'lstm'?"]),
        (["--rerun-f"], []),
        (["--rerun"], ["--rerun", "expected at least one argument"]),
        (["--rerun", "0" * 12], ["--rerun", "no point of this sweep"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_a_slip_is_one_line_and_nothing_is_made(
    tmp_path: Path,
    small_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    content: dict[str, object] = {"name": "x", "set": {**SETTINGS, "dataset": str(small_folder), "device": "auto"}}
    (tmp_path / "file").write_text("kept")
    write_sweep(tmp_path / "base.yaml", content)
    if arguments == ["--rerun-f"]:
        # An abbreviation is not a slip.
        assert cli.main(["sweep", "base.yaml", "--dry-run", *arguments]) == 0
        return
    line = refusal(capsys, "sweep", "base.yaml", *arguments)
    assert all(word in line for word in words), line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.yaml", "file"]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    "text", ["- a list\n", "5\n", "", "set: [\n", "set: {bptt: 5}\nsett: {}\n", "axes: {bptt: 5}\n"]
)
def test_a_sweep_file_that_is_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(text)
    assert cli.main(["sweep", "bad.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: bad.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]
    assert cli.main(["sweep", "missing.yaml"]) == 2
    assert "missing.yaml: No such file" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_results_without_permission_are_refused(
    tmp_path: Path, small_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path / "base.yaml", {"set": {**SETTINGS, "dataset": str(small_folder)}})
    (tmp_path / "closed").mkdir(mode=0o500)
    assert cli.main(["sweep", str(file), "--results", str(tmp_path / "closed" / "x")]) == 2
    assert "no permission" in capsys.readouterr().err


def test_ctrl_c_while_planning_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plan(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = [signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setattr(cli_sweep, "plan_sweep", plan)
    file = write_sweep(tmp_path / "base.yaml", {"set": SETTINGS})
    assert cli.main(["sweep", str(file)]) == 130
    assert capsys.readouterr().err.split() == ["stopped"]
    assert [signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize("ended", [0, 1])
def test_ctrl_c_shows_what_there_is_and_how_to_go_on(
    tmp_path: Path,
    small_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ended: int,
) -> None:
    def stop(plan: Plan, **_: object) -> None:
        if ended:
            points = [{"run_id": job.run_id, "label": plan.label(job)} for job in plan.jobs]
            keep(plan.directory, make_done(plan.jobs[0], [epoch(1, 2.0, 2.5)]))
            (plan.directory / "sweep.json").write_text(json.dumps({"points": points}))
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_sweep, "run_sweep", stop)
    monkeypatch.setattr(sys, "argv", ["/somewhere/gluon_rnn/__main__.py", "sweep", "base.yaml"])
    write_sweep(tmp_path / "base.yaml", {"set": {**SETTINGS, "dataset": str(small_folder)}, "axes": {"bptt": [5, 6]}})
    assert cli.main(["sweep", "base.yaml"]) == 130
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == "  python -m gluon_rnn sweep base.yaml"
    if ended:
        assert [line.split()[:2] for line in said.out.splitlines()[1:4:2]] == [["bptt", "valid"], ["5", "7.39"]]
        assert said.out.splitlines()[-1] == "1 of 2 points so far"
    else:
        assert said.out == ""


def test_a_sweep_under_nohup_outlives_its_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(
        cli_sweep, "plan_sweep", lambda *a, **k: seen.append(signal.getsignal(signal.SIGHUP)) or sys.exit(7)
    )
    file = write_sweep(tmp_path / "base.yaml", {"set": SETTINGS})
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            cli.main(["sweep", str(file)])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == [signal.SIG_IGN]


@pytest.mark.parametrize("content", ["{", "[]", '{"points": 3}', '{"points": ["x"]}', '{"points": [{"run_id": "x"}]}'])
def test_status_of_no_sweep_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (tmp_path / "sweep.json").write_text(content)
    before = sorted(tmp_path.iterdir())
    assert cli.main(["status", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path} is not a sweep's folder" in line
    assert sorted(tmp_path.iterdir()) == before


def test_status_of_a_folder_without_sweeps_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "empty has no sweeps; run one with gluon-rnn sweep" in refusal(capsys, "status", "empty")
    for words in (["nowhere"], []):
        assert f"{words[0] if words else 'results'} is not a sweep's folder" in refusal(capsys, "status", *words)
    assert "--watch needs a terminal" in refusal(capsys, "status", "empty", "--watch")


def test_status_without_a_folder_lists_the_sweeps_of_results(
    tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "results" / name).mkdir(parents=True)
        write_tables(tmp_path / "results" / name, [make_done(make_job(small_corpus), [epoch(1, 2.0, 2.5)])])
    assert cli.main(["status"]) == 0
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines()[3:5]]
    assert rows == [[name, "results", "1", "7.39"] for name in ("one", "two")]
    assert cli.main(["status", "results/one"]) == 0
    assert capsys.readouterr().out.startswith("results/one: 1 run (1 ok); the plan is not committed")


def test_a_watched_sweep_is_shown_until_ctrl_c(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    write_tables(tmp_path, [make_done(make_job(small_corpus), [epoch(1, 2.0, 2.5)])])
    console, text = console_of(terminal=True)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            write_tables(tmp_path, [make_done(make_job(small_corpus), [epoch(1, 3.0, 2.5)])])
        else:
            raise KeyboardInterrupt

    assert cli_status.watch(tmp_path, console, seconds=0.5, sleep=sleep) == 0
    assert slept == [0.5, 0.5]
    assert text.getvalue().index("validation perplexity 7.39") < text.getvalue().index("validation perplexity 20.09")


# Dry


def test_settings_may_be_given_together_and_apart(
    tmp_path: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path / "base.yaml", {"set": {**SETTINGS, "dataset": str(small_folder)}, "axes": {"bptt": [5, 6]}})
    arguments = ["base.yaml", "--set", "seed=3", "dropout=0", "--set", "bptt=7", "--axis", "cell=lstm,gru", "--axis"]
    assert cli.main(["sweep", *arguments, "hidden_size=8,9", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("to run  ")[1] for line in lines[:-1]] == [
        "cell=lstm hidden_size=8",
        "cell=lstm hidden_size=9",
        "cell=gru hidden_size=8",
        "cell=gru hidden_size=9",
    ]
    assert lines[-1] == "4 points, 4 to run"
    assert [path.name for path in tmp_path.iterdir()] == ["base.yaml"]


def test_planning_imports_no_framework(tmp_path: Path, small_folder: Path) -> None:
    write_sweep(tmp_path / "base.yaml", {"set": {**SETTINGS, "dataset": str(small_folder)}})
    code = (
        "import sys, gluon_rnn, gluon_rnn.cli\n"
        "assert gluon_rnn.cli.main(['sweep', 'base.yaml', '--dry-run']) == 0\n"
        "try:\n    gluon_rnn.cli.main(['sweep', '--help'])\nexcept SystemExit as left:\n    assert left.code == 0\n"
        "heavy = ('mxnet', 'gluonnlp', 'numpy', 'pandas', 'matplotlib', 'mlflow', 'tensorboardX')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command line prints that ends by itself."""
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 0
    return capsys.readouterr().out


def test_every_setting_is_listed_with_its_default_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "sweep", "--list-settings")
    assert max(map(len, said.splitlines())) <= 100
    # A long description goes on in the next line, further in.
    said = re.sub(r"\n {24}", " ", said)
    for name in RunConfig.model_fields:
        assert re.search(rf"^  {name}  +.*\(default: ", said, re.MULTILINE), name
    assert re.search(r"^  tie_weights .*\(default: true; values: true, false\)$", said, re.MULTILINE)
    assert re.search(r"^  max_steps .*\(default: none; values: whole numbers from 1 or none\)$", said, re.MULTILINE)
    assert re.search(r"^  dropout  .*\(default: 0.2; values: numbers from 0 below 1\)$", said, re.MULTILINE)
    assert said.splitlines()[0] == "Task and data"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_help_has_examples_that_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = printed(capsys, command, "--help")
    assert max(map(len, said.splitlines())) <= 80
    lines = said.partition("examples:")[2].splitlines()
    examples = [re.split("   +", line.strip())[0] for line in lines if line.startswith("  gluon-rnn ")]
    assert examples
    for example in examples:
        program, *words = shlex.split(example)
        assert (program, words[0]) == ("gluon-rnn", command)
        cli._parser().parse_args(words)


def test_no_arguments_are_a_question_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    alone = capsys.readouterr().out
    assert alone == printed(capsys, "--help")
    for command, what in cli.COMMANDS.items():
        assert re.search(rf"^    {command}  +{what[:20]}", alone, re.MULTILINE)


def test_the_sweep_of_no_arguments_is_the_quick_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep", "--set", "dataset=synthetic", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("8 points")


def test_superseded_runs_are_shown_by_a_dry_run_and_moved_by_a_run(
    tmp_path: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An edited cell whose new version is there, too, so that nothing needs to run."""
    monkeypatch.chdir(tmp_path)
    settings = small_config(dataset=str(small_folder), cell="mine:Cell").model_dump(exclude_unset=True)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"name": "grid", "set": settings}))
    grid, names = tmp_path / "results" / "grid", []
    for version in ("old", "new"):
        (tmp_path / "mine.py").write_text(f"# {version}\n")
        (job,) = plan_sweep(load_sweep(tmp_path / "sweep.yaml"), results=tmp_path / "results").jobs
        names.append(job.run_id)
        keep(grid, make_done(job, [epoch(1, 2.0, 2.5)]))
    old, new = names
    assert cli.main(["sweep", "sweep.yaml", "--prune", "--dry-run"]) == 0
    first, points, moving, last = capsys.readouterr().out.splitlines()
    assert (first.split()[:2], points) == ([new, "done"], "1 point, 0 to run")
    assert moving.split()[:3] == [old, "to", "move"]
    assert "cell=mine:Cell@" in moving
    assert last == "1 superseded run to move to results/grid/runs.superseded"
    assert sorted(path.name for path in (grid / "runs").iterdir()) == sorted(names)
    assert cli.main(["sweep", "sweep.yaml", "--prune"]) == 0
    assert f"moved run {old}" in capsys.readouterr().err
    assert load_results(grid)["run_id"].tolist() == [new]
    assert (grid / "runs.superseded" / old / "record.json").exists()
    assert old not in (grid / "report.md").read_text()


def test_a_search_that_has_ended_says_what_matters_and_when_targets_were_reached(
    tmp_path: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its points have a result, so that nothing needs to run."""
    monkeypatch.chdir(tmp_path)
    settings = small_config(dataset=str(small_folder)).model_dump(exclude={"clip", "bptt"}, exclude_unset=True)
    search = {"sampler": "grid", "pruner": "median", "space": {"clip": [0.1, 0.2], "bptt": [4, 5]}}
    (tmp_path / "find.yaml").write_text(yaml.safe_dump({"name": "find", "set": settings, "search": search}))
    sweep = load_sweep(tmp_path / "find.yaml")
    plan = plan_sweep(sweep, results=tmp_path / "results")
    for number, job in enumerate(plan.search.jobs({}, lambda: None) if plan.search else ()):
        record = make_done(job, [epoch(1, 5.0), epoch(2, 4.0 + number / 10)], status="pruned" if number == 3 else "ok")
        keep(plan.directory, record.with_columns({"unigram_loss": 9.0}))
    assert cli.main(["sweep", "find.yaml", "--target", "60,100,20", "--jobs", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "Which settings matter cannot be told from 4 runs, 3 of them complete: that takes 20 runs, 5 of them " in (
        "\n".join(said)
    )
    assert "pruned: 1 run; to train them to their end, run the search again with pruner: none" in said
    assert "no run reached perplexity 20" in said
    head = next(place for place, line in enumerate(said) if "s to 100" in line)
    assert said[head].split() == [
        *("bptt", "clip", "s", "to", "100", "tokens", "to", "100", "s", "to", "60", "tokens", "to", "60"),
    ]
    report = (plan.directory / "report.md").read_text()
    assert "### Search" in report
    assert "epochs to 60" in report
    assert cli.main(["status", "results/find", "--target", "60"]) == 0
    best = next(line for line in capsys.readouterr().out.splitlines() if "bptt=4 clip=0.1" in line)
    assert re.search(r", perplexity 60 after [\d,]+ s and [\d,]+ tokens$", best)
    assert refusal(capsys, "status", "results", "--target", "60").endswith(
        "--target needs one sweep, and results is not a sweep's folder; name one in it"
    )
    assert "'60,x' is not a list of perplexities above 1, such as 150,120" in refusal(
        capsys, "sweep", "find.yaml", "--target", "60,x"
    )


# Home folders


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["sweep", "--results=~/new", "--set", "dataset=synthetic", "--dry-run"], None),
        (["check-regression", "~/grid", "~/grid", "--json=~/x.json"], "x.json"),
        (["check-regression", "~/grid", "~/grid/runs.csv", "--junit", "~/x y.xml", "--markdown=~/é.md"], "é.md"),
        (["promote", "~/grid", "~/baseline.csv"], "baseline.csv"),
        (["report", "~/grid", "--output=~/page"], "page/report.html"),
        (["status", "~/grid"], None),
        (["sweep", "~/base.yaml", "--data-dir=~/", "--dry-run"], None),
        (["sweep", "--set", "dataset=~/text", "eval_batch_size=1", "bptt=5", "batch_size=4", "--dry-run"], None),
        (["sweep", "--set", "dataset=synthetic", "embedding=~/vectors.txt", "tie_weights=false", "--dry-run"], None),
    ],
)
def test_every_path_may_begin_at_home(
    tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch, words: list[str], made: str | None
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    write_folder(home / "text")
    (home / "vectors.txt").write_text("the 1 2\ncat 3 4\n")
    write_sweep(home / "base.yaml", {"set": {**SETTINGS, "dataset": "~/text"}})
    keep(home / "grid", make_done(make_job(small_corpus), [epoch(1, 2.0, 2.5)]))
    (home / "grid" / "sweep.json").write_text('{"points": []}')
    write_tables(home / "grid", read_records(home / "grid")[0])
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert cli.main(words) == 0
    assert list(here.iterdir()) == []
    assert made is None or (home / made).is_file()


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["sweep", "--results=~no-such-user/x"], "argument --results: "),
        (["sweep", "--tensorboard", "~no-such-user/x"], "argument --tensorboard: "),
        (["sweep", "~no-such-user/x.yaml"], "argument SWEEP.yaml: "),
        (["report", "a", "~no-such-user/x"], "argument DIR: "),
        (["generate", "~no-such-user/x", "--prompt", "a", "--tokens", "1"], "argument RUN: "),
        (["sweep", "--data-dir", "~no-such-user/x"], "--data-dir "),
        (["sweep", "--set", "dataset=~no-such-user/x"], "dataset '"),
        (["sweep", "--set", "dataset=synthetic", "embedding=~no-such-user/x"], "embedding '"),
        (["sweep", "--set", "dataset=synthetic", "--mlflow", "~no-such-user/x"], ""),
    ],
)
def test_the_home_of_no_user_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    option: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(capsys, *words).startswith(f"error: {option}~no-such-user/x")
    assert list(tmp_path.iterdir()) == []


def test_data_may_be_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "vectors.txt").write_text("the 1 2\ncat 3 4\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GLUON_RNN_DATA", "~/data")
    words = ["--set", "dataset=synthetic", "embedding=vectors.txt", "tie_weights=false", "--dry-run"]
    assert cli.main(["sweep", *words]) == 0


@pytest.mark.slow
def test_a_user_without_a_home_has_a_sweep_its_report_and_no_cache(tmp_path: Path, small_folder: Path) -> None:
    """As in a container that runs under any number; and with settings that end other programs."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(
        "import pwd\ndef getpwuid(number): raise KeyError(number)\npwd.getpwuid = getpwuid\n"
    )
    here = tmp_path / "here"
    here.mkdir()
    settings = {**SETTINGS, "dataset": str(small_folder), "epochs": 1}
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "MXNET_HOME", "LOGNAME", "USER")
    shell = {name: value for name, value in environment().items() if name not in names}
    shell |= {"PYTHONPATH": str(tmp_path / "start"), "MPLBACKEND": "nonsense", "PYTHONWARNINGS": "error"}
    command = [*RUN_SWEEP, "--set", *(f"{name}={value}" for name, value in settings.items())]
    done = subprocess.run(command, cwd=here, env=shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "report: results/quick/report.html"
    assert "<svg" in (here / "results" / "quick" / "report.html").read_text()
    assert [path.name for path in here.iterdir()] == ["results"]
    # What would be downloaded has nowhere to go.
    command = [*RUN_SWEEP, "--dry-run", "--set", "dataset=wikitext-2"]
    done = subprocess.run(command, cwd=here, env=shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: WikiText-2 is not in ~/.mxnet and could not be fetched (~/.mxnet: this user has no home folder): name "
        "the folder of wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens with --data-dir, or set MXNET_HOME to a "
        "folder that can be written\n"
    )


def test_a_library_of_another_python_is_one_line_that_points_to_the_doctor(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    """Where it is imported late; what is imported at once ends the script, see test_setup."""
    keep(tmp_path / "grid", make_done(make_job(small_corpus), [epoch(1, 2.0, 2.5)]))
    (tmp_path / "other" / "jinja2").mkdir(parents=True)
    (tmp_path / "other" / "jinja2" / "__init__.py").write_text("raise ImportError('of another\\nPython')\n")
    command = [sys.executable, str(CHECKOUT / "scripts" / "report.py"), str(tmp_path / "grid")]
    shell = environment(PYTHONPATH=str(tmp_path / "other"))
    done = subprocess.run(command, env=shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: of another Python; see gluon-rnn doctor for a fix\n"
