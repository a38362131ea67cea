"""Runs sent to TensorBoard and MLflow, read back by their own libraries; and trackers that are down, slow or wrong."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX.proto.api_pb2 import Status
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from gluon_rnn import cli, load_epochs, load_results
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import write_atomically
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.vectors import FoundVectors
from gluon_rnn.reporting.terminal.displays import Several
from gluon_rnn.reporting.tracking import MlflowTracker, TensorBoardTracker, Tracking, delivery
from gluon_rnn.reporting.tracking.base import Sent, Tracker
from gluon_rnn.runs.epochs import write_epochs
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.live import LiveProgress
from gluon_rnn.runs.progress import EpochResult, Progress
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.sweeps.planning import Plan
from gluon_rnn.sweeps.running import Display, run_sweep
from tests.cli.test_cli import (
    RUN_SWEEP,
    SETTINGS,
    environment,
    refusal,
    run,
    stopping_midway,
    wait_for,
    workers_of,
    write_sweep,
)
from tests.conftest import small_config
from tests.faults.trials import MID_WRITE
from tests.reporting.terminal.conftest import make_plan
from tests.runs.test_records import AWKWARD, epoch, make_done, make_job
from tests.sweeps.test_sweep import FakeExecutor

HISTORY = [epoch(1, 3.0, 3.5), epoch(2, AWKWARD[1], AWKWARD[2]), epoch(3, 2.25)]

Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def _environment_as_it_was() -> Iterator[None]:
    """MLflow is told what to do by the environment."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]


# Where runs are sent, and how they are read there


class TensorBoard:
    """A folder of event files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "events"

    def tracker(self) -> Tracker:
        return TensorBoardTracker(self.folder)

    def events(self, run_id: str) -> EventAccumulator:
        (folder,) = self.folder.glob(f"*{run_id}*")
        return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()

    def curves(self, run_id: str) -> Curves:
        events = self.events(run_id)
        return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}

    def kept(self, value: float) -> float:
        return float(np.float32(value))

    def settings(self, run_id: str) -> dict[str, Any]:
        start = self._data(run_id, "_hparams_/session_start_info").session_start_info
        return {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}

    def tags(self, run_id: str) -> dict[str, str]:
        events, lines = self.events(run_id), []
        for when in ("before", "after"):
            if f"{when}/text_summary" in events.Tags()["tensors"]:
                text = events.Tensors(f"{when}/text_summary")[-1].tensor_proto.string_val[0].decode()
                lines += text.removeprefix("- ").split("\n- ")
        return dict(line.split(": ", 1) for line in lines)

    def status(self, run_id: str) -> str:
        try:
            end = self._data(run_id, "_hparams_/session_end_info").session_end_info
        except KeyError:
            return "bad" if "status" in self.tags(run_id) else "open"
        assert end.status == Status.Value("STATUS_SUCCESS")
        return "good"

    def _data(self, run_id: str, tag: str) -> Any:
        return HParamsPluginData.FromString(self.events(run_id).SummaryMetadata(tag).plugin_data.content)


class Mlflow:
    """A folder of MLflow's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mlruns"
        self.uri = str(self.folder)

    def tracker(self) -> Tracker:
        return MlflowTracker(self.uri, "grid")

    def run(self, run_id: str, experiment: str = "grid") -> Any:
        from mlflow import MlflowClient

        self.client = MlflowClient(self.folder.as_uri())
        number = self.client.get_experiment_by_name(experiment).experiment_id
        (found,) = self.client.search_runs([number], f"tags.run_id = '{run_id}'")
        return found

    def curves(self, run_id: str, experiment: str = "grid") -> Curves:
        found = self.run(run_id, experiment)
        histories = {name: self.client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
        return {name: [(point.step, point.value) for point in history] for name, history in histories.items()}

    def kept(self, value: float) -> float:
        return value

    def settings(self, run_id: str) -> dict[str, Any]:
        return dict(self.run(run_id).data.params)

    def tags(self, run_id: str) -> dict[str, str]:
        return {name: value for name, value in self.run(run_id).data.tags.items() if not name.startswith("mlflow.")}

    def status(self, run_id: str) -> str:
        status = self.run(run_id).info.status
        return {"FINISHED": "good", "FAILED": "bad", "KILLED": "open"}[status]


@pytest.fixture(params=["tensorboard", "mlflow folder", "mlflow server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TensorBoard | Mlflow]:
    with ExitStack() as stack:
        if request.param == "tensorboard":
            yield TensorBoard(tmp_path)
            return
        kept = Mlflow(tmp_path)
        kept.tracker()  # lets MLflow use a folder
        if request.param == "mlflow server":
            from tests.mlflow_server import serve

            kept.uri = stack.enter_context(serve(kept.folder))
        yield kept


@pytest.fixture
def job(small_corpus: CorpusFiles) -> Job:
    return make_job(small_corpus, run_id="0123456789ab", dataset="/home/me/small", cell="gru", clip=None)


@pytest.fixture
def plan(tmp_path: Path, job: Job) -> Plan:
    return make_plan(tmp_path / "grid", [job])


class Worker:
    """What the worker of a run leaves in its directory."""

    def __init__(self, plan: Plan, job: Job) -> None:
        self.job = job
        self.directory = plan.directory / "runs" / job.run_id
        self.directory.mkdir(parents=True, exist_ok=True)

    def says(self, history: Sequence[EpochResult], steps: int, loss: float | None, speed: float | None = None) -> None:
        live = LiveProgress(
            doing="it", interval_loss=loss, tokens_per_second=speed, progress=Progress(list(history), steps=steps)
        )
        other = self.directory / "next.json"
        other.write_text(live.model_dump_json())
        other.replace(self.directory / "progress.json")

    def ends(self, history: Sequence[EpochResult], **options: Any) -> RunRecord:
        (self.directory / "progress.json").unlink(missing_ok=True)
        write_epochs(self.directory, self.job.run_id, history)
        return make_done(self.job, history, **options)


def watch(tracking: Display, plan: Plan, job: Job) -> Worker:
    """A sweep whose only job has started."""
    worker = Worker(plan, job)
    tracking.started(plan)
    tracking.running([job])
    return worker


def track(place: TensorBoard | Mlflow) -> Tracking:
    return Tracking(place.tracker(), warn=pytest.fail)


def run_whole(tracking: Tracking, plan: Plan, job: Job, history: Sequence[EpochResult], **options: Any) -> RunRecord:
    worker = watch(tracking, plan, job)
    record = worker.ends(history, **options)
    tracking.ended(job, record)
    tracking.stopped()
    return record


# What is sent


def test_every_epoch_and_interval_is_there_once_and_exactly(place: TensorBoard | Mlflow, plan: Plan, job: Job) -> None:
    history = [
        EpochResult(
            epoch=number,
            learning_rate=20 / number,
            train_loss=AWKWARD[number - 1],
            valid_loss=6 + AWKWARD[number - 1],
            valid_perplexity=100 * AWKWARD[number - 1],
            test_loss=5 / 7 if number < 3 else None,
            test_perplexity=50 / 7 if number < 3 else None,
            tokens_per_second=None if number == 1 else 1000 / number,
            seconds=number / 3,
        )
        for number in (1, 2, 3)
    ]
    tracking = track(place)
    worker = watch(tracking, plan, job)
    worker.says([], 0, None)
    for _ in range(3):
        tracking.running([job])
    for steps, loss, speed in ((10, 6.1, None), (20, 5.3, 810.5)):
        worker.says([], steps, loss, speed)
        tracking.running([job])
        tracking.running([job])
    worker.says(history[:1], 25, None, 1000.0)  # the epoch's end, whose perplexity is validation's
    tracking.running([job])
    worker.says(history[:1], 35, math.inf, 811.5)
    tracking.running([job])
    # The second and third epoch end between two looks.
    tracking.ended(job, worker.ends(history))
    tracking.stopped()

    kept = place.kept
    assert {name: curve for name, curve in place.curves(job.run_id).items() if not name.startswith("final/")} == {
        "train/loss_nats_per_token": [(n, kept(AWKWARD[n - 1])) for n in (1, 2, 3)],
        "train/perplexity": [(n, kept(math.exp(AWKWARD[n - 1]))) for n in (1, 2, 3)],
        "train/learning_rate": [(n, kept(20 / n)) for n in (1, 2, 3)],
        "train/tokens_per_second": [(n, kept(1000 / n)) for n in (2, 3)],
        "train/seconds": [(n, kept(n / 3)) for n in (1, 2, 3)],
        "valid/loss_nats_per_token": [(n, kept(6 + AWKWARD[n - 1])) for n in (1, 2, 3)],
        "valid/perplexity": [(n, kept(100 * AWKWARD[n - 1])) for n in (1, 2, 3)],
        "test/loss_nats_per_token": [(n, kept(5 / 7)) for n in (1, 2)],
        "test/perplexity": [(n, kept(50 / 7)) for n in (1, 2)],
        "interval/train_loss_nats_per_token": [(10, kept(6.1)), (20, kept(5.3)), (35, math.inf)],
        "interval/train_perplexity": [(10, kept(math.exp(6.1))), (20, kept(math.exp(5.3))), (35, math.inf)],
        "interval/train_tokens_per_second": [(20, kept(810.5)), (35, kept(811.5))],
    }


def test_a_run_has_its_settings_its_outcome_and_its_origin(
    place: TensorBoard | Mlflow, plan: Plan, job: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    record = run_whole(track(place), plan, job, HISTORY)
    assert capfd.readouterr() == ("", "")
    settings = place.settings(job.run_id)
    assert settings == {
        name: type(settings[name])(value)
        for name, value in {**job.config.model_dump(), "dataset": "small"}.items()
        if value is not None and name not in ("device", "threads")
    }
    assert settings["cell"] == "gru"
    assert "clip" not in settings
    final = {name: curve for name, curve in place.curves(job.run_id).items() if name.startswith("final/")}
    assert final["final/valid_loss_nats_per_token"] == [(record.steps, place.kept(AWKWARD[1]))]
    assert final["final/tokens_per_second"] == [(record.steps, 8.0)]
    assert {name.removeprefix("final/") for name in final} == {
        *("vocab_size", "epochs_run", "steps", "best_epoch", "train_perplexity", "valid_loss_nats_per_token"),
        *("valid_perplexity", "test_loss_nats_per_token", "test_perplexity", "train_tokens", "tokens_per_second"),
        *("sequences_per_second", "step_ms_p50", "step_ms_p95", "train_seconds", "evaluation_seconds", "wall_seconds"),
        *("parameters", "times_resumed"),
    }
    assert place.tags(job.run_id) == {
        "run_id": job.run_id,
        "status": "ok",
        "reason": "",
        "dataset_sha1": job.corpus.sha1,
        "device": "cpu",
        "threads": "1",
        "device_name": "a processor",
        "machine_id": "f" * 12,
        "mxnet_version": "1.9.1",
        "gluonnlp_version": "0.10.0",
        "host": "here",
        "started_at": "2024-01-02T03:04:05+00:00",
    }
    assert place.status(job.run_id) == "good"


def test_a_tracker_is_not_told_the_users_folders(place: TensorBoard | Mlflow, tmp_path: Path, job: Job) -> None:
    vectors = FoundVectors("glove.txt", Path("/home/me/glove.txt"), "e" * 40, 50)
    config = small_config(dataset="/home/me/other", embedding=str(vectors.path), tie_weights=False)
    other = job.model_copy(update={"run_id": "f" * 12, "config": config, "vectors": vectors})
    run_whole(track(place), make_plan(tmp_path / "grid", [job, other]), other, HISTORY)
    assert place.settings(other.run_id)["embedding"] == "glove.txt"
    assert place.tags(other.run_id)["embedding_sha1"] == "e" * 40
    assert all(b"home" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any("home" in path.name for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("status", "good"), [("diverged", "good"), ("failed", "bad"), ("oom", "bad"), ("timeout", "bad")]
)
def test_a_run_that_went_wrong_says_so(
    place: TensorBoard | Mlflow, plan: Plan, job: Job, status: str, good: str
) -> None:
    run_whole(track(place), plan, job, HISTORY[:1], status=status, reason="the loss was inf", nats=math.inf)
    assert place.status(job.run_id) == good
    tags = place.tags(job.run_id)
    assert (tags["status"], tags["reason"]) == (status, "the loss was inf")
    curves = place.curves(job.run_id)
    assert curves["final/train_perplexity"] == [(4, math.inf)]
    assert curves["valid/perplexity"] == [(1, place.kept(math.exp(3.0)))]


# Going on


def test_an_interrupted_run_goes_on_where_it_was(place: TensorBoard | Mlflow, plan: Plan, job: Job) -> None:
    tracking = track(place)
    worker = watch(tracking, plan, job)
    for history, steps, loss in (([], 10, 6.0), (HISTORY[:1], 25, None), (HISTORY[:1], 35, 5.0)):
        worker.says(history, steps, loss)
        tracking.running([job])
    tracking.stopped()
    assert place.status(job.run_id) == "open"

    # A job that goes on on another device, from the end of its first epoch.
    again = job.model_copy(update={"threads": 7})
    tracking = track(place)
    worker = watch(tracking, plan, again)
    for history, steps, loss in (
        ([], 0, None),
        (HISTORY[:1], 35, 5.0),
        (HISTORY[:1], 45, 4.0),
        (HISTORY[:2], 50, None),
    ):
        worker.says(history, steps, loss)
        tracking.running([again])
    tracking.ended(again, worker.ends(HISTORY))
    tracking.stopped()
    assert place.status(job.run_id) == "good"
    assert place.tags(job.run_id)["threads"] == "7"
    curves = place.curves(job.run_id)
    assert [step for step, _ in curves["train/loss_nats_per_token"]] == [1, 2, 3]
    assert [step for step, _ in curves["test/perplexity"]] == [1, 2]
    assert curves["interval/train_loss_nats_per_token"] == [(10, 6.0), (35, 5.0), (45, 4.0)]


def test_a_failed_run_that_is_made_again_goes_on(place: TensorBoard | Mlflow, plan: Plan, job: Job) -> None:
    run_whole(track(place), plan, job, HISTORY[:1], status="failed", reason="why")
    assert place.status(job.run_id) == "bad"
    run_whole(track(place), plan, job, HISTORY)
    assert place.status(job.run_id) == "good"
    assert (place.tags(job.run_id)["status"], place.tags(job.run_id)["reason"]) == ("ok", "")
    assert [step for step, _ in place.curves(job.run_id)["valid/perplexity"]] == [1, 2, 3]


def test_a_run_of_mlflows_that_goes_on_is_running(tmp_path: Path, plan: Plan, job: Job) -> None:
    flow = Mlflow(tmp_path)
    run_whole(track(flow), plan, job, HISTORY[:1], status="failed")
    assert flow.run(job.run_id).info.status == "FAILED"
    assert flow.tracker().begin(job, "cell=gru", plan.directory / "runs" / job.run_id) == Sent(epochs=1, steps=0)
    assert flow.run(job.run_id).info.status == "RUNNING"


def test_what_has_not_changed_is_not_read_again(plan: Plan, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(delivery, "read_progress", lambda directory: read.append(directory))
    tracking = Tracking(Recorder(), warn=pytest.fail)
    worker = watch(tracking, plan, job)
    for steps in (10, 20):
        worker.says([], steps, 1.0)
        for _ in range(3):
            tracking.running([job])
    tracking.stopped()
    assert read == [worker.directory] * 2


def test_epochs_that_progress_leaves_out_are_sent(place: TensorBoard | Mlflow, plan: Plan, job: Job) -> None:
    """As a worker does, whose progress.json does not grow with them."""
    tracking = track(place)
    worker = watch(tracking, plan, job)
    for number in (1, 2):
        write_epochs(worker.directory, job.run_id, HISTORY[:number])
        live = LiveProgress(doing="it", interval_loss=1.0, epochs=number, progress=Progress(steps=10 * number))
        write_atomically(worker.directory / "progress.json", live.model_dump_json())
        tracking.running([job])
        wait_for(lambda: not any(feed.due for feed in tracking._feeds.values()))
    tracking.stopped()
    curves = place.curves(job.run_id)
    assert [step for step, _ in curves["train/loss_nats_per_token"]] == [1, 2]
    assert [step for step, _ in curves["interval/train_loss_nats_per_token"]] == [10, 20]


def test_a_run_that_is_measured_anew_elsewhere_is_another(tmp_path: Path, job: Job) -> None:
    board, flow = TensorBoard(tmp_path), Mlflow(tmp_path)
    for results in ("one", "two"):
        for place in (board, flow):
            run_whole(track(place), make_plan(tmp_path / results, [job]), job, HISTORY)
    assert sorted(path.name.partition(job.run_id)[2] for path in board.folder.iterdir()) == ["", ",2"]
    with pytest.raises(ValueError, match="too many values"):
        flow.run(job.run_id)


def test_a_server_that_lost_its_runs_gets_a_new_one(tmp_path: Path, plan: Plan, job: Job) -> None:
    flow = Mlflow(tmp_path)
    run_whole(track(flow), plan, job, HISTORY[:2], status="failed")
    gone = flow.run(job.run_id).info.run_id
    flow.client.delete_run(gone)
    run_whole(track(flow), plan, job, HISTORY)
    assert [step for step, _ in flow.curves(job.run_id)["valid/perplexity"]] == [1, 2, 3]
    flow.folder = tmp_path / "another"
    flow.uri = str(flow.folder)
    run_whole(track(flow), plan, job, HISTORY)
    assert [step for step, _ in flow.curves(job.run_id)["valid/perplexity"]] == [1, 2, 3]


def test_an_event_file_cut_short_by_a_kill_is_gone_on_from(tmp_path: Path, plan: Plan, job: Job) -> None:
    board = TensorBoard(tmp_path)
    run_whole(track(board), plan, job, HISTORY[:2], status="failed")
    (file,) = board.folder.rglob("*.tfevents.*")
    content = file.read_bytes()
    for cut in (content[:200], content[:-3], content + content[:5]):
        file.write_bytes(cut)
        run_whole(track(board), plan, job, HISTORY)
        # In the same second, perhaps, and yet in a file of its own.
        (other,) = {*board.folder.rglob("*.tfevents.*")} - {file}
        assert file.read_bytes() == cut
        assert [step for step, _ in board.curves(job.run_id)["valid/perplexity"]] == [1, 2, 3]
        other.unlink()


# Trackers that are down, slow or wrong


class Recorder:
    """A tracker that fails when it is told to."""

    name = "the recorder"

    def __init__(self, fails_at: str = "", error: Exception | None = None) -> None:
        self.fails_at = fails_at
        self.error = error or RuntimeError("no\nmore")
        self.told: list[str] = []

    def _tell(self, what: str, job: Job) -> None:
        self.told.append(f"{what} {job.run_id}")
        if what == self.fails_at:
            raise self.error

    def begin(self, job: Job, label: str, directory: Path) -> Sent:
        self._tell("begin", job)
        return Sent()

    def log(self, job: Job, metrics: Mapping[str, float], step: int) -> None:
        self._tell("log", job)

    def end(self, job: Job, record: RunRecord | None) -> None:
        self._tell("end", job)


def sweep_results(plan: Plan, *displays: Display) -> list[RunRecord]:
    def finish(job: Job, directory: Path) -> tuple[str | None, str]:
        from gluon_rnn.runs.records import write_record

        write_record(directory, Worker(plan, job).ends(HISTORY))
        return None, ""

    return run_sweep(plan, executor=FakeExecutor(finish), display=Several(*displays))


FAILED = "warning: the recorder failed (RuntimeError: no more); while the sweep runs it is tried again, "
SAFE = "the sweep's results have it all"
BACK = "the recorder is back and has what it missed"


@pytest.mark.parametrize("fails_at", ["begin", "log", "end"])
def test_a_tracker_that_fails_costs_one_line_and_nothing_else(
    tmp_path: Path, small_corpus: CorpusFiles, capsys: pytest.CaptureFixture[str], fails_at: str
) -> None:
    plan = make_plan(tmp_path, [make_job(small_corpus, run_id=str(n) * 12, seed=n) for n in range(3)])
    broken, sound = Recorder(fails_at), Recorder()
    records = sweep_results(plan, Tracking(broken, pauses=(0.0, 600.0)), Tracking(sound))
    assert [record.status for record in records] == ["ok"] * 3
    assert load_results(tmp_path)["run_id"].tolist() == [job.run_id for job in plan.jobs]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [FAILED + SAFE]
    # Each run is tried once more when the sweep has ended, if not before.
    assert {f"{fails_at} {str(n) * 12}" for n in range(3)} <= {*broken.told}
    assert broken.told.count(f"{fails_at} {'0' * 12}") <= 3
    assert [told for told in sound.told if "log" not in told] == [
        f"{what} {str(n) * 12}" for n in range(3) for what in ("begin", "end")
    ]


class Flaky(Recorder):
    """Fails at some of its calls, before or after it has done what it was told."""

    def __init__(self, *failing: int, done: bool) -> None:
        super().__init__()
        self.failing, self.done, self.calls = failing, done, 0
        self.curves: Curves = {}
        self.open: set[str] = set()

    def _call(self, act: Any) -> None:
        self.calls += 1
        if self.done or self.calls not in self.failing:
            act()
        if self.calls in self.failing:
            raise RuntimeError("no\nmore")

    def begin(self, job: Job, label: str, directory: Path) -> Sent:
        self._call(lambda: self.open.add(job.run_id))
        last = {name: max(step for step, _ in points) for name, points in self.curves.items()}
        return Sent(last.get("train/loss_nats_per_token", 0), last.get("interval/train_loss_nats_per_token", 0))

    def log(self, job: Job, metrics: Mapping[str, float], step: int) -> None:
        assert job.run_id in self.open
        self._call(lambda: [self.curves.setdefault(name, []).append((step, v)) for name, v in metrics.items()])

    def end(self, job: Job, record: RunRecord | None) -> None:
        self._call(lambda: self.open.discard(job.run_id))


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("failing", [(1,), (2,), (3, 4, 5), (6,), (8,), (9,), (1, 3, 5, 7, 9)])
def test_what_a_tracker_missed_it_is_sent_when_it_is_back(
    plan: Plan, job: Job, failing: tuple[int, ...], done: bool
) -> None:
    """Every epoch and interval once, even if the answer alone was lost."""
    tracker, lines = Flaky(*failing, done=done), []
    told = threading.Event()

    def warn(line: str) -> None:
        lines.append(line)
        told.set()

    tracking = Tracking(tracker, warn=warn, pauses=(0.0,))
    worker = watch(tracking, plan, job)
    for history, steps, loss in ((HISTORY[:1], 10, 6.0), (HISTORY[:1], 20, 5.0), (HISTORY[:2], 30, 4.0)):
        worker.says(history, steps, loss)
        tracking.running([job])
    tracking.ended(job, worker.ends(HISTORY))
    assert told.wait(60)
    wait_for(lambda: not tracking._feeds)
    tracking.stopped()
    assert lines == [FAILED + SAFE, BACK] * (len(lines) // 2)
    assert tracker.open == set()
    curves = tracker.curves
    assert [step for step, _ in curves["train/loss_nats_per_token"]] == [1, 2, 3]
    assert [step for step, _ in curves["interval/train_loss_nats_per_token"]] == [10, 20, 30]
    # The eighth call of nine tells the final numbers; a run's end may be told twice.
    if not done or failing == (9,):
        assert len(curves["final/steps"]) == 1


def test_a_failure_at_the_very_end_is_made_up_for(plan: Plan, job: Job) -> None:
    tracker, lines = Flaky(6, done=False), []
    run_whole(Tracking(tracker, warn=lines.append, pauses=(0.01,)), plan, job, HISTORY)
    assert lines == [FAILED + SAFE, BACK]
    assert tracker.open == set()
    assert len(tracker.curves["final/steps"]) == 1


def test_a_tracker_is_tried_again_after_pauses_that_grow(plan: Plan, job: Job) -> None:
    lines: list[str] = []
    tracking = Tracking(Recorder("begin"), warn=lines.append, pauses=(0.01, 0.02, 700.0))
    watch(tracking, plan, job)
    wait_for(lambda: tracking._failures == 3)
    left = tracking._next_attempt - time.monotonic()
    tracking.stopped()
    assert 600 < left <= 700
    assert lines == [FAILED + SAFE]


def test_a_run_that_a_tracker_refuses_does_not_keep_the_others(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    class Choosy(Recorder):
        def begin(self, job: Job, label: str, directory: Path) -> Sent:
            if job.run_id.startswith("0"):
                raise self.error
            return super().begin(job, label, directory)

    plan = make_plan(tmp_path, [make_job(small_corpus, run_id=str(n) * 12, seed=n) for n in range(3)])
    choosy, lines = Choosy(), []
    tracking = Tracking(choosy, warn=lines.append, pauses=(0.0,))
    tracking.started(plan)
    for job in plan.jobs:
        worker = Worker(plan, job)
        tracking.running([job])
        tracking.ended(job, worker.ends(HISTORY))
    wait_for(lambda: len(tracking._feeds) == 1)
    tracking.stopped()
    assert [told for told in choosy.told if "log" not in told] == [
        f"{what} {str(n) * 12}" for n in (1, 2) for what in ("begin", "end")
    ]
    assert lines == [FAILED + SAFE]


def test_intervals_that_a_tracker_missed_are_not_kept_without_end(plan: Plan, job: Job) -> None:
    tracker = Flaky(1, 2, done=False)
    tracking = Tracking(tracker, warn=lambda line: None, pauses=(0.0, 600.0))
    worker = watch(tracking, plan, job)
    wait_for(lambda: tracking._failures == 2)
    for steps in range(1, 1204):
        worker.says([], steps, 1.0)
        tracking.running([job])
    tracking.ended(job, worker.ends(HISTORY))
    tracking.stopped()
    steps_sent = [step for step, _ in tracker.curves["interval/train_loss_nats_per_token"]]
    assert steps_sent == list(range(204, 1204))


@pytest.mark.parametrize("failing", [1, 4, 6, 8])
def test_a_server_that_is_back_has_every_epoch_once(
    tmp_path: Path, plan: Plan, job: Job, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a run is refused, or an answer is lost: of its settings, of an epoch."""
    from mlflow import MlflowClient

    flow, lines = Mlflow(tmp_path), []
    tracker = MlflowTracker(flow.uri, "grid")
    calls = 0

    class Client:
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                fails = calls >= failing and not lines
                if name == "create_run" and fails:
                    raise RuntimeError("not now")
                answer = getattr(client, name)(*arguments, **options)
                if name == "log_batch" and fails:
                    raise RuntimeError("no answer")
                return answer

            return call

    client: MlflowClient = tracker._client
    monkeypatch.setattr(tracker, "_client", Client())
    tracking = Tracking(tracker, warn=lines.append, pauses=(0.0,))
    worker = watch(tracking, plan, job)
    tracking.ended(job, worker.ends(HISTORY))
    wait_for(lambda: not tracking._feeds)
    tracking.stopped()
    assert len(lines) == 2
    curves = flow.curves(job.run_id)
    assert [step for step, _ in curves["valid/perplexity"]] == [1, 2, 3]
    assert flow.settings(job.run_id)["cell"] == "gru"
    assert flow.status(job.run_id) == "good"


def test_a_slow_tracker_does_not_keep_the_sweep(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    asked, answer = threading.Event(), threading.Event()

    class Slow(Recorder):
        def begin(self, job: Job, label: str, directory: Path) -> Sent:
            asked.set()
            answer.wait()
            return super().begin(job, label, directory)

    slow = Slow()
    tracking = Tracking(slow, patience=0.01)
    (record,) = sweep_results(plan, tracking)
    assert record.status == "ok"
    assert asked.is_set()
    assert capsys.readouterr().err.splitlines() == [
        "warning: the recorder has not taken everything 0.01 s after the sweep's end; it is sent nothing more, the "
        "sweep's results have it all"
    ]
    answer.set()
    tracking._thread.join()
    assert slow.told == [f"begin {plan.jobs[0].run_id}"]


@pytest.mark.parametrize("order", [1, -1])
def test_an_interrupted_display_leaves_no_tracker_waiting(tmp_path: Path, job: Job, order: int) -> None:
    plan = make_plan(tmp_path, [job, job.model_copy(update={"run_id": "f" * 12})])

    class Interrupted(Display):
        def started(self, plan: Plan) -> None:
            self.looks = 0

        def running(self, jobs: Sequence[Job]) -> None:
            self.looks += 1
            if self.looks == 2:
                raise KeyboardInterrupt

        def stopped(self) -> None:
            raise OSError("the terminal is gone")

    recorder = Recorder()
    with pytest.raises(UserError, match="the terminal is gone"):
        sweep_results(plan, *[Interrupted(), Tracking(recorder)][::order])
    # The second job was begun, if the tracker heard of it first, and then ended as well.
    told = [what for what in recorder.told if not what.startswith("log")]
    both = [f"{what} {name}" for name in (job.run_id, "f" * 12) for what in ("begin", "end")]
    assert told == (both[:2] if order == 1 else both)


@pytest.mark.slow
def test_a_server_that_goes_away_costs_one_line(
    tmp_path: Path, plan: Plan, job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.mlflow_server import serve

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    flow = Mlflow(tmp_path)
    flow.tracker()
    sent = threading.Event()

    class Watched(MlflowTracker):
        def log(self, job: Job, metrics: Mapping[str, float], step: int) -> None:
            super().log(job, metrics, step)
            sent.set()

    with serve(flow.folder) as uri:
        tracking = Tracking(Watched(uri.replace("//", "//me:secret@"), "grid"))
        worker = watch(tracking, plan, job)
        worker.says(HISTORY[:1], 10, None)
        tracking.running([job])
        assert sent.wait(60)
    tracking.ended(job, worker.ends(HISTORY))
    tracking.stopped()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: MLflow at {uri} failed (MlflowException: API request to {uri}/api/")
    assert "secret" not in line
    assert len(line) < 500
    # A server that is back has what it had, and gets the rest.
    flow.uri = flow.folder.as_uri()
    run_whole(track(flow), plan, job, HISTORY)
    assert [step for step, _ in flow.curves(job.run_id)["valid/perplexity"]] == [1, 2, 3]


def test_a_log_that_cannot_be_written_costs_one_line(
    tmp_path: Path, plan: Plan, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    board = TensorBoard(tmp_path)
    tracking = Tracking(board.tracker())
    board.folder.rmdir()
    run_whole(tracking, plan, job, HISTORY)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: TensorBoard's log in {board.folder} failed (FileNotFoundError: ")


# From the command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mlflow", "ftp://somewhere"], ["--mlflow ftp://somewhere is not an address that MLflow can use"]),
        (["--mlflow", "http://me:secret@"], ["--mlflow http://", "it names no host"]),
        (["--mlflow", "localhost:5000"], ["--mlflow localhost:5000", "http://localhost:5000"]),
        (["--mlflow", "base.yaml/mlruns"], ["--mlflow base.yaml/mlruns", "Not a directory"]),
        (["--mlflow"], ["--mlflow", "expected one argument"]),
        (["--tensorboard", "base.yaml"], ["--tensorboard base.yaml", "File exists", "after the sweep file"]),
        (["--tensorboard", "base.yaml/logs"], ["--tensorboard base.yaml/logs", "Not a directory"]),
        (["--tensorboard", ""], ["--tensorboard", "''"]),
    ],
)
def test_a_slip_is_one_line_and_nothing_is_made(
    tmp_path: Path,
    small_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path / "base.yaml", {"name": "x", "set": {**SETTINGS, "dataset": str(small_folder)}})
    line = refusal(capsys, "sweep", "base.yaml", *arguments)
    assert all(word in line for word in words), line
    assert "secret" not in line
    assert [path.name for path in tmp_path.iterdir()] == ["base.yaml"]


@pytest.mark.parametrize(("option", "package"), [("--tensorboard", "tensorboardX"), ("--mlflow=runs", "mlflow")])
def test_a_library_that_is_not_installed_is_named_with_its_fix(
    tmp_path: Path,
    small_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    package: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)  # how Python says that there is none
    write_sweep(tmp_path / "base.yaml", {"name": "x", "set": {**SETTINGS, "dataset": str(small_folder)}})
    assert cli.main(["sweep", "base.yaml", option]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {option.partition('=')[0]} needs {package}, which is not installed: make dev, or "
        ".venv/bin/python -m pip install 'gluon_rnn[tracking]'"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["base.yaml"]


@pytest.mark.slow
def test_a_killed_sweep_that_goes_on_is_tracked_as_one(tmp_path: Path, small_folder: Path) -> None:
    """With both trackers, real workers, and a SIGKILL."""
    settings = {**SETTINGS, "dataset": str(small_folder), "epochs": 8, "threads": 1}
    file = write_sweep(tmp_path / "grid.yaml", {"set": settings})
    command = [file, "--tensorboard", "--mlflow", "mlruns"]
    process = subprocess.Popen(
        [*RUN_SWEEP, *map(str, command)],
        cwd=tmp_path,
        env=stopping_midway(tmp_path, 2 * MID_WRITE),  # when progress.json has told of an epoch
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    directory = tmp_path / "results" / "grid"
    wait_for(lambda: list(tmp_path.glob("mlruns/*/*/metrics/valid/perplexity")) or process.poll() is not None)
    process.kill()
    assert process.communicate()[1] == ""
    wait_for(lambda: not workers_of(directory))
    assert not list(directory.glob("runs/*/record.json"))

    done = run(*command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    results, epochs = load_results(directory), load_epochs(directory)
    assert results["status"].tolist() == ["ok"]
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    board, flow = TensorBoard(tmp_path), Mlflow(tmp_path)
    board.folder = directory / "tensorboard"
    for _, row in results.iterrows():
        rows = epochs[epochs["run_id"] == row["run_id"]]
        assert len(rows) == 8
        for place in (board, flow):
            curves = place.curves(row["run_id"])
            for name, column in (
                ("train/loss_nats_per_token", "train_loss"),
                ("train/learning_rate", "learning_rate"),
                ("train/tokens_per_second", "tokens_per_second"),
                ("train/seconds", "seconds"),
                ("valid/perplexity", "valid_perplexity"),
                ("test/loss_nats_per_token", "test_loss"),
            ):
                expected = rows[["epoch", column]].dropna().itertuples(index=False)
                assert curves[name] == [(number, place.kept(value)) for number, value in expected], name
            assert curves["final/test_perplexity"] == [(row["steps"], place.kept(row["test_perplexity"]))]
            steps = [step for step, _ in curves.get("interval/train_loss_nats_per_token", [])]
            assert steps == sorted(set(steps))
            assert set(steps) <= set(range(10, row["steps"] + 1))
            assert place.tags(row["run_id"])["machine_id"] == row["machine_id"]
            assert place.status(row["run_id"]) == "good"
        assert flow.run(row["run_id"]).info.run_name == "cell=lstm bptt=5 hidden_size=8"

    def content() -> dict[Path, bytes]:
        files = [path for folder in (board.folder, flow.folder) for path in folder.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in files}

    # What is done is sent no more.
    before = content()
    assert run(*command, cwd=tmp_path).returncode == 0
    assert content() == before


@pytest.mark.slow
def test_a_tracker_changes_neither_the_exit_status_nor_the_tables(tmp_path: Path, small_folder: Path) -> None:
    settings = {**SETTINGS, "dataset": str(small_folder), "epochs": 1}
    file = write_sweep(tmp_path / "one.yaml", {"set": settings})
    # It is tried twice, and spoken of once.
    os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}
    # No one listens there: the port is the discard service's.
    done = run(file, "--quiet", "--mlflow", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: MLflow at http://127.0.0.1:9 failed (")
    assert load_results(tmp_path / "results" / "one")["status"].tolist() == ["ok"]


@pytest.mark.slow
def test_mlflow_reports_to_no_one_else(tmp_path: Path) -> None:
    """MLflow 3 has telemetry, which it switches off by itself where it sees a test or a CI service."""
    code = """
import json, pathlib, socket, sys, threading, time
from gluon_rnn.reporting.tracking import MlflowTracker
asked = []
def refuse(*arguments, **options):
    asked.append(repr(arguments))
    raise OSError("no network in this test")
socket.getaddrinfo = socket.socket.connect = refuse
tracker = MlflowTracker("runs", "grid")
client = tracker._client
run = client.create_run(client.create_experiment("grid"))
client.log_metric(run.info.run_id, "a", 1.0)
client.set_terminated(run.info.run_id)
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(5)
import mlflow.telemetry
print(json.dumps([asked, mlflow.telemetry.get_telemetry_client() is None]))
"""
    signs = ("CI", "PYTEST_", "GITHUB_", "GITLAB_", "JENKINS_", "DO_NOT_TRACK", "MLFLOW_")
    shell = {name: value for name, value in environment().items() if not name.startswith(signs)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=shell, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [[], True]


def test_accuracies_are_sent_where_they_were_measured(place: TensorBoard | Mlflow, plan: Plan, job: Job) -> None:
    history = [epoch(1, 0.7, 0.8, (0.625, 0.5)), epoch(2, 0.9, None, (0.5, None))]  # type: ignore[arg-type]
    run_whole(track(place), plan, job, history)
    curves = place.curves(job.run_id)
    assert curves["valid/accuracy"] == [(1, 0.625), (2, 0.5)]
    assert curves["test/accuracy"] == [(1, 0.5)]
    assert [value for _, value in curves["final/valid_accuracy"]] == [0.625]
