"""One run in its process: whatever happens, a record comes of it."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mxnet as mx
import pytest

from gluon_rnn.common import processes
from gluon_rnn.config.identity import source_sha1
from gluon_rnn.data.corpora import CorpusFiles, find_corpus, vocabulary
from gluon_rnn.data.corpora.encoded import Corpus
from gluon_rnn.machine.memory import GpuMemory, peak_rss_mb
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.live import read_progress
from gluon_rnn.runs.progress import LossTotal, Progress, Session
from gluon_rnn.runs.records import RunRecord, read_record
from gluon_rnn.runs.tables import load_epochs
from gluon_rnn.sweeps.devices import Slot
from gluon_rnn.sweeps.executors.local import LocalExecutor
from gluon_rnn.training import loop as training
from gluon_rnn.training import worker
from tests.runs.test_records import epoch, make_job

SLOT = Slot("cpu", "a processor", "cpu")
CHECKOUT = Path(__file__).parents[2]

#: In place of `gluon_rnn.training.loop.fit`: gets the run's progress and callbacks.
Fit = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunRecord]:
    """Does a run in this process, with another `fit`."""

    def do(
        fit: Fit,
        *,
        code: int,
        cell_sha1: str | None = None,
        gpu_memory: Callable[[], float | None] | None = None,
        **settings: object,
    ) -> RunRecord:
        # This process must not die with its parent, nor lose pytest's own fault handler.
        monkeypatch.setattr(worker, "_die_with", lambda parent: None)
        monkeypatch.setattr(worker.processes, "take_faults_back", lambda: None)
        monkeypatch.setattr(training, "fit", fit)
        job = make_job(small_corpus, **settings).model_copy(update={"cell_sha1": cell_sha1})
        (tmp_path / "config.json").write_text(job.model_dump_json())
        assert worker.main(tmp_path, gpu_memory=gpu_memory) == code
        record = read_record(tmp_path)
        assert record is not None
        assert not (tmp_path / "progress.json").exists()
        return record

    return do


def fail_with(error: BaseException) -> Fit:
    def fit(*arguments: Any, progress: Progress, **options: Any) -> None:
        progress.history.append(epoch(1, 3.0, 3.5))
        progress.steps = 30
        progress.last_epoch = LossTotal(math.inf, 7)
        raise error

    return fit


@pytest.mark.parametrize(
    ("device", "contexts"),
    [
        ("cpu", [mx.cpu(0)]),
        ("cpu:1", [mx.cpu(1)]),
        ("cpu:2+cpu:0", [mx.cpu(2), mx.cpu(0)]),
        ("gpu:3", [mx.gpu(0)]),
        ("gpu:3+gpu:1", [mx.gpu(0), mx.gpu(1)]),
    ],
)
def test_a_run_trains_on_what_it_was_given(
    run: Callable[..., RunRecord], device: str, contexts: list[mx.Context]
) -> None:
    """Of GPUs a worker sees its own only, which CUDA counts from 0."""
    given: list[mx.Context] = []

    def fit(*arguments: Any, contexts: list[mx.Context], **options: Any) -> None:
        given.extend(contexts)
        raise ValueError("enough")

    record = run(fit, code=1, device=device)
    assert given == contexts
    assert record.config.device == device


def test_gpu_memory_is_looked_at_whenever_the_device_is_idle(run: Callable[..., RunRecord], tmp_path: Path) -> None:
    """Before anything else, at the start, at an interval, after an epoch and at the end."""
    seen = map(GpuMemory, [1000.0, 1100.0, 1700.0, 2500.0, 1200.0])

    def fit(
        *arguments: Any, on_interval: Callable[..., None], before_checkpoint: Callable[[], None], **options: Any
    ) -> None:
        on_interval(training.Interval(epoch=1, step=10, steps=20, loss=2.0, tokens_per_second=None))
        live = read_progress(tmp_path)
        assert live is not None
        assert live.progress.sessions[0].peak_gpu_mb == 700.0
        before_checkpoint()

    record = run(fit, code=0, device="gpu:0", gpu_memory=seen.__next__)
    assert record.peak_gpu_mb == 1500.0
    assert list(seen) == []


def test_a_gpu_that_gives_no_figure_costs_no_record(run: Callable[..., RunRecord]) -> None:
    def broken() -> GpuMemory:
        raise RuntimeError("CUDA: out of memory")

    record = run(fail_with(RuntimeError("CUDA: out of memory")), code=1, device="gpu:0", gpu_memory=broken)
    assert (record.status, record.epochs_run, record.peak_gpu_mb) == ("oom", 1, None)
    assert record.reason == (
        "RuntimeError: CUDA: out of memory; lower batch_size, bptt, hidden_size or num_layers, or take a larger GPU"
    )


def test_a_run_on_a_cpu_asks_no_gpu(run: Callable[..., RunRecord]) -> None:
    asked: list[None] = []
    assert run(lambda *arguments, **options: None, code=0, gpu_memory=lambda: asked.append(None)).peak_gpu_mb is None
    assert asked == []


def test_a_sitting_is_what_the_process_was_and_took(run: Callable[..., RunRecord], tmp_path: Path) -> None:
    seconds: list[float] = []

    def fit(*arguments: Any, progress: Progress, before_checkpoint: Callable[[], None], **options: Any) -> None:
        for _ in range(2):
            before_checkpoint()
            seconds.append(progress.sessions[-1].seconds)
        progress.resume(Progress(sessions=[Session(seconds=600.0, peak_rss_mb=9e6)]))

    record = run(fit, code=0)
    last = record.sessions[-1]
    assert 0 < seconds[0] < seconds[1] <= last.seconds
    assert record.wall_seconds == 600.0 + last.seconds
    assert (record.times_resumed, record.peak_rss_mb) == (1, 9e6)
    assert (last.threads, last.machine_id, last.device) == (
        record.config.threads,
        record.origin.machine_id,
        record.config.device,
    )
    assert (last.blas, last.environment) == (record.blas, record.environment)
    assert last.peak_rss_mb == pytest.approx(peak_rss_mb(), rel=0.5)


@pytest.mark.slow
def test_the_row_of_a_run_resumed_with_other_threads_has_its_own_speeds(
    tmp_path: Path,
) -> None:
    """Real workers: one on one thread, stopped after its first epoch, and one on two that goes on from there."""
    # Epochs of some tenths of a second, and so many that the first worker is far from their end when it is stopped.
    settings = {"dataset": "synthetic", "max_train_tokens": 2400, "max_eval_tokens": 200, "epochs": 8}
    job = make_job(find_corpus("synthetic"), **settings, hidden_size=8, bptt=10, warmup_steps=3, log_interval=20)
    checkpoint = tmp_path / job.run_id / "checkpoint" / "state.json"

    class Enough(Exception):
        pass

    def watch(running: Sequence[Job]) -> None:
        if checkpoint.exists():
            raise Enough

    ballast = bytearray(1_600_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])  # this process's memory is not to be told as theirs
    executor = LocalExecutor()
    with pytest.raises(Enough):
        list(executor.run([job], tmp_path, slots=[SLOT], watch=watch))
    assert not (tmp_path / job.run_id / "record.json").exists()
    two_threads = job.model_copy(update={"threads": 2})
    (ended,) = executor.run([two_threads], tmp_path, slots=[SLOT], watch=lambda running: None)
    assert ended.status is None
    record = read_record(tmp_path / job.run_id)
    assert record is not None
    assert (record.status, record.epochs_run, record.config.threads, record.times_resumed) == ("ok", 8, 2, 1)
    assert [session.threads for session in record.sessions] == [1, 2]
    trained = [[epoch for epoch in record.history if epoch.session == number] for number in (1, 2)]
    assert all(trained)
    assert trained[0] + trained[1] == list(record.history)
    assert {epoch.threads for epoch in trained[0]} == {1}
    # Each process warmed up for three steps of its first epoch.
    steps = record.steps // 8
    timed = [steps - 3 * (epoch is trained[1][0]) for epoch in trained[1]]
    times = [count * 40 / (epoch.tokens_per_second or math.nan) for count, epoch in zip(timed, trained[1], strict=True)]
    assert record.tokens_per_second == pytest.approx(sum(timed) * 40 / sum(times), rel=1e-9)
    assert record.peak_rss_mb == max(session.peak_rss_mb or 0 for session in record.sessions)
    assert 100 < record.peak_rss_mb < 1500
    assert record.wall_seconds == sum(session.seconds for session in record.sessions)
    for session, epochs in zip(record.sessions, trained, strict=True):
        assert session.seconds > sum(epoch.seconds for epoch in epochs)
    assert record.train_seconds is not None
    assert record.evaluation_seconds is not None
    assert record.train_seconds + record.evaluation_seconds < record.wall_seconds


def test_a_divergence_keeps_the_epochs_before_it(run: Callable[..., RunRecord], tmp_path: Path) -> None:
    record = run(fail_with(training.Diverged("the loss was nan at step 2 of epoch 2")), code=0)
    assert (record.status, record.reason) == ("diverged", "the loss was nan at step 2 of epoch 2")
    assert (record.epochs_run, record.best_epoch, record.test_loss) == (1, 1, 3.5)
    assert (record.train_perplexity, record.steps) == (math.inf, 30)
    assert load_epochs(tmp_path)["valid_loss"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("what\nis wrong"), "failed", "ValueError: what is wrong"),
        (KeyError(), "failed", "KeyError: no message"),
        (MemoryError(), "oom", "MemoryError: no message"),
        (RuntimeError("Check failed: e == cudaSuccess: CUDA: out of memory"), "oom", "RuntimeError: Check failed: "),
        (RuntimeError("std::bad_alloc"), "oom", "RuntimeError: std::bad_alloc"),
        (
            # What MXNet 1.9.1 says under ulimit -v.
            RuntimeError('Traceback:\n  File "storage.h"\nRuntimeError: Failed to allocate CPU Memory'),
            "oom",
            "RuntimeError: Failed to allocate CPU Memory",
        ),
        (FileNotFoundError("no '/home/me/x'"), "failed", "FileNotFoundError: no 'x'"),
    ],
)
def test_a_failure_is_a_record_with_its_reason_and_a_log(
    run: Callable[..., RunRecord],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: Exception,
    status: str,
    reason: str,
) -> None:
    record = run(fail_with(error), code=1)
    assert record.status == status
    assert record.reason.startswith(reason)
    assert (record.epochs_run, record.valid_loss) == (1, 3.0)
    assert len(load_epochs(tmp_path)) == 1
    said = capsys.readouterr()
    assert "Traceback" in said.err
    assert f"ended: {status}, {type(error).__name__}" in said.out


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (None, ["best.params", "checkpoint", "config.json", "epochs.csv", "record.json", "vocabulary.json"]),
        (training.Diverged("why"), ["best.params", "config.json", "epochs.csv", "record.json", "vocabulary.json"]),
        (
            ValueError("why"),
            ["best.params", "checkpoint", "config.json", "epochs.csv", "record.json", "vocabulary.json"],
        ),
    ],
)
def test_a_checkpoint_stays_until_the_run_has_its_record(
    run: Callable[..., RunRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
    left: list[str],
) -> None:
    def fit(config: object, corpus: object, *, checkpoint: object, **others: object) -> None:
        (tmp_path / "checkpoint").mkdir()
        (tmp_path / "best.params").touch()
        (tmp_path / ".epochs.csv.x.tmp").touch()
        if error:
            raise error

    written = worker.write_record

    def write_record(directory: Path, record: RunRecord) -> None:
        assert (directory / "checkpoint").exists()
        written(directory, record)

    monkeypatch.setattr(worker, "write_record", write_record)
    run(fit, code=1 if isinstance(error, ValueError) else 0)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == left


def test_a_run_says_where_it_stands(
    run: Callable[..., RunRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def fit(
        *arguments: Any,
        progress: Progress,
        on_start: Callable[[], None],
        on_interval: Callable[[training.Interval], None],
        on_epoch: Callable[[Any], None],
        **options: Any,
    ) -> None:
        progress.train_tokens, progress.train_sequences = 1000, 200
        seen.append(read_progress(tmp_path))
        on_start()
        on_interval(training.Interval(epoch=1, step=10, steps=20, loss=2.0, tokens_per_second=None))
        seen.append(read_progress(tmp_path))
        progress.history.append(epoch(1, 1000.0, 3.5))
        on_epoch(progress.history[0])
        seen.append(read_progress(tmp_path))
        assert len(load_epochs(tmp_path)) == 1
        on_interval(training.Interval(epoch=2, step=10, steps=20, loss=460.0, tokens_per_second=500.0))
        on_interval(training.Interval(epoch=2, step=20, steps=20, loss=1.0, tokens_per_second=500.0))
        seen.append(read_progress(tmp_path))

    record = run(fit, code=0, epochs=2)
    assert record.status == "ok"
    assert [(state.doing, state.fraction, state.perplexity) for state in seen if state] == [
        ("starting", 0.0, None),
        ("epoch 1/2, step 10/20", 0.25, math.exp(2.0)),
        ("epoch 1/2 done", 0.5, math.inf),
        ("epoch 2/2, step 20/20", 1.0, math.exp(1.0)),
    ]
    assert [state.fraction_before for state in seen if state] == [None, 0.0, 0.0, 0.0]
    assert [(state.epochs, state.progress.history) for state in seen if state] == [(0, []), (0, []), (1, []), (1, [])]
    log = capsys.readouterr().out
    assert "[epoch 1 batch 10/20] loss 2.0000, perplexity 7.39, throughput not timed (warm-up)" in log
    assert "[epoch 2 batch 20/20] loss 1.0000, perplexity 2.72, throughput 100.0 sequences/s, 500 tokens/s" in log
    assert "[epoch 2 batch 10/20] loss 460.0000, perplexity 6.0e+199, throughput 100.0 sequences/s" in log
    assert "validation loss 1,000.0000, perplexity inf" in log
    assert "total training throughput" in log


def test_a_worker_dies_with_the_sweep_that_died_before_it_was_ready(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    (tmp_path / "config.json").write_text(make_job(small_corpus).model_dump_json())
    # Its parent is this process, and not the one it is told.
    done = subprocess.run(
        processes.command("gluon_rnn.training.worker", str(tmp_path), "1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "the sweep that started this run is gone\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json"]


def test_the_vocabulary_is_kept_before_the_first_step(run: Callable[..., RunRecord], tmp_path: Path) -> None:
    kept: list[list[str]] = []

    def fit(config: object, corpus: Corpus, **others: object) -> None:
        kept.append(vocabulary.parse((tmp_path / "vocabulary.json").read_bytes()).vocabulary.idx_to_token)
        assert kept == [corpus.vocab.idx_to_token]

    assert run(fit, code=0).status == "ok"
    assert {"<unk>", "<eos>", "cat", "house"} < set(kept[0])


def test_a_record_is_json_that_anything_reads(run: Callable[..., RunRecord], tmp_path: Path) -> None:
    run(fail_with(training.Diverged("why")), code=0)

    def constant(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    content = json.loads((tmp_path / "record.json").read_text(), parse_constant=constant)
    assert content["train_perplexity"] == "Infinity"


def test_a_cell_that_has_changed_since_it_was_planned_is_not_trained(
    run: Callable[..., RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("import helper_of_mine\n")
    helper = tmp_path / "helper_of_mine.py"
    helper.write_text("1\n")
    monkeypatch.chdir(tmp_path)
    planned, fits = source_sha1("mine:Cell"), list[object]()

    def fit(*arguments: Any, **options: Any) -> None:
        fits.append(arguments)

    record = run(fit, code=0, cell="mine:Cell", cell_sha1=planned)
    assert (record.status, record.cell_sha1, len(fits)) == ("ok", planned, 1)
    helper.write_text("2\n")
    record = run(fit, code=1, cell="mine:Cell", cell_sha1=planned)
    assert (
        record.reason == "RuntimeError: cell mine:Cell has changed since the sweep was planned; start the sweep again"
    )
    assert (record.status, len(fits)) == ("failed", 1)


def test_a_run_that_cannot_import_what_it_needs_points_to_the_doctor(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    """Another NumPy comes first."""
    (tmp_path / "other" / "numpy").mkdir(parents=True)
    (tmp_path / "other" / "numpy" / "__init__.py").write_text("raise ImportError('of another Python')\n")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(make_job(small_corpus).model_dump_json())
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "other")}
    subprocess.run(
        processes.command("gluon_rnn.training.worker", str(run)), env=environ, capture_output=True, check=False
    )
    record = read_record(run)
    assert record
    assert record.reason == "ImportError: of another Python; see gluon-rnn doctor for a fix"
