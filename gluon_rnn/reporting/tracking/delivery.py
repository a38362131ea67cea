"""Delivers the results of a sweep's runs, while they run, to a tracker that may be slow, fail or recover."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gluon_rnn.common.printable import Notice, warn
from gluon_rnn.reporting.tracking.base import Sent, Tracker, epoch_metrics, final_metrics, interval_metrics, one_line
from gluon_rnn.runs.epochs import read_epochs
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.live import LiveProgress, ProgressWatch, finished_epochs, read_progress
from gluon_rnn.runs.progress import EpochResult
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.sweeps.planning import Plan
from gluon_rnn.sweeps.running import Display

#: Seconds before a tracker that failed is tried again; the last holds from then on.
_PAUSES = (1.0, 5.0, 15.0, 60.0, 300.0)
#: Of a run, while its tracker fails.
_MOST_INTERVALS = 1000
_SAFE = "the sweep's results have it all"


@dataclass
class _Feed:
    """The data of a run, and how much of it the tracker has received.

    Attributes:
        job: the run.
        due: whether something is to be sent.
        live: the last that its worker said.
        intervals: loss and speed of log intervals, by the training step at their end.
        record: of the run once it has ended.
        over: whether it has ended or was interrupted.
        sent: None until the tracker was asked, and again after it failed.
        finals_sent: whether it has the record's numbers.
    """

    job: Job
    due: bool = True
    live: LiveProgress | None = None
    intervals: dict[int, tuple[float, float | None]] = field(default_factory=dict)
    record: RunRecord | None = None
    over: bool = False
    sent: Sent | None = None
    finals_sent: bool = False


class Tracking(Display):
    """Sends a sweep to `tracker` in a separate thread, without ever slowing the sweep.

    Args:
        tracker: when it fails it is tried again, and then sent what it missed.
        warn: receives a line when it begins to fail, and one when it has it all.
        patience: seconds that the end of the sweep waits for what is still to be sent.
        pauses: seconds before each further attempt; the last holds from then on.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        warn: Notice = warn,
        patience: float = 10.0,
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        self._tracker = tracker
        self._warn = warn
        self._patience = patience
        self._pauses = pauses
        self._off = threading.Event()
        self._progress = ProgressWatch(read_progress)
        # Of both threads, which hold `_changed` meanwhile. What fails goes to the end.
        self._changed = threading.Condition()
        self._feeds: dict[str, _Feed] = {}
        self._stopping = False
        # Of the tracker's thread alone: failures in a row, and when to try again.
        self._failures = 0
        self._next_attempt = 0.0
        # A daemon, so that a server which never answers does not keep the process.
        self._thread = threading.Thread(target=self._deliver, name=tracker.name, daemon=True)

    def started(self, plan: Plan) -> None:
        self._plan = plan
        self._thread.start()

    def running(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            live = self._progress.news(self._directory(job))
            with self._changed:
                feed = self._feed(job)
                if live:
                    feed.live, feed.due = live, True
                    if live.interval_loss is not None:
                        feed.intervals[live.progress.steps] = live.interval_loss, live.tokens_per_second
                        if len(feed.intervals) > _MOST_INTERVALS:
                            del feed.intervals[next(iter(feed.intervals))]
                    self._changed.notify()

    def ended(self, job: Job, record: RunRecord) -> None:
        with self._changed:
            feed = self._feed(job)
            feed.record, feed.over, feed.due = record, True, True
            self._changed.notify()

    def stopped(self) -> None:
        with self._changed:
            for feed in self._feeds.values():
                if not feed.over:
                    feed.over = feed.due = True
            self._stopping = True
            self._changed.notify()
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._off.set()
            if not self._failures:
                self._warn(
                    f"warning: {self._tracker.name} has not taken everything {self._patience:g} s after the sweep's "
                    f"end; it is sent nothing more, {_SAFE}"
                )

    def _feed(self, job: Job) -> _Feed:
        """The feed of `job`, which begins here if it is new."""
        if job.run_id not in self._feeds:
            self._feeds[job.run_id] = _Feed(job)
            self._changed.notify()
        return self._feeds[job.run_id]

    def _directory(self, job: Job) -> Path:
        return self._plan.directory / "runs" / job.run_id

    # From here on in the tracker's thread.

    def _deliver(self) -> None:
        while feed := self._next():
            try:
                for _ in self._send(feed):
                    if self._off.is_set():
                        return
            except Exception as error:
                self._failed(feed, error)
            else:
                self._succeeded(feed)

    def _next(self) -> _Feed | None:
        """The next run to send, as soon as it is due; None: the sweep has ended and nothing is left to send."""
        with self._changed:
            while True:
                feed = next((feed for feed in self._feeds.values() if feed.due), None)
                pause = self._next_attempt - time.monotonic() if self._failures else 0.0
                # At the end, a single failure is retried; after several the tracker is considered down.
                if (feed and pause <= 0) or (self._stopping and (not feed or self._failures > 1)):
                    return feed
                self._changed.wait(pause if feed else None)

    def _failed(self, feed: _Feed, error: Exception) -> None:
        if not self._failures:
            self._warn(
                f"warning: {self._tracker.name} failed ({one_line(error)}); while the sweep runs it is tried again, "
                f"{_SAFE}"
            )
        self._next_attempt = time.monotonic() + self._pauses[min(self._failures, len(self._pauses) - 1)]
        self._failures += 1
        with self._changed:
            feed.sent, feed.due = None, not self._stopping or self._failures == 1
            # Another run may succeed.
            self._feeds[feed.job.run_id] = self._feeds.pop(feed.job.run_id)

    def _succeeded(self, feed: _Feed) -> None:
        with self._changed:
            if feed.over and not feed.due:
                del self._feeds[feed.job.run_id]
            missing = any(feed.due or feed.sent is None for feed in self._feeds.values())
        if self._failures and not missing:
            self._failures = 0
            self._warn(f"{self._tracker.name} is back and has what it missed")

    def _send(self, feed: _Feed) -> Iterator[None]:
        """Send the new data of a run, one call to the tracker after the other."""
        with self._changed:
            feed.due = False
            job, live, record, over, intervals = feed.job, feed.live, feed.record, feed.over, [*feed.intervals.items()]
        if feed.sent is None:
            feed.sent = self._tracker.begin(job, self._label(job), self._directory(job))
            yield
        sent = feed.sent
        for result in self._history(job, live, record, sent)[sent.epochs :]:
            self._tracker.log(job, epoch_metrics(result), result.epoch)
            sent.epochs = result.epoch
            yield
        for steps, (loss, speed) in intervals:
            if steps > sent.steps:
                self._tracker.log(job, interval_metrics(loss, speed), steps)
                sent.steps = steps
                yield
        with self._changed:
            feed.intervals = {steps: what for steps, what in feed.intervals.items() if steps > sent.steps}
        if record and not feed.finals_sent:
            self._tracker.log(job, final_metrics(record), record.steps)
            feed.finals_sent = True
            yield
        if over:
            self._tracker.end(job, record)

    def _history(
        self, job: Job, live: LiveProgress | None, record: RunRecord | None, sent: Sent
    ) -> Sequence[EpochResult]:
        """The run's epochs, if its tracker lacks any of them."""
        if record:
            # The worker has removed its progress.json, perhaps before its last epoch was seen there.
            return read_epochs(self._directory(job))
        if live and live.epochs_done > sent.epochs:
            return finished_epochs(self._directory(job), live)
        return ()

    def _label(self, job: Job) -> str:
        """The label of `job`, as in `Plan.label` but without paths of files, because others can read a tracker."""
        return self._plan.label(job.model_copy(update={"config": job.named_config}))
