"""Worker processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gluon_rnn.common import processes
from gluon_rnn.common.errors import starting
from gluon_rnn.common.files import write_atomically
from gluon_rnn.machine.environment import process_environment, tells_want_of_memory
from gluon_rnn.machine.hardware import Machine, describe_machine
from gluon_rnn.runs.job import Job, Status
from gluon_rnn.sweeps.devices import Slot, shares_cores
from gluon_rnn.sweeps.executors.base import Ended, ExecutorOptions, prune_nothing

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0
# One line in each log interval takes far less; a log that grows beyond this would fill the disk.
_LOG_LIMIT_MB = 64
# Enough for a traceback's end.
_LOG_TAIL_BYTES = 2000


@dataclass
class _Worker:
    job: Job
    slot: Slot
    directory: Path
    process: subprocess.Popen[bytes]
    started: float
    kills_before: int
    log_before: int
    heard: float
    trace: tuple[int, ...] = ()
    stopped: tuple[Status, str] | None = None

    def listen(self) -> None:
        """Note when the worker last wrote something, by the monotonic clock, since file times may jump."""
        log, progress = (_stat(self.directory / name) for name in ("log.txt", "progress.json"))
        # progress.json is a new file each time.
        trace = (log.st_size if log else 0, progress.st_ino if progress else 0, progress.st_mtime_ns if progress else 0)
        if trace != self.trace:
            self.trace, self.heard = trace, time.monotonic()

    @property
    def log_growth_mb(self) -> float:
        """How much this worker has written to ``log.txt``, in MiB."""
        return (self.trace[0] - self.log_before) / (1 << 20)

    def stop(self) -> None:
        """Stop the worker and every process that it started."""
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


class _Queue:
    """Pulls jobs in order; a job that no free slot takes is skipped until one does."""

    def __init__(self, jobs: Iterable[Job], slots: Sequence[Slot]) -> None:
        self._jobs = iter(jobs)
        self._slots = tuple(slots)
        self._passed_over: list[Job] = []

    def next_for(self, slot: Slot) -> Job | None:
        """The next job that `slot` takes; None if there is none."""
        for job in self._passed_over:
            if slot.takes(job):
                self._passed_over.remove(job)
                return job
        for job in self._jobs:
            if slot.takes(job):
                return job
            if not any(other.takes(job) for other in self._slots):
                raise ValueError(f"no slot takes {job.run_id}, which would wait for ever")
            self._passed_over.append(job)
        return None


class LocalExecutor:
    """Runs jobs in processes on this machine, one to a slot."""

    def __init__(self, options: ExecutorOptions = ExecutorOptions()) -> None:  # noqa: B008, it is immutable
        self._timeout = options.timeout
        self._stall_timeout = options.stall_timeout

    @cached_property
    def machine(self) -> Machine:
        """See `Executor`."""
        return describe_machine()

    def place(self, jobs: Sequence[Job], slots: Sequence[Slot]) -> tuple[tuple[Slot, ...], list[str]]:
        """See `Executor`; remarks if all runs together have more threads than there are cores.

        Raises:
            ValueError: no slot takes a job.
        """
        if lost := [job.run_id for job in jobs if not any(slot.takes(job) for slot in slots)]:
            raise ValueError(f"no slot takes {', '.join(lost)}, which would wait for ever")
        crowded = shares_cores(slots, jobs, self.machine)
        return tuple(slots), [crowded] if crowded else []

    def run(
        self,
        jobs: Iterable[Job],
        runs_directory: Path,
        *,
        slots: Sequence[Slot],
        watch: Callable[[Sequence[Job]], None],
        prune: Callable[[Sequence[Job]], Mapping[str, str]] = prune_nothing,
    ) -> Iterator[Ended]:
        """See `Executor`.

        Raises:
            UserError: the operating system cannot start a worker.
            OSError: a run's directory cannot be written.
            ValueError: no slot takes a job.
        """
        queue, free = _Queue(jobs, slots), list(slots)
        workers: list[_Worker] = []
        try:
            while True:
                for slot in list(free):
                    if job := queue.next_for(slot):
                        free.remove(slot)
                        workers.append(_start(job, slot, runs_directory / job.run_id))
                if not workers:
                    return
                running = [worker.job for worker in workers]
                watch(running)
                pruned = prune(running)
                time.sleep(_POLL_SECONDS)
                for worker in list(workers):
                    worker.listen()
                    why = self._overdue(worker)
                    if worker.job.run_id in pruned:
                        why = "pruned", pruned[worker.job.run_id]
                    if why and worker.process.poll() is None:
                        worker.stopped = why
                        worker.stop()
                    if worker.process.poll() is not None:
                        workers.remove(worker)
                        free.append(worker.slot)
                        yield _ended(worker)
        finally:
            for worker in workers:
                worker.stop()

    def close(self) -> None:
        """See `Executor`; does nothing."""

    def _overdue(self, worker: _Worker) -> tuple[Status, str] | None:
        """Why the worker must be stopped; None if it may go on."""
        now = time.monotonic()
        if self._timeout is not None and now - worker.started > self._timeout:
            return "timeout", f"stopped after the timeout of {self._timeout:g} s"
        if self._stall_timeout is not None and now - worker.heard > self._stall_timeout:
            return "timeout", f"stopped after {self._stall_timeout:g} s without a sign of life"
        if worker.log_growth_mb > _LOG_LIMIT_MB:
            return "failed", f"stopped because its log.txt had grown by more than {_LOG_LIMIT_MB} MB"
        return None


def _ended(worker: _Worker) -> Ended:
    seconds = time.monotonic() - worker.started
    code = worker.process.returncode
    if (worker.directory / "record.json").exists():
        return Ended(worker.job, None, "", seconds)
    if worker.stopped:
        return Ended(worker.job, *worker.stopped, seconds)
    if code == -signal.SIGKILL and _kernel_memory_kills() > worker.kills_before:
        return Ended(worker.job, "oom", "killed by the kernel, which had run out of memory", seconds)
    if code < 0:
        return Ended(worker.job, "failed", f"the worker was ended by {signal.Signals(-code).name}", seconds)
    tail = _log_tail(worker)
    last_words = f"; the last line of its log: {tail[-1]}" if tail else ", and said nothing"
    status: Status = "oom" if tells_want_of_memory(" ".join(tail)) else "failed"
    return Ended(worker.job, status, f"the worker ended with status {code} and no record{last_words}", seconds)


def _log_tail(worker: _Worker) -> list[str]:
    """The last lines that this worker wrote to its log."""
    with (worker.directory / "log.txt").open("rb") as log:
        log.seek(max(worker.log_before, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    printable = ("".join(filter(str.isprintable, line)).strip() for line in lines)
    return [line for line in printable if line]


def prepare(job: Job, directory: Path) -> None:
    """Prepare `directory` for a worker that runs `job`."""
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "config.json", job.model_dump_json(indent=1))
    # The result of an earlier attempt. Its log and its checkpoint are kept and continued.
    for name in ("record.json", "progress.json"):
        (directory / name).unlink(missing_ok=True)


def _start(job: Job, slot: Slot, directory: Path) -> _Worker:
    job = slot.assign(job)
    prepare(job, directory)
    with (directory / "log.txt").open("ab") as log, starting("a worker"):
        log_before = log.tell()
        process = subprocess.Popen(
            processes.command("gluon_rnn.training.worker", str(directory), str(os.getpid())),
            # The log is UTF-8, whatever the terminal's encoding is.
            env={
                **process_environment(slot.visible, job.threads, precision=job.config.precision),
                "PYTHONIOENCODING": "utf-8:backslashreplace",
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches the sweep alone, which then stops its workers in order.
            start_new_session=True,
            # What is inheritable is the sweep's lock.
            close_fds=False,
        )
    now = time.monotonic()
    return _Worker(job, slot, directory, process, now, _kernel_memory_kills(), log_before, heard=now)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _kernel_memory_kills() -> int:
    """How many processes the kernel has killed because memory ran out, since boot."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
