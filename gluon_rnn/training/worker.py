"""One run in a process of its own: ``gluon_rnn.training.worker DIRECTORY [PARENT]``, started by `common.processes`.

The directory holds ``config.json``; the results are written beside it (see `runs.records`). The process is started with
`machine.environment.process_environment`, because most settings that affect speed must be in place before MXNet is
imported.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from gluon_rnn.common import processes
from gluon_rnn.common.files import write_atomically
from gluon_rnn.config.identity import source_sha1
from gluon_rnn.machine.blas import blas_in_use
from gluon_rnn.machine.environment import recorded_environment, tells_want_of_memory
from gluon_rnn.machine.hardware import list_gpus, visible_gpus
from gluon_rnn.machine.memory import GpuMemory, PeakGpuMemory, gpu_memory_reader, peak_rss_mb
from gluon_rnn.runs.epochs import write_epochs
from gluon_rnn.runs.gpu_memory import advice
from gluon_rnn.runs.job import VOCABULARY, Job, Status
from gluon_rnn.runs.live import LiveProgress
from gluon_rnn.runs.metrics import WORSE_THAN_UNIGRAM, outcome, written
from gluon_rnn.runs.progress import EpochResult, Progress, Session, perplexity, sequences_per_second, tokens_per_second
from gluon_rnn.runs.records import make_record, tidy, write_record
from gluon_rnn.training.schedules import epochs_expected, is_finished

if TYPE_CHECKING:
    from gluon_rnn.training.loop import Interval

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
#: Of the predictions, after each epoch that is the best so far.
_EXAMPLES_SHOWN = 3


def main(
    directory: Path, parent: int | None = None, *, gpu_memory: Callable[[], GpuMemory | None] | None = None
) -> int:
    """Train the run in `directory`. Returns 0 if it ended (ok or diverged) and 1 if it failed; either way it leaves a
    record.

    Args:
        directory: of the run.
        parent: the process that started this one, with which it dies; None: whichever process did.
        gpu_memory: returns the memory in use on the run's GPUs; None: ask the driver.
    """
    _die_with(os.getppid() if parent is None else parent)
    job = Job.model_validate_json((directory / "config.json").read_bytes())
    progress = Progress()
    if job.config.device_kind != "gpu":
        gpu_memory = None
    elif gpu_memory is None:
        gpu_memory = gpu_memory_reader()
    gauge = _Gauge(job, progress, gpu_memory)
    status, reason = _run(job, directory, progress, gauge)
    gauge.read()
    write_epochs(directory, job.run_id, progress.history)
    session = progress.sessions[-1]
    assert session.started_at is not None
    record = make_record(
        job,
        progress,
        status=status,
        reason=reason,
        started_at=session.started_at,
        wall_seconds=session.seconds,
    )
    write_record(directory, record)
    # Not before: a run killed in between would have neither result nor checkpoint.
    tidy(directory, record)
    remark = reason or (WORSE_THAN_UNIGRAM if outcome(record) == WORSE_THAN_UNIGRAM else "")
    _say(f"ended: {status}" + (f", {remark}" if remark else ""))
    return 0 if status in ("ok", "diverged") else 1


class _Gauge:
    """Starts this process's session, the last one of `progress`, and updates its seconds and memory.

    Args:
        job: what is run.
        progress: of the run.
        gpu_memory: returns the memory in use on the run's GPUs; None: the run uses no GPU.
    """

    def __init__(self, job: Job, progress: Progress, gpu_memory: Callable[[], GpuMemory | None] | None) -> None:
        self._began = time.monotonic()
        self._progress = progress
        self._gpu = PeakGpuMemory(gpu_memory) if gpu_memory else None
        session = Session(
            started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            host=job.origin.host,
            machine_id=job.origin.machine_id,
            device=job.config.device,
            device_name=job.origin.device_name,
            threads=job.threads,
            environment=" ".join(f"{name}={value}" for name, value in recorded_environment().items()),
            mxnet_version=job.origin.mxnet_version,
            git_commit=job.origin.git_commit,
        )
        progress.sessions.append(session)

    def read(self) -> None:
        """Update the time and the memory. The device must be idle, and MXNet already imported if possible."""
        if self._gpu:
            self._gpu.sample()
        session = self._progress.sessions[-1]
        self._progress.sessions[-1] = replace(
            session,
            seconds=time.monotonic() - self._began,
            blas=session.blas or blas_in_use(),
            peak_rss_mb=peak_rss_mb(),
            peak_gpu_mb=self._gpu.mb if self._gpu else None,
        )


def _run(job: Job, directory: Path, progress: Progress, gauge: _Gauge) -> tuple[Status, str]:
    """Train; returns how it ended. No exception escapes, so a record is always written."""
    try:
        return _train(job, directory, progress, gauge)
    except Exception as error:
        traceback.print_exc()
        reason = _reason(error)
        if not tells_want_of_memory(reason):
            return "failed", reason
        gpus = visible_gpus(list_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
        memory_mb = min((gpu.memory_mb for gpu in gpus), default=None)
        return "oom", f"{reason}; {advice(job.config, progress.vocab_size, memory_mb)}"


def _train(job: Job, directory: Path, progress: Progress, gauge: _Gauge) -> tuple[Status, str]:
    # Imported here, not above: a broken installation also becomes a failed run with a reason.
    with processes.importing():
        import mxnet as mx

        processes.take_faults_back()
        from gluon_rnn.data.corpora import vocabulary
        from gluon_rnn.data.corpora.loading import load_corpus_for
        from gluon_rnn.data.vectors.loading import load_vectors
        from gluon_rnn.training.checkpoints import CheckpointDirectory
        from gluon_rnn.training.loop import Diverged, fit
    # What was imported stays: no collection need look at it, nor the one at the process's end.
    gc.freeze()
    config = job.config
    if job.cell_sha1 and source_sha1(config.cell) != job.cell_sha1:
        raise RuntimeError(f"cell {config.cell} has changed since the sweep was planned; start the sweep again")
    contexts = [
        # A worker sees its own GPUs only, and counts them from 0.
        mx.gpu(place) if config.device_kind == "gpu" else mx.cpu(int(device.partition(":")[2] or 0))
        for place, device in enumerate(config.devices)
    ]
    corpus = load_corpus_for(config, job.corpus)
    _say(
        f"{job.run_id}: {config.cell}, hidden {config.hidden_size}, {config.objective} of {job.corpus.dataset} "
        f"({len(corpus.vocab):,} {config.level}s) on {job.origin.device_name}, {job.threads} threads, "
        f"BLAS {blas_in_use()}"
    )
    vectors = None
    if job.vectors:
        vectors, progress.words_without_vector = load_vectors(job.vectors, corpus.vocab, seed=config.seed)
        _say(f"{progress.words_without_vector:,} words have no vector in {job.vectors.name}")
    log = _Log(job, directory, progress, gauge)
    # The corpus may be gone when the parameters are used.
    labels = None if corpus.labels is None else tuple(corpus.labels.idx_to_token)
    write_atomically(directory / VOCABULARY, vocabulary.as_json(vocabulary.Words(corpus.vocab, labels)))
    try:
        fit(
            config,
            corpus,
            contexts=contexts,
            progress=progress,
            vectors=vectors,
            checkpoint=CheckpointDirectory(directory),
            on_start=log.start,
            on_interval=log.interval,
            before_checkpoint=gauge.read,
            on_epoch=log.epoch,
        )
    except Diverged as error:
        return "diverged", str(error)
    finally:
        log.total()
    return "ok", ""


def _reason(error: Exception) -> str:
    """An exception as a record states it, in one line."""
    name, text = type(error).__name__, str(error).strip() or "no message"
    if text.startswith("Traceback"):
        # MXNet's own traceback of C++ functions. Its last line has the reason and repeats the error's name.
        text = text.splitlines()[-1].removeprefix(f"{name}: ")
    if "gluon_rnn.training.loop" in sys.modules:
        return f"{name}: {text}"
    return f"{name}: {text}; see gluon-rnn doctor for a fix"  # the installation is broken


class _Log:
    """The run's log, in the notebook's lines, and ``progress.json``, which the sweep and ``status`` read."""

    def __init__(self, job: Job, directory: Path, progress: Progress, gauge: _Gauge) -> None:
        self._job = job
        self._directory = directory
        self._progress = progress
        self._gauge = gauge
        self._before: float | None = None
        self._write("starting")

    def start(self) -> None:
        """Refresh ``progress.json`` when the checkpoint has been read."""
        self._before = len(self._progress.history) / self._epochs
        self._write("starting", fraction=self._before)

    def interval(self, interval: Interval) -> None:
        """Log a line and refresh ``progress.json`` at each log interval."""
        _say(
            f"[epoch {interval.epoch} batch {interval.step}/{interval.steps}] {_scored(interval.loss)}, "
            f"throughput {self._speed(interval.tokens_per_second)}"
        )
        self._write(
            f"epoch {interval.epoch}/{self._epochs}, step {interval.step}/{interval.steps}",
            fraction=(interval.epoch - 1 + interval.step / interval.steps) / self._epochs,
            perplexity=perplexity(interval.loss),
            tokens_per_second=interval.tokens_per_second,
            interval_loss=interval.loss,
        )

    def epoch(self, result: EpochResult) -> None:
        """Log the epoch, and append its row; of the best one that comes again with `test_once`, log test."""
        again = self._job.config.test_once and result.test_loss is not None
        if not again:
            _say(
                f"[epoch {result.epoch}] throughput {self._speed(result.tokens_per_second)}, "
                f"time {result.seconds:.1f} s, validation {_scored(result.valid_loss, result.valid_accuracy)}"
            )
        if result.test_loss is not None:
            _say(f"[epoch {result.epoch}] test {_scored(result.test_loss, result.test_accuracy)}")
        if self._progress.best is not result:
            _say(f"[epoch {result.epoch}] no new best validation loss; learning rate was {result.learning_rate:g}")
        elif result.valid_accuracy is not None:
            for example in self._progress.predictions[:_EXAMPLES_SHOWN]:
                _say(f"  {example.text!r}: {example.predicted!r}, truth {example.truth!r}")
        write_epochs(self._directory, self._job.run_id, self._progress.history)
        done = len(self._progress.history)
        self._write(
            f"epoch {done}/{self._epochs} done",
            fraction=1.0 if is_finished(self._progress, self._job.config) else done / self._epochs,
            perplexity=result.valid_perplexity,
            tokens_per_second=result.tokens_per_second,
        )

    def total(self) -> None:
        """Log the last line: the throughput of the whole run, or of the part trained in this environment."""
        _say(f"total training throughput {self._speed(tokens_per_second(self._progress.comparable_laps))}")

    @property
    def _epochs(self) -> int:
        config = self._job.config
        return 1 if config.max_steps else epochs_expected(self._progress, config)

    def _speed(self, tokens_per_second: float | None) -> str:
        sequences = sequences_per_second(self._progress, tokens_per_second)
        if tokens_per_second is None or sequences is None:
            return "not timed (warm-up)"
        return f"{sequences:,.1f} sequences/s, {tokens_per_second:,.0f} tokens/s"

    def _write(self, doing: str, **values: float | None) -> None:
        self._gauge.read()
        progress = self._progress
        live = LiveProgress(
            doing=doing,
            fraction_before=self._before,
            epochs=len(progress.history),
            progress=progress.without_epochs(),
            **values,
        )
        write_atomically(self._directory / "progress.json", live.model_dump_json())


def _scored(loss: float, accuracy: float | None = None) -> str:
    text = f"loss {written(loss, 4)}, perplexity {written(perplexity(loss), 2)}"
    return text + ("" if accuracy is None else f", accuracy {accuracy:.2%}")


def _say(line: str) -> None:
    print(f"{datetime.now(timezone.utc):%H:%M:%S} {line}", flush=True)


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when the sweep that started it dies for any reason, so that no orphan keeps
    training.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Linux reports only future deaths, and the parent may have died while Python was starting.
    if os.getppid() != parent:
        sys.exit("the sweep that started this run is gone")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
