"""What every executor does: the `Executor` protocol, its options, and how a job ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gluon_rnn.common.printable import Notice
from gluon_rnn.machine.hardware import Machine
from gluon_rnn.runs.job import Job, Status
from gluon_rnn.sweeps.devices import Slot

#: Default of `ExecutorOptions.stall_timeout`. The longest silences are those of a log interval and of scoring, which
#: take minutes, or with the largest model on a slow machine perhaps half an hour.
STALL_SECONDS = 3600.0


@dataclass(frozen=True)
class ExecutorOptions:
    """Options of an executor.

    Attributes:
        address: of a cluster; None: the executor's default.
        jobs: runs at a time; None: as many as there is room for.
        timeout: seconds after which a run is stopped; None: never.
        stall_timeout: seconds without a new line in the log or new progress after which a run is stopped; None: never.
        notice: called with one-line messages for the user.
    """

    address: str | None = None
    jobs: int | None = None
    timeout: float | None = None
    stall_timeout: float | None = STALL_SECONDS
    notice: Notice = print


@dataclass(frozen=True)
class Ended:
    """A job's worker has ended.

    Attributes:
        job: with the device it was given.
        status: how it ended; None if the worker wrote its own record.
        reason: why, in words.
        seconds: from the start of the worker to its end.
    """

    job: Job
    status: Status | None
    reason: str
    seconds: float


def prune_nothing(jobs: Sequence[Job]) -> Mapping[str, str]:
    """Let all jobs go on."""
    return {}


class Executor(Protocol):
    """Runs each job in its own worker process and reports when it has ended."""

    @property
    def machine(self) -> Machine:
        """The machine to plan for."""
        ...

    def place(self, jobs: Sequence[Job], slots: Sequence[Slot]) -> tuple[tuple[Slot, ...], list[str]]:
        """Check that planned `jobs` can run; returns the slots for their workers, and one-line remarks.

        Args:
            jobs: all points of a sweep.
            slots: what `machine` has room for.

        Raises:
            UserError: a job cannot run.
        """
        ...

    def run(
        self,
        jobs: Iterable[Job],
        runs_directory: Path,
        *,
        slots: Sequence[Slot],
        watch: Callable[[Sequence[Job]], None],
        prune: Callable[[Sequence[Job]], Mapping[str, str]] = prune_nothing,
    ) -> Iterator[Ended]:
        """Run jobs in order, as many at a time as there is room for.

        A job is pulled from `jobs` only when there is room for it, so the next one may depend on how others ended.
        Closing the iterator stops the running workers.

        Args:
            jobs: each runs in ``runs_directory / job.run_id``.
            runs_directory: exists.
            slots: from `place`.
            watch: called several times a second with the running jobs.
            prune: called likewise; returns, by run_id, why jobs are to end now, with status pruned.
        """
        ...

    def close(self) -> None:
        """Disconnect from a cluster, or end one that was started."""
        ...
