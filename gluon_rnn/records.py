"""Run directories to tables and back.

``results/<sweep>/runs/<run_id>/`` holds a run: ``config.json`` (what it was given), ``log.txt``, ``progress.json``
(where it stands), ``epochs.csv`` (a line an epoch), ``checkpoint/``, ``vocabulary.json``, ``best.params`` and, once it
has ended, ``record.json``, which alone says what came of it. The sweep's ``runs.csv`` and ``epochs.csv`` are views of
those records, rebuilt from them and never edited.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from gluon_rnn.config import FORMER_LEARNING_RATE, Real, RunConfig
from gluon_rnn.corpora import CorpusFiles
from gluon_rnn.errors import UserError, is_limit
from gluon_rnn.files import read_whole, remove_leftovers, seal, set_aside, unseal, write_atomically
from gluon_rnn.metrics import (
    PROGRESS,
    Confusion,
    EpochResult,
    Prediction,
    Progress,
    Sitting,
    perplexity,
    sequences_per_second,
    step_milliseconds,
    tokens_per_second,
)
from gluon_rnn.plain_text import decode
from gluon_rnn.vectors import FoundVectors

if TYPE_CHECKING:
    import pandas as pd

#: Of the tables and records. Records of version 1 have neither history nor checksum. Fields that are merely added do
#: not raise it: an older record has them at their defaults, which say what its run did, and older code lets pass what
#: it does not know. It rises when a field comes to mean something else, or goes.
SCHEMA_VERSION = 2

#: The folder of a run's last checkpoint.
CHECKPOINT = "checkpoint"
#: The parameters of the epoch with the best validation loss.
BEST = "best.params"
#: GluonNLP's JSON of the vocabulary that a run's parameters are of, sealed.
VOCABULARY = "vocabulary.json"

Status = Literal["ok", "diverged", "oom", "timeout", "failed"]
#: A run that ended so is finished; the others are made again by ``--rerun-failed``.
FINISHED: tuple[Status, ...] = ("ok", "diverged")
#: More than any text has.
_MOST_TARGETS = 2**53
#: Names the folder of a run, so that nothing that a file says leads out of its sweep's.
RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Origin(BaseModel):
    """Where results come from: what a sweep knows of its machine and its code before a run starts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    device_name: Annotated[str, Field(description="processor or GPUs")]
    machine_id: Annotated[str, Field(description="hash of the hardware that decides speed, not of the host's name")]
    mxnet_version: Annotated[str | None, Field(description="installed MXNet")]
    gluonnlp_version: Annotated[str | None, Field(description="installed GluonNLP")]
    numpy_version: Annotated[str | None, Field(description="installed numpy")]
    git_commit: Annotated[str | None, Field(description="commit of this suite's checkout; empty where it is none")]
    git_dirty: Annotated[bool | None, Field(description="whether the checkout had changes, results/ aside")]
    host: Annotated[str, Field(description="the machine's own name")]


class Job(BaseModel):
    """One run, ready to start: the content of its ``config.json``.

    Attributes:
        run_id: see `gluon_rnn.config.run_id`.
        config: its `device` resolved: what it runs on, or without numbers (gpu, gpu+gpu) any of that kind.
        corpus: where the text was found and what it was.
        vectors: where those of a given embedding were found; None where it is random or one_hot.
        cell_sha1: of the sources of a user's own cell; see `gluon_rnn.own_cells.source_sha1`.
        threads: CPU threads for the run.
        origin: of its record.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    config: RunConfig
    corpus: CorpusFiles
    vectors: FoundVectors | None = None
    cell_sha1: str | None = None
    threads: int
    origin: Origin

    @property
    def content(self) -> dict[str, str]:
        """The SHA-1s of what `config` only points at, as `gluon_rnn.config.run_id` takes them."""
        content = {"corpus": self.corpus.sha1}
        if self.cell_sha1:
            content["cell"] = self.cell_sha1
        if self.config.embedding != "random":
            content["embedding"] = self.vectors.sha1 if self.vectors else self.config.embedding
        return content

    @property
    def embedding(self) -> str:
        """What tables show of it: never a path."""
        return self.vectors.name if self.vectors else self.config.embedding

    @property
    def contents(self) -> dict[str, str | None]:
        """What its record will name its corpus, vectors and cell, each with its digest: see `contents.DIGESTS`."""
        return {
            "dataset": self.corpus.dataset,
            "dataset_sha1": self.corpus.sha1,
            "embedding": self.embedding,
            "embedding_sha1": self.vectors.sha1 if self.vectors else None,
            "cell": self.config.cell,
            "cell_sha1": self.cell_sha1,
        }


class LiveProgress(BaseModel):
    """A running run's ``progress.json``, which is as short after many epochs as after few.

    Attributes:
        doing: what it is at, for people.
        fraction: of the run that is done, 0 to 1.
        perplexity: the newest: training's within an epoch, validation's after it.
        tokens_per_second: over the last log interval, or epoch.
        interval_loss: training's mean nats a token over the last log interval; None where none has just ended.
        epochs: how many finished ones `progress` leaves out: they are in ``epochs.csv``, and with all that came of them
            in the checkpoint.
        progress: what else the run has come to; see `Progress.without_epochs`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    doing: str
    fraction: float = 0.0
    perplexity: float | None = None
    tokens_per_second: float | None = None
    interval_loss: float | None = None
    epochs: int = 0
    progress: Progress

    @property
    def epochs_done(self) -> int:
        """How many epochs are finished."""
        return self.epochs + len(self.progress.history)


def read_progress(directory: Path) -> LiveProgress | None:
    """The ``progress.json`` of a run's `directory`; None while there is none, or none that can be read."""
    try:
        return LiveProgress.model_validate_json(read_whole(directory / "progress.json"))
    except (OSError, ValidationError):
        return None


class ProgressWatch:
    """Follows ``progress.json`` of running runs, and reads each only when it was replaced.

    Args:
        read: gives the content of a run's directory.
    """

    def __init__(self, read: Callable[[Path], LiveProgress | None] = read_progress) -> None:
        self._read = read
        self._known: dict[Path, tuple[tuple[int, int], LiveProgress | None]] = {}

    def newest(self, directory: Path) -> LiveProgress | None:
        """Where the run of `directory` stands; None while that is not known."""
        self.news(directory)
        return self._known[directory][1] if directory in self._known else None

    def news(self, directory: Path) -> LiveProgress | None:
        """The same, unless it was told before."""
        try:
            state = (directory / "progress.json").stat()
        except OSError:
            self._known.pop(directory, None)
            return None
        # The file is replaced as a whole, never changed.
        seen = (state.st_ino, state.st_mtime_ns)
        if directory in self._known and self._known[directory][0] == seen:
            return None
        self._known[directory] = seen, self._read(directory)
        return self._known[directory][1]


def finished_epochs(directory: Path, live: LiveProgress) -> list[EpochResult]:
    """The epochs that a run has finished by what it says in `live`.

    Raises:
        ValueError: its ``epochs.csv`` is damaged.
    """
    told = live.progress.history
    return [*read_epochs(directory)[: live.epochs], *told] if live.epochs else told


def read_so_far(directory: Path) -> Progress:
    """What a run whose process died had come to: its last checkpoint, and what ``progress.json`` tells since.

    The last sitting is that process's.
    """
    live = read_progress(directory) or LiveProgress(doing="", progress=Progress(sittings=[Sitting()]))
    progress, kept = live.progress, _checkpointed(directory)
    if kept and len(kept.history) > live.epochs_done:
        # The process died before it said that it had saved a checkpoint, or restored that of an earlier one.
        if kept.sittings and progress.sittings and kept.sittings[-1].started_at == progress.sittings[-1].started_at:
            return kept
        progress.resume(kept)
        return progress
    if kept:
        progress.laps = kept.laps[: progress.first_lap] + progress.laps
    if kept and len(kept.history) == live.epochs:
        return replace(progress, history=kept.history, predictions=kept.predictions, confusion=kept.confusion)
    # Without a checkpoint, or with one that came from a node before its successor.
    with suppress(ValueError):
        progress.history = finished_epochs(directory, live)
    return progress


def _checkpointed(directory: Path) -> Progress | None:
    """What the run had come to at its last checkpoint; None where there is none, or a damaged one."""
    try:
        return PROGRESS.validate_python(unseal(read_whole(directory / CHECKPOINT / "state.json"))["progress"])
    except (OSError, ValueError, KeyError):
        return None


class RunRecord(RunConfig):
    """A row of ``runs.csv``: the configuration that ran, what came of it, and where.

    Of the configuration, `dataset`, `threads` and `device` say what it came to be. What a column holds is said here, in
    `RunConfig` or in `Origin`; `describe` knows where.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=True, ser_json_inf_nan="strings", protected_namespaces=()
    )

    learning_rate: Annotated[Real, Field(gt=0, description="learning rate of the first epoch")] = FORMER_LEARNING_RATE
    run_id: Annotated[str, Field(description="hash of everything that decides the result")]
    schema_version: Annotated[int, Field(description="version of these columns")] = SCHEMA_VERSION
    status: Annotated[Status, Field(description=", ".join(get_args(Status)))]
    reason: Annotated[str, Field(description="why the status is not ok")] = ""
    dataset: Annotated[str, Field(description="name of the corpus")] = "auto"
    dataset_sha1: Annotated[str, Field(description="SHA-1 of the corpus's three splits")]
    embedding_sha1: Annotated[
        str | None, Field(description="SHA-1 of the file of word vectors; empty where there is none, or none recorded")
    ] = None
    cell_sha1: Annotated[
        str | None,
        Field(description="SHA-1 of the sources of a cell of your own; empty where there is none, or none recorded"),
    ] = None
    vocab_size: Annotated[
        int | None, Field(description="tokens told apart, <unk>, <eos> and <pad> included where there are such")
    ] = None
    words_without_vector: Annotated[
        int | None, Field(description="of the vocabulary, initialised at random beside a given embedding")
    ] = None
    epochs_run: Annotated[int, Field(description="finished epochs")] = 0
    steps: Annotated[int, Field(description="training steps, warm-up included")] = 0
    best_epoch: Annotated[int | None, Field(description="epoch with the lowest validation loss")] = None
    train_perplexity: Annotated[
        float | None,
        Field(
            description="perplexity over the last epoch trained in, dropout on; infinite if a loss in it was not finite"
        ),
    ] = None
    valid_loss: Annotated[float | None, Field(description="nats a target (a token, or a label), at best_epoch")] = None
    valid_perplexity: Annotated[float | None, Field(description="perplexity of validation: exp(valid_loss)")] = None
    test_loss: Annotated[float | None, Field(description="nats a target, at best_epoch")] = None
    test_perplexity: Annotated[float | None, Field(description="perplexity of test: exp(test_loss)")] = None
    valid_accuracy: Annotated[
        float | None,
        Field(description="share of validation's targets that were the likeliest; empty for a language model of words"),
    ] = None
    test_accuracy: Annotated[float | None, Field(description="the same of test's, at best_epoch")] = None
    unigram_loss: Annotated[
        float | None,
        Field(
            description="nats a target of validation under the unigram model, in which a target has the probability "
            "(its count among training's targets + 1) / (their number + the number of classes); a run whose valid_loss "
            "is not below it learned nothing"
        ),
    ] = None
    train_tokens: Annotated[int | None, Field(description="tokens read in one epoch of training")] = None
    valid_tokens_scored: Annotated[int | None, Field(description="targets scored in validation")] = None
    test_tokens_scored: Annotated[int | None, Field(description="targets scored in test")] = None
    tokens_per_second: Annotated[
        float | None,
        Field(
            description="training tokens a second, warm-up left out; like the three columns after it, of a resumed run "
            "where its last process was, and empty if nothing was timed there"
        ),
    ] = None
    sequences_per_second: Annotated[
        float | None, Field(description="sequences a second; a language model's are windows of bptt tokens")
    ] = None
    step_ms_p50: Annotated[float | None, Field(description="median milliseconds a step, of log-interval means")] = None
    step_ms_p95: Annotated[float | None, Field(description="95th percentile of the same, milliseconds")] = None
    train_seconds: Annotated[
        float | None, Field(description="seconds in training, warm-up included, evaluation and log left out")
    ] = None
    evaluation_seconds: Annotated[float | None, Field(description="seconds in validation and test")] = None
    wall_seconds: Annotated[
        float | None,
        Field(
            description="seconds of the worker's process; of a resumed run, of all its processes, those that were cut "
            "short until their last checkpoint (where times_resumed is empty: of the last process only)"
        ),
    ] = None
    times_resumed: Annotated[
        int | None,
        Field(description="how often the run was stopped and resumed; empty in rows of earlier versions"),
    ] = None
    parameters: Annotated[int | None, Field(description="trained numbers, tied weights counted once")] = None
    peak_rss_mb: Annotated[
        float | None, Field(description="largest resident memory of the process, or of any of several, in 2**20 bytes")
    ] = None
    peak_gpu_mb: Annotated[
        float | None,
        Field(
            description="largest use of all GPUs of the run that was seen at log intervals, after epochs and at the "
            "end, by whomever, less what was in use before the run began, in 2**20 bytes"
        ),
    ] = None
    device: Annotated[
        str, Field(description="what the run was given: cpu, cpu:N, gpu:N, or several such as gpu:0+gpu:1")
    ] = "auto"
    threads: Annotated[int | None, Field(description="CPU threads the run was given")] = None
    device_name: str
    machine_id: str
    blas: Annotated[str | None, Field(description="library of the matrix products, as loaded")] = None
    environment: Annotated[
        str | None, Field(description="settings of the process that can change speed or bits, as NAME=value")
    ] = None
    mxnet_version: str | None = None
    gluonnlp_version: str | None = None
    numpy_version: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    host: str
    started_at: Annotated[str, Field(description="start of the run, if resumed of its last process, UTC, ISO 8601")]
    history: Annotated[tuple[EpochResult, ...], Field(description="the rows of epochs.csv")] = ()
    sittings: Annotated[
        tuple[Sitting, ...], Field(description="the processes that worked on the run; the row says where the last was")
    ] = ()
    predictions: Annotated[
        tuple[Prediction, ...],
        Field(description="of the first sequences of test, or of validation where there is no test, at best_epoch"),
    ] = ()
    confusion: Annotated[
        Confusion | None, Field(description="of the same split at best_epoch, where the targets are labels")
    ] = None

    @field_validator("confusion")
    @classmethod
    def _square_confusion(cls, value: Confusion | None) -> Confusion | None:
        if value:
            size = len(value.labels)
            if len(value.counts) != size or any(len(row) != size for row in value.counts):
                raise ValueError("its confusion has not a row and a column for each label")
            if any(not 0 <= count < _MOST_TARGETS for row in value.counts for count in row):
                raise ValueError("its confusion counts what cannot be counted")
        return value


#: What of a record has no column in ``runs.csv``.
BESIDE_THE_TABLE = ("history", "sittings", "predictions", "confusion")


def _columns() -> tuple[str, ...]:
    first = ("run_id", "schema_version", "status", "reason", "dataset", "dataset_sha1", "vocab_size")
    last = tuple(Origin.model_fields)
    placed = {*first, *last, "device", "threads", "blas", "environment", "started_at", *BESIDE_THE_TABLE}
    middle = tuple(name for name in RunRecord.model_fields if name not in placed)
    machine = ("device", "device_name", "machine_id", "threads", "blas", "environment")
    return (*first, *middle, *machine, *(name for name in last if name not in machine), "started_at")


#: The columns of ``runs.csv``, in order.
COLUMNS = _columns()
#: The columns of ``epochs.csv``, in order.
EPOCH_COLUMNS = ("run_id", *(field.name for field in fields(EpochResult)))
_EPOCHS = TypeAdapter(list[EpochResult])


def describe(column: str) -> str:
    """What a column of ``runs.csv`` holds, with its unit."""
    description = RunRecord.model_fields[column].description or Origin.model_fields[column].description
    assert description, column
    return description


def describe_epoch(column: str) -> str:
    """What a column of ``epochs.csv`` holds, with its unit."""
    if column == "run_id":
        return "the run, as in runs.csv"
    description: str = get_type_hints(EpochResult, include_extras=True)[column].__metadata__[0].description
    return description


def make_record(
    job: Job,
    progress: Progress,
    *,
    status: Status,
    reason: str = "",
    started_at: str,
    wall_seconds: float,
) -> RunRecord:
    """The record of `job`, which ended as `status` having come to `progress`.

    Args:
        job: as it was last tried.
        progress: what it has come to; its last sitting is that of the last process.
        status: how it ended.
        reason: why, where that is not ok.
        started_at: when the last process began, UTC, ISO 8601.
        wall_seconds: how long the last process took.
    """
    best = progress.best
    laps = progress.comparable_laps
    speed = tokens_per_second(laps)
    # The last process may not have come to say how long it was at work.
    *earlier, last = progress.sittings or [Sitting()]
    sittings = (*earlier, replace(last, seconds=wall_seconds, started_at=last.started_at or started_at))
    return RunRecord(
        **{
            **job.config.model_dump(),
            **job.contents,
            "threads": job.threads,
            **job.origin.model_dump(),
        },
        run_id=job.run_id,
        status=status,
        reason=without_paths(" ".join(reason.split()))[:500],
        vocab_size=progress.vocab_size,
        words_without_vector=progress.words_without_vector,
        epochs_run=len(progress.history),
        steps=progress.steps,
        best_epoch=best.epoch if best else None,
        train_perplexity=perplexity(progress.last_epoch.mean) if progress.last_epoch.tokens else None,
        valid_loss=best.valid_loss if best else None,
        valid_perplexity=best.valid_perplexity if best else None,
        test_loss=best.test_loss if best else None,
        test_perplexity=best.test_perplexity if best else None,
        valid_accuracy=best.valid_accuracy if best else None,
        test_accuracy=best.test_accuracy if best else None,
        unigram_loss=progress.unigram_loss,
        train_tokens=progress.train_tokens,
        valid_tokens_scored=progress.valid_tokens_scored,
        test_tokens_scored=progress.test_tokens_scored,
        tokens_per_second=speed,
        sequences_per_second=sequences_per_second(progress, speed),
        step_ms_p50=step_milliseconds(laps, 50),
        step_ms_p95=step_milliseconds(laps, 95),
        train_seconds=progress.train_seconds,
        evaluation_seconds=progress.evaluation_seconds,
        wall_seconds=sum(sitting.seconds for sitting in sittings),
        times_resumed=len(earlier),
        parameters=progress.parameters,
        peak_rss_mb=max((mb for s in sittings if (mb := s.peak_rss_mb) is not None), default=None),
        peak_gpu_mb=max((mb for s in sittings if (mb := s.peak_gpu_mb) is not None), default=None),
        blas=last.blas,
        environment=last.environment,
        started_at=started_at,
        history=tuple(progress.history),
        sittings=sittings,
        predictions=progress.predictions,
        confusion=progress.confusion,
    )


#: The folders of an absolute path, which holds spaces only where it is quoted.
_FOLDERS = re.compile(r"""(?<=['"])/[^'"]*/|(?<![\w/.<>)\]])(/[^\s/'":]+)*/(?=[^\s/'":])""")


def without_paths(text: str) -> str:
    """`text` with the last name of each absolute path alone: records and reports are meant to be committed."""
    return _FOLDERS.sub("", text)


def write_record(directory: Path, record: RunRecord) -> None:
    """Put `record` into its run's `directory`, whole or not at all."""
    content = json.loads(record.model_dump_json())
    write_atomically(directory / "record.json", seal({name: content[name] for name in (*COLUMNS, *BESIDE_THE_TABLE)}))


def read_record(directory: Path) -> RunRecord | None:
    """The record of a run's `directory`; None where it has none yet.

    Raises:
        ValueError: the file is damaged.
        OSError: this process cannot read another file, whatever is in it.
    """
    path = directory / "record.json"
    try:
        return RunRecord.model_validate(_record_content(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_limit(error):
            raise
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else getattr(error, "strerror", error)
        raise ValueError(f"{path} is damaged: {reason}") from None


def _record_content(path: Path) -> dict[str, Any]:
    text = read_whole(path)
    try:
        return unseal(text)
    except ValueError:
        with suppress(ValueError, RecursionError):
            content = json.loads(text)
            if isinstance(content, dict) and content.get("schema_version") == 1 and "sha256" not in content:
                return {**content, "history": read_epochs(path.parent)}
        raise


def tidy(directory: Path, record: RunRecord | None) -> None:
    """Remove from a run's `directory` what a killed process left and what its `record`, if any, makes needless.

    For whoever knows that no worker is at it. The last checkpoint stays: more epochs can follow from there.
    """
    remove_leftovers(directory)
    if record:
        (directory / "progress.json").unlink(missing_ok=True)
        if record.status == "diverged":
            shutil.rmtree(directory / CHECKPOINT, ignore_errors=True)


def read_records(sweep_directory: Path) -> tuple[list[RunRecord], dict[Path, str]]:
    """All records of a sweep, and a line for each file that is damaged.

    A record that stands in a directory of another name is damaged as well: a copy must not count twice.
    """
    records, damaged = [], {}
    for directory in sorted(path for path in (sweep_directory / "runs").glob("*") if path.is_dir()):
        try:
            record = read_record(directory)
            if record and record.run_id != directory.name:
                raise ValueError(f"{directory / 'record.json'} belongs to run {record.run_id}")
        except ValueError as error:
            damaged[directory / "record.json"] = str(error)
            continue
        if record:
            records.append(record)
    return records, damaged


def write_epochs(directory: Path, run_id: str, history: Iterable[EpochResult]) -> None:
    """A run's own ``epochs.csv``."""
    write_atomically(directory / "epochs.csv", _csv([EPOCH_COLUMNS, *_epoch_rows(run_id, history)]))


def read_epochs(directory: Path) -> list[EpochResult]:
    """A run's own ``epochs.csv``, to the bit; nothing where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        file = io.StringIO(read_whole(directory / "epochs.csv").decode(), newline="")
        rows = [{name: text or None for name, text in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, csv.Error) as error:
        raise ValueError(f"{directory / 'epochs.csv'} is damaged: {error}") from None
    return _EPOCHS.validate_python(rows)


def write_tables(sweep_directory: Path, records: Iterable[RunRecord]) -> None:
    """``runs.csv`` and ``epochs.csv`` of `records`, ordered by what varies in a sweep, then by run_id."""
    for name, text in _tables(records).items():
        write_atomically(sweep_directory / name, text)


def set_aside_damaged_tables(sweep_directory: Path, records: Sequence[RunRecord]) -> list[Path]:
    """Rename each table that says something else than `records`, and return what they are called now.

    A table may be older than the records, since a sweep can be killed before it writes one; and of a run that is to be
    made again it may hold the row of before. One that an earlier version wrote, with fewer columns, will be rebuilt.
    """
    finished = {record.run_id for record in records if record.status in FINISHED}
    aside = []
    for name, text in _tables(records).items():
        path = sweep_directory / name
        lines = read_whole(path).removeprefix(codecs.BOM_UTF8).splitlines() if path.exists() else []
        known = set(text.encode().splitlines())
        if lines and _is_of_before(lines[0], text.encode().partition(b"\n")[0]):
            continue
        for line in lines:
            run_id = line.partition(b",")[0].decode(errors="replace")
            if line not in known and (run_id in finished or not (sweep_directory / "runs" / run_id).is_dir()):
                aside.append(set_aside(path))
                break
    return aside


def _is_of_before(head: bytes, head_now: bytes) -> bool:
    """Whether a table's head is an earlier version's: columns of now, not all of them, in their order."""
    now = iter(head_now.split(b","))
    return head != head_now and all(name in now for name in head.split(b","))


def _tables(records: Iterable[RunRecord]) -> dict[str, str]:
    """The text of both tables, by name."""
    records = sorted(
        records, key=lambda r: (r.dataset, r.model, r.cell, r.hidden_size, r.bptt, r.learning_rate, r.seed, r.run_id)
    )
    runs, epochs = zip(*map(_lines, records), strict=True) if records else ((), ())
    return {"runs.csv": _csv([COLUMNS]) + "".join(runs), "epochs.csv": _csv([EPOCH_COLUMNS]) + "".join(epochs)}


# Tables are written after every run, and only one record is new by then.
@lru_cache(maxsize=1 << 16)
def _lines(record: RunRecord) -> tuple[str, str]:
    """The record's line of ``runs.csv``, and its lines of ``epochs.csv``."""
    return _csv([[getattr(record, name) for name in COLUMNS]]), _csv(_epoch_rows(record.run_id, record.history))


def _epoch_rows(run_id: str, history: Iterable[EpochResult]) -> Iterator[list[Any]]:
    return ([run_id, *(getattr(epoch, name) for name in EPOCH_COLUMNS[1:])] for epoch in history)


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    """CSV whose floats read back to the same bits; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def load_results(path: Path | str) -> pd.DataFrame:
    """A sweep's ``runs.csv`` with the right dtypes: nullable integers, floats, booleans and strings.

    Args:
        path: the sweep's folder, or the file.

    Raises:
        UserError: there is no such table, or it is not UTF-8 text.
    """
    types = {name: info.annotation for name, info in RunRecord.model_fields.items()}
    frame = _load(path, "runs.csv", {name: _dtype(types[name]) for name in COLUMNS}, needed=("run_id", "status"))
    # A word that may be empty is no missing one.
    words = {name: "" for name, info in RunRecord.model_fields.items() if info.default == "" and name in frame}
    frame.fillna(words, inplace=True)
    return frame


def table_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `load_results`, an empty cell as None; what an older table has no column for is at its default.

    Raises:
        UserError: a whole number is missing that every run has.
    """
    types = {name: info.annotation for name, info in RunRecord.model_fields.items()}
    for name in sorted({name for name, kind in types.items() if kind in (bool, int)} & {*frame}):
        for row in frame[frame[name].isna()].itertuples():
            raise UserError(f"run {row.run_id} has no {name}: its table is damaged")
    defaults = {name: None if info.is_required() else info.default for name, info in RunRecord.model_fields.items()}
    cells = frame.astype(object).where(frame.notna(), None)
    return [defaults | {str(name): value for name, value in row.items()} for row in cells.to_dict("records")]


def load_epochs(path: Path | str) -> pd.DataFrame:
    """A sweep's ``epochs.csv``, as `load_results`."""
    dtypes = {name: _dtype(annotation) for name, annotation in get_type_hints(EpochResult).items()}
    dtypes["run_id"] = "string"
    return _load(path, "epochs.csv", dtypes, needed=("run_id",))


def _load(path: Path | str, name: str, dtypes: dict[str, str], *, needed: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    types: Any = dtypes  # pandas-stubs wants a mapping from Hashable, which one from str is not
    file = Path(path) / name if os.path.isdir(path) else Path(path)
    try:
        # pandas is otherwise content with a neighbour of the float that was written.
        frame: pd.DataFrame = pd.read_csv(
            io.StringIO(decode(read_whole(file), f"cannot read {file}: it"), newline=""),
            dtype=types,
            keep_default_na=False,
            na_values=[""],
            float_precision="round_trip",
        )
        for column in needed:
            if column not in frame:
                raise ValueError(f"it has no column {column}")
        return frame
    except (OSError, ValueError, TypeError, OverflowError) as error:  # the latter of pandas, where a number is none
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise UserError(f"cannot read {file}: {reason}; it must be a folder of results or its {name}") from None


def _dtype(annotation: Any) -> str:
    """The pandas dtype of a field: ``int | None`` is Int64, and so on."""
    kinds = {kind for kind in (get_args(annotation) or (annotation,)) if kind is not type(None)}
    inner = {arg for kind in kinds for arg in ([kind] if isinstance(kind, type) else get_args(kind)[:1])}
    for kind, dtype in ((bool, "boolean"), (int, "Int64"), (float, "float64")):
        if kind in inner:
            return dtype
    return "string"
