"""A sweep of points with awkward names, and a console that can be read."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.reporting.terminal.console import make_console
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.live import LiveProgress
from gluon_rnn.runs.progress import Progress
from gluon_rnn.sweeps.devices import Slot
from gluon_rnn.sweeps.planning import Plan
from tests.runs.test_records import make_job

#: Each would be eaten, or be a mistake, if it were read as rich's markup or as an emoji's name.
NAMES = ("[red]x", "[/bold]", ":cat:", "two words=x", "[link=y")


@pytest.fixture(autouse=True)
def _no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def console_of(*, terminal: bool, width: int = 250) -> tuple[Console, io.StringIO]:
    """What `make_console` makes where standard output is a terminal, or a file, that can be read."""
    text = io.StringIO()
    text.isatty = lambda: terminal  # type: ignore[method-assign]
    with contextlib.redirect_stdout(text):
        console = make_console()
    console.file = text
    console.width = width
    return console, text


def make_plan(directory: Path, jobs: Sequence[Job]) -> Plan:
    return Plan(
        name="grid",
        directory=directory,
        jobs=tuple(jobs),
        missing=tuple(jobs),
        slots=(Slot("cpu", "a processor", "cpu"),) * 2,
    )


@pytest.fixture
def plan(tmp_path: Path, small_corpus: CorpusFiles) -> Plan:
    """Points that differ in the names of their corpora."""
    return make_plan(
        tmp_path, [make_job(small_corpus, run_id=str(place), dataset=name) for place, name in enumerate(NAMES)]
    )


def say(plan: Plan, job: Job, fraction: float, doing: str, *, before: float | None = 0.0, trained: bool = True) -> None:
    """A run tells where it is: within an epoch, or with `trained` False at the end of one.

    Args:
        before: which fraction of it was done when its process began; None: it does not know yet.
    """
    directory = plan.directory / "runs" / job.run_id
    directory.mkdir(parents=True, exist_ok=True)
    live = LiveProgress(
        doing=doing,
        fraction=fraction,
        fraction_before=before,
        perplexity=12.345,
        tokens_per_second=6789.4,
        interval_loss=2.5 if trained else None,
        progress=Progress(),
    )
    (directory / "progress.json").write_text(live.model_dump_json())
