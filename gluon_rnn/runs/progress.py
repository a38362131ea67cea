"""A run's progress: losses, which are summed before exponentiation, and times, which are read after the device has
finished.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter

#: What is called a session here is a ``sitting`` in files and tables, as it was from the first.
PERSISTED = ConfigDict(validate_by_name=True, serialize_by_alias=True)


def perplexity(nats_per_token: float) -> float:
    """``exp`` of a mean loss in nats; infinity where that overflows, never a clipped number."""
    try:
        return math.exp(nats_per_token)
    except OverflowError:
        return math.inf


@dataclass
class LossTotal:
    """A sum of losses over targets: the tokens of a text, or labels.

    Attributes:
        nats: total negative log-likelihood.
        tokens: how many targets it is the sum over.
    """

    nats: float = 0.0
    tokens: int = 0

    def add(self, nats: float, tokens: int) -> None:
        """Count `tokens` more, whose losses sum to `nats`."""
        self.nats += nats
        self.tokens += tokens

    @property
    def mean(self) -> float:
        """The mean loss in nats a target; NaN while nothing was counted."""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """exp(total nats / total tokens)."""
        return perplexity(self.mean)


@dataclass(frozen=True)
class Lap:
    """A timed stretch of training: so many steps over so many tokens in so many seconds.

    Attributes:
        steps: training steps in it.
        tokens: tokens read in it.
        seconds: how long it took.
        session: number of the run's `Session` that timed it, counted from 1; None where that is not known.
    """

    steps: int
    tokens: int
    seconds: float
    session: Annotated[int | None, Field(alias="sitting")] = None


@dataclass
class Stopwatch:
    """Times stretches of work that a device does asynchronously; what lies between two stretches is not timed.

    Attributes:
        synchronise: returns when the device has done all it was given.
        clock: seconds, monotonic.
        paused_seconds: seconds that passed between stretches.
    """

    synchronise: Callable[[], None]
    clock: Callable[[], float] = time.perf_counter
    paused_seconds: float = 0.0
    _started: float = 0.0
    _stopped: float | None = None

    def start(self) -> None:
        """Begin a stretch once the device has finished what came before."""
        self.synchronise()
        self._started = self.clock()
        if self._stopped is not None:
            self.paused_seconds += self._started - self._stopped

    def stop(self) -> float:
        """End the stretch once the device has finished it; returns its seconds."""
        self.synchronise()
        self._stopped = self.clock()
        return self._stopped - self._started


def tokens_per_second(laps: list[Lap]) -> float | None:
    """Tokens a second over all `laps`; None where nothing was timed."""
    seconds = sum(lap.seconds for lap in laps)
    return sum(lap.tokens for lap in laps) / seconds if seconds else None


def step_milliseconds(laps: list[Lap], percentile: float) -> float | None:
    """The `percentile` (0 to 100) of the time a step took, in milliseconds; None where nothing was timed.

    A step's time is its lap's mean, since nothing inside a lap waits for the device: with a log interval of 200 steps a
    hiccup of one step shows as a two-hundredth. The nearest-rank definition, every step counting once.
    """
    steps = sum(lap.steps for lap in laps)
    if not steps:
        return None
    rank = max(1, math.ceil(percentile / 100 * steps))
    seen = 0
    for lap in sorted((lap for lap in laps if lap.steps), key=lambda lap: lap.seconds / lap.steps):
        seen += lap.steps
        if seen >= rank:
            return lap.seconds / lap.steps * 1000
    raise AssertionError("the ranks of all steps end at their number")


@dataclass(frozen=True)
class Prediction:
    """A model's predictions for one scored sequence; words are joined by blanks, characters by nothing.

    Attributes:
        text: what the model was given.
        truth: its targets.
        predicted: the label that the model thought most likely for each.
    """

    text: str
    truth: str
    predicted: str


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix: how often each label was predicted for each true one.

    Attributes:
        labels: all of them, in the order of rows and columns.
        counts: a row for each true label, a column for each predicted one.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class EpochResult:
    """The result of one epoch: a row of ``epochs.csv``."""

    epoch: Annotated[int, Field(description="number of the epoch, counted from 1")]
    learning_rate: Annotated[float, Field(description="learning rate during the epoch")]
    train_loss: Annotated[
        float, Field(description="mean nats a target, as training saw them: dropout on, parameters moving")
    ]
    valid_loss: Annotated[float, Field(description="mean nats a target (a token, or a label) after the epoch")]
    valid_perplexity: Annotated[float, Field(description="perplexity of validation: exp(valid_loss)")]
    test_loss: Annotated[
        float | None, Field(description="mean nats a target; measured only when validation improved, else empty")
    ]
    test_perplexity: Annotated[float | None, Field(description="perplexity of test: exp(test_loss)")]
    tokens_per_second: Annotated[
        float | None,
        Field(description="training tokens a second, warm-up left out; empty where the whole epoch was warm-up"),
    ]
    seconds: Annotated[float, Field(description="seconds of training, evaluation left out")]
    valid_accuracy: Annotated[
        float | None,
        Field(
            description="share of validation's targets that the model thought most likely; empty for a language model "
            "of words"
        ),
    ] = None
    test_accuracy: Annotated[float | None, Field(description="the same of test's, measured as test_loss is")] = None
    session: Annotated[
        int | None,
        Field(
            alias="sitting",
            description="which of the run's worker processes trained the epoch, counted from 1; speeds of two of them "
            "compare only where both had the same machine, device, threads, BLAS and settings (`sittings` in "
            "record.json); empty in rows of earlier versions",
        ),
    ] = None
    threads: Annotated[int | None, Field(description="CPU threads of that process; empty where they are not known")] = (
        None
    )
    evaluation_seconds: Annotated[
        float | None,
        Field(description="seconds of scoring validation and test after the epoch; empty in rows of earlier versions"),
    ] = None

    @property
    def total_seconds(self) -> float:
        """Seconds of training and scoring."""
        return self.seconds + (self.evaluation_seconds or 0)


@dataclass(frozen=True)
class Session:
    """The part of a run done by one worker process. A run that was stopped and resumed has several.

    What is not known, of a process of an earlier version for example, is None.

    Attributes:
        started_at: start of the process, UTC, ISO 8601.
        seconds: how long it worked; if it was cut short, until its last checkpoint.
        host: the machine's own name; this and what follows as in ``runs.csv``, but of this process.
    """

    started_at: str | None = None
    seconds: float = 0.0
    host: str | None = None
    machine_id: str | None = None
    device: str | None = None
    device_name: str | None = None
    threads: int | None = None
    blas: str | None = None
    environment: str | None = None
    mxnet_version: str | None = None
    git_commit: str | None = None
    peak_rss_mb: float | None = None
    peak_gpu_mb: float | None = None

    def is_comparable(self, other: Session) -> bool:
        """Whether the speeds of both sessions can be averaged: their hardware and software are known and equal."""
        return self.machine_id is not None and self._decisive() == other._decisive()

    def _decisive(self) -> tuple[object, ...]:
        hardware = (self.machine_id, self.device, self.device_name, self.threads)
        return (*hardware, self.blas, self.environment, self.mxnet_version, self.git_commit)


@dataclass
class Progress:
    """A run's results so far; an interrupted run keeps them.

    Attributes:
        history: the finished epochs.
        laps: timed stretches of training, warm-up and whatever is not training left out.
        steps: training steps done.
        train_seconds: seconds in training, warm-up included, evaluation and log left out.
        evaluation_seconds: seconds in validation and test.
        last_epoch: losses of the epoch last trained in, finished or not.
        unigram_loss: nats a target of validation under the unigram model of training's targets; None before it was
            measured.
        train_tokens: tokens read in one epoch.
        train_sequences: sequences that they are cut into; a language model's are windows of bptt tokens.
        valid_tokens_scored: targets of validation; None before it was measured.
        test_tokens_scored: targets of test; None before it was measured.
        parameters: trained numbers, tied weights counted once.
        vocab_size: tokens that the model tells apart.
        words_without_vector: of the vocabulary, where the embedding was given.
        skipped_steps: of training, whose gradients overflowed, where precision is float16.
        predictions: of the best epoch, on the first sequences of test, or of validation where there is no test.
        confusion: of the best epoch on the same split, where the targets are labels.
        sessions: the processes that have worked on the run, the present one last.
        first_lap: place in `laps` of the first of the epoch last trained in.
    """

    # Infinities survive the way to JSON and back.
    __pydantic_config__ = ConfigDict(ser_json_inf_nan="strings", **PERSISTED)

    history: list[EpochResult] = field(default_factory=list)
    laps: list[Lap] = field(default_factory=list)
    steps: int = 0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    last_epoch: LossTotal = field(default_factory=LossTotal)
    unigram_loss: float | None = None
    train_tokens: int | None = None
    valid_tokens_scored: int | None = None
    test_tokens_scored: int | None = None
    parameters: int | None = None
    train_sequences: int | None = None
    vocab_size: int | None = None
    words_without_vector: int | None = None
    skipped_steps: int | None = None
    predictions: tuple[Prediction, ...] = ()
    confusion: Confusion | None = None
    sessions: Annotated[list[Session], Field(alias="sittings")] = field(default_factory=list)
    first_lap: int = 0

    def without_epochs(self) -> Progress:
        """A copy without the data that grows with the epochs or belongs to the best one, which the checkpoint holds."""
        return replace(self, history=[], laps=self.laps[self.first_lap :], predictions=(), confusion=None)

    @property
    def best(self) -> EpochResult | None:
        """The first epoch with the lowest validation loss."""
        return min(self.history, key=lambda epoch: epoch.valid_loss, default=None)

    @property
    def comparable_laps(self) -> list[Lap]:
        """The laps whose speeds are comparable with the last session's: its own, and those of sessions in the same
        environment.
        """
        if not self.sessions:
            return self.laps
        last = self.sessions[-1]
        numbers = {n for n, other in enumerate(self.sessions, 1) if other is last or other.is_comparable(last)}
        return [lap for lap in self.laps if lap.session in numbers]

    def resume(self, restored: Progress) -> None:
        """Continue from `restored`, the result of earlier sessions, in a new session."""
        # Earlier versions kept no sessions; they worked for at least as long as they trained and evaluated.
        unknown = Session(seconds=restored.train_seconds + restored.evaluation_seconds)
        sessions = [*(restored.sessions or [unknown]), *self.sessions]
        self.__dict__.update(restored.__dict__, sessions=sessions)


def sequences_per_second(progress: Progress, tokens_per_second: float | None) -> float | None:
    """Of sequences as long as an epoch's are on the average; None where nothing was timed or nothing is known of it."""
    if tokens_per_second is None or not progress.train_tokens or progress.train_sequences is None:
        return None
    return tokens_per_second * progress.train_sequences / progress.train_tokens


#: A `Progress` to and from JSON.
PROGRESS = TypeAdapter(Progress)
