"""One quantity of paired runs in the baseline and the candidate, and the threshold for its change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal, get_args

from gluon_rnn.common.errors import UserError
from gluon_rnn.reporting.regression.pairing import Row
from gluon_rnn.reporting.regression.significance import Finding, Sample, Sittings
from gluon_rnn.reporting.regression.sittings import by_sitting
from gluon_rnn.runs.metrics import measures_of, written
from gluon_rnn.runs.progress import perplexity as perplexity_of

#: Verdicts on one quantity: shown to be within its threshold; shown to be beyond it (``slower`` for a speed that
#: decides nothing); or neither.
Judgement = Literal["held", "undecided", "slower", "regressed", "not compared"]
Quantity = Literal["valid_perplexity", "valid_loss", "tokens_per_second"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

NAMES: dict[Quantity, str] = {
    "valid_perplexity": "validation perplexity",
    "valid_loss": "validation loss",
    "tokens_per_second": "tokens/s",
}
_FEW_SITTINGS = "not measured in two sessions or more on each side"


#: Of a speed that decides nothing: the loss from which on it is called slower, as a fraction.
SLOWER = 0.10


@dataclass(frozen=True)
class Limits:
    """The changes that a comparison tolerates.

    Attributes:
        perplexity: rise of the validation perplexity, as a fraction; its logarithm, 0.02 nats of 2 %, is what a
            cross-entropy may rise by.
        throughput: loss of tokens a second, as a fraction. None: speeds are judged by `SLOWER` and decide nothing,
            since on most machines they move by more than that when nothing has changed.
        floor: units of perplexity; a smaller change does not count, however large a fraction it is. Results that have
            an accuracy have no floor: near perplexity 1, where they lie, it would be most of their loss.
        two_sided: whether a perplexity that fell by as much (in nats) is refused, too. A faster run never is.
        speeds: whether speeds are looked at.
    """

    perplexity: float = 0.02
    throughput: float | None = None
    floor: float = 0.05
    two_sided: bool = False
    speeds: bool = True

    def __post_init__(self) -> None:
        for name, value in (("perplexity", self.perplexity), ("throughput", self.throughput)):
            if value is not None and not 0 <= value < 1:
                raise UserError(f"{name}={value} is not a tolerance; give a fraction below 1, such as 0.02")
        if not 0 <= self.floor < math.inf:
            raise UserError(f"floor={self.floor} is not a number of units of perplexity; give one such as 0.05")

    def decides(self, quantity: Quantity) -> bool:
        """Whether a change of `quantity` for the worse is a regression."""
        return quantity != "tokens_per_second" or self.throughput is not None


@dataclass(frozen=True)
class Change:
    """One quantity, baseline beside candidate.

    Attributes:
        quantity: its name; for a speed less is worse, otherwise more is. Where an accuracy was measured it is the
            validation loss in nats a target, elsewhere its perplexity.
        pairs: how many pairs of runs, one a seed (pairs of points, where it is that of all points together).
        baseline: their geometric mean in the baseline; the mean for losses; for speeds the geometric mean of the
            sessions' medians.
        candidate: and in the candidate.
        change: candidate / baseline - 1; of losses candidate - baseline, as for what follows.
        threshold: the change beyond which it is worse; None where it could not be compared.
        smallest: the smallest change for the worse that this comparison would have found 9 times in 10. The threshold
            itself for a single pair, whose spread is unknown, and for pairs with identical changes.
        p_value: corrected; None where the threshold alone decided.
        verdict: of this quantity. ``held`` and ``regressed`` exceed chance; everything else is ``undecided``, which is
            not a regression.
        reason: why it could not be compared.
        sittings: for a speed, in how many sessions the baseline and the candidate were measured.
        improved: whether it is better by more than the threshold, and not by chance. Of several quantities it is wrong
            about one or more as rarely as the verdicts are.
    """

    quantity: Quantity
    pairs: int
    baseline: float
    candidate: float
    change: float
    threshold: float | None = None
    smallest: float | None = None
    p_value: float | None = None
    verdict: Judgement = "not compared"
    reason: str = ""
    sittings: tuple[int, int] | None = None
    improved: bool = False


@dataclass(frozen=True)
class Measured:
    """A quantity measured by pairs of runs.

    Attributes:
        quantity: what it is.
        pairs: how many.
        before: logarithms of the baseline's, one for each pair; a loss is one already. Of speeds one for each session.
        after: the candidate's.
        reason: why the pairs cannot be compared; empty where they can.
        paired: whether each value of `after` repeats that of `before` in its place.
    """

    quantity: Quantity
    pairs: int
    before: Sequence[float]
    after: Sequence[float]
    reason: str = ""
    paired: bool = True

    @property
    def worse(self) -> int:
        """The sign of a change for the worse."""
        return -1 if self.quantity == "tokens_per_second" else 1

    @property
    def means(self) -> tuple[float, float]:
        """The means of the baseline's and of the candidate's logarithms."""
        return fmean(self.before), fmean(self.after)

    def sample(self, limits: Limits) -> Sample | Sittings:
        """The sample of changes, with the threshold that they must exceed."""
        before, after = (tuple(self.worse * value for value in side) for side in (self.before, self.after))
        threshold = self._threshold(limits)
        two_sided = limits.two_sided and self.quantity != "tokens_per_second"
        if not self.paired:
            return Sittings(before, after, threshold, two_sided)
        return Sample(tuple(b - a for a, b in zip(before, after, strict=True)), threshold, two_sided)

    def _threshold(self, limits: Limits) -> float:
        """The threshold in nats."""
        if self.quantity == "tokens_per_second":
            return -math.log1p(-(SLOWER if limits.throughput is None else limits.throughput))
        if self.quantity == "valid_loss":
            return math.log1p(limits.perplexity)
        # The floor is a fraction of the lower one, so that it is the same change from here to there and back.
        return math.log1p(max(limits.perplexity, limits.floor / perplexity_of(min(self.means))))

    def difference(self, nats: float) -> float:
        """A difference of logarithms for readers: a fraction, or nats for a loss."""
        return nats if self.quantity == "valid_loss" else _fraction(nats)

    def change(self, limits: Limits, finding: Finding | None, mirrored: Finding | None) -> Change:
        """The change, as `finding` has judged it, and `mirrored` whether it is one for the better.

        Both are None where it is not compared.
        """
        before, after = self.means
        in_nats = self.quantity == "valid_loss"
        difference = self.difference
        timed = self.quantity == "tokens_per_second"
        shown = Change(
            self.quantity,
            self.pairs,
            baseline=before if in_nats else perplexity_of(before),
            candidate=after if in_nats else perplexity_of(after),
            change=difference(after - before),
            reason=self.reason,
            sittings=(len(self.before), len(self.after)) if timed else None,
        )
        if finding is None or mirrored is None:
            return shown
        sample = self.sample(limits)
        if timed and not sample.is_repeated:
            verdict: Judgement = "not compared" if limits.decides(self.quantity) else "undecided"
            return replace(shown, verdict=verdict, reason=_FEW_SITTINGS)
        beyond: Judgement = "regressed" if limits.decides(self.quantity) else "slower"
        return replace(
            shown,
            threshold=difference(self.worse * sample.threshold),
            smallest=difference(self.worse * finding.smallest),
            p_value=finding.p_value,
            verdict=beyond if finding.changed else "held" if finding.within else "undecided",
            improved=mirrored.changed and not finding.changed,
        )


def _fraction(nats: float) -> float:
    """The relative change that a difference of logarithms is."""
    return perplexity_of(nats) - 1 if nats > 1 else math.expm1(nats)


def measure(
    pairs: Sequence[tuple[Row, Row]],
    sittings: tuple[Mapping[str, int], Mapping[str, int]],
    *,
    repeated: bool,
    interleaved: bool = False,
) -> list[Measured]:
    """The quantities that pairs of runs measured on both sides: the validation loss, and the speed if on one machine.

    Args:
        pairs: of runs that ended well.
        sittings: of the baseline's runs and of the candidate's, as `sittings_of` numbers them.
        repeated: whether the baseline has several seeds. If a single pair is left of them, its spread is not known
            but not nothing: it says nothing.
        interleaved: whether the runs of each pair were measured one after the other, so that speeds are compared pair
            by pair, not sitting by sitting.
    """
    lone = "is left of one seed alone" if repeated else ""
    measured = []
    if losses := paired(pairs, "valid_loss"):
        kind: Quantity = "valid_loss" if has_accuracy(pairs) else "valid_perplexity"
        before, after = zip(*losses, strict=True)
        measured.append(Measured(kind, len(losses), before, after, lone if len(losses) == 1 else ""))
    timed = [pair for pair in pairs if all(row["tokens_per_second"] is not None for row in pair)]
    comparable = [pair for pair in timed if _same_machine(*pair)]
    if timed:
        alone = lone if len(comparable) == 1 else ""
        reason = alone if comparable else "not measured on the same machine with as many threads"
        sides = [
            (rows, [math.log(row["tokens_per_second"]) for row in rows])
            for rows in zip(*(comparable or timed), strict=True)
        ]
        before, after = (
            tuple(speeds) if interleaved else by_sitting(rows, speeds, numbers)
            for (rows, speeds), numbers in zip(sides, sittings, strict=True)
        )
        measured.append(
            Measured("tokens_per_second", len(comparable or timed), before, after, reason, paired=interleaved)
        )
    return measured


def has_accuracy(pairs: Iterable[tuple[Row, Row]]) -> bool:
    """Whether pairs of runs are read by cross-entropy and accuracy, not by perplexity."""
    return measures_of(row["valid_accuracy"] for pair in pairs for row in pair).valid_accuracy is not None


def paired(pairs: Iterable[tuple[Row, Row]], column: str) -> list[tuple[float, float]]:
    """The values in `column` of those pairs of runs that both have one."""
    values = ((before[column], after[column]) for before, after in pairs)
    return [(before, after) for before, after in values if before is not None and after is not None]


def _same_machine(before: Row, after: Row) -> bool:
    return before["machine_id"] is not None and all(before[name] == after[name] for name in ("machine_id", "threads"))


def in_words(change: Change) -> str:
    """The change in words, such as ``validation perplexity +5.3 %``, or why it shows nothing."""
    return f"{NAMES[change.quantity]} {change.reason or amount(change.quantity, change.change)}"


def amount(quantity: Quantity, value: float | None) -> str:
    """A change of `quantity`, or a threshold: ``+5.30 %``, of losses ``+0.0522 nats``; nothing of None."""
    if quantity != "valid_loss" or value is None:
        return percent(value)
    return f"{written(value, 4, sign='+')} nats" if math.isfinite(value) else "infinite"


def percent(fraction: float | None) -> str:
    """``+5.30 %``; nothing of None."""
    if fraction is None:
        return ""
    return f"{100 * fraction:+,.2f} %" if fraction < 10 else "over +1,000 %"
