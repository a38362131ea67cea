"""What runs the jobs of a sweep, whichever machines that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
    """What an executor is made with.

    Attributes:
        address: of a cluster; None: where there is one, or none is needed.
        jobs: runs side by side; None: as many as there is room for.
        timeout: seconds after which a run is stopped; None waits for ever.
        stall_timeout: seconds without a sign of life (a line of the log, new progress) after which it is; None waits
            for ever.
        notice: receives lines for people.
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

    @property
    def machine(self) -> Machine:
        """What `gluon_rnn.plan_sweep` is to plan for."""
        ...

    def place(self, jobs: Sequence[Job], slots: Sequence[Slot]) -> tuple[tuple[Slot, ...], list[str]]:
        """Where the workers of planned `jobs` will run, and remarks on that, a line each.

        Args:
            jobs: all points of a sweep.
            slots: room for them on `machine`.

        Raises:
            UserError: there is a job that cannot run.
        """
        ...

    def run(
        self,
        jobs: Iterable[Job],
        runs_directory: Path,
        *,
        slots: Sequence[Slot],
        watch: Callable[[Sequence[Job]], None],
    ) -> Iterator[Ended]:
        """Start the jobs in order, as many at a time as there is room for.

        A job is asked for when there is room for it, so that which one comes next may depend on how others ended.
        Closing the iterator stops what is running.

        Args:
            jobs: each to be run in ``runs_directory / job.run_id``.
            runs_directory: exists.
            slots: by `place`.
            watch: called several times a second with the jobs that are running.
        """
        ...

    def close(self) -> None:
        """Leave what the executor has joined or started."""
        ...
