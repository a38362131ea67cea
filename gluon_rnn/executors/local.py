"""Worker processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gluon_rnn.executors import Ended
from gluon_rnn.files import write_atomically
from gluon_rnn.records import Job
from gluon_rnn.runtime import process_environment

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Slot:
    """Room for one worker.

    Attributes:
        device: ``cpu`` or ``gpu:N``, as the record shows it.
        device_name: of the processor or GPU.
        visible: the device for `gluon_rnn.runtime.process_environment`.
    """

    device: str
    device_name: str
    visible: str

    def takes(self, job: Job) -> bool:
        """Whether `job` may run here."""
        return job.config.device in (self.device, self.device.partition(":")[0])

    def assign(self, job: Job) -> Job:
        """`job` as it will run here."""
        return job.model_copy(
            update={
                "config": job.config.model_copy(update={"device": self.device}),
                "origin": job.origin.model_copy(update={"device_name": self.device_name}),
            }
        )


@dataclass
class _Worker:
    job: Job
    slot: Slot
    process: subprocess.Popen[bytes]
    started: float
    kills_before: int
    timed_out: bool = False

    def stop(self) -> None:
        """End the worker and whatever it has started."""
        for sign, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, None)):
            try:
                # A stopped process sees no SIGTERM until it is continued.
                os.killpg(self.process.pid, sign)
                os.killpg(self.process.pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
            try:
                self.process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                continue


class LocalExecutor:
    """Runs jobs in processes on this machine, one to a slot.

    Args:
        slots: room for workers; a job waits for a slot that takes it.
        timeout: seconds after which a worker is stopped; None waits for ever.
    """

    def __init__(self, slots: Sequence[Slot], *, timeout: float | None = None) -> None:
        self._slots = tuple(slots)
        self._timeout = timeout

    def run(
        self, jobs: Sequence[Job], runs_directory: Path, *, watch: Callable[[Sequence[Job]], None]
    ) -> Iterator[Ended]:
        """See `gluon_rnn.executors.Executor`."""
        if lost := [job.run_id for job in jobs if not any(slot.takes(job) for slot in self._slots)]:
            raise ValueError(f"no slot takes {', '.join(lost)}, which would wait for ever")
        waiting, free = list(jobs), list(self._slots)
        workers: list[_Worker] = []
        try:
            while waiting or workers:
                for slot in list(free):
                    job = next((job for job in waiting if slot.takes(job)), None)
                    if job:
                        waiting.remove(job)
                        free.remove(slot)
                        workers.append(_start(job, slot, runs_directory / job.run_id))
                watch([worker.job for worker in workers])
                time.sleep(_POLL_SECONDS)
                for worker in list(workers):
                    if self._timeout is not None and time.monotonic() - worker.started > self._timeout:
                        worker.timed_out = worker.process.poll() is None
                        worker.stop()
                    if worker.process.poll() is not None:
                        workers.remove(worker)
                        free.append(worker.slot)
                        yield self._ended(worker, runs_directory / worker.job.run_id)
        finally:
            for worker in workers:
                worker.stop()

    def _ended(self, worker: _Worker, directory: Path) -> Ended:
        seconds = time.monotonic() - worker.started
        code = worker.process.returncode
        if (directory / "record.json").exists():
            return Ended(worker.job, None, "", seconds)
        if worker.timed_out:
            return Ended(worker.job, "timeout", f"stopped after the timeout of {self._timeout:g} s", seconds)
        if code == -signal.SIGKILL and _kernel_memory_kills() > worker.kills_before:
            return Ended(worker.job, "oom", "killed by the kernel, which had run out of memory", seconds)
        if code < 0:
            return Ended(worker.job, "failed", f"the worker was ended by {signal.Signals(-code).name}", seconds)
        return Ended(
            worker.job, "failed", f"the worker ended with status {code} and no record; see its log.txt", seconds
        )


def prepare(job: Job, directory: Path) -> None:
    """Make `directory` ready for a worker that does `job`."""
    directory.mkdir(parents=True, exist_ok=True)
    # What an earlier attempt left, and what it was writing when it was stopped; its log is kept and goes on.
    for path in (directory / "record.json", directory / "progress.json", *directory.glob(".*.tmp")):
        path.unlink(missing_ok=True)
    write_atomically(directory / "config.json", job.model_dump_json(indent=1))


def _start(job: Job, slot: Slot, directory: Path) -> _Worker:
    job = slot.assign(job)
    prepare(job, directory)
    with (directory / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gluon_rnn.worker", str(directory), str(os.getpid())],
            env=process_environment(slot.visible, job.threads),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches the sweep alone, which then stops its workers in order.
            start_new_session=True,
        )
    return _Worker(job, slot, process, time.monotonic(), _kernel_memory_kills())


def _kernel_memory_kills() -> int:
    """How many processes Linux has killed for want of memory, in this control group or the whole machine, since
    boot.
    """
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
