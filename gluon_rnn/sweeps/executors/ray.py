"""Worker processes on a Ray cluster: one task per run, with its cores and its GPU as Ray resources.

Ray is imported when a `RayExecutor` is created. It sends this package's source to the nodes, so they run exactly this
code; the package's dependencies must be installed there in the same versions.
"""

from __future__ import annotations

import importlib
import math
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from gluon_rnn.common import processes
from gluon_rnn.common.errors import UserError
from gluon_rnn.config.identity import is_own, source_files
from gluon_rnn.data.copies import read_files
from gluon_rnn.data.vectors import FoundVectors
from gluon_rnn.machine.blas import FILE_VARIABLE
from gluon_rnn.machine.environment import RECORDED_VARIABLES
from gluon_rnn.machine.hardware import Machine, default_threads, describe_machine, library_versions
from gluon_rnn.runs.job import Job
from gluon_rnn.sweeps.devices import Slot
from gluon_rnn.sweeps.executors.base import Ended, ExecutorOptions, prune_nothing
from gluon_rnn.sweeps.executors.local import prepare
from gluon_rnn.sweeps.executors.mirror import Change, Mirror
from gluon_rnn.sweeps.executors.node import Update, run_here

ADDRESS_VARIABLE, TOKEN_VARIABLE = "RAY_ADDRESS", "RAY_AUTH_TOKEN"

_POLL_SECONDS = 0.1
#: For an address to answer, and for every node to say what it is.
_ANSWER_SECONDS, _PROBE_SECONDS = 15.0, 60.0
#: More than a node takes to stop a worker in order.
_GRACE_SECONDS = 10.0
#: How often a run whose node was lost is started again.
_RETRIES = 3
#: How long a run waits for a node that could hold it when the last one has gone, and how often that is looked at.
_PATIENCE_SECONDS, _LOOK_SECONDS = 60.0, 2.0


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    Attributes:
        machine: its description.
        cores: that Ray may assign, perhaps not all.
        gpus: that Ray may assign.
    """

    machine: Machine
    cores: int
    gpus: int

    def places(self, threads: int, kind: str) -> int:
        """How many runs with this many threads fit on it at a time."""
        places = self.cores // threads
        return min(places, self.gpus) if kind == "gpu" else places


@dataclass
class _Task:
    """A job on its way through the cluster; `stream` is Ray's generator of updates while it is there."""

    job: Job
    stream: Any = None
    started: float | None = None
    losses: int = 0
    stranded: float | None = None


class RayExecutor:
    """Runs jobs as tasks of a Ray cluster; this process writes their records and logs.

    A run whose node is lost is restarted elsewhere from the last checkpoint that came back. A run that fails on a node
    that is still alive has failed.

    Args:
        options: the address is that of the cluster's head, as ``host:port``, or ``auto``; the default is the variable
            RAY_ADDRESS, else a cluster on this machine that ends with the executor. Timeouts are measured on the node.

    Raises:
        UserError: Ray is not installed, no cluster answers, or a node has other versions installed than this machine.
    """

    def __init__(self, options: ExecutorOptions = ExecutorOptions()) -> None:  # noqa: B008, it is immutable
        self._jobs = options.jobs
        self._timeouts = {"timeout": options.timeout, "stall_timeout": options.stall_timeout}
        self._notice = options.notice
        self._ray = _connect(options.address or os.environ.get(ADDRESS_VARIABLE))
        try:
            self.nodes = _describe_nodes(self._ray)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect from the cluster, or end it if it was started here."""
        self._ray.shutdown()

    @property
    def machine(self) -> Machine:
        """The machine to plan for: the node with the fewest cores, with all nodes' GPUs."""
        smallest = min(self.nodes, key=lambda node: node.cores)
        gpus = tuple(gpu for node in self.nodes for gpu in node.machine.gpus[: node.gpus])
        return replace(smallest.machine, cores=smallest.cores, gpus=gpus)

    def place(self, jobs: Sequence[Job], slots: Sequence[Slot]) -> tuple[tuple[Slot, ...], list[str]]:
        """See `Executor`; there is a slot for every run like the first of `jobs` that fits on the cluster.

        Raises:
            UserError: a job requests numbered or several devices, or does not fit on any node.
        """
        for job in jobs:
            self._check(job)
        kind = jobs[0].config.device_kind
        places = sum(node.places(self._threads(jobs[0]), kind) for node in self.nodes)
        return (Slot(kind, kind, kind),) * min(places, self._jobs or places), []

    def _check(self, job: Job) -> None:
        device, kind = job.config.device, job.config.device_kind
        if device != kind:
            raise UserError(f"device {device} cannot be requested from a Ray cluster, which chooses them; use {kind}")
        needs = f"{self._threads(job)} cores" + (" and a GPU" if kind == "gpu" else "")
        if not any(node.places(self._threads(job), kind) for node in self.nodes):
            have = max((node.cores, node.gpus) for node in self.nodes)
            raise UserError(
                f"no node of the Ray cluster has the {needs} that a run needs; the largest has {have[0]} cores "
                f"and {have[1]} GPUs: lower threads, or add a node"
            )

    def run(
        self,
        jobs: Iterable[Job],
        runs_directory: Path,
        *,
        slots: Sequence[Slot],
        watch: Callable[[Sequence[Job]], None],
        prune: Callable[[Sequence[Job]], Mapping[str, str]] = prune_nothing,
    ) -> Iterator[Ended]:
        """See `Executor`; unless a job sets its threads, it gets its share of a node's cores.

        Smaller runs may fit in addition to those that the number of `slots` is based on, so one extra task waits in the
        cluster, unless the options limit `jobs`.

        Raises:
            UserError: see `place`.
        """
        waiting, submit = iter(jobs), self._submitter()
        tasks: list[_Task] = []
        again: list[_Task] = []
        looked = time.monotonic()
        try:
            while True:
                while self._has_room(tasks, len(slots)) and (task := self._next_task(again, waiting)):
                    task.stream = submit(task.job, Mirror(runs_directory / task.job.run_id).checkpoint())
                    tasks.append(task)
                if not tasks:
                    return
                running = [task.job for task in tasks if task.started]
                watch(running)
                pruned = prune(running)
                for task in [task for task in tasks if task.job.run_id in pruned]:
                    yield replace(self._stop(task, tasks, pruned[task.job.run_id]), status="pruned")
                if not tasks:
                    continue
                ready, _ = self._ray.wait(
                    [task.stream for task in tasks], num_returns=len(tasks), timeout=_POLL_SECONDS
                )
                for task in [task for task in tasks if task.stream in ready]:
                    ended = self._receive(task, runs_directory)
                    if ended or task.stream is None:
                        tasks.remove(task)
                    if ended:
                        yield ended
                    elif task.stream is None:
                        again.append(task)
                if time.monotonic() - looked > _LOOK_SECONDS:
                    looked = time.monotonic()
                    for task in self._stranded(tasks):
                        yield self._stop(task, tasks, "no node is left in the Ray cluster that could hold it")
        finally:
            self._cancel(tasks)

    def _has_room(self, tasks: Sequence[_Task], places: int) -> bool:
        """Whether to submit one more task to a cluster that has `places` for runs like the first."""
        if self._jobs is not None:
            return len(tasks) < self._jobs
        return len(tasks) < places or all(task.started for task in tasks)

    def _next_task(self, again: list[_Task], waiting: Iterator[Job]) -> _Task | None:
        """The next task to submit: one of `again`, which lost their nodes, else the next job's; None: there is none."""
        if again:
            return again.pop()
        job = next(waiting, None)
        if job is None:
            return None
        self._check(job)
        return _Task(job.model_copy(update={"threads": self._threads(job)}))

    def _stop(self, task: _Task, tasks: list[_Task], reason: str) -> Ended:
        """Take `task` out of `tasks` and stop it; returns that it failed."""
        tasks.remove(task)
        self._cancel([task])
        return _failed(task, reason)

    def _threads(self, job: Job) -> int:
        """The job's own number of threads, else its share of the smallest node's cores."""
        if job.config.threads:
            return job.config.threads
        kind = job.config.device_kind
        nodes = [node for node in self.nodes if node.places(1, kind)] or self.nodes
        most = math.ceil(self._jobs / len(nodes)) if self._jobs else None
        if kind == "gpu":
            return min(default_threads(node.cores, min(node.gpus, most or node.gpus)) for node in nodes)
        return min(default_threads(node.cores, most or 1) for node in nodes)

    def _submitter(self) -> Callable[[Job, Change], Any]:
        """Returns a function that submits a job and its checkpoint; each corpus is put into the object store once."""
        ray = self._ray
        remote = ray.remote(_run_task)
        corpora: dict[str, Any] = {}
        vectors: dict[FoundVectors | None, Any] = {}

        @cache
        def modules(cell: str) -> dict[str, bytes]:
            return source_files(cell) if is_own(cell) else {}

        def submit(job: Job, start: Change) -> Any:
            task = remote.options(
                name=f"gluon_rnn {job.run_id}",
                num_cpus=job.threads,
                num_gpus=1 if job.config.device_kind == "gpu" else 0,
                num_returns="streaming",
                max_retries=0,  # the checkpoint is here: see _lost
                scheduling_strategy="SPREAD",
            )
            # In a list they are not fetched before they are asked for.
            if job.corpus.sha1 not in corpora:
                corpora[job.corpus.sha1] = ray.put(read_files(job.corpus))
            if job.vectors not in vectors:
                vectors[job.vectors] = ray.put(read_files(job.vectors) if job.vectors else {})
            data = [corpora[job.corpus.sha1], vectors[job.vectors]]
            return task.remote(job, start, data, modules(job.config.cell), self._timeouts)

        return submit

    def _receive(self, task: _Task, runs_directory: Path) -> Ended | None:
        """Store a task's next update; returns how it ended, if it has. A lost task is left without its stream."""
        errors = self._ray.exceptions
        try:
            update: Update = self._ray.get(next(task.stream))
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None) or error
            return _failed(task, f"{type(cause).__name__} on its node: {cause}")
        except errors.OutOfMemoryError:
            return replace(_failed(task, "stopped by Ray, whose node had run out of memory"), status="oom")
        except (errors.RayError, StopIteration) as error:
            return self._lost(task, type(error).__name__)
        directory = runs_directory / task.job.run_id
        if task.started is None:
            task.started = time.monotonic()
            task.job = update.job
            prepare(task.job, directory)
        update.change.apply(directory)
        return update.ended

    def _lost(self, task: _Task, error: str) -> Ended | None:
        task.losses += 1
        task.stream = None
        if task.losses > _RETRIES:
            return _failed(task, f"its node was lost {task.losses} times, the last time by {error}")
        self._notice(
            f"run {task.job.run_id}: its node was lost ({error}); starting it again, {task.losses} of {_RETRIES} times"
        )
        task.started = None
        task.job = _unassigned(task.job)
        return None

    def _stranded(self, tasks: Sequence[_Task]) -> list[_Task]:
        """Tasks that have waited too long, since no node is left that could hold them."""
        nodes = [
            Node(self.machine, int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))
            for resources in _living_nodes(self._ray).values()
        ]
        now = time.monotonic()
        for task in tasks:
            if task.started or any(node.places(task.job.threads, task.job.config.device_kind) for node in nodes):
                task.stranded = None
            else:
                task.stranded = task.stranded or now
        return [task for task in tasks if task.stranded and now - task.stranded > _PATIENCE_SECONDS]

    def _cancel(self, tasks: Sequence[_Task]) -> None:
        """Let the nodes stop these tasks' workers in order, then kill those that remain."""
        ray, streams = self._ray, [task.stream for task in tasks]
        for force in (False, True):
            for stream in streams:
                ray.cancel(stream, force=force)
            ended: list[Any] = []
            if streams:
                ended, _ = ray.wait(
                    [stream.completed() for stream in streams], num_returns=len(streams), timeout=_GRACE_SECONDS
                )
            # Ray 2.60 ends this process if it is told to cancel a task that is just ending (seen one time in four).
            streams = [stream for stream in streams if stream.completed() not in ended]


def _run_task(
    job: Job, start: Change, stored: Sequence[Any], modules: Mapping[str, bytes], timeouts: Mapping[str, float | None]
) -> Iterator[Update]:
    """What Ray calls on a node; `stored` holds references to the corpus and the vectors."""
    ray = _import_ray()
    corpus, vectors = stored
    yield from run_here(
        job, start, corpus=lambda: ray.get(corpus), vectors=lambda: ray.get(vectors), modules=modules, **timeouts
    )


def _failed(task: _Task, reason: str) -> Ended:
    seconds = time.monotonic() - task.started if task.started else 0.0
    return Ended(task.job, "failed", reason, seconds)


def _unassigned(job: Job) -> Job:
    """`job` as it was before a node assigned it a GPU."""
    return job.model_copy(update={"config": job.config.model_copy(update={"device": job.config.device_kind})})


def _import_ray() -> Any:
    # Set before the import, which reads them: no usage reports, and no events of Ray's own.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise UserError("--executor ray needs Ray; pip install 'gluon_rnn[ray]', on every node") from None


def _connect(address: str | None) -> Any:
    ray = _import_ray()
    if address:
        _check_answers(address)
    elif any(map(str.isspace, sys.executable)):
        # It hands the path to a shell as it is (Ray 2, _private/runtime_env/context.py), and waits for the workers.
        raise UserError(
            f"Ray cannot start workers with a Python whose path contains blanks: {sys.executable}; move the checkout, "
            "or use --executor local"
        )
    if ray.is_initialized():
        raise UserError("Ray is at work in this process already; call ray.shutdown() first")
    package = Path(__file__).resolve().parents[2]
    of_this_machine = {"LD_PRELOAD", FILE_VARIABLE}
    settings = {name: os.environ[name] for name in {*RECORDED_VARIABLES} - of_this_machine if name in os.environ}
    own = {} if address else {"num_cpus": describe_machine().cores, "include_dashboard": False}
    before = signal.getsignal(signal.SIGTERM)
    # For a cluster that it starts, Ray would create a user token and later require it everywhere.
    token = None if address or TOKEN_VARIABLE in os.environ else secrets.token_hex()
    try:
        if token:
            os.environ[TOKEN_VARIABLE] = token
        with _in_the_root_folder():
            ray.init(
                address=address or "local",
                # Variables that affect bits and speed are the same as here, but each node chooses the paths to preload.
                runtime_env={"py_modules": [str(package)], "excludes": ["**/__pycache__"], "env_vars": settings},
                log_to_driver=False,
                logging_level="CRITICAL",
                **own,
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot join the Ray cluster at {address or 'this machine'}: {reason}") from None
    finally:
        if token:
            del os.environ[TOKEN_VARIABLE]
        # Ray has replaced the signal handler that stops the sweep in order.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    _silence()
    return ray


@contextmanager
def _in_the_root_folder() -> Iterator[None]:
    """A context in which the current folder is ``/``.

    Ray 2.60 puts the folder in which ``ray.init`` is called first on the path of all its workers, whatever modules lie
    there (``connect`` in ray/_private/worker.py; seen with a ``yaml.py`` there).
    """
    before = os.getcwd()
    os.chdir("/")
    try:
        yield
    finally:
        os.chdir(before)


def _check_answers(address: str) -> None:
    """Refuse an address at which no Ray cluster answers.

    ray.init of Ray 2.60 keeps trying for more than two minutes and ignores Ctrl-C meanwhile (seen with a closed port
    and with a web server's). So it is tried first in a process that can be stopped.
    """
    if "://" in address:
        raise UserError(
            f"{address} is a Ray Client's address, which cannot stream; run the sweep on a node of the cluster, with "
            "--ray-address auto"
        )
    reason = f"no word within {_ANSWER_SECONDS:g} s"
    try:
        done = subprocess.run(
            processes.command("gluon_rnn.sweeps.executors.ray", address),
            env=processes.environment(os.environ),
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
        )
        if done.returncode == 0:
            return
        reason = (done.stderr.splitlines() or ["it ended"])[-1].rpartition("exceptions.")[2]
    except subprocess.TimeoutExpired:
        pass
    raise UserError(
        f"no Ray cluster answers at {address} ({reason}); start one with ray start --head, or name another "
        "--ray-address"
    )


def _silence() -> None:
    """Keep Ray 2.60 from printing messages about its nodes.

    Despite log_to_driver=False, a thread prints the last 20 lines of a dead raylet's log (seen by killing one).
    """
    worker: Any = importlib.import_module("ray._private.worker")
    worker._worker_logs_enabled = False


def _living_nodes(ray: Any) -> dict[str, dict[str, float]]:
    """The resources of each usable node, by its identifier."""
    return {
        node["NodeID"]: node["Resources"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    }


def _describe_nodes(ray: Any) -> tuple[Node, ...]:
    """Describe each node.

    Raises:
        UserError: no node has a free core, a node does not answer, or it has other libraries than this machine.
    """
    living = _living_nodes(ray)
    if not living:
        raise UserError("no node of the Ray cluster has a core to give; start one with ray start --address=...")
    affinity = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    describe = ray.remote(num_cpus=0, max_retries=0)(_describe)
    asked = [describe.options(scheduling_strategy=affinity(node, soft=False)).remote() for node in living]
    try:
        told = ray.get(asked, timeout=_PROBE_SECONDS)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        reason = (str(cause).splitlines() or [""])[0]
        raise UserError(f"a node of the Ray cluster cannot run this suite: {type(cause).__name__}: {reason}") from None
    here = library_versions()
    for machine, versions in told:
        for name in sorted({*here, *versions}):
            if versions.get(name) != here.get(name):
                raise UserError(
                    f"node {machine.host} of the Ray cluster has {name} {versions.get(name)}, and this machine "
                    f"{here.get(name)}; install the same on both"
                )
    return tuple(
        Node(machine, int(resources["CPU"]), int(resources.get("GPU", 0)))
        for (machine, _), resources in zip(told, living.values(), strict=True)
    )


def _describe() -> tuple[Machine, dict[str, str]]:
    """A node's own description; Ray may hide GPUs from a task that requests none."""
    return describe_machine(environ={}), library_versions()


if __name__ == "__main__":
    _import_ray().init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
