"""Ways to run the jobs of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gluon_rnn.runs.job import Job, Status


@dataclass(frozen=True)
class Ended:
    """A job's worker has ended.

    Attributes:
        job: with the device it was given.
        status: how it ended; None where the worker lived to write its own record.
        reason: why, for people.
        seconds: the worker's life.
    """

    job: Job
    status: Status | None
    reason: str
    seconds: float


class Executor(Protocol):
    """Runs each job in a worker process of its own, and says when it has ended."""

    def run(
        self, jobs: Sequence[Job], runs_directory: Path, *, watch: Callable[[Sequence[Job]], None]
    ) -> Iterator[Ended]:
        """Start the jobs in order, as many at a time as there is room for.

        Closing the iterator stops what is running.

        Args:
            jobs: each to be run in ``runs_directory / job.run_id``.
            runs_directory: exists.
            watch: called several times a second with the jobs that are running.
        """
        ...
