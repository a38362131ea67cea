"""One quantity of paired runs, baseline beside candidate, and what a change of it must exceed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from gluon_rnn.errors import UserError
from gluon_rnn.measures import measures_of
from gluon_rnn.metrics import perplexity as perplexity_of
from gluon_rnn.regression.pairing import Row
from gluon_rnn.regression.significance import Finding, Sample

Verdict = Literal["held", "regressed", "not compared"]
Quantity = Literal["valid_perplexity", "valid_loss", "tokens_per_second"]

_NAMES = {
    "valid_perplexity": "validation perplexity",
    "valid_loss": "validation loss",
    "tokens_per_second": "tokens/s",
}


@dataclass(frozen=True)
class Limits:
    """What a comparison lets pass.

    Attributes:
        perplexity: rise of the validation perplexity, as a fraction; its logarithm, 0.02 nats of 2 %, is what a
            cross-entropy may rise by.
        throughput: loss of tokens a second, as a fraction.
        floor: units of perplexity; a smaller change does not count, however large a fraction it is. Results that have
            an accuracy have no floor: near perplexity 1, where they lie, it would be most of their loss.
        two_sided: whether a perplexity that fell by as much (in nats) is refused, too. A faster run never is.
    """

    perplexity: float = 0.02
    throughput: float = 0.10
    floor: float = 0.05
    two_sided: bool = False

    def __post_init__(self) -> None:
        for name in ("perplexity", "throughput"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} is no tolerance; give a fraction below 1, such as 0.02")
        if not 0 <= self.floor < math.inf:
            raise UserError(f"floor={self.floor} is no number of units of perplexity; give one such as 0.05")


@dataclass(frozen=True)
class Change:
    """One quantity, baseline beside candidate.

    Attributes:
        quantity: what it is; of a speed less is worse, else more. Where an accuracy was measured it is the validation
            loss in nats a target, elsewhere its perplexity.
        pairs: how many pairs of runs, one a seed (pairs of points, where it is that of all points together).
        baseline: their geometric mean in the baseline; of losses the mean.
        candidate: and in the candidate.
        change: candidate / baseline - 1; of losses candidate - baseline, as for what follows.
        threshold: the change beyond which it is worse; None where it could not be compared.
        smallest: the smallest change for the worse that this comparison would have found 9 times in 10. The threshold
            itself for a single pair, whose spread is not known, and for pairs that changed by one and the same.
        p_value: corrected; None where the threshold alone decided.
        verdict: of this quantity.
        reason: why it could not be compared.
    """

    quantity: Quantity
    pairs: int
    baseline: float
    candidate: float
    change: float
    threshold: float | None = None
    smallest: float | None = None
    p_value: float | None = None
    verdict: Verdict = "not compared"
    reason: str = ""


@dataclass(frozen=True)
class Measured:
    """A quantity as pairs of runs have measured it.

    Attributes:
        quantity: what it is.
        logarithms: of it, a pair of runs a pair, the baseline's first; a loss is one already.
        reason: why the pairs cannot be compared; empty where they can.
    """

    quantity: Quantity
    logarithms: Sequence[tuple[float, float]]
    reason: str = ""

    @property
    def _worse(self) -> int:
        """The sign of a change for the worse."""
        return -1 if self.quantity == "tokens_per_second" else 1

    @property
    def means(self) -> tuple[float, float]:
        """Of the baseline's logarithms and of the candidate's."""
        before, after = zip(*self.logarithms, strict=True)
        return fmean(before), fmean(after)

    def sample(self, limits: Limits) -> Sample:
        """The changes, and what they must exceed."""
        differences = tuple(self._worse * (after - before) for before, after in self.logarithms)
        if self.quantity == "tokens_per_second":
            return Sample(differences, -math.log1p(-limits.throughput))
        if self.quantity == "valid_loss":
            return Sample(differences, math.log1p(limits.perplexity), limits.two_sided)
        # The floor is a fraction of the lower one, so that it is the same change from here to there and back.
        floor = limits.floor / perplexity_of(min(self.means))
        return Sample(differences, math.log1p(max(limits.perplexity, floor)), limits.two_sided)

    def change(self, limits: Limits, finding: Finding | None) -> Change:
        """The change, as `finding` has judged it; None where it is not compared."""
        before, after = self.means
        in_nats = self.quantity == "valid_loss"
        difference = float if in_nats else _fraction
        shown = Change(
            self.quantity,
            len(self.logarithms),
            baseline=before if in_nats else perplexity_of(before),
            candidate=after if in_nats else perplexity_of(after),
            change=difference(after - before),
            reason=self.reason,
        )
        if finding is None:
            return shown
        return replace(
            shown,
            threshold=difference(self._worse * self.sample(limits).threshold),
            smallest=difference(self._worse * finding.smallest),
            p_value=finding.p_value,
            verdict="regressed" if finding.changed else "held",
        )


def _fraction(nats: float) -> float:
    """The relative change that a difference of logarithms is."""
    return perplexity_of(nats) - 1 if nats > 1 else math.expm1(nats)


def measure(pairs: Sequence[tuple[Row, Row]], *, repeated: bool) -> list[Measured]:
    """What pairs of runs have measured on both sides: the validation loss, and the speed if on one machine.

    Args:
        pairs: of runs that ended well.
        repeated: whether the baseline has several seeds. If a single pair is left of them, its spread is not known
            but not nothing: it says nothing.
    """
    lone = "is left of one seed alone" if repeated else ""
    found = []
    if losses := paired(pairs, "valid_loss"):
        kind: Quantity = "valid_loss" if has_accuracy(pairs) else "valid_perplexity"
        found.append(Measured(kind, losses, lone if len(losses) == 1 else ""))
    if speeds := paired([pair for pair in pairs if _same_machine(*pair)], "tokens_per_second"):
        found.append(Measured("tokens_per_second", _logarithms(speeds), lone if len(speeds) == 1 else ""))
    elif speeds := paired(pairs, "tokens_per_second"):
        reason = "not measured on the same machine with as many threads"
        found.append(Measured("tokens_per_second", _logarithms(speeds), reason))
    return found


def has_accuracy(pairs: Iterable[tuple[Row, Row]]) -> bool:
    """Whether pairs of runs are read by cross-entropy and accuracy, not by perplexity."""
    return measures_of(row["valid_accuracy"] for pair in pairs for row in pair).valid_accuracy is not None


def paired(pairs: Iterable[tuple[Row, Row]], column: str) -> list[tuple[float, float]]:
    """The numbers in `column` of pairs of runs, where both have one."""
    values = ((before[column], after[column]) for before, after in pairs)
    return [(before, after) for before, after in values if before is not None and after is not None]


def _logarithms(speeds: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(math.log(before), math.log(after)) for before, after in speeds]


def _same_machine(before: Row, after: Row) -> bool:
    return before["machine_id"] is not None and all(before[name] == after[name] for name in ("machine_id", "threads"))


def in_words(change: Change) -> str:
    """``validation perplexity +5.3 %``, or why that says nothing."""
    return f"{_NAMES[change.quantity]} {change.reason or amount(change, change.change)}"


def amount(change: Change, value: float | None) -> str:
    """A `value` of its change, threshold or smallest: ``+5.30 %``, of losses ``+0.0522 nats``; nothing of None."""
    if change.quantity != "valid_loss" or value is None:
        return percent(value)
    return f"{value:+,.4f} nats" if math.isfinite(value) else "infinite"


def percent(fraction: float | None) -> str:
    """``+5.30 %``; nothing of None."""
    if fraction is None:
        return ""
    return f"{100 * fraction:+,.2f} %" if fraction < 10 else "over +1,000 %"
