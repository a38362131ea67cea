"""Which metric to report, how numbers are written, and which results are comparable.

This depends on what was measured, never on a task's name.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gluon_rnn.config.run import LABELLED
from gluon_rnn.runs.records import RunRecord

#: What a loss is of: one of characters says nothing beside one of words, whatever the text.
SCORED_ON = ("dataset", "dataset_sha1", "max_eval_tokens", "objective", "level", "lower", "min_freq")
#: The `outcome` of a run that ended well and `learned_nothing`.
WORSE_THAN_UNIGRAM = "worse than unigram"

#: Of a number that is written out; a perplexity may have hundreds.
_MOST_DIGITS = 8


def written(value: float, digits: int, *, sign: str = "") -> str:
    """A number as text for readers, with `digits` decimals.

    ``1,234.57``; of more than eight digits, point aside, ``4.2e+13``, but a whole number (an ``int``, a count) as it
    is; ``inf`` and ``nan``.

    Args:
        sign: ``+`` shows that of a positive number, too.
    """
    if isinstance(value, int) or abs(round(value, digits)) < 10 ** (_MOST_DIGITS - digits):
        return f"{value:{sign},.{digits}f}"
    return f"{value:{sign}.1e}"


@dataclass(frozen=True)
class Measure:
    """How a column of ``runs.csv`` is presented.

    Attributes:
        column: its name.
        name: what it measures.
        title: of a table's column.
        words: before a figure, in a sentence that has begun with the measures before it.
        digits: after the point.
        unit: behind the figure; of ``%`` the column holds a share, of ``bits`` nats.
    """

    column: str
    name: str
    title: str
    words: str
    digits: int
    unit: str = ""

    def figure(self, value: float) -> float:
        """The number for readers: 74.2 for 0.742 in per cent, 1 bit for 0.693 nats."""
        return 100 * value if self.unit == "%" else value / math.log(2) if self.unit == "bits" else value

    def written(self, value: float) -> str:
        """The number with its unit, as in a sentence."""
        return written(self.figure(value), self.digits) + (" %" if self.unit == "%" else "")


@dataclass(frozen=True)
class Measures:
    """The metrics of a group of results.

    Attributes:
        loss: of validation, which ranks; less is better.
        test: the same of test, which decides nothing.
        valid_accuracy: of validation, where there is such a thing.
        test_accuracy: of test.
    """

    loss: Measure
    test: Measure
    valid_accuracy: Measure | None = None
    test_accuracy: Measure | None = None

    @property
    def valid(self) -> tuple[Measure, ...]:
        """The measures on validation."""
        return tuple(measure for measure in (self.loss, self.valid_accuracy) if measure)

    @property
    def all(self) -> tuple[Measure, ...]:
        """The measures on validation, then those on test."""
        return (*self.valid, *(measure for measure in (self.test, self.test_accuracy) if measure))


#: The costs of a run, for any kind of loss.
SPEED = Measure("tokens_per_second", "speed", "tokens/s", "at", 0)
STEP = Measure("step_ms_p50", "time of a step", "ms/step", "at", 1)
MEMORY = Measure("peak_mb", "memory", "peak MB", "at", 0)
SECONDS = Measure("wall_seconds", "time", "seconds", "in", 0)

#: A loss whose targets are characters, of validation and of test.
BITS_PER_CHARACTER = tuple(
    Measure(f"{split}_loss", "bits per character", f"{split} bpc", f"{split} bits per character", 3, "bits")
    for split in ("valid", "test")
)

_PERPLEXITY = Measures(
    Measure("valid_perplexity", "perplexity", "valid ppl", "validation perplexity", 2),
    Measure("test_perplexity", "perplexity", "test ppl", "test", 2),
)
_CROSS_ENTROPY = Measures(
    Measure("valid_loss", "cross-entropy", "valid loss", "validation cross-entropy", 4, "nats"),
    Measure("test_loss", "cross-entropy", "test loss", "test cross-entropy", 4, "nats"),
    Measure("valid_accuracy", "accuracy", "valid acc. %", "accuracy", 2, "%"),
    Measure("test_accuracy", "accuracy", "test acc. %", "accuracy", 2, "%"),
)


def measures_of(accuracies: Iterable[float | None]) -> Measures:
    """Of results with these validation accuracies: cross-entropy and accuracy if one was measured, else perplexity."""
    return _PERPLEXITY if all(accuracy is None for accuracy in accuracies) else _CROSS_ENTROPY


def loss_to_beat(row: Mapping[str, Any]) -> float | None:
    """The validation loss, in nats a target, of a model that ignores its input; None if unknown.

    That is `unigram_loss`. A row of an older version has none: there it is that of the uniform model, which is higher,
    if the targets are tokens. It says nothing of how many labels there are.

    Args:
        row: of ``runs.csv``, by column.
    """
    loss: float | None = row["unigram_loss"]
    if loss is None and row["objective"] not in LABELLED and (row["vocab_size"] or 0) > 0:
        return math.log(row["vocab_size"])
    return loss


def learned_nothing(row: Mapping[str, Any]) -> bool:
    """Whether the validation loss of a row is not below the `loss_to_beat`."""
    loss, bound = row["valid_loss"], loss_to_beat(row)
    return loss is not None and bound is not None and not loss < bound


def outcome(record: RunRecord) -> str:
    """A run's status, but `WORSE_THAN_UNIGRAM` where it is ``ok`` and the run `learned_nothing`."""
    return WORSE_THAN_UNIGRAM if record.status == "ok" and learned_nothing(record.row) else str(record.status)


def rank(outcomes: Collection[str], loss: float | None, speed: float | None) -> tuple[int, float, float]:
    """Sorts results, best first: by validation loss, or by tokens/s where nothing was evaluated.

    Validation, not test, since choosing by test would tune on it. Points with a run that failed or learned nothing come
    after those that are ``ok``, and points without a good run come last: a mean over only the runs that did not diverge
    would be flattering.

    Args:
        outcomes: of the runs; several are repeats of one another.
        loss: of validation, the mean over the runs.
        speed: tokens a second.
    """
    ended = not {WORSE_THAN_UNIGRAM, "diverged", "pruned"}.isdisjoint(outcomes)
    order = (0 if {*outcomes} == {"ok"} else 1) if "ok" in outcomes else 2 if ended else 3
    return order, math.inf if loss is None else loss, -(speed or 0.0)


def scored_on(record: RunRecord) -> tuple[Any, ...]:
    """A key for comparable losses: two records are comparable if their keys are equal."""
    return tuple(record.row[name] for name in SCORED_ON)


@dataclass(frozen=True)
class Reached:
    """When a run first reached a perplexity.

    Attributes:
        epoch: the first whose validation perplexity is at or below it.
        seconds: of training and scoring up to and including that epoch, over all sessions of the run.
        tokens: read in training up to then.
    """

    epoch: int
    seconds: float
    tokens: int


def time_to_perplexity(record: RunRecord, perplexity: float) -> Reached | None:
    """When validation of a run first was at or below `perplexity`; None if it never was.

    Records of earlier versions do not say how long each epoch was scored: there it is the run's mean.
    """
    mean = (record.evaluation_seconds or 0) / (len(record.history) or 1)
    seconds = 0.0
    for epoch in record.history:
        seconds += epoch.seconds + (mean if epoch.evaluation_seconds is None else epoch.evaluation_seconds)
        if epoch.valid_perplexity <= perplexity:
            return Reached(epoch.epoch, seconds, epoch.epoch * (record.train_tokens or 0))
    return None
