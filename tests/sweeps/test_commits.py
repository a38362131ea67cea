"""Commits are run in turns, each with its own code, once; what cannot be tested is told from what is worse."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest

from gluon_rnn.cli import compare_commits
from gluon_rnn.config.sweep_file import load_sweep
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.records import read_records, write_record
from gluon_rnn.runs.tables import write_tables
from gluon_rnn.sweeps.commits import CannotTest, Checkout, Repeated, difference, find_commit, measure, prepare
from tests.runs.test_records import epoch, make_done, make_job

INSTALLED = (
    f"numpy=={version('numpy')} ; python_full_version < '3.12' and sys_platform == 'linux' \\\n    --hash=sha256:00\n"
)


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of what looks like this suite, tagged good and bad."""
    folder = tmp_path / "repository"
    (folder / "scripts").mkdir(parents=True)
    (folder / "requirements").mkdir()
    git(folder, "init", "--quiet")
    (folder / "requirements" / "cpu.txt").write_text(INSTALLED)
    for name in ("good", "bad"):
        (folder / "scripts" / "run_sweep.py").write_text(name)
        git(folder, "add", "-A")
        git(folder, "commit", "--quiet", "--no-verify", "-m", name)
        git(folder, "tag", name)
    return folder


def silent(line: str) -> None:
    """Hears nothing."""


class Sweeper:
    """Stands in for the processes: writes the records that a sweep of a commit would leave."""

    def __init__(self, losses: dict[str, float], corpus: CorpusFiles) -> None:
        self.calls: list[tuple[str, int]] = []
        self.environments: list[dict[str, str]] = []
        self._losses, self._corpus = losses, corpus
        self._commits: dict[Path, str] = {}

    def __call__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> int:
        options = dict(pairwise(command))
        script, seed = Path(command[1]), int(command[command.index("--results") - 1].removeprefix("seed="))
        worktree = script.parents[1]
        kind = script.read_text()
        self.calls.append((kind, seed))
        self.environments.append(environment)
        log.write_text(f"ran {kind}\n")
        if kind not in self._losses:
            return 1
        folder = Path(options["--results"]) / options["--name"]
        if worktree not in self._commits:
            self._commits[worktree] = git(worktree, "rev-parse", "HEAD").strip()
        job = make_job(self._corpus, run_id=f"{seed:012}", seed=seed)
        job = job.model_copy(update={"origin": job.origin.model_copy(update={"git_commit": self._commits[worktree]})})
        record = make_done(job, history=[epoch(1, valid_loss=self._losses[kind] + seed / 10)])
        (folder / "runs" / record.run_id).mkdir(parents=True)
        write_record(folder / "runs" / record.run_id, record)
        write_tables(folder, read_records(folder)[0])
        return 0


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text("name: tiny\nset: {dataset: synthetic}\n")
    return path


def tiny(path: Path, seeds: int) -> Repeated:
    return Repeated(path, (), load_sweep(path), seeds)


def checkouts(repository: Path, folder: Path) -> list[Checkout]:
    commits = [find_commit(repository, name) for name in ("good", "bad")]
    return [prepare(repository, commit, folder, notice=silent, start=never) for commit in commits]


def never(command: Sequence[str], environment: dict[str, str], log: Path) -> int:
    pytest.fail(f"{command} is not needed")


def test_commits_take_turns_and_run_what_is_missing(
    repository: Path, tmp_path: Path, sweep_file: Path, small_corpus: CorpusFiles
) -> None:
    sweeper = Sweeper({"good": 4.0, "bad": 5.0}, small_corpus)
    prepared = checkouts(repository, tmp_path)
    folders = measure(prepared, tiny(sweep_file, 3), tmp_path, notice=silent, start=sweeper)
    turns = [("good", 0), ("bad", 0), ("bad", 1), ("good", 1), ("good", 2), ("bad", 2)]
    assert sweeper.calls == turns
    assert [path.name for path in folders] == [git(repository, "rev-parse", name)[:12] for name in ("good", "bad")]
    worktrees = [str(tmp_path / "worktrees" / path.name) for path in folders]
    assert {each["PYTHONPATH"] for each in sweeper.environments} == {*worktrees}
    assert {checkout.python for checkout in prepared} == {Path(sys.executable)}
    measure(prepared, tiny(sweep_file, 4), tmp_path, notice=silent, start=sweeper)
    assert sweeper.calls[6:] == [("bad", 3), ("good", 3)]
    sweep_file.write_text("name: tiny\nset: {dataset: synthetic, bptt: 5}\n")
    measure(prepared, tiny(sweep_file, 1), tmp_path, notice=silent, start=sweeper)
    assert sweeper.calls[8:] == turns[:2]


def test_speeds_are_measured_beside_each_other_commit(
    repository: Path, tmp_path: Path, sweep_file: Path, small_corpus: CorpusFiles
) -> None:
    sweeper = Sweeper({"good": 4.0, "bad": 5.0}, small_corpus)
    good, bad = checkouts(repository, tmp_path)
    for pair in ([good], [good, bad], [good, bad]):
        folders = measure(pair, tiny(sweep_file, 1), tmp_path, apart=True, notice=silent, start=sweeper)
    assert sweeper.calls == [("good", 0), ("good", 0), ("bad", 0)]
    assert folders[0].parent.name == f"{good.name}-{bad.name}"


def test_results_of_other_code_are_refused(
    repository: Path, tmp_path: Path, sweep_file: Path, small_corpus: CorpusFiles
) -> None:
    sweeper = Sweeper({"good": 4.0}, small_corpus)
    good, bad = checkouts(repository, tmp_path)
    git(good.worktree, "checkout", "--quiet", bad.commit)
    (good.worktree / "scripts" / "run_sweep.py").write_text("good")
    with pytest.raises(CannotTest, match="has results of other commits; remove it"):
        measure([good], tiny(sweep_file, 1), tmp_path, notice=silent, start=sweeper)
    with pytest.raises(CannotTest, match=f"{good.name} is not at {good.name}; remove it"):
        checkouts(repository, tmp_path)


def command(sweep_file: Path, folder: Path, revisions: Sequence[str], *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    compare_commits.add_arguments(parser)
    return parser.parse_args([*revisions, str(sweep_file), "--folder", str(folder), "--repeats", "2", *more])


@pytest.mark.parametrize(
    ("losses", "more", "status", "said"),
    [
        ({"good": 4.0, "bad": 4.5}, (), 1, "B against A: 1 worse; on average validation perplexity +64.87 %"),
        ({"good": 4.0, "bad": 3.5}, (), 0, "B against A: 1 better; on average validation perplexity -39.35 %"),
        ({"good": 4.0, "bad": 4.001}, (), 0, "B against A: 1 unchanged; on average validation perplexity +0.10 %"),
        (
            {"good": 4.0, "bad": 4.001},
            ("--perplexity", "0.05%"),
            1,
            "B against A: 1 worse; on average validation perplexity +0.10 %",
        ),
        ({"good": 4.0}, (), 125, "cannot run"),
        ({}, ("--repeats", "1"), 125, "--repeats 1 tells no change from chance; give 2 or more"),
    ],
)
def test_the_exit_status_is_what_git_bisect_takes(
    repository: Path,
    tmp_path: Path,
    sweep_file: Path,
    small_corpus: CorpusFiles,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    losses: dict[str, float],
    more: Sequence[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(repository)
    sweeper = Sweeper(losses, small_corpus)
    options = command(sweep_file, tmp_path / "there", ["good", "bad"], *more)
    assert compare_commits.run(options, start=sweeper) == status
    told = capsys.readouterr()
    assert said in " ".join((told.out + told.err).split())


def test_an_unknown_revision_cannot_be_tested(
    repository: Path, tmp_path: Path, sweep_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    assert compare_commits.run(command(sweep_file, tmp_path, ["good", "worse"]), start=never) == 125
    monkeypatch.chdir("/")
    assert compare_commits.run(command(sweep_file, tmp_path, ["good", "bad"]), start=never) == 125


def test_a_defect_of_the_command_is_no_verdict(
    repository: Path,
    tmp_path: Path,
    sweep_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def defective(command: Sequence[str], environment: dict[str, str], log: Path) -> int:
        raise ZeroDivisionError

    monkeypatch.chdir(repository)
    assert compare_commits.run(command(sweep_file, tmp_path, ["good", "bad"]), start=defective) == 125
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lock", "lacking"),
    [
        (INSTALLED, ""),
        ("# numpy==0.1\nnumpy==0.1 ; python_version < '3' \\\n    --hash=sha256:00\n", ""),
        (INSTALLED + "numpy==0.1 \\\n", f"numpy {version('numpy')}, not 0.1"),
        ("no-such-package==1.0\n", "no no-such-package 1.0"),
    ],
)
def test_a_lock_file_is_held_against_what_is_installed(lock: str, lacking: str) -> None:
    assert difference(lock) == lacking


def test_other_packages_are_installed_once_for_all_commits_that_name_them(repository: Path, tmp_path: Path) -> None:
    for name in ("new", "newer"):
        (repository / "requirements" / "cpu.txt").write_text("no-such-package==1.0\n")
        git(repository, "commit", "--quiet", "--allow-empty", "-am", name)
        git(repository, "tag", name)
    started: list[Sequence[str]] = []

    def install(command: Sequence[str], environment: dict[str, str], log: Path) -> int:
        started.append(command)
        python = Path(command[2]) / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.touch()
        return 0

    said: list[str] = []
    new, newer = (find_commit(repository, name) for name in ("new", "newer"))
    first = prepare(repository, new, tmp_path, notice=said.append, start=install)
    assert first.python == tmp_path / "worktrees" / new[:12] / ".venv" / "bin" / "python"
    assert prepare(repository, newer, tmp_path, notice=said.append, start=install).python == first.python
    assert started == [["make", "-C", str(tmp_path / "worktrees" / new[:12]), "install"]]
    assert said == [
        f"{new[:12]} needs other packages than are installed here (no no-such-package 1.0); installing them with make"
    ]


def test_a_commit_that_cannot_be_installed_cannot_be_tested(repository: Path, tmp_path: Path) -> None:
    (repository / "requirements" / "cpu.txt").write_text("no-such-package==1.0\n")
    git(repository, "commit", "--quiet", "-am", "new")

    def fail(command: Sequence[str], environment: dict[str, str], log: Path) -> int:
        log.write_text("no compiler\n\n")
        return 2

    with pytest.raises(CannotTest, match="cannot be installed: no compiler; see "):
        prepare(repository, find_commit(repository, "HEAD"), tmp_path, notice=silent, start=fail)


def test_a_commit_of_something_else_cannot_be_tested(repository: Path, tmp_path: Path) -> None:
    git(repository, "rm", "--quiet", "-r", "scripts")
    git(repository, "commit", "--quiet", "-m", "none")
    with pytest.raises(
        CannotTest, match=r"has no scripts/run_sweep\.py: it is not a commit of gluon_rnn that runs swe"
    ):
        prepare(repository, find_commit(repository, "HEAD"), tmp_path, notice=silent, start=never)
