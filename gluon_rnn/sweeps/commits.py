"""Sweeps of several commits of this suite: a worktree and an environment for each, runs in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from gluon_rnn.common.errors import UserError, reason
from gluon_rnn.common.files import sha256_of
from gluon_rnn.common.printable import Notice
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.runs.job import FINISHED
from gluon_rnn.runs.records import read_records
from gluon_rnn.sweeps.origin import git

#: Digits of a commit that name its folders.
_DIGITS = 12
#: What a commit was locked to, one of which is installed.
_LOCKS = ("requirements/cpu.txt", "requirements/cu112.txt")
_RUN_SWEEP = "scripts/run_sweep.py"

#: Runs a command in an environment, appends its output to a file, and returns its exit status.
Start = Callable[[Sequence[str], dict[str, str], Path], int]


class CannotTest(UserError):
    """A commit that cannot be installed or run, which says nothing of its results."""


@dataclass(frozen=True)
class Checkout:
    """A commit that is ready to run.

    Attributes:
        commit: its SHA-1.
        worktree: its files.
        python: an interpreter that has what it needs.
    """

    commit: str
    worktree: Path
    python: Path

    @property
    def name(self) -> str:
        """The name of its folders."""
        return self.commit[:_DIGITS]


def find_commit(repository: Path, revision: str) -> str:
    """The SHA-1 of a commit, a tag or a branch.

    Raises:
        CannotTest: there is none of that name, or no repository.
    """
    try:
        return git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except (OSError, subprocess.SubprocessError):
        raise CannotTest(f"{revision} is not a commit of the Git repository in {repository}") from None


def prepare(repository: Path, commit: str, folder: Path, *, notice: Notice, start: Start) -> Checkout:
    """Check a commit out into ``folder/worktrees``, and find or make an environment for it.

    The packages of this interpreter are used where they are those that the commit's lock file names, to the version;
    else those of another worktree with the same lock files; else they are installed, as ``make install`` does.

    Args:
        repository: to which the commit belongs.
        commit: its SHA-1.
        folder: for the worktrees.
        notice: told what takes long.
        start: runs a command: `run_logged`.

    Raises:
        CannotTest: the commit is not one of this suite, or cannot be installed.
    """
    worktree = folder / "worktrees" / commit[:_DIGITS]
    try:
        if not (worktree / ".git").exists():
            worktree.parent.mkdir(parents=True, exist_ok=True)
            git(repository, "worktree", "prune")
            git(repository, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", str(worktree), commit)
        if git(worktree, "rev-parse", "HEAD") != commit:
            raise CannotTest(f"{worktree} is not at {commit[:_DIGITS]}; remove it")
    except (OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", "") or reason(error)
        raise CannotTest(f"cannot check out {commit[:_DIGITS]}: {' '.join(words.split())}") from None
    if not (worktree / _RUN_SWEEP).is_file():
        raise CannotTest(f"{commit[:_DIGITS]} has no {_RUN_SWEEP}: it is not a commit of gluon_rnn that runs sweeps")
    return Checkout(commit, worktree, _python_for(worktree, notice, start))


def _python_for(worktree: Path, notice: Notice, start: Start) -> Path:
    locks = [path for path in (worktree / name for name in _LOCKS) if path.is_file()]
    lacking = [difference(path.read_text(encoding="utf-8")) for path in locks]
    if not all(lacking):
        return Path(sys.executable)
    digests = [path.read_bytes() for path in locks]
    own = worktree / ".venv" / "bin" / "python"
    for python in (own, *worktree.parent.glob("*/.venv/bin/python")):
        others = [python.parents[2] / path.relative_to(worktree) for path in locks]
        if python.is_file() and [path.read_bytes() for path in others if path.is_file()] == digests:
            return python
    notice(f"{worktree.name} needs other packages than are installed here ({lacking[0]}); installing them with make")
    log = worktree.with_suffix(".log")
    if start(["make", "-C", str(worktree), "install"], {**os.environ}, log) or not own.is_file():
        raise CannotTest(f"{worktree.name} cannot be installed: {_last_line(log)}; see {log}")
    return own


def difference(lock: str) -> str:
    """The first package of a lock file that is not installed in this version, in words; empty if there is none."""
    for line in lock.splitlines():
        if not line[:1].isalnum():
            continue
        try:
            requirement = Requirement(line.removesuffix(" \\"))
        except InvalidRequirement:
            return f"cannot read {line!r}"
        if requirement.marker and not requirement.marker.evaluate():
            continue
        wanted = str(requirement.specifier).removeprefix("==")
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            return f"no {requirement.name} {wanted}"
        if not requirement.specifier.contains(found, prereleases=True):
            return f"{requirement.name} {found}, not {wanted}"
    return ""


@dataclass(frozen=True)
class Repeated:
    """A sweep that is run with several seeds.

    Attributes:
        file: of the sweep.
        settings: ``KEY=VALUE``, fixed at every point.
        sweep: what these are.
        seeds: how many, from 0 on.
    """

    file: Path
    settings: tuple[str, ...]
    sweep: Sweep
    seeds: int

    @property
    def name(self) -> str:
        """The name of its results' folder, which identifies the sweep; added settings do not change it."""
        points = [{**config.given, "seed": 0} for config in self.sweep.points()]
        return f"{self.sweep.name}-{sha256_of(json.dumps(points).encode())[:8]}"

    def is_done(self, directory: Path, seed: int) -> bool:
        """Whether a sweep's `directory` has the results of a seed."""
        points = self.sweep.with_arguments({"seed": seed}, {}).points()
        records = read_records(directory)[0]
        return sum(each.config.seed == seed and each.status in FINISHED for each in records) >= len(points)


def measure(
    checkouts: Sequence[Checkout],
    repeated: Repeated,
    folder: Path,
    *,
    apart: bool = False,
    notice: Notice,
    start: Start,
) -> list[Path]:
    """Run a sweep at each commit, and return the folders of the results, in the commits' order.

    The commits take turns seed by seed, and whichever ends a seed begins the next, so that a machine that grows slower
    slows both. A seed that has results is not run again.

    Args:
        checkouts: from `prepare`.
        repeated: what is run.
        folder: for the results: a folder for each sweep, in it one for each commit.
        apart: keep the results of these commits apart from others', so that each commit is measured anew beside each
            other one: speeds compare only if the runs took turns.
        notice: told what is being run.
        start: runs a command: `run_logged`.

    Raises:
        CannotTest: a run failed, or a commit cannot run the sweep.
    """
    place = folder.resolve() / repeated.name
    if apart:
        place /= "-".join(checkout.name for checkout in checkouts)
    place.mkdir(parents=True, exist_ok=True)
    for seed in range(repeated.seeds):
        for checkout in checkouts if seed % 2 == 0 else reversed(checkouts):
            if not repeated.is_done(place / checkout.name, seed):
                notice(f"{checkout.name}: seed {seed} of {repeated.sweep.name}")
                _run(checkout, repeated, seed, place, start)
    return [place / checkout.name for checkout in checkouts]


def _run(checkout: Checkout, repeated: Repeated, seed: int, place: Path, start: Start) -> None:
    places = ["--results", str(place), "--name", checkout.name, "--jobs", "1"]
    command = [str(checkout.python), str(checkout.worktree / _RUN_SWEEP), str(repeated.file.resolve())]
    command += ["--set", *repeated.settings, f"seed={seed}", *places, "--quiet", "--rerun-failed"]
    log = place / f"{checkout.name}.log"
    # Its own code, whichever checkout the interpreter's environment was made for.
    status = start(command, {**os.environ, "PYTHONPATH": str(checkout.worktree)}, log)
    if status or not repeated.is_done(place / checkout.name, seed):
        raise CannotTest(f"{checkout.name} cannot run {repeated.file} (status {status}): {_last_line(log)}; see {log}")
    commits = {each.row["git_commit"] for each in read_records(place / checkout.name)[0]}
    if commits != {checkout.commit}:
        raise CannotTest(f"{place / checkout.name} has results of other commits; remove it")


def run_logged(command: Sequence[str], environment: dict[str, str], log: Path) -> int:
    """Run a command, append its output to `log`, and return its exit status; an interrupt ends the command."""
    with (
        log.open("ab") as file,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it says nothing")
