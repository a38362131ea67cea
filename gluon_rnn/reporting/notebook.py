"""The progress of a sweep in a notebook."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from html import escape
from importlib import import_module
from typing import Any

from gluon_rnn.runs.job import FAILED, Job
from gluon_rnn.runs.live import ProgressWatch
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.sweeps.planning import Plan
from gluon_rnn.sweeps.running import Display

#: Seconds between two pictures: each is a message to the browser.
_INTERVAL = 0.5

#: Shows HTML in place of what it showed before.
Show = Callable[[str], None]


class NotebookDisplay(Display):
    """A bar for the sweep and one for each running point, redrawn in the output of a cell.

    It is plain HTML that IPython replaces, and needs no widgets.

    Args:
        show: None: the output of the cell that runs.
        clock: seconds.
    """

    def __init__(self, show: Show | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._show = show or _in_cell()
        self._clock = clock

    def started(self, plan: Plan) -> None:
        self._plan = plan
        self._progress = ProgressWatch()
        self._done = self._bad = 0
        self._began = self._clock()
        self._drawn = -_INTERVAL
        self._draw([])

    def running(self, jobs: Sequence[Job]) -> None:
        if self._clock() - self._drawn >= _INTERVAL:
            self._draw(jobs)

    def ended(self, job: Job, record: RunRecord) -> None:
        self._done += 1
        self._bad += record.status in (*FAILED, "diverged")

    def stopped(self) -> None:
        self._draw([])

    def _draw(self, jobs: Sequence[Job]) -> None:
        self._drawn = self._clock()
        plan = self._plan
        words = f"{self._done} of {plan.to_run} runs done" + (f", {self._bad} failed or diverged" if self._bad else "")
        lines = [_bar(self._done, plan.to_run, plan.name, f"{words}, {self._drawn - self._began:.0f} s")]
        for job in jobs:
            state = self._progress.newest(plan.directory / "runs" / job.run_id)
            fraction, doing = (state.fraction, state.in_words) if state else (0, "starting")
            lines.append(_bar(fraction, 1, plan.label(job), doing))
        self._show(f"<table>{''.join(lines)}</table>" if plan.to_run else f"<p>{escape(plan.name)}: nothing to run</p>")


def _bar(value: float, most: float, name: str, words: str) -> str:
    cells = (escape(name), f'<progress value="{value:.3g}" max="{most:g}"></progress>', escape(words))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _in_cell() -> Show:
    """The output of the running cell."""
    ipython: Any = import_module("IPython.display")  # which a notebook has
    shown = ipython.display(ipython.HTML(""), display_id=True)
    return lambda html: shown.update(ipython.HTML(html))
