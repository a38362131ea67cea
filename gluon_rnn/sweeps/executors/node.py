"""One run on a node of a cluster, reported to the sweep's process, which alone writes results."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gluon_rnn.data.copies import bring
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.vectors import FoundVectors
from gluon_rnn.machine.hardware import Machine, describe_machine, library_versions
from gluon_rnn.runs.job import Job
from gluon_rnn.sweeps.devices import Slot
from gluon_rnn.sweeps.executors.base import STALL_SECONDS, Ended, ExecutorOptions
from gluon_rnn.sweeps.executors.local import LocalExecutor
from gluon_rnn.sweeps.executors.mirror import Change, Mirror

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Update:
    """An update on a run.

    Attributes:
        job: as it runs on the node.
        change: in the run's directory.
        ended: how it ended, in the last update only.
    """

    job: Job
    change: Change
    ended: Ended | None = None


class _Stopped(Exception):
    pass


def run_here(
    job: Job,
    start: Change,
    *,
    corpus: Callable[[], Mapping[str, bytes]],
    vectors: Callable[[], Mapping[str, bytes]],
    modules: Mapping[str, bytes],
    timeout: float | None = None,
    stall_timeout: float | None = STALL_SECONDS,
) -> Iterator[Update]:
    """Run `job` in a worker process on this machine; closing the iterator stops it.

    Args:
        job: its origin and the paths of its corpus and vectors are replaced by this machine's.
        start: the checkpoint to resume from, if there is one.
        corpus: returns the corpus's files, if this machine does not have them.
        vectors: returns the file of word vectors, likewise.
        modules: files that define a user's own cell, by path relative to Python's path.
        timeout: seconds after which the worker is stopped.
        stall_timeout: seconds without new output after which it is stopped.
    """
    machine = describe_machine()
    slot = _slot(job, machine)
    with tempfile.TemporaryDirectory(prefix=f"gluon-rnn-{job.run_id}-") as folder:
        corpus_here = bring(job.corpus, Path(folder, "corpus"), corpus)
        vectors_here = bring(job.vectors, Path(folder, "vectors"), vectors) if job.vectors else None
        job = slot.assign(_at_home(job, machine, corpus_here, vectors_here))
        directory = Path(folder, "runs", job.run_id)
        directory.mkdir(parents=True)
        start.apply(directory)
        mirror = Mirror(directory)
        mirror.changes()  # what has come from there need not go back
        yield Update(job, Change())
        stopping = threading.Event()

        def watch(running: Sequence[Job]) -> None:
            if stopping.is_set():
                raise _Stopped

        executor = LocalExecutor(ExecutorOptions(timeout=timeout, stall_timeout=stall_timeout))
        # A worker dies with the thread that started it, which waits for it.
        with _working_in(Path(folder, "modules"), modules), ThreadPoolExecutor(1) as thread:
            future = thread.submit(lambda: list(executor.run([job], directory.parent, slots=[slot], watch=watch)))
            try:
                while not future.done():
                    time.sleep(_POLL_SECONDS)
                    if change := mirror.changes():
                        yield Update(job, change)
            finally:
                stopping.set()
            (ended,) = future.result()
        last = Update(job, mirror.changes(ended=True), ended)
    # The receiver of this may end the process, so nothing may be left to do.
    yield last


def _slot(job: Job, machine: Machine) -> Slot:
    if job.config.device_kind == "cpu":
        return Slot("cpu", machine.cpu_name, "cpu")
    if not machine.gpus:
        raise RuntimeError(f"the cluster gave a GPU of {machine.host}, where the driver shows none")
    # The cluster has left visible the one that it gives.
    gpu = machine.gpus[0]
    return Slot(f"gpu:{gpu.index}", gpu.name, f"gpu:{gpu.uuid}")


def _at_home(job: Job, machine: Machine, corpus: CorpusFiles, vectors: FoundVectors | None) -> Job:
    """`job` with this machine's origin, corpus folder and file of vectors."""
    versions = library_versions()
    origin = {
        "machine_id": machine.machine_id,
        "host": machine.host,
        **{f"{name}_version": versions.get(name) for name in ("mxnet", "gluonnlp", "numpy")},
    }
    origin_here = job.origin.model_copy(update=origin)
    return job.model_copy(update={"corpus": corpus, "vectors": vectors, "origin": origin_here})


@contextmanager
def _working_in(folder: Path, files: Mapping[str, bytes]) -> Iterator[None]:
    """Work in a new folder that contains only `files`, where a worker finds a user's own cell."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.mkdir(exist_ok=True)
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
