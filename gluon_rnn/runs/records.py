"""Reads and writes run directories and tables.

``results/<sweep>/runs/<run_id>/`` holds a run: ``config.json`` (what it was given), ``log.txt``, ``progress.json``
(where it stands), ``epochs.csv`` (a line an epoch), ``checkpoint/``, ``vocabulary.json``, ``best.params`` and, once it
has ended, ``record.json``, which alone holds the results. The sweep's ``runs.csv`` and ``epochs.csv`` are views of
those records, rebuilt from them and never edited.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from gluon_rnn.common.errors import is_limit
from gluon_rnn.common.files import read_whole, remove_leftovers, seal, unseal, write_atomically
from gluon_rnn.common.markup import html_table
from gluon_rnn.config.identity import FORMER_LEARNING_RATE
from gluon_rnn.config.run import Real, RunConfig
from gluon_rnn.runs.contents import DIGESTS
from gluon_rnn.runs.job import CHECKPOINT, Job, Origin, Status
from gluon_rnn.runs.progress import (
    PERSISTED,
    Confusion,
    EpochResult,
    Prediction,
    Progress,
    Session,
    perplexity,
    sequences_per_second,
    step_milliseconds,
    tokens_per_second,
)

#: Of the tables and records. Fields that are merely added do not raise it: an older record has them at their defaults,
#: which say what its run did, and older code ignores what it does not know. It rises when a field comes to mean
#: something else, or is removed.
SCHEMA_VERSION = 2

#: More than any text has.
_MOST_TARGETS = 2**53


class RecordedConfig(RunConfig):
    """The configuration of a run as a record has it: `dataset`, `threads` and `device` hold the values that were
    used.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=True, ser_json_inf_nan="strings")

    dataset: str = "auto"
    """name of the corpus"""
    learning_rate: Annotated[Real, Field(gt=0)] = FORMER_LEARNING_RATE
    """learning rate of the first epoch"""
    device: str = "auto"
    """what the run was given: cpu, cpu:N, gpu:N, or several such as gpu:0+gpu:1"""
    threads: int | None = None
    """CPU threads the run was given"""


class RunRecord(BaseModel):
    """The record of a run: its configuration, where it ran, and its results.

    ``record.json`` and the tables are flat: `row` has all of it by column. What a column holds is said below the
    fields; `describe` knows where.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        ser_json_inf_nan="strings",
        protected_namespaces=(),
        use_attribute_docstrings=True,
        **PERSISTED,
    )

    config: RecordedConfig
    """what ran"""
    origin: Origin
    """where, on which code"""
    run_id: str
    """hash of everything that decides the result"""
    schema_version: int = SCHEMA_VERSION
    """version of these columns"""
    status: Annotated[Status, Field(description=", ".join(get_args(Status)))]
    reason: str = ""
    """why the status is not ok"""
    dataset_sha1: str
    """SHA-1 of the corpus's three splits"""
    embedding_sha1: str | None = None
    """SHA-1 of the file of word vectors; empty where there is none, or none recorded"""
    cell_sha1: str | None = None
    """SHA-1 of the sources of a cell of your own; empty where there is none, or none recorded"""
    vocab_size: int | None = None
    """tokens told apart, <unk>, <eos> and <pad> included where there are such"""
    words_without_vector: int | None = None
    """of the vocabulary, initialised at random beside a given embedding"""
    epochs_run: int = 0
    """finished epochs"""
    steps: int = 0
    """training steps, warm-up included"""
    skipped_steps: int | None = None
    """of them, made with gradients of zero because a product was too large; only with precision=float16"""
    best_epoch: int | None = None
    """epoch with the lowest validation loss"""
    train_perplexity: float | None = None
    """perplexity over the last epoch trained in, dropout on; infinite if a loss in it was not finite"""
    valid_loss: float | None = None
    """nats a target (a token, or a label), at best_epoch"""
    valid_perplexity: float | None = None
    """perplexity of validation: exp(valid_loss)"""
    test_loss: float | None = None
    """nats a target, at best_epoch"""
    test_perplexity: float | None = None
    """perplexity of test: exp(test_loss)"""
    valid_accuracy: float | None = None
    """share of validation's targets that the model thought most likely; empty for a language model of words"""
    test_accuracy: float | None = None
    """the same of test's, at best_epoch"""
    unigram_loss: float | None = None
    """nats a target of validation under the unigram model, in which a target has the probability (its count among
    training's targets + 1) / (their number + the number of classes); a run whose valid_loss is not below it learned
    nothing"""
    train_tokens: int | None = None
    """tokens read in one epoch of training"""
    valid_tokens_scored: int | None = None
    """targets scored in validation"""
    test_tokens_scored: int | None = None
    """targets scored in test"""
    tokens_per_second: float | None = None
    """training tokens a second, warm-up left out; like the three columns after it, of a resumed run where its last
    process was, and empty if nothing was timed there"""
    sequences_per_second: float | None = None
    """sequences a second; a language model's are windows of bptt tokens"""
    step_ms_p50: float | None = None
    """median milliseconds a step, of log-interval means"""
    step_ms_p95: float | None = None
    """95th percentile of the same, milliseconds"""
    train_seconds: float | None = None
    """seconds in training, warm-up included, evaluation and log left out"""
    evaluation_seconds: float | None = None
    """seconds in validation and test"""
    wall_seconds: float | None = None
    """seconds of the worker's process; of a resumed run, of all its processes, those that were cut short until their
    last checkpoint (where times_resumed is empty: of the last process only)"""
    times_resumed: int | None = None
    """how often the run was stopped and resumed; empty in rows of earlier versions"""
    parameters: int | None = None
    """trained numbers, tied weights counted once"""
    peak_rss_mb: float | None = None
    """largest resident memory of the process, or of any of several, in 2**20 bytes"""
    peak_gpu_mb: float | None = None
    """largest memory of the process on all its GPUs, CUDA's context included, that was seen at log intervals, after
    epochs and at the end, in 2**20 bytes; where the driver does not tell processes apart, and in rows of earlier
    versions: all that was in use, less what was before the run began"""
    blas: str | None = None
    """library of the matrix products, as loaded"""
    environment: str | None = None
    """settings of the process that can change speed or bits, as NAME=value"""
    started_at: str
    """start of the run, if resumed of its last process, UTC, ISO 8601"""
    history: tuple[EpochResult, ...] = ()
    """the rows of epochs.csv"""
    sessions: Annotated[tuple[Session, ...], Field(alias="sittings")] = ()
    """the processes that worked on the run; the row says where the last was"""
    predictions: tuple[Prediction, ...] = ()
    """of the first sequences of test, or of validation where there is no test, at best_epoch"""
    confusion: Confusion | None = None
    """of the same split at best_epoch, where the targets are labels"""

    @field_validator("confusion")
    @classmethod
    def _square_confusion(cls, value: Confusion | None) -> Confusion | None:
        if value:
            size = len(value.labels)
            if len(value.counts) != size or any(len(row) != size for row in value.counts):
                raise ValueError("its confusion matrix does not have a row and a column for each label")
            if any(not 0 <= count < _MOST_TARGETS for row in value.counts for count in row):
                raise ValueError("its confusion matrix has an impossible count")
        return value

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, content: Any) -> Any:
        """Each part takes its own from the flat form."""
        if not isinstance(content, dict) or isinstance(content.get("config"), RunConfig):
            return content
        return {**content, "config": content, "origin": content}

    @model_serializer(mode="wrap")
    def _to_flat(self, nested: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = nested(self)
        content |= content.pop("config", {}) | content.pop("origin", {})
        return {name: content.pop(name) for name in COLUMNS if name in content} | content

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Its name, how it ended, what was set and what came of it; `row` has all the rest."""
        yield "run_id", self.run_id
        yield "status", self.status
        if self.reason:
            yield "reason", self.reason
        yield from self.config.given.items()
        yield from self.results.items()

    def _repr_html_(self) -> str:
        settings = " ".join(f"{name}={value}" for name, value in self.config.given.items())
        rows = [("status", f"{self.status} {self.reason}".strip()), ("settings", settings), *self.results.items()]
        return html_table(rows, caption=f"run {self.run_id}")

    @property
    def results(self) -> dict[str, float]:
        """The main results, to six digits."""
        losses = ("perplexity",) if self.valid_accuracy is None else ("loss", "accuracy")
        names = (
            *(f"{split}_{kind}" for split in ("valid", "test") for kind in losses),
            "tokens_per_second",
            "wall_seconds",
        )
        values = ((name, getattr(self, name)) for name in names)
        return {name: float(f"{value:.6g}") for name, value in values if value is not None}

    @property
    def peak_mb(self) -> float | None:
        """The peak memory in MiB: of the GPUs where it was measured, else of the process."""
        return self.peak_rss_mb if self.peak_gpu_mb is None else self.peak_gpu_mb

    @property
    def row(self) -> dict[str, Any]:
        """The cells of its row in ``runs.csv``, by column."""
        known = vars(self) | vars(self.config) | vars(self.origin)
        return {name: known[name] for name in COLUMNS}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> RunRecord:
        """The record of a table's row, and of what else of a record it has; nothing is checked."""

        def part(kind: type[_Part]) -> _Part:
            return kind.model_construct(None, **{name: row[name] for name in kind.model_fields if name in row})

        return part(cls).model_copy(update={"config": part(RecordedConfig), "origin": part(Origin)})

    def with_columns(self, columns: Mapping[str, Any]) -> RunRecord:
        """A copy with other values in `columns`, which are not checked."""
        return self.from_row({**self.row, **{name: getattr(self, name) for name in BESIDE_THE_TABLE}, **columns})


_Part = TypeVar("_Part", bound=BaseModel)

#: Record fields that are not columns of ``runs.csv``.
BESIDE_THE_TABLE = ("history", "sessions", "predictions", "confusion")

#: Every field of the flat form.
FIELDS = RecordedConfig.model_fields | Origin.model_fields | RunRecord.model_fields
del FIELDS["config"], FIELDS["origin"]


def _columns() -> tuple[str, ...]:
    first = ("run_id", "schema_version", "status", "reason", "dataset", "dataset_sha1", "vocab_size")
    last = tuple(Origin.model_fields)
    placed = {*first, *last, "device", "threads", "blas", "environment", "started_at", *BESIDE_THE_TABLE}
    middle = tuple(name for name in FIELDS if name not in placed)
    machine = ("device", "device_name", "machine_id", "threads", "blas", "environment")
    return (*first, *middle, *machine, *(name for name in last if name not in machine), "started_at")


#: The columns of ``runs.csv``, in order.
COLUMNS = _columns()


def describe(column: str) -> str:
    """The meaning of a column of ``runs.csv``, with its unit."""
    description = FIELDS[column].description
    assert description, column
    return " ".join(description.split())


#: Of the best epoch.
SCORES = ("valid_loss", "valid_perplexity", "test_loss", "test_perplexity", "valid_accuracy", "test_accuracy")
#: Of `Progress`, as they are.
_OF_PROGRESS = (
    *(
        "vocab_size",
        "words_without_vector",
        "steps",
        "skipped_steps",
        "unigram_loss",
        "train_tokens",
        "valid_tokens_scored",
    ),
    *("test_tokens_scored", "train_seconds", "evaluation_seconds", "parameters", "predictions", "confusion"),
)


def make_record(
    job: Job,
    progress: Progress,
    *,
    status: Status,
    reason: str = "",
    started_at: str,
    wall_seconds: float,
) -> RunRecord:
    """The record of `job`, which ended with `status` and `progress`.

    Args:
        job: as it was last tried.
        progress: its results; the last session belongs to the last process.
        status: how it ended.
        reason: why, where that is not ok.
        started_at: when the last process began, UTC, ISO 8601.
        wall_seconds: how long the last process took.
    """
    best, laps = progress.best, progress.comparable_laps
    speed = tokens_per_second(laps)
    # The last process may have died before it wrote its time.
    *earlier, last = progress.sessions or [Session()]
    sessions = (*earlier, replace(last, seconds=wall_seconds, started_at=last.started_at or started_at))
    return RunRecord(
        config=RecordedConfig(**{**job.named_config.model_dump(), "threads": job.threads}),
        origin=job.origin,
        run_id=job.run_id,
        status=status,
        reason=without_paths(" ".join(reason.split()))[:500],
        **{digest: job.contents[digest] for digest in DIGESTS.values()},
        **{name: getattr(progress, name) for name in _OF_PROGRESS},
        **{name: getattr(best, name, None) for name in SCORES},
        epochs_run=len(progress.history),
        best_epoch=best.epoch if best else None,
        train_perplexity=perplexity(progress.last_epoch.mean) if progress.last_epoch.tokens else None,
        tokens_per_second=speed,
        sequences_per_second=sequences_per_second(progress, speed),
        step_ms_p50=step_milliseconds(laps, 50),
        step_ms_p95=step_milliseconds(laps, 95),
        wall_seconds=sum(session.seconds for session in sessions),
        times_resumed=len(earlier),
        peak_rss_mb=max((mb for s in sessions if (mb := s.peak_rss_mb) is not None), default=None),
        peak_gpu_mb=max((mb for s in sessions if (mb := s.peak_gpu_mb) is not None), default=None),
        blas=last.blas,
        environment=last.environment,
        started_at=started_at,
        history=tuple(progress.history),
        sessions=sessions,
    )


#: The folders of an absolute path, which holds spaces only where it is quoted.
_FOLDERS = re.compile(r"""(?<=['"])/[^'"]*/|(?<![\w/.<>)\]])(/[^\s/'":]+)*/(?=[^\s/'":])""")


def without_paths(text: str) -> str:
    """`text` with the last name of each absolute path alone: records and reports are meant to be committed."""
    return _FOLDERS.sub("", text)


def write_record(directory: Path, record: RunRecord) -> None:
    """Write `record` atomically into its run's `directory`."""
    write_atomically(directory / "record.json", seal(json.loads(record.model_dump_json())))


def read_record(directory: Path) -> RunRecord | None:
    """The record of a run's `directory`; None where it has none yet.

    Raises:
        ValueError: the file is damaged.
        OSError: this process cannot read another file, whatever is in it.
    """
    path = directory / "record.json"
    try:
        return RunRecord.model_validate(unseal(read_whole(path)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_limit(error):
            raise
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else getattr(error, "strerror", error)
        raise ValueError(f"{path} is damaged: {reason}") from None


def tidy(directory: Path, record: RunRecord | None) -> None:
    """Remove the leftovers of a killed process and the files that a `record` makes unnecessary from a run's
    `directory`.

    The caller must know that no worker uses it. The last checkpoint stays, so that more epochs can follow.
    """
    remove_leftovers(directory)
    if record:
        (directory / "progress.json").unlink(missing_ok=True)
        if record.status == "diverged":
            shutil.rmtree(directory / CHECKPOINT, ignore_errors=True)


def read_records(sweep_directory: Path) -> tuple[list[RunRecord], dict[Path, str]]:
    """All records of a sweep, and a message for each damaged file.

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
