"""Whether a sweep's results held against a baseline's; how that is shown is `verdicts`' business.

What is gated is the validation loss at the best epoch. That epoch is chosen by it, on both sides alike. And whoever
changes code until a gate lets it pass chooses by what the gate looks at, which must therefore not be the test text: its
perplexities are shown and decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from gluon_rnn.errors import UserError
from gluon_rnn.metrics import perplexity as perplexity_of
from gluon_rnn.pairing import Match, Row, differing_fields, match_runs
from gluon_rnn.significance import Finding, Sample, judge

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["held", "regressed", "not compared"]
Quantity = Literal["valid_perplexity", "tokens_per_second"]


@dataclass(frozen=True)
class Limits:
    """What a comparison lets pass.

    Attributes:
        perplexity: rise of the validation perplexity, as a fraction.
        throughput: loss of tokens a second, as a fraction.
        floor: units of perplexity; a smaller change does not count, however large a fraction it is.
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
        quantity: what it is; of a perplexity more is worse, of a speed less.
        pairs: how many pairs of runs, one a seed (pairs of points, where it is that of all points together).
        baseline: their geometric mean in the baseline.
        candidate: and in the candidate.
        change: candidate / baseline - 1.
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
class Point:
    """One configuration of the baseline.

    Attributes:
        label: what tells it from the others, as ``cell=gru bptt=35``.
        settings: the fields that it was matched by.
        verdict: regressed if anything of it has; not compared if nothing could be.
        reasons: of the verdict, and what else there is to know, such as a seed that failed.
        changes: its quantities.
        test_perplexity: baseline's and candidate's over the same runs; decides nothing.
    """

    label: str
    settings: Row
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    test_perplexity: tuple[float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """What came of holding a candidate against a baseline.

    Attributes:
        verdict: regressed if a point has, or all points together; held if none has and at least one was compared.
        reason: of the verdict, in one line.
        limits: what was let pass.
        points: every one of the baseline, in its order.
        new: labels of the points that only the candidate has.
        overall: the validation perplexity of all points that have several seeds, each a repeat of the others: a change
            too small to be told from chance at any of them may show in all. None where there are fewer than two.
    """

    verdict: Verdict
    reason: str
    limits: Limits
    points: tuple[Point, ...] = ()
    new: tuple[str, ...] = ()
    overall: Change | None = None


def compare(
    baseline: Path | str | pd.DataFrame,
    candidate: Path | str | pd.DataFrame,
    *,
    perplexity: float = 0.02,
    throughput: float = 0.10,
    floor: float = 0.05,
    two_sided: bool = False,
) -> Comparison:
    """Hold a candidate's results against a baseline's, configuration by configuration and seed by seed.

    What several seeds show is told from chance, over all points together, by `gluon_rnn.significance.judge`. With one
    seed the threshold alone decides: that is for runs that come out alike when nothing has changed.

    Args:
        baseline: a sweep's folder, its ``runs.csv``, or `gluon_rnn.load_results` of one.
        candidate: likewise.
        perplexity: see `Limits`, as for the others.

    Raises:
        UserError: a table cannot be read or has two runs of one configuration and seed, or a limit is none.
    """
    limits = Limits(perplexity, throughput, floor, two_sided)
    matches = match_runs(baseline, candidate)
    for side, name in (("before", "the baseline"), ("after", "the candidate")):
        if not any(getattr(match, side) for match in matches):
            return not_compared(f"{name} has no runs", limits)
    if not any(match.before and match.after for match in matches):
        fields = ", ".join(differing_fields(matches)) or "how their settings are combined"
        return not_compared(f"no configuration is in both; they differ in {fields}", limits)
    points, overall = _judged([_meet(match, limits) for match in matches if match.before], limits)
    new = tuple(match.label for match in matches if not match.before)
    verdict, reason = _verdict(points, overall, new)
    return Comparison(verdict, reason, limits, points, new, overall)


def not_compared(reason: str, limits: Limits) -> Comparison:
    """A comparison that could not be made."""
    return Comparison("not compared", f"could not compare: {reason}", limits)


@dataclass
class _Meeting:
    """What became of a point's runs, before any arithmetic.

    Attributes:
        match: the point.
        pairs: runs that ended well on both sides.
        faults: regressions.
        remarks: what is no regression.
        settled: whether something was compared that needs no arithmetic: a divergence.
    """

    match: Match
    pairs: list[tuple[Row, Row]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    settled: bool = False


def _meet(match: Match, limits: Limits) -> _Meeting:
    meeting = _Meeting(match)
    for seed, before in sorted(match.before.items()):
        after = match.after.get(seed)
        had, has = _outcome(before), _outcome(after) if after else "missing"
        if had not in ("ok", "diverged"):
            meeting.remarks.append(f"seed {seed} {had} in the baseline")
        elif after is None or has not in ("ok", "diverged") or (had, has) == ("ok", "diverged"):
            reason = f" ({after['reason']})" if after and after["reason"] else ""
            meeting.faults.append(f"seed {seed} {has}{reason}")
        elif has == "diverged":
            meeting.settled = True
            meeting.remarks.append(f"seed {seed} diverged in both")
        elif had == "diverged":
            meeting.settled = True
            (meeting.faults if limits.two_sided else meeting.remarks).append(f"seed {seed} no longer diverged")
        else:
            meeting.pairs.append((before, after))
    if new := sorted(match.after.keys() - match.before.keys()):
        meeting.remarks.append(f"seed {', '.join(map(str, new))} not in the baseline")
    return meeting


def _outcome(row: Row) -> str:
    """A run's status; a loss that is not finite is a divergence, whatever the run went by."""
    if row["status"] != "ok" or row["max_steps"] is not None:
        return str(row["status"])
    if row["valid_loss"] is None:
        return "not evaluated"
    return "ok" if math.isfinite(row["valid_loss"]) else "diverged"


@dataclass(frozen=True)
class _Measured:
    """A quantity of paired runs, as logarithms, the baseline's first."""

    quantity: Quantity
    logarithms: Sequence[tuple[float, float]]
    reason: str = ""

    @property
    def worse(self) -> int:
        """The sign of a change for the worse."""
        return 1 if self.quantity == "valid_perplexity" else -1

    @property
    def means(self) -> tuple[float, float]:
        before, after = zip(*self.logarithms, strict=True)
        return fmean(before), fmean(after)

    def sample(self, limits: Limits) -> Sample:
        differences = tuple(self.worse * (after - before) for before, after in self.logarithms)
        if self.quantity == "tokens_per_second":
            return Sample(differences, -math.log1p(-limits.throughput))
        # The floor is a fraction of the lower one, so that it is the same change from here to there and back.
        floor = limits.floor / perplexity_of(min(self.means))
        return Sample(differences, math.log1p(max(limits.perplexity, floor)), limits.two_sided)

    def change(self, limits: Limits, finding: Finding | None = None) -> Change:
        before, after = self.means
        shown = Change(
            self.quantity,
            len(self.logarithms),
            baseline=perplexity_of(before),
            candidate=perplexity_of(after),
            change=_fraction(after - before),
            reason=self.reason,
        )
        if finding is None:
            return shown
        return replace(
            shown,
            threshold=_fraction(self.worse * self.sample(limits).threshold),
            smallest=_fraction(self.worse * finding.smallest),
            p_value=finding.p_value,
            verdict="regressed" if finding.changed else "held",
        )


def _fraction(nats: float) -> float:
    """The relative change that a difference of logarithms is."""
    return perplexity_of(nats) - 1 if nats > 1 else math.expm1(nats)


def _measured(pairs: Sequence[tuple[Row, Row]]) -> list[_Measured]:
    """What paired runs have measured on both sides."""
    found = []
    if losses := _numbers(pairs, "valid_loss"):
        found.append(_Measured("valid_perplexity", losses))
    if speeds := _numbers([pair for pair in pairs if _same_machine(*pair)], "tokens_per_second"):
        found.append(_Measured("tokens_per_second", _logarithms(speeds)))
    elif speeds := _numbers(pairs, "tokens_per_second"):
        reason = "not measured on the same machine with as many threads"
        found.append(_Measured("tokens_per_second", _logarithms(speeds), reason))
    return found


def _numbers(pairs: Iterable[tuple[Row, Row]], column: str) -> list[tuple[float, float]]:
    values = ((before[column], after[column]) for before, after in pairs)
    return [(before, after) for before, after in values if before is not None and after is not None]


def _logarithms(speeds: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(math.log(before), math.log(after)) for before, after in speeds]


def _same_machine(before: Row, after: Row) -> bool:
    return before["machine_id"] is not None and all(before[name] == after[name] for name in ("machine_id", "threads"))


def _judged(meetings: Sequence[_Meeting], limits: Limits) -> tuple[tuple[Point, ...], Change | None]:
    """The points, and all of them together, judged at once since chance has as many chances as there are samples."""
    measured = [_measured(meeting.pairs) for meeting in meetings]
    repeated = [
        m.means for found in measured for m in found if m.quantity == "valid_perplexity" and len(m.logarithms) > 1
    ]
    together = [_Measured("valid_perplexity", sorted(repeated))] if len(repeated) > 1 else []
    compared = [m for found in (*measured, together) for m in found if not m.reason]
    findings = iter(judge([m.sample(limits) for m in compared]))

    def changes(found: Iterable[_Measured]) -> tuple[Change, ...]:
        return tuple(m.change(limits, None if m.reason else next(findings)) for m in found)

    points = tuple(_point(meeting, changes(found)) for meeting, found in zip(meetings, measured, strict=True))
    return points, next(iter(changes(together)), None)


def _point(meeting: _Meeting, changes: tuple[Change, ...]) -> Point:
    faults = [*meeting.faults, *(in_words(change) for change in changes if change.verdict == "regressed")]
    settled = meeting.settled or any(change.verdict == "held" for change in changes)
    tests = _numbers(meeting.pairs, "test_loss")
    unmeasured = ["nothing was measured on both sides"] if meeting.pairs and not changes else []
    before, after = ([pair[side] for pair in tests] for side in (0, 1))
    return Point(
        meeting.match.label,
        meeting.match.settings,
        "regressed" if faults else "held" if settled else "not compared",
        (*faults, *meeting.remarks, *unmeasured, *(in_words(change) for change in changes if change.reason)),
        changes,
        (perplexity_of(fmean(before)), perplexity_of(fmean(after))) if tests else None,
    )


def in_words(change: Change) -> str:
    """``validation perplexity +5.3 %``, or why that says nothing."""
    name = "validation perplexity" if change.quantity == "valid_perplexity" else "tokens/s"
    return f"{name} {change.reason or percent(change.change)}"


def percent(fraction: float | None) -> str:
    """``+5.30 %``; nothing of None."""
    if fraction is None:
        return ""
    return f"{100 * fraction:+,.2f} %" if fraction < 10 else "over +1,000 %"


def _verdict(points: Sequence[Point], overall: Change | None, new: Sequence[str]) -> tuple[Verdict, str]:
    def told(verdict: Verdict) -> list[str]:
        return [f"{point.label}: {', '.join(point.reasons)}" for point in points if point.verdict == verdict]

    regressed, held, left_out = told("regressed"), told("held"), told("not compared")
    if overall and overall.verdict == "regressed":
        together = f"all points together: {in_words(overall)}"
        return "regressed", "; ".join([f"regressed: {len(regressed)} of {len(points)} points", together, *regressed])
    if regressed:
        return "regressed", "; ".join([f"regressed: {len(regressed)} of {len(points)} points", *regressed])
    if not held:
        return "not compared", f"could not compare: {'; '.join(left_out)}"
    said = [f"held: {len(held)} of {len(points)} points", *(f"not compared: {point}" for point in left_out)]
    return "held", "; ".join([*said, *([f"{len(new)} new"] if new else [])])
