"""A sweep on the terminal: progress while it runs, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from gluon_rnn.common.printable import printable
from gluon_rnn.runs.contents import Names, label
from gluon_rnn.runs.evaluations import settings_of
from gluon_rnn.runs.job import FAILED, Job, Status
from gluon_rnn.runs.live import LiveProgress, ProgressWatch, read_progress
from gluon_rnn.runs.metrics import MEMORY, SECONDS, SPEED, STEP, measures_of, outcome, rank, scored_on, written
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.sweeps.planning import Plan
from gluon_rnn.sweeps.running import Display

_PLAIN_INTERVAL_SECONDS = 30.0


def make_console() -> Console:
    """A console on standard output that prints brackets and colons as they are; lines fold on a terminal only."""
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=250)


class _Watched(Display):
    """Keeps count of what is done, for either way of showing it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = ProgressWatch()

    def started(self, plan: Plan) -> None:
        self._plan = plan
        self._done = 0
        self._began = time.monotonic()
        self._say(
            f"{plan.name}: {plan.total} points, {plan.total - plan.to_run} done already, {plan.to_run} to run on "
            f"{_places(plan)}; results in {plan.directory}"
        )

    def ended(self, job: Job, record: RunRecord) -> None:
        self._done += 1
        self._say(f"[{self._done}/{self._plan.to_run}] {self._plan.label(job)}: {summary(record)}")

    def _live(self, job: Job) -> LiveProgress | None:
        return self._progress.newest(self._plan.directory / "runs" / job.run_id)

    def _time_left(self, fractions: Iterable[float]) -> str:
        share = (self._done + sum(fractions)) / max(1, self._plan.to_run)
        if share <= 0:
            return "time left unknown"
        return f"about {_duration((time.monotonic() - self._began) * (1 - share) / share)} left"

    def _say(self, line: str) -> None:
        self._console.print(printable(line), soft_wrap=True)


class PlainDisplay(_Watched):
    """A line when a run starts and ends, and one every half minute: for pipes and logs."""

    def started(self, plan: Plan) -> None:
        super().started(plan)
        self._seen: set[str] = set()
        self._last = time.monotonic()

    def running(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.run_id not in self._seen:
                self._seen.add(job.run_id)
                self._say(f"started {self._plan.label(job)} (run {job.run_id})")
        if time.monotonic() - self._last < _PLAIN_INTERVAL_SECONDS:
            return
        self._last = time.monotonic()
        states = [(job, self._live(job)) for job in jobs]
        left = self._time_left(state.fraction for _, state in states if state)
        for job, state in states:
            if state:
                self._say(
                    f"  {self._plan.label(job)}: {_doing(state)}; "
                    f"{self._done} of {self._plan.to_run} points done, {left}"
                )


class TerminalDisplay(_Watched):
    """A bar for the sweep and a line for each running point, redrawn in place."""

    def started(self, plan: Plan) -> None:
        super().started(plan)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[doing]}", markup=False),
            console=self._console,
        )
        self._points = Progress(
            TextColumn("points"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
        )
        self._total = self._points.add_task("points", total=plan.to_run, left="")
        self._tasks: dict[str, TaskID] = {}
        layout = Table.grid()
        layout.add_row(self._points)
        layout.add_row(self._bars)
        self._screen = Live(layout, console=self._console, refresh_per_second=4)
        self._screen.start()

    def running(self, jobs: Sequence[Job]) -> None:
        names = {job.run_id for job in jobs}
        for name in set(self._tasks) - names:
            self._bars.remove_task(self._tasks.pop(name))
        fractions = []
        for job in jobs:
            name = job.run_id
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(self._plan.label(job), total=1.0, doing="starting")
            state = self._live(job)
            if state:
                fractions.append(state.fraction)
                self._bars.update(self._tasks[name], completed=state.fraction, doing=_doing(state))
        left = self._time_left(fractions)
        self._points.update(self._total, completed=self._done, left=left)

    def ended(self, job: Job, record: RunRecord) -> None:
        super().ended(job, record)
        self._points.update(self._total, completed=self._done)

    def stopped(self) -> None:
        self.running([])
        self._screen.stop()


class Several(Display):
    """Tells each of `displays` the same."""

    def __init__(self, *displays: Display) -> None:
        self._displays = displays

    def started(self, plan: Plan) -> None:
        for display in self._displays:
            display.started(plan)

    def running(self, jobs: Sequence[Job]) -> None:
        for display in self._displays:
            display.running(jobs)

    def ended(self, job: Job, record: RunRecord) -> None:
        for display in self._displays:
            display.ended(job, record)

    def stopped(self) -> None:
        """A `Display` that forwards to several others; an error in one does not affect the rest."""
        with ExitStack() as stack:
            for display in reversed(self._displays):
                stack.callback(display.stopped)


def choose_display(console: Console, *, quiet: bool) -> Display:
    """The display that fits `console`."""
    if quiet:
        return Display()
    return TerminalDisplay(console) if console.is_terminal else PlainDisplay(console)


def summary(record: RunRecord) -> str:
    """A record in one line."""
    if record.status in FAILED:
        return f"{record.status} ({record.reason})"
    parts = [f"{record.status} ({record.reason})" if record.reason else outcome(record)]
    for measure in measures_of([record.valid_accuracy]).all:
        if (value := getattr(record, measure.column)) is not None:
            parts.append(f"{measure.words} {measure.written(value)}")
    if record.tokens_per_second is not None:
        parts.append(f"{written(record.tokens_per_second, 0)} tokens/s")
    return ", ".join(parts)


def results_tables(records: Sequence[RunRecord], columns: Sequence[str]) -> Group:
    """The records, best first, with the `columns` of what varies between them before the results.

    There is one table for each corpus and objective, because losses compare only within one. Corpora, vectors and cells
    that share a name are shown with the first digits of their digests.
    """
    names = Names(record.row for record in records)
    groups: dict[object, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(scored_on(record), []).append(record)
    return Group(*(_results_table(group, columns, names) for group in groups.values()))


def _results_table(records: Sequence[RunRecord], columns: Sequence[str], names: Names) -> Table:
    measures = (*measures_of(record.valid_accuracy for record in records).all, SPEED, STEP, MEMORY, SECONDS)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for measure in measures:
        # On a narrow terminal words fold. A number is never cut.
        table.add_column(measure.title, justify="right", no_wrap=True)
    table.add_column("status", overflow="fold")
    for record in sorted(records, key=lambda r: rank({outcome(r)}, r.valid_loss, r.tokens_per_second)):
        row = record.row
        values = [(measure, getattr(record, measure.column)) for measure in measures]
        table.add_row(
            *(printable(str(names.shown(row, name))) for name in columns),
            *("" if value is None else written(measure.figure(value), measure.digits) for measure, value in values),
            outcome(record) if not record.reason else printable(f"{record.status}: {record.reason[:60]}"),
        )
    return table


def evaluations_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """What ``evaluate`` prints of the rows of evaluations, by column of ``evaluations.csv``."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("split", "method", "settings"):
        table.add_column(title, overflow="fold")
    for title in ("tokens", "loss", "ppl", "plain ppl", "acc. %", "seconds", "peak MB"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        figures = [
            (row["tokens_scored"], 0),
            (row["loss"], 4),
            (row["perplexity"], 2),
            (row["plain_perplexity"], 2),
            (None if row["accuracy"] is None else 100 * row["accuracy"], 2),
            (row["seconds"], 0),
            (row["peak_rss_mb"], 0),
        ]
        table.add_row(
            row["split"],
            f"{row['method']}, searched" if row["searched"] else row["method"],
            label(settings_of(row)),
            *("" if value is None else written(value, digits) for value, digits in figures),
        )
    return table


def status_lines(
    directory: Path,
    points: Sequence[dict[str, str]],
    records: Sequence[RunRecord],
    *,
    total: int | None = None,
    active: bool | None,
) -> list[str]:
    """What ``status`` prints of a sweep's folder.

    Args:
        directory: the folder.
        points: that were planned, or that a search has proposed so far.
        total: how many there will be; None: these.
        records: that are there.
        active: whether a sweep is at work there; None: that cannot be told.
    """
    known = {record.run_id: record for record in records}
    counts = {
        status: sum(known[p["run_id"]].status == status for p in points if p["run_id"] in known)
        for status in get_args(Status)
    }
    ended = sum(counts.values())
    ends = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none ended"
    lines = [
        f"{directory}: {ended} of {total or len(points)} points ended ({ends}); "
        + {True: "a sweep is running", False: "no sweep is running", None: "whether a sweep is running is not known"}[
            active
        ]
    ]
    for point in points:
        record = known.get(point["run_id"])
        if record:
            lines.append(f"  {point['label']}: {summary(record)}")
            continue
        state = read_progress(directory / "runs" / point["run_id"])
        # Without a sweep nothing runs, even if a killed worker last reported that it did.
        lines.append(
            f"  {point['label']}: " + ("waiting" if not state else "interrupted" if active is False else _doing(state))
        )
    return lines


def _places(plan: Plan) -> str:
    """``cpu``, ``cpu, 2 at a time`` or ``gpu:0, gpu:1``."""
    devices = list(dict.fromkeys(slot.device for slot in plan.slots))
    return ", ".join(devices) + (f", {len(plan.slots)} at a time" if len(devices) < len(plan.slots) else "")


def _doing(state: LiveProgress) -> str:
    parts = [state.doing]
    if state.tokens_per_second is not None:
        parts.append(f"{written(state.tokens_per_second, 0)} tokens/s")
    if state.perplexity is not None:
        parts.append(f"perplexity {written(state.perplexity, 2)}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
