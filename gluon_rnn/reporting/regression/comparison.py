"""Compares a sweep's results with a baseline's; `verdicts` shows the outcome.

What is gated is the validation loss at the best epoch. That epoch is chosen by the same loss on both sides. Changing
code until a gate passes amounts to selecting by the gated quantity, so it must not come from the test text: test losses
and accuracies are shown and decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from gluon_rnn.reporting.regression.changes import Change, Limits, Measured, Quantity, in_words, measure, paired
from gluon_rnn.reporting.regression.pairing import Match, Row, differing_fields, match_runs
from gluon_rnn.reporting.regression.significance import Finding, Sample, Sittings, judge
from gluon_rnn.reporting.regression.sittings import seconds_of, sittings_of
from gluon_rnn.runs.metrics import WORSE_THAN_UNIGRAM, learned_nothing
from gluon_rnn.runs.notes import speeds_count
from gluon_rnn.runs.progress import perplexity as perplexity_of

if TYPE_CHECKING:
    import pandas as pd

#: The verdict on a point or on the whole comparison: passed, regressed, or nothing to compare.
Verdict = Literal["held", "regressed", "not compared"]


@dataclass(frozen=True)
class Point:
    """One configuration of the baseline.

    Attributes:
        label: what tells it from the others, as ``cell=gru bptt=35``.
        settings: the fields that it was matched by.
        verdict: regressed if anything of it has that decides; not compared if nothing could be; else held, also where
            its changes are undecided.
        reasons: of the verdict, and what else there is to know, such as a seed that failed.
        changes: its quantities.
        test_perplexity: baseline's and candidate's over the same runs; decides nothing.
        test_accuracy: likewise, where it was measured.
    """

    label: str
    settings: Row
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    test_perplexity: tuple[float, float] | None = None
    test_accuracy: tuple[float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """The outcome of comparing a candidate with a baseline.

    Attributes:
        verdict: regressed if a point has, or all points together; held if none has and at least one was compared.
            Not compared, too, where speeds were to decide and none could be judged.
        reason: of the verdict, in one line.
        limits: the changes that were tolerated.
        points: every one of the baseline, in its order.
        new: labels of the points that only the candidate has.
        overall: the validation loss of all points that have several seeds, each a repeat of the others: a change
            too small to be told from chance at any of them may show in all. None where there are fewer than two.
        remarks: reasons to doubt the comparison itself, one a line.
    """

    verdict: Verdict
    reason: str
    limits: Limits
    points: tuple[Point, ...] = ()
    new: tuple[str, ...] = ()
    overall: Change | None = None
    remarks: tuple[str, ...] = ()


def compare(
    baseline: Path | str | pd.DataFrame,
    candidate: Path | str | pd.DataFrame,
    *,
    perplexity: float = Limits.perplexity,
    throughput: float | None = Limits.throughput,
    floor: float = Limits.floor,
    two_sided: bool = Limits.two_sided,
    speeds: bool = Limits.speeds,
) -> Comparison:
    """Compare a candidate's results with a baseline's, configuration by configuration and seed by seed.

    With several seeds, `judge` separates changes from chance over all points together. With one seed the threshold
    alone decides, which suits runs that are reproducible when nothing has changed. Speeds are shown and decide nothing
    unless `throughput` sets a limit. They are then judged by sessions, and each side needs at least two (see
    `significance.Sittings`). Where the notes of either side say that its speeds do not count, they are left out, and a
    limit cannot be judged.

    Args:
        baseline: a sweep's folder, its ``runs.csv``, or `gluon_rnn.load_results` of one.
        candidate: likewise.
        perplexity: see `Limits`, as for the others.

    Raises:
        UserError: a table cannot be read or has two runs of one configuration and seed, or a limit is none.
    """
    limits = Limits(perplexity, throughput, floor, two_sided, speeds)
    sides = {"the baseline": baseline, "the candidate": candidate}
    uncounted = [name for name, table in sides.items() if speeds and not speeds_count(table)]
    said = [f"the speeds of {' and '.join(uncounted)} do not count, as notes.yaml says there"] if uncounted else []
    if said and throughput is not None:
        return not_compared(said[0], limits)
    limits = replace(limits, speeds=limits.speeds and not uncounted)
    matches = match_runs(baseline, candidate)
    for side, name in (("before", "the baseline"), ("after", "the candidate")):
        if not any(getattr(match, side) for match in matches):
            return not_compared(f"{name} has no runs", limits)
    if not any(match.before and match.after for match in matches):
        fields = ", ".join(differing_fields(matches)) or "how their settings are combined"
        return not_compared(f"no configuration is in both; they differ in {fields}", limits)
    points, overall = _judged([pair_runs(match) for match in matches if match.before], limits)
    new = tuple(match.label for match in matches if not match.before)
    verdict, reason = _verdict(points, overall, new, limits)
    return Comparison(verdict, reason, limits, points, new, overall, (*_doubts(matches), *said))


def _doubts(matches: Sequence[Match]) -> tuple[str, ...]:
    """A warning if the two tables seem to be swapped."""
    times = [
        [time for match in matches for row in getattr(match, side).values() if (time := seconds_of(row["started_at"]))]
        for side in ("before", "after")
    ]
    if all(times) and min(times[0]) > max(times[1]):
        return ("every run of the baseline is newer than those of the candidate: are the two swapped?",)
    return ()


def not_compared(reason: str, limits: Limits) -> Comparison:
    """A comparison that could not be made."""
    return Comparison("not compared", f"could not compare: {reason}", limits)


@dataclass
class PairedRuns:
    """A point's runs paired by seed, and the conclusions that need no arithmetic.

    Attributes:
        match: the point.
        pairs: runs that ended well on both sides.
        lost: seeds that failed or are missing in the candidate, in words.
        diverged: seeds that newly diverged.
        recovered: seeds that no longer diverge.
        remarks: what else there is to know, in words.
        settled: whether something was compared that needs no arithmetic: a divergence.
    """

    match: Match
    pairs: list[tuple[Row, Row]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    diverged: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    settled: bool = False


def pair_runs(match: Match, names: tuple[str, str] = ("the baseline", "the candidate")) -> PairedRuns:
    """Pair the runs of a point by seed; `names` are the names of the two sides."""
    runs = PairedRuns(match)
    for seed, before in sorted(match.before.items()):
        after = match.after.get(seed)
        had, has = outcome_of(before), outcome_of(after) if after else "missing"
        if had not in ("ok", "diverged"):
            runs.remarks.append(f"seed {seed} {had} in {names[0]}")
        elif after is None or has not in ("ok", "diverged") or (had, has) == ("ok", "diverged"):
            reason = f" ({after['reason']})" if after and after["reason"] else ""
            (runs.diverged if has == "diverged" else runs.lost).append(f"seed {seed} {has}{reason}")
        elif has == "diverged":
            runs.settled = True
            runs.remarks.append(f"seed {seed} diverged in both")
        elif had == "diverged":
            runs.settled = True
            runs.recovered.append(f"seed {seed} no longer diverged")
        else:
            runs.pairs.append((before, after))
            sides = [side for side, row in zip(names, (before, after), strict=True) if learned_nothing(row)]
            if sides:
                runs.remarks.append(f"seed {seed} {WORSE_THAN_UNIGRAM} in {' and '.join(sides)}")
    if added := sorted(match.after.keys() - match.before.keys()):
        runs.remarks.append(f"seed {', '.join(map(str, added))} not in {names[0]}")
    versions = [{row["cell_sha1"] for row in side.values()} for side in (match.before, match.after)]
    if all(versions) and versions[0] != versions[1] and None not in versions[0] | versions[1]:
        old, new = (", ".join(sorted(sha1[:7] for sha1 in digests)) for digests in versions)
        runs.remarks.append(f"{match.settings['cell']}@{old} in {names[0]}, now @{new}")
    return runs


def outcome_of(row: Row) -> str:
    """A run's status; a loss that is not finite is a divergence, whatever the run went by."""
    if row["status"] != "ok" or row["max_steps"] is not None:
        return str(row["status"])
    if row["valid_loss"] is None:
        return "not evaluated"
    return "ok" if math.isfinite(row["valid_loss"]) else "diverged"


def _judged(paired_runs: Sequence[PairedRuns], limits: Limits) -> tuple[tuple[Point, ...], Change | None]:
    """Judges all points together, because every additional sample is another opportunity for a false alarm."""
    sittings = (
        sittings_of(row for runs in paired_runs for row in runs.match.before.values()),
        sittings_of(row for runs in paired_runs for row in runs.match.after.values()),
    )
    measured = [
        [
            found
            for found in measure(runs.pairs, sittings, repeated=len(runs.match.before) > 1)
            if limits.speeds or found.quantity != "tokens_per_second"
        ]
        for runs in paired_runs
    ]
    repeated = [m for of_point in measured for m in of_point if m.quantity != "tokens_per_second" and m.pairs > 1]
    # Nats are nats; only where all are read as such are they shown so, without a floor.
    kind: Quantity = "valid_loss" if all(m.quantity == "valid_loss" for m in repeated) else "valid_perplexity"
    together = []
    if len(repeated) > 1:
        before, after = zip(*sorted(m.means for m in repeated), strict=True)
        together = [Measured(kind, len(repeated), before, after)]
    compared = [m for of_point in (*measured, together) for m in of_point if not m.reason]
    # Quantities that decide nothing must not reduce the power of those that decide.
    deciding = [m for m in compared if limits.decides(m.quantity)]
    shown = [m for m in compared if not limits.decides(m.quantity)]
    families = (deciding, shown)
    findings = _findings(families, [[m.sample(limits) for m in family] for family in families])
    mirrored = _findings(families, [[m.sample(limits).mirrored for m in family] for family in families])

    def changes(of_point: Iterable[Measured]) -> tuple[Change, ...]:
        return tuple(m.change(limits, findings.get(id(m)), mirrored.get(id(m))) for m in of_point)

    points = tuple(
        _point(runs, changes(of_point), limits) for runs, of_point in zip(paired_runs, measured, strict=True)
    )
    return points, next(iter(changes(together)), None)


def _findings(
    families: Sequence[Sequence[Measured]], samples: Sequence[Sequence[Sample | Sittings]]
) -> dict[int, Finding]:
    """What each measured quantity's sample shows, by the quantity's `id`; a family is judged at once."""
    return {
        id(m): finding
        for family, of_family in zip(families, samples, strict=True)
        for m, finding in zip(family, judge(of_family), strict=True)
    }


def _point(runs: PairedRuns, changes: tuple[Change, ...], limits: Limits) -> Point:
    regressions = [*runs.lost, *runs.diverged, *(runs.recovered if limits.two_sided else ())]
    regressions += [in_words(change) for change in changes if change.verdict == "regressed"]
    remarks = [*(() if limits.two_sided else runs.recovered), *runs.remarks]
    # If only speeds were measured and they decide nothing, it is enough that the runs ended well.
    deciding = [change for change in changes if limits.decides(change.quantity)] or changes
    held = any(change.verdict != "not compared" for change in deciding) or (runs.settled and not changes)
    losses, accuracies = (_means(paired(runs.pairs, column)) for column in ("test_loss", "test_accuracy"))
    unmeasured = ["nothing was measured on both sides"] if runs.pairs and not changes else []
    left_out = [in_words(change) for change in changes if change.verdict == "not compared"]
    return Point(
        runs.match.label,
        runs.match.settings,
        "regressed" if regressions else "held" if held else "not compared",
        (*regressions, *remarks, *unmeasured, *left_out),
        changes,
        (perplexity_of(losses[0]), perplexity_of(losses[1])) if losses else None,
        accuracies,
    )


def _means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The means of the baseline and of the candidate; None without pairs."""
    return (fmean(before for before, _ in pairs), fmean(after for _, after in pairs)) if pairs else None


def _verdict(
    points: Sequence[Point], overall: Change | None, new: Sequence[str], limits: Limits
) -> tuple[Verdict, str]:
    def labelled(verdict: Verdict) -> list[str]:
        return [f"{point.label}: {', '.join(point.reasons)}" for point in points if point.verdict == verdict]

    regressed, held, left_out = labelled("regressed"), labelled("held"), labelled("not compared")
    if overall and overall.verdict == "regressed":
        together = f"all points together: {in_words(overall)}"
        return "regressed", "; ".join([f"regressed: {len(regressed)} of {len(points)} points", together, *regressed])
    if regressed:
        return "regressed", "; ".join([f"regressed: {len(regressed)} of {len(points)} points", *regressed])
    timed = [change for point in points for change in point.changes if change.quantity == "tokens_per_second"]
    if limits.throughput is not None and all(change.verdict == "not compared" for change in timed):
        # A question about speed must not be answered with `held` when nothing could be judged.
        left_out = [*dict.fromkeys(map(in_words, timed))] or left_out or ["tokens/s not measured on both sides"]
        held = []
    if not held:
        return "not compared", f"could not compare: {'; '.join(left_out)}"
    parts = [f"held: {len(held)} of {len(points)} points", *(f"not compared: {point}" for point in left_out)]
    undecided = sum(any(c.verdict == "undecided" and limits.decides(c.quantity) for c in p.changes) for p in points)
    parts += [f"{undecided} inconclusive"] * bool(undecided)
    improved = sum(any(change.improved for change in point.changes) for point in points)
    parts += [f"{improved} improved"] * bool(improved)
    if timed and len(timed) == sum(len(point.changes) for point in points) and limits.throughput is None:
        parts.append("speeds decide nothing")
    return "held", "; ".join([*parts, *([f"{len(new)} new"] if new else [])])
