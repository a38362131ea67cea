"""A sweep, what befalls it, and what must hold afterwards: the trials of docs/reliability.md.

A trial runs a sweep of two tiny runs as a user would, in processes of their own, lets something happen to it, looks
that nothing of it is left running, starts the same command again, and compares what is there then with what an
undisturbed sweep left. `benchmarks/fault_trials.py` makes hundreds of them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from gluon_rnn.runs.job import FINISHED
from gluon_rnn.runs.records import RunRecord, read_records
from gluon_rnn.runs.tables import write_tables
from tests.conftest import small_config, write_folder

CHECKOUT = Path(__file__).parents[2]
INJECT = Path(__file__).parent / "inject"
SETTINGS = {
    **small_config(epochs=3, dropout=0.3, optimizer="adam", learning_rate=0.01).model_dump(exclude_unset=True),
    "threads": 1,
}
# Two runs may be stopped in order, one after the other.
_PATIENCE_SECONDS = 15.0

#: What a run's directory and a sweep's folder hold when all is done, and nothing else.
RUN_FILES = {"best.params", "checkpoint", "config.json", "epochs.csv", "log.txt", "record.json", "vocabulary.json"}
SWEEP_FILES = {".lock", "epochs.csv", "report.html", "report.md", "runs", "runs.csv", "sweep.json"}
#: A worker has a checkpoint by then, and is not done.
MID_WRITE = 35
#: Of a record and its epochs, what the clock decides, and who trained an epoch.
TIMED = {"tokens_per_second", "seconds", "evaluation_seconds", "session"}


#: Does something to a sweep, and says what was wrong with how it took it.
Befall = Callable[["Trial"], list[str] | None]


@dataclass(frozen=True)
class Outcome:
    """The result of a run, except its speed: equal to the bit however it was disturbed."""

    numbers: tuple[object, ...]
    parameters: bytes

    @classmethod
    def of(cls, directory: Path, record: RunRecord) -> Outcome:
        """Of a finished run."""
        names = ("status", "steps", "best_epoch", "epochs_run", "train_perplexity", "valid_loss", "test_loss")
        epochs = [tuple(value for name, value in vars(epoch).items() if name not in TIMED) for epoch in record.history]
        numbers = (*(getattr(record, name) for name in names), *epochs)
        return cls(numbers, (directory / "best.params").read_bytes())


class Site:
    """A corpus, a sweep file, and what the sweep comes to undisturbed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._after: dict[str, Trial] = {}
        self._making = threading.Lock()
        corpus = write_folder(folder / "corpus")
        content = {"set": {**SETTINGS, "dataset": str(corpus)}, "axes": {"cell": ["lstm", "gru"]}}
        (folder / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """By run_id; and in passing, how long it took and how often each process wrote."""
        began = time.monotonic()
        trial = self.after("nobody")
        self.seconds = time.monotonic() - began
        counts = (self.folder / "counts after nobody").read_text()
        self.writes = {role: int(number) for role, number in map(str.split, counts.splitlines())}
        outcomes = trial.outcomes()
        assert len(outcomes) == 2, trial.said()
        return outcomes

    def after(self, fault: str) -> Trial:
        """What a sweep with a fault of ``inject/sitecustomize.py`` left, which several trials go on from."""
        with self._making:  # trials may be made side by side
            if fault not in self._after:
                self._after[fault] = trial = Trial(self, f"after {fault}")
                trial.run(FAULT=fault, FAULT_COUNT=str(self.folder / f"counts after {fault}"))
            return self._after[fault]

    def trial(self, befall: Befall, *, stand_ins: int = 0) -> list[str]:
        """What was wrong after `befall` had happened to a sweep and it was started again; nothing, if all is well.

        So many of its two runs are not trained: their workers leave what the undisturbed sweep's did.
        """
        expected = self.outcomes
        finished = [self.after("nobody").directory / "runs" / run_id for run_id in sorted(expected)]
        with TemporaryDirectory(dir=self.folder) as name:
            trial = Trial(self, name)
            trial.environment["FAULT_STAND_INS"] = os.pathsep.join(map(str, finished[:stand_ins]))
            try:
                return (befall(trial) or []) + trial.verdict(expected)
            finally:
                trial.clear()


class Trial:
    """One sweep in a folder of its own."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.folder = site.folder / name
        self.folder.mkdir(exist_ok=True)
        self.directory = self.folder / "results" / "tiny"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FAULT")},
            "PYTHONPATH": str(INJECT),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "MPLCONFIGDIR": str(site.folder / "matplotlib"),
            "FAULT_FOLDER": str(self.folder),
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """The command, in the background."""
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.site.folder,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def command(self, *arguments: str) -> list[str]:
        """What a user types; failed runs are made again."""
        script = CHECKOUT / "scripts" / "run_sweep.py"
        options = ["--results", str(self.folder / "results"), "--rerun-failed", *arguments]
        return [sys.executable, str(script), "tiny.yaml", *options]

    def run(self, *arguments: str, **environment: str) -> int:
        """The command to its end, and its exit status."""
        return self.start(*arguments, **environment).wait()

    def said(self) -> str:
        """All that the commands printed."""
        return (self.folder / "said.txt").read_text(errors="replace")

    def processes(self) -> dict[int, str]:
        """Whatever runs in this trial's folder: ``sweep`` or ``worker`` by its number."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes()
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if os.fsencode(self.folder) in words and state != "Z":
                found[int(path.name)] = "worker" if b"gluon_rnn.training.worker" in words else "sweep"
        return found

    def clear(self) -> None:
        """Kill what is left, and take away the disk."""
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        if (self.folder / "results").is_mount():
            subprocess.run(["umount", self.folder / "results"], check=True)

    def finished(self) -> dict[str, bytes]:
        """The records of finished runs, as they stand on the disk."""
        records, _ = read_records(self.directory)
        paths = {r.run_id: self.directory / "runs" / r.run_id / "record.json" for r in records if r.status in FINISHED}
        return {run_id: path.read_bytes() for run_id, path in paths.items()}

    def outcomes(self) -> dict[str, Outcome]:
        """Of the runs that have finished."""
        records, _ = read_records(self.directory)
        runs = self.directory / "runs"
        return {r.run_id: Outcome.of(runs / r.run_id, r) for r in records if r.status in FINISHED}

    def verdict(self, expected: Mapping[str, Outcome]) -> list[str]:
        """What is wrong now, and once the sweep has been started again; `expected` is what an undisturbed one left."""
        wrong = []
        patience = time.monotonic() + _PATIENCE_SECONDS
        while (left := self.processes()) and time.monotonic() < patience:
            time.sleep(0.02)
        if left:
            wrong.append(f"still running: {left}")
            self.clear()
        before = self.finished()
        if status := self.run():
            wrong.append(f"exit status {status}, having said: {self.said()[-500:]}")
        now = self.finished()
        wrong += [f"{run_id}: its record was lost or altered" for run_id in before if before[run_id] != now.get(run_id)]
        wrong += [f"{run_id}: other bits" for run_id, outcome in self.outcomes().items() if outcome != expected[run_id]]
        wrong += [f"{run_id}: missing" for run_id in expected.keys() - now.keys()]
        if "Traceback" in self.said():
            wrong.append(f"a traceback: {self.said()[-2000:]}")
        return wrong + self._unexpected_files() + self._false_tables()

    def _unexpected_files(self) -> list[str]:
        wrong = []
        runs = self.directory / "runs"
        for folder, names in ((self.directory, SWEEP_FILES), *((run, RUN_FILES) for run in runs.glob("*"))):
            there = {path.name for path in folder.iterdir() if ".damaged" not in path.name}
            if there != names:
                wrong.append(f"{folder.name}: {sorted(there ^ names)} is too much or missing")
        return wrong + [f"left in the cache: {path.name}" for path in self.folder.glob("cache/gluon_rnn/.*.tmp")]

    def _false_tables(self) -> list[str]:
        with TemporaryDirectory() as name:
            write_tables(Path(name), read_records(self.directory)[0])
            names = ("runs.csv", "epochs.csv")
            return [
                f"{table} is not what its records say"
                for table in names
                if (Path(name) / table).read_bytes() != (self.directory / table).read_bytes()
            ]


def killed(target: str, moment: float) -> Befall:
    """The sweep, its worker or both, killed at a moment, a fraction of the undisturbed sweep's time."""

    def befall(trial: Trial) -> None:
        process = trial.start()
        time.sleep(moment * trial.site.seconds)
        for number, kind in trial.processes().items():
            if target in (kind, "both"):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        process.wait()

    return befall


def at_write(role: str, fault: str, number: int, *arguments: str) -> Befall:
    """One of the faults of ``inject/sitecustomize.py``, at the `number`-th write of each process of that kind."""

    def befall(trial: Trial) -> list[str]:
        status = trial.run(*arguments, FAULT=f"{role} {fault} {number}")
        # A sweep stands without its report.
        return [] if status or "no report" in trial.said() else ["the fault had no effect"]

    return befall


def killed_over_a_hanging_worker(trial: Trial) -> None:
    """The sweep killed while its worker waits for ever; who outlives it does so until the verdict."""
    process = trial.start(FAULT=f"worker hang {MID_WRITE}")
    while not list(trial.directory.glob("runs/*/checkpoint/state.json")):
        time.sleep(0.02)
    process.kill()
    process.wait()


def workers_killed(trial: Trial) -> list[str]:
    """Both runs' workers, each in the middle of a write; it happens once, and several trials go on from it."""
    left = trial.site.after(f"worker kill {MID_WRITE}")
    shutil.copytree(left.folder, trial.folder, dirs_exist_ok=True)
    return ["the fault had no effect"] if trial.finished() else []


def damaged(pattern: str, generator: random.Random, *, cut: bool) -> Befall:
    """A file cut short, or with one bit turned, of a sweep that is done; or a checkpoint's, of one that was killed."""

    def befall(trial: Trial) -> None:
        if "checkpoint" in pattern:
            workers_killed(trial)
        else:
            shutil.copytree(trial.site.after("nobody").folder, trial.folder, dirs_exist_ok=True)
        path = generator.choice(sorted(path for path in trial.folder.glob(pattern) if path.is_file()))
        content = bytearray(path.read_bytes())
        place = generator.randrange(len(content))
        if cut:
            del content[place:]
        else:
            content[place] ^= 1 << generator.randrange(8)
        path.write_bytes(content)

    return befall


def may_mount() -> bool:
    """Whether this process can make a disk of its own."""
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def small_disk(trial: Trial) -> list[str]:
    """Results on a disk of 48 KiB, which is made larger when the sweep has met its end."""
    disk = trial.folder / "results"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", disk], check=True)
    status = trial.run()
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    return [] if status and "No space left on device" in trial.said() else [f"on a small disk: exit status {status}"]


def two_sweeps_at_once(trial: Trial) -> list[str]:
    """One of them does the work, the other says that it does; workers wait until it has, and then go on."""
    both = [trial.start(FAULT="worker stop 1"), trial.start(FAULT="worker stop 1")]
    patience = time.monotonic() + _PATIENCE_SECONDS
    while all(process.poll() is None for process in both) and time.monotonic() < patience:
        time.sleep(0.02)
    while any(process.poll() is None for process in both):
        for number, kind in trial.processes().items():
            if kind == "worker":
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGCONT)
        time.sleep(0.02)
    statuses = sorted(process.wait() for process in both)
    refused = "another sweep is running" in trial.said()
    return [] if statuses == [0, 2] and refused else [f"two sweeps at once ended with {statuses}"]


def jumping_clock(trial: Trial) -> list[str]:
    """A wall clock that is set forth and back by days all the time; what is timed must not notice."""
    status = trial.run(FAULT_CLOCK="1")
    seconds = [record.train_seconds for record in read_records(trial.directory)[0]]
    sane = all(0 < value < 60 for value in seconds if value is not None)
    return [] if status == 0 and sane else [f"with a clock that jumps: exit status {status}, seconds {seconds}"]
