"""Runs sent, while they run, to where people already look: TensorBoard's event files and MLflow.

All of it happens in the sweep's own process, beside its display, so that a worker knows nothing of it and any executor
will do. A `Tracker` is fed by a thread of its own: what is slow or broken there costs one line on standard error, and
the sweep goes on as without it. A tracker that failed is tried again after pauses that grow, is asked what it has, and
is sent what it missed; of log intervals, the newest thousand of each run.

What is sent, the names in full with their units:

- every finished epoch, once and exactly (TensorBoard itself keeps scalars as float32), at step = epoch: ``train/``,
  ``valid/`` and ``test/``; what is called nats a token is nats a target, of a label as well;
- within an epoch, at step = training step, what the worker reports at each log interval: ``interval/``. It is read from
  ``progress.json``, which is looked at ten times a second, so that of shorter intervals some are left out;
- at the end, every number of the run's record: ``final/`` and the column's name.

A run that goes on after a kill goes on there, too: its directory remembers its name in the tracker, and the tracker is
asked what it has. Points that were done before the sweep started are not sent.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import expand, write_atomically
from gluon_rnn.common.printable import Notice
from gluon_rnn.config.run import RunConfig
from gluon_rnn.runs.contents import DIGESTS
from gluon_rnn.runs.epochs import read_epochs
from gluon_rnn.runs.job import FINISHED, Job
from gluon_rnn.runs.live import LiveProgress, ProgressWatch, finished_epochs, read_progress
from gluon_rnn.runs.progress import EpochResult, perplexity
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.sweeps.planning import Plan
from gluon_rnn.sweeps.running import Display

#: In every epoch and in every interval; their last steps say what a tracker has.
EPOCH_LOSS = "train/loss_nats_per_token"
INTERVAL_LOSS = "interval/train_loss_nats_per_token"

#: Seconds before a tracker that failed is tried again; the last holds from then on.
_PAUSES = (1.0, 5.0, 15.0, 60.0, 300.0)
#: Of a run, while its tracker fails.
_MOST_INTERVALS = 1000
_SAFE = "the sweep's results have it all"

#: Where a run happens, which may change when it goes on; the other settings never do.
_PLACE = ("device", "threads")


@dataclass
class Sent:
    """What a tracker has of a run.

    Attributes:
        epochs: the last one.
        steps: the training step of the last interval.
    """

    epochs: int = 0
    steps: int = 0


class Tracker(Protocol):
    """A place where runs are sent. Its methods may raise anything, and may take their time."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def begin(self, job: Job, label: str, directory: Path) -> Sent:
        """Begin a run known by `label`, or go on with the one that its `directory` remembers."""
        ...

    def log(self, job: Job, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each of the curves."""
        ...

    def end(self, job: Job, record: RunRecord | None) -> None:
        """End the run; without a record it was interrupted, and may go on."""
        ...


@dataclass
class _Feed:
    """What is known of a run, and what its tracker has of it.

    Attributes:
        job: the run.
        due: whether something is to be sent.
        live: the last that its worker said.
        intervals: loss and speed of log intervals, by the training step at their end.
        record: of the run once it has ended.
        over: whether it has ended or was interrupted.
        sent: None until the tracker was asked, and again after it failed.
        finals_sent: whether it has the record's numbers.
    """

    job: Job
    due: bool = True
    live: LiveProgress | None = None
    intervals: dict[int, tuple[float, float | None]] = field(default_factory=dict)
    record: RunRecord | None = None
    over: bool = False
    sent: Sent | None = None
    finals_sent: bool = False


class Tracking(Display):
    """Tells `tracker` of a sweep, from a thread of its own and never at the sweep's cost.

    Args:
        tracker: when it fails it is tried again, and then sent what it missed.
        warn: receives a line when it begins to fail, and one when it has it all.
        patience: seconds that the end of the sweep waits for what is still to be sent.
        pauses: seconds before each further attempt; the last holds from then on.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        warn: Notice | None = None,
        patience: float = 10.0,
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        self._tracker = tracker
        self._warn = warn or _to_stderr
        self._patience = patience
        self._pauses = pauses
        self._off = threading.Event()
        self._progress = ProgressWatch(read_progress)
        # Of both threads, which hold `_changed` meanwhile. What fails goes to the end.
        self._changed = threading.Condition()
        self._feeds: dict[str, _Feed] = {}
        self._stopping = False
        # Of the tracker's thread alone: failures in a row, and when to try again.
        self._failures = 0
        self._next_attempt = 0.0
        # A daemon, so that a server which never answers does not keep the process.
        self._thread = threading.Thread(target=self._deliver, name=tracker.name, daemon=True)

    def started(self, plan: Plan) -> None:
        """See `Display`."""
        self._plan = plan
        self._thread.start()

    def running(self, jobs: Sequence[Job]) -> None:
        """See `Display`."""
        for job in jobs:
            live = self._progress.news(self._directory(job))
            with self._changed:
                feed = self._feed(job)
                if live:
                    feed.live, feed.due = live, True
                    if live.interval_loss is not None:
                        feed.intervals[live.progress.steps] = live.interval_loss, live.tokens_per_second
                        if len(feed.intervals) > _MOST_INTERVALS:
                            del feed.intervals[next(iter(feed.intervals))]
                    self._changed.notify()

    def ended(self, job: Job, record: RunRecord) -> None:
        """See `Display`."""
        with self._changed:
            feed = self._feed(job)
            feed.record, feed.over, feed.due = record, True, True
            self._changed.notify()

    def stopped(self) -> None:
        """See `Display`."""
        with self._changed:
            for feed in self._feeds.values():
                if not feed.over:
                    feed.over = feed.due = True
            self._stopping = True
            self._changed.notify()
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._off.set()
            if not self._failures:
                self._warn(
                    f"warning: {self._tracker.name} has not taken everything {self._patience:g} s after the sweep's "
                    f"end; it is sent nothing more, {_SAFE}"
                )

    def _feed(self, job: Job) -> _Feed:
        """The one of `job`, which is begun with it."""
        if job.run_id not in self._feeds:
            self._feeds[job.run_id] = _Feed(job)
            self._changed.notify()
        return self._feeds[job.run_id]

    def _directory(self, job: Job) -> Path:
        return self._plan.directory / "runs" / job.run_id

    # From here on in the tracker's thread.

    def _deliver(self) -> None:
        while feed := self._next():
            try:
                for _ in self._send(feed):
                    if self._off.is_set():
                        return
            except Exception as error:
                self._failed(feed, error)
            else:
                self._succeeded(feed)

    def _next(self) -> _Feed | None:
        """Whose turn it is, when it is time; None: the sweep has stopped, and nothing is left that could be sent."""
        with self._changed:
            while True:
                feed = next((feed for feed in self._feeds.values() if feed.due), None)
                pause = self._next_attempt - time.monotonic() if self._failures else 0.0
                # At the end one failure is made up for; after several there is nobody to wait for.
                if (feed and pause <= 0) or (self._stopping and (not feed or self._failures > 1)):
                    return feed
                self._changed.wait(pause if feed else None)

    def _failed(self, feed: _Feed, error: Exception) -> None:
        if not self._failures:
            self._warn(
                f"warning: {self._tracker.name} failed ({_one_line(error)}); while the sweep runs it is tried again, "
                f"{_SAFE}"
            )
        self._next_attempt = time.monotonic() + self._pauses[min(self._failures, len(self._pauses) - 1)]
        self._failures += 1
        with self._changed:
            feed.sent, feed.due = None, not self._stopping or self._failures == 1
            # Another run may fare better.
            self._feeds[feed.job.run_id] = self._feeds.pop(feed.job.run_id)

    def _succeeded(self, feed: _Feed) -> None:
        with self._changed:
            if feed.over and not feed.due:
                del self._feeds[feed.job.run_id]
            missing = any(feed.due or feed.sent is None for feed in self._feeds.values())
        if self._failures and not missing:
            self._failures = 0
            self._warn(f"{self._tracker.name} is back and has what it missed")

    def _send(self, feed: _Feed) -> Iterator[None]:
        """Send what is new of a run, one call of the tracker's after the other."""
        with self._changed:
            feed.due = False
            job, live, record, over, intervals = feed.job, feed.live, feed.record, feed.over, [*feed.intervals.items()]
        if feed.sent is None:
            feed.sent = self._tracker.begin(job, self._label(job), self._directory(job))
            yield
        sent = feed.sent
        for result in self._history(job, live, record, sent)[sent.epochs :]:
            self._tracker.log(job, epoch_metrics(result), result.epoch)
            sent.epochs = result.epoch
            yield
        for steps, (loss, speed) in intervals:
            if steps > sent.steps:
                self._tracker.log(job, interval_metrics(loss, speed), steps)
                sent.steps = steps
                yield
        with self._changed:
            feed.intervals = {steps: what for steps, what in feed.intervals.items() if steps > sent.steps}
        if record and not feed.finals_sent:
            self._tracker.log(job, final_metrics(record), record.steps)
            feed.finals_sent = True
            yield
        if over:
            self._tracker.end(job, record)

    def _history(
        self, job: Job, live: LiveProgress | None, record: RunRecord | None, sent: Sent
    ) -> Sequence[EpochResult]:
        """The run's epochs, if there are any that its tracker lacks."""
        if record:
            # The worker has removed its progress.json, perhaps before its last epoch was seen there.
            return read_epochs(self._directory(job))
        if live and live.epochs_done > sent.epochs:
            return finished_epochs(self._directory(job), live)
        return ()

    def _label(self, job: Job) -> str:
        """What tells `job` from the others, as `Plan.label`, but no file by its path: others can read a tracker."""
        config = job.config.model_copy(update=_names(job))
        return self._plan.label(job.model_copy(update={"config": config}))


def epoch_metrics(result: EpochResult) -> dict[str, float]:
    """The curves of an epoch; what was not measured in it is left out."""
    metrics = {
        EPOCH_LOSS: result.train_loss,
        "train/perplexity": perplexity(result.train_loss),
        "train/learning_rate": result.learning_rate,
        "train/tokens_per_second": result.tokens_per_second,
        "train/seconds": result.seconds,
        "valid/loss_nats_per_token": result.valid_loss,
        "valid/perplexity": result.valid_perplexity,
        "valid/accuracy": result.valid_accuracy,
        "test/loss_nats_per_token": result.test_loss,
        "test/perplexity": result.test_perplexity,
        "test/accuracy": result.test_accuracy,
    }
    return {name: value for name, value in metrics.items() if value is not None}


def interval_metrics(loss: float, tokens_per_second: float | None) -> dict[str, float]:
    """The curves within an epoch: the mean `loss` in nats a token; no speed while warming up."""
    metrics = {INTERVAL_LOSS: loss, "interval/train_perplexity": perplexity(loss)}
    return metrics if tokens_per_second is None else metrics | {"interval/train_tokens_per_second": tokens_per_second}


def final_metrics(record: RunRecord) -> dict[str, float]:
    """Every number that came of a run, by its column's name."""
    return {
        f"final/{name.replace('_loss', '_loss_nats_per_token')}": value
        for name, value in _outcome(record).items()
        if _is_number(value)
    }


def settings(job: Job) -> dict[str, Any]:
    """What was run: every setting that has a value, the corpus and given vectors by their names."""
    return job.config.model_dump(exclude=set(_PLACE), exclude_none=True) | _names(job)


def _names(job: Job) -> dict[str, str]:
    """The settings that may be paths, without them."""
    return {"dataset": job.corpus.dataset, "embedding": job.embedding}


def tags_before(job: Job) -> dict[str, str]:
    """What is known of a run before it starts: its name, where it runs, on which code."""
    digests = {name: job.contents[name] for name in DIGESTS.values()}
    facts = {"run_id": job.run_id, **digests, "device": job.config.device, "threads": job.threads}
    return {name: str(value) for name, value in {**facts, **job.origin.model_dump()}.items() if value is not None}


def tags_after(record: RunRecord) -> dict[str, str]:
    """All else that came of a run: status, reason, machine, versions."""
    words = {name: value for name, value in _outcome(record).items() if not _is_number(value)}
    return {
        name: str(value)
        for name, value in {**words, **{place: getattr(record.config, place) for place in _PLACE}}.items()
    }


def _outcome(record: RunRecord) -> dict[str, Any]:
    """The columns that are no settings and have a value."""
    settings = {"schema_version", *RunConfig.model_fields}
    return {name: value for name, value in record.row.items() if name not in settings and value is not None}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class TensorBoardTracker:
    """Event files, in a folder for each run: ``cell=lstm,bptt=35,<run_id>``.

    They are written by tensorboardX's synchronous writer: behind its `SummaryWriter` is a thread that dies of a full
    disk (tensorboardX 2.6.5), and the eleventh event after that waits for ever. TensorBoard's table of hyperparameters
    shows a run that failed as one without an end: it keeps the first end it reads, and the run may be made again. The
    run's text has the status and the reason.

    Args:
        directory: what ``tensorboard --logdir`` is given; made unless it is there.

    Raises:
        UserError: tensorboardX is not installed, or `directory` cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        _require("tensorboardX", "--tensorboard")
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--tensorboard {directory} is not a folder that can be written: {error.strerror or error}; name "
                "another, after the sweep file"
            ) from None
        self.name = f"TensorBoard's log in {directory}"
        self._directory = directory
        self._writers: dict[str, Any] = {}

    def begin(self, job: Job, label: str, directory: Path) -> Sent:
        """See `Tracker`."""
        from tensorboardX.event_file_writer import EventsWriter

        memory = directory / "tensorboard_run.txt"
        if not (name := _remembered(memory)):
            # A run measured anew, in another folder of results, say, gets a folder of its own here, too.
            stem = re.sub(r"[^\w=.+-]+", ",", f"{label[:120]} {job.run_id}", flags=re.ASCII)
            name = next(name for n in count(1) if not (self._directory / (name := stem + f",{n}" * (n > 1))).exists())
            write_atomically(memory, name)
        if writer := self._writers.pop(job.run_id, None):
            with suppress(OSError):  # what could not be written is sent anew
                writer.close()
        folder = self._directory / name
        folder.mkdir(exist_ok=True)
        files = sorted(folder.glob("*.tfevents.*"))
        # Files are named by the second, and read in the order of their names.
        self._writers[job.run_id] = EventsWriter(str(folder / "events"), f".{len(files)}")
        last = _last_steps(files)
        self._write(job, _session(job)[0], _text("before", tags_before(job)))
        return Sent(epochs=last.get(EPOCH_LOSS, 0), steps=last.get(INTERVAL_LOSS, 0))

    def log(self, job: Job, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        from tensorboardX.summary import scalar

        self._write(job, *(scalar(name, value) for name, value in metrics.items()), step=step)

    def end(self, job: Job, record: RunRecord | None) -> None:
        """See `Tracker`."""
        if record:
            self._write(job, _text("after", tags_after(record)))
            if record.status in FINISHED:
                self._write(job, _session(job)[1])
        self._writers.pop(job.run_id).close()

    def _write(self, job: Job, *summaries: Any, step: int = 0) -> None:
        from tensorboardX.proto.event_pb2 import Event

        writer = self._writers[job.run_id]
        for summary in summaries:
            writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        writer.flush()


def _session(job: Job) -> tuple[Any, Any]:
    """The start and the good end of a run for TensorBoard's table of hyperparameters."""
    from tensorboardX.summary import hparams

    _, start, end = hparams(settings(job), {})
    return start, end


def _text(tag: str, facts: Mapping[str, str]) -> Any:
    from tensorboardX.summary import text

    return text(tag, "\n".join(f"- {name}: {value}" for name, value in facts.items()))


def _last_steps(files: Sequence[Path]) -> dict[str, int]:
    """The last step of every curve in TensorBoard's event `files`."""
    steps: dict[str, int] = {}
    for event in chain.from_iterable(map(_events, files)):
        for value in event.summary.value:
            steps[value.tag] = max(steps.get(value.tag, 0), event.step)
    return steps


def _events(path: Path) -> Iterator[Any]:
    """The events of a file; one that was cut short by a kill ends there.

    The records are TensorFlow's TFRecords: length (8 bytes, little-endian), its checksum (4), content, checksum (4).
    """
    from tensorboardX.proto.event_pb2 import Event

    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            length = int.from_bytes(head[:8], "little")
            content = file.read(length + 4)
            if len(content) < length + 4:
                return
            yield Event.FromString(content[:length])


#: Of MLflow in this process, unless the environment says otherwise. A server that does not answer is given up sooner
#: than after MLflow's own four minutes.
_MLFLOW_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class MlflowTracker:
    """Runs of an MLflow experiment.

    Made through `MlflowClient` alone, which looks for no Git repository and keeps no active run. A run that failed ends
    as FAILED, an interrupted one as KILLED until it goes on.

    Args:
        uri: of the tracking server, or a folder.
        experiment: is made unless it is there.

    Raises:
        UserError: MLflow is not installed, or cannot take `uri`.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        _require("mlflow", "--mlflow")
        os.environ.update(_MLFLOW_DEFAULTS | os.environ)
        # MLflow 3 otherwise asks config.mlflow-telemetry.io whether it is to report each call to its makers.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        if uri.startswith("~"):
            uri = str(expand(uri))
        if urlsplit(uri).scheme in ("", "file"):
            # MLflow 3 refuses a folder unless it is told twice; whoever names one has said so.
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        try:
            if urlsplit(uri).scheme in ("http", "https") and not urlsplit(uri).hostname:
                raise ValueError("it names no host")
            from mlflow import MlflowClient

            self._client: Any = MlflowClient(tracking_uri=uri)
        except Exception as error:
            raise UserError(
                f"--mlflow {_without_password(uri)} is no address that MLflow can use; name a server such as "
                f"http://localhost:5000, or a folder ({_one_line(error)})"
            ) from None
        self.name = f"MLflow at {_without_password(uri)}"
        self._experiment = experiment
        self._runs: dict[str, str] = {}

    def begin(self, job: Job, label: str, directory: Path) -> Sent:
        """See `Tracker`."""
        from mlflow.entities import Param

        memory = directory / "mlflow_run.txt"
        if found := self._find(_remembered(memory)):
            self._client.update_run(found.info.run_id, status="RUNNING")
        else:
            found = self._create(job, label)
            # At once: what fails from here on must not make another run.
            write_atomically(memory, found.info.run_id)
        run: str = found.info.run_id
        if not found.data.params:
            self._client.log_batch(run, params=[Param(name, str(value)) for name, value in settings(job).items()])
        self._runs[job.run_id] = run
        return Sent(epochs=self._last_step(run, EPOCH_LOSS), steps=self._last_step(run, INTERVAL_LOSS))

    def log(self, job: Job, metrics: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self._runs[job.run_id], metrics=points)

    def end(self, job: Job, record: RunRecord | None) -> None:
        """See `Tracker`."""
        from mlflow.entities import RunTag

        run = self._runs.pop(job.run_id)
        if not record:
            self._client.set_terminated(run, "KILLED")
            return
        self._client.log_batch(run, tags=[RunTag(name, value) for name, value in tags_after(record).items()])
        self._client.set_terminated(run, "FINISHED" if record.status in FINISHED else "FAILED")

    def _create(self, job: Job, label: str) -> Any:
        found = self._client.get_experiment_by_name(self._experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(self._experiment)
        tags = tags_before(job)
        if commit := job.origin.git_commit:
            tags["mlflow.source.git.commit"] = commit  # what MLflow's pages show as the version
        return self._client.create_run(experiment, run_name=label, tags=tags)

    def _find(self, run: str) -> Any:
        """A run by its name; None where this server has none, being another one or one that was emptied."""
        from mlflow.exceptions import MlflowException

        if not run:
            return None
        try:
            found = self._client.get_run(run)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return found if found.info.lifecycle_stage == "active" else None

    def _last_step(self, run: str, metric: str) -> int:
        return max((point.step for point in self._client.get_metric_history(run, metric)), default=0)


def _require(package: str, option: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{option} needs {package}, which is not installed: make dev, or "
            ".venv/bin/python -m pip install 'gluon_rnn[tracking]'"
        )


def _remembered(path: Path) -> str:
    name = path.read_text(encoding="utf-8") if path.exists() else ""
    # It names a folder or a run; in results that someone else made it must not lead elsewhere.
    return name if re.fullmatch(r"[\w=+,-][\w=.+,-]*", name, flags=re.ASCII) else ""


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return _without_password(f"{type(error).__name__}: {text}")[:300]


def _without_password(text: str) -> str:
    """`text` without what stands before the host of an address."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
