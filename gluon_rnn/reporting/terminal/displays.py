"""The progress of a sweep while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gluon_rnn.common.printable import counted, printable
from gluon_rnn.reporting.terminal.console import Fitting, make_table
from gluon_rnn.reporting.terminal.results import BestSoFar, summary
from gluon_rnn.runs.contents import label
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.live import LiveProgress, ProgressWatch
from gluon_rnn.runs.metrics import written
from gluon_rnn.runs.progress import Progress
from gluon_rnn.runs.records import RunRecord, read_records
from gluon_rnn.sweeps.planning import Plan
from gluon_rnn.sweeps.running import Display

_PLAIN_INTERVAL_SECONDS = 30.0


class _Watched(Display):
    """Counts the points that are done, for both displays.

    Args:
        console: to show it on.
        targets: perplexities; of a run that has ended it is told when it reached them.
    """

    def __init__(self, console: Console, targets: Sequence[float] = ()) -> None:
        self._console = console
        self._targets = targets
        self._progress = ProgressWatch()

    def started(self, plan: Plan) -> None:
        self._plan = plan
        self._done = 0
        self._began = time.monotonic()
        # Which fraction of a resumed run was done before, and how many runs' work the ended ones have taken since.
        states = ((job, self._live(job)) for job in plan.missing)
        self._before = {job.run_id: state.fraction for job, state in states if state}
        self._ended = 0.0
        # How much work was made, and when it would be done, at the last news of any run.
        self._estimate = (0.0, self._began)
        missing = {job.run_id for job in plan.missing}
        finished = {job.run_id for job in plan.jobs} - missing
        records = [record for record in read_records(plan.directory)[0] if record.run_id in finished]
        self._best = BestSoFar(records, plan.varying)
        points = counted(plan.total, "point")
        if plan.to_run:
            done = f"{plan.total - plan.to_run:,} done already, {plan.to_run:,} to run on {_places(plan)}"
        else:
            done = "all done already"
        self._say(f"{plan.name}: {points}, {done}; results in {plan.directory}")

    def ended(self, job: Job, record: RunRecord) -> None:
        self._done += 1
        self._ended += 1 - self._before.get(job.run_id, 0.0)
        self._best.add(record)
        self._say(f"[{self._done}/{self._plan.to_run}] {self._plan.label(job)}: {summary(record, self._targets)}")

    def _live(self, job: Job) -> LiveProgress | None:
        return self._progress.newest(self._plan.directory / "runs" / job.run_id)

    def _look(self, jobs: Sequence[Job]) -> list[tuple[Job, LiveProgress | None]]:
        """The running jobs, each with its progress."""
        states = [(job, self._live(job)) for job in jobs]
        for job, state in states:
            if state and state.fraction_before is not None:
                # Less than was done before, as it begins again after its last checkpoint.
                before = state.fraction_before
                self._before[job.run_id] = min(self._before.get(job.run_id, before), before)
        return states

    def _time_left(self, states: Iterable[tuple[Job, LiveProgress | None]]) -> str:
        """By the speed of this sweep up to its runs' last news; what resumed runs had done before does not count.

        Log intervals and scoring can take minutes, in which no news comes. The clock goes on, and the estimate stands.
        """
        made = self._ended + sum(
            state.fraction - self._before[job.run_id]
            for job, state in states
            if state and state.fraction_before is not None
        )
        if made <= 0:
            return "time left unknown"
        now = time.monotonic()
        if made != self._estimate[0]:
            to_make = self._plan.to_run - sum(self._before.values()) - made
            self._estimate = made, now + (now - self._began) * to_make / made
        return f"about {_duration(max(self._estimate[1] - now, 0))} left"

    def _say(self, line: str) -> None:
        # A terminal's lines are folded between words; those of a log are as long as they are.
        self._console.print(printable(line), soft_wrap=not self._console.is_terminal)


class PlainDisplay(_Watched):
    """Lines for pipes and logs: one when a run starts and ends, and one every half minute."""

    def started(self, plan: Plan) -> None:
        super().started(plan)
        self._seen: set[str] = set()
        self._last = time.monotonic()

    def running(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.run_id not in self._seen:
                self._seen.add(job.run_id)
                self._say(f"started {self._plan.label(job)} (run {job.run_id})")
        states = self._look(jobs)
        left = self._time_left(states)
        if time.monotonic() - self._last < _PLAIN_INTERVAL_SECONDS:
            return
        self._last = time.monotonic()
        for job, state in states:
            if state:
                self._say(
                    f"  {self._plan.label(job)}: {state.in_words}; "
                    f"{self._done} of {counted(self._plan.to_run, 'point')} done, {left}"
                )

    def ended(self, job: Job, record: RunRecord) -> None:
        before = self._best.lines
        super().ended(job, record)
        for line in self._best.lines:
            if line not in before and self._done < self._plan.to_run:
                self._say(line)


class TerminalDisplay(_Watched):
    """A bar for the sweep, a row for each running point, and the best results so far, redrawn in place."""

    def started(self, plan: Plan) -> None:
        super().started(plan)
        self._shown: object = None
        self._screen = Live(console=self._console, refresh_per_second=4, transient=True)
        if plan.to_run:
            self._screen.start()

    def running(self, jobs: Sequence[Job]) -> None:
        states = self._look(jobs)
        left = self._time_left(states)
        parts: list[Any] = [self._whole(left)]
        if states:
            parts.append(Fitting(self._tables(states)))
        # What has begun or ended is shown at once, and how far the runs are a few times a second.
        shown = self._done, [job.run_id for job in jobs]
        self._screen.update(Group(*parts, *map(printable, self._best.lines)), refresh=shown != self._shown)
        self._shown = shown

    def stopped(self) -> None:
        self._screen.stop()

    def _whole(self, left: str) -> Table:
        """The progress bar of the sweep."""
        row = Table.grid(padding=(0, 1))
        to_run = self._plan.to_run
        row.add_row("points", ProgressBar(total=to_run, completed=self._done, width=24), f"{self._done}/{to_run}", left)
        return row

    def _tables(self, states: Sequence[tuple[Job, LiveProgress | None]]) -> Iterator[Table]:
        """Tables of the running points, each narrower than the one before."""
        settings = [self._plan.settings(job) for job, _ in states]
        names = list(self._plan.varying)
        # Enough to tell those apart that run now.
        differing = [name for name in names if len({values[name] for values in settings}) > 1] or names[:1]
        whole = [label(values) for values in settings]
        for columns, width, steps in ((names, 24, True), (names, 8, True), (names, 8, False), (differing, 8, False)):
            rows = [[values[name] for name in columns] for values in settings]
            table = _running_table(columns, rows, [state for _, state in states], width=width, steps=steps)
            # What all of them have still says what runs.
            if common := label({name: settings[0][name] for name in names if name not in columns}):
                table.title = Text(printable(common))
            yield table
        yield _running_table(["run"], [[text] for text in whole], [state for _, state in states], width=8, steps=False)


def _running_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    states: Sequence[LiveProgress | None],
    *,
    width: int,
    steps: bool,
) -> Table:
    """A table of the running points.

    Args:
        columns: the headings of `rows`.
        rows: what tells the points apart.
        states: where each is; None: not known yet.
        width: of a bar.
        steps: whether to tell the step in the epoch.
    """
    table = make_table([*columns, "", "", ""], ["tokens/s", "perplexity"], breaks=True)
    table.show_edge = False
    table.title_justify = "left"
    table.title_style = ""
    for row, state in zip(rows, states, strict=True):
        if state is None:
            state = LiveProgress(doing="starting", progress=Progress())
        table.add_row(
            *row,
            ProgressBar(total=1, completed=state.fraction, width=width),
            f"{state.fraction:3.0%}",
            state.doing if steps else state.doing.partition(",")[0],
            "" if state.tokens_per_second is None else written(state.tokens_per_second, 0),
            "" if state.perplexity is None else f"{state.split} {written(state.perplexity, 2)}",
        )
    return table


class Several(Display):
    """Passes every event to each of `displays`."""

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
        """See `Display`; an error in one display does not keep the others from stopping."""
        with ExitStack() as stack:
            for display in reversed(self._displays):
                stack.callback(display.stopped)


def choose_display(console: Console, *, quiet: bool, targets: Sequence[float] = ()) -> Display:
    """The display that suits `console`; it reports when runs reach the perplexities `targets`."""
    if quiet:
        return Display()
    return (TerminalDisplay if console.is_terminal else PlainDisplay)(console, targets)


def _places(plan: Plan) -> str:
    """The places of runs, such as ``cpu``, ``cpu, 2 at a time`` or ``gpu:0, gpu:1``."""
    devices = list(dict.fromkeys(slot.device for slot in plan.slots))
    return ", ".join(devices) + (f", {len(plan.slots)} at a time" if len(devices) < len(plan.slots) else "")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
