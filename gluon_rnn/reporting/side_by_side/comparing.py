"""Compares folders of results with the first of them, point by point.

Pairing and significance are those of the gate (`gluon_rnn.reporting.regression`). It asks whether something got worse
by more than is tolerated; here any change counts, either way, unless a tolerance is given.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.printable import counted, printable
from gluon_rnn.config.run import RunConfig
from gluon_rnn.reporting.regression.changes import NAMES, QUANTITIES, Limits, Measured, Quantity, measure
from gluon_rnn.reporting.regression.comparison import PairedRuns, outcome_of, pair_runs
from gluon_rnn.reporting.regression.pairing import Match, Row, differing_fields, match_runs, read_rows
from gluon_rnn.reporting.regression.significance import Finding, Sample, Sittings, judge
from gluon_rnn.reporting.regression.sittings import interleaved, sittings_of
from gluon_rnn.runs.contents import DIGESTS
from gluon_rnn.runs.metrics import SCORED_ON
from gluon_rnn.runs.notes import speeds_count
from gluon_rnn.runs.progress import perplexity as perplexity_of

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["better", "worse", "unchanged", "undecided"]

#: Any change counts.
ANY = Limits(perplexity=0.0, throughput=0.0, floor=0.0, two_sided=True)


@dataclass(frozen=True)
class Folder:
    """A folder of results in a comparison.

    Attributes:
        name: A, B and so on.
        path: as it was given.
        runs: how many.
        commits: of this suite, that made them.
        ignored: the values of each ignored field.
    """

    name: str
    path: str
    runs: int
    commits: tuple[str, ...]
    ignored: dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Difference:
    """The difference in one quantity of a point between two folders.

    Attributes:
        quantity: what it is.
        before: its mean in the first folder: geometric, of losses arithmetic.
        after: and in the other.
        change: after / before - 1; of losses after - before, as for what follows.
        low: the lower end of the change's 95 % confidence interval; None where no spread is known.
        high: the upper end.
        repeats: runs, or sessions of measurement, behind `before` and `after`.
        p_value: of the test that nothing changed by more than is tolerated, corrected for the number of points; None
            where there is no spread.
        verdict: better or worse beyond chance; unchanged: equal to the bit, or within the tolerance beyond chance.
        reason: why it is undecided, if not because of the spread.
    """

    quantity: Quantity
    before: float
    after: float
    change: float
    low: float | None
    high: float | None
    repeats: tuple[int, int]
    p_value: float | None
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Point:
    """A configuration that two folders have in common.

    Attributes:
        label: what tells it from the others, as ``cell=gru bptt=35``.
        settings: the fields that its runs agree in; what is ignored is None.
        loss: its perplexity or, where an accuracy was measured, its loss; None where it was not measured in both.
        speed: tokens a second, likewise.
        verdict: that of `loss`, or of `speed` where there is no loss; worse where a run newly diverged.
        remarks: what else there is to know, such as a seed that failed.
    """

    label: str
    settings: Row
    loss: Difference | None
    speed: Difference | None
    verdict: Verdict
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Against:
    """The comparison of one folder with the first.

    Attributes:
        folder: its name.
        points: those that both have, in the first folder's order.
        missing: labels of the points that only the first folder has.
        new: labels of the points that only this one has.
        changes: the mean of the points' changes, by quantity: of the factors the geometric mean.
    """

    folder: str
    points: tuple[Point, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]
    changes: dict[Quantity, float]


@dataclass(frozen=True)
class Contrast:
    """The comparison of all folders with the first.

    Attributes:
        folders: in the order in which they were given.
        ignored: fields in which runs of one point may differ.
        limits: what counts as a change.
        against: the others beside the first.
        remarks: what puts the comparison in doubt; a line each.
    """

    folders: tuple[Folder, ...]
    ignored: tuple[str, ...]
    limits: Limits
    against: tuple[Against, ...]
    remarks: tuple[str, ...] = ()


def compare_folders(
    folders: Sequence[Path | str | pd.DataFrame], *, ignore: Collection[str] = (), limits: Limits = ANY
) -> Contrast:
    """Compare results with those of the first of `folders`, point by point.

    The runs of a point have equal settings, but for those that are ignored and for the seed. Runs of one seed are
    paired; with the seed ignored, all runs of a point are compared with all. Speeds are compared run by run where the
    folders' runs took turns, else session by session (see `significance.Sittings`), and not at all where the notes of
    either folder say that its speeds do not count.

    Args:
        folders: two or more sweeps' folders, their ``runs.csv``, or `gluon_rnn.load_results` of one.
        ignore: names of settings.
        limits: what must be exceeded, either way.

    Raises:
        UserError: a table cannot be read, a name is not a setting, or no point is in two folders.
    """
    if len(folders) < 2:
        raise UserError(f"name two or more folders to compare, not {len(folders)}")
    for name in ignore:
        if name not in RunConfig.model_fields:
            raise UserError(f"there is no setting {name!r} to ignore{did_you_mean(name, RunConfig.model_fields)}")
    names = [*string.ascii_uppercase, *(f"F{number}" for number in range(27, len(folders) + 1))]
    described = tuple(_folder(name, path, ignore) for name, path in zip(names, folders, strict=False))
    by_seed, slow = "seed" not in ignore, [n for n, folder in enumerate(folders) if not speeds_count(folder)]
    against = tuple(
        _against(
            described[0],
            described[n],
            match_runs(folders[0], folders[n], ignore=ignore),
            by_seed,
            limits if {0, n}.isdisjoint(slow) else replace(limits, speeds=False),
        )
        for n in range(1, len(folders))
    )
    scored = [name for name in SCORED_ON if name in ignore]
    remarks = [f"losses of other {' and '.join(scored)} do not measure the same"] if scored else []
    if slow:
        letters = " and ".join(described[n].name for n in slow)
        remarks.append(f"the speeds of {letters} do not count, as notes.yaml says there; they are left out")
    return Contrast(described, tuple(ignore), limits, against, tuple(remarks))


def _folder(name: str, path: Path | str | pd.DataFrame, ignore: Collection[str]) -> Folder:
    rows = read_rows(path)
    commits = dict.fromkeys(str(row["git_commit"]) for row in rows if row["git_commit"])
    ignored = {field: tuple(dict.fromkeys(row[field] for row in rows)) for field in ignore}
    shown = printable(str(path)) if isinstance(path, Path | str) else "a DataFrame"
    return Folder(name, shown, len(rows), tuple(commits), ignored)


def _against(first: Folder, other: Folder, matches: Sequence[Match], by_seed: bool, limits: Limits) -> Against:
    both = [match for match in matches if match.before and match.after]
    for folder, side in ((first, "before"), (other, "after")):
        if not any(getattr(match, side) for match in matches):
            raise UserError(f"{folder.path} has no runs")
    if not both:
        of_digests = {digest: field for field, digest in DIGESTS.items()}
        fields = [*dict.fromkeys(of_digests.get(field, field) for field in differing_fields(matches))]
        how = f"they differ in {', '.join(fields)}; compare them with --ignore {' '.join(fields)}" if fields else ""
        raise UserError(
            f"{first.path} and {other.path} have no point in common: {how or 'their settings are combined otherwise'}"
        )
    names = (first.name, other.name)
    runs = [pair_runs(match, names) if by_seed else _pool_runs(match, names) for match in both]
    points, changes = _judged(runs, by_seed, limits)
    missing, new = ([m.label for m in matches if not getattr(m, side)] for side in ("after", "before"))
    return Against(other.name, points, tuple(missing), tuple(new), changes)


def _judged(
    runs: Sequence[PairedRuns], by_seed: bool, limits: Limits
) -> tuple[tuple[Point, ...], dict[Quantity, float]]:
    """The points, judged together because each is a chance for a false alarm, and their mean changes."""
    sittings = (
        sittings_of(row for each in runs for row in each.match.before.values()),
        sittings_of(row for each in runs for row in each.match.after.values()),
    )
    points: list[dict[str, Difference]] = [{} for _ in runs]
    changes: dict[Quantity, float] = {}
    measured = [
        measure(each.pairs, sittings, repeated=False, interleaved=interleaved(each.pairs))
        if by_seed
        else _pooled(each.match, sittings)
        for each in runs
    ]
    for quantity in QUANTITIES:
        if quantity == "tokens_per_second" and not limits.speeds:
            continue
        family = {n: m for n, of_point in enumerate(measured) for m in of_point if m.quantity == quantity}
        compared = {n: m for n, m in family.items() if not m.reason}
        samples = [replace(m.sample(limits), two_sided=True) for m in compared.values()]
        findings = dict(zip(compared, zip(samples, judge(samples), strict=True), strict=True))
        for n, m in family.items():
            points[n]["speed" if quantity == "tokens_per_second" else "loss"] = _difference(m, *findings.get(n, ()))
        if compared:
            nats = fmean(m.means[1] - m.means[0] for m in compared.values())
            changes[quantity] = next(iter(compared.values())).difference(nats)
    return tuple(_point(each, by_seed, **found) for each, found in zip(runs, points, strict=True)), changes


def _pool_runs(match: Match, names: tuple[str, str]) -> PairedRuns:
    """Pool the runs of a point whose seeds do not count; failures, and a change in the share of diverged runs, are
    noted.
    """
    runs, shares = PairedRuns(match), []
    for name, side in zip(names, (match.before, match.after), strict=True):
        outcomes = [outcome_of(row) for row in side.values()]
        for outcome in sorted({*outcomes} - {"ok", "diverged"}):
            runs.remarks.append(f"{outcomes.count(outcome)} of {counted(len(outcomes), 'run')} in {name}: {outcome}")
        ended = [outcome for outcome in outcomes if outcome in ("ok", "diverged")]
        shares.append(ended.count("diverged") / len(ended) if ended else 0.0)
    if shares[0] != shares[1]:
        words = f"{shares[0]:.0%} of the runs diverged, now {shares[1]:.0%}"
        (runs.diverged if shares[1] > shares[0] else runs.recovered).append(words)
    return runs


def _pooled(match: Match, sittings: tuple[Mapping[str, int], Mapping[str, int]]) -> list[Measured]:
    """The measurements of a point's runs, all of one side against all of the other."""
    sides = [[row for row in side.values() if outcome_of(row) == "ok"] for side in (match.before, match.after)]
    every = [*product(sides[0], sides[1])]
    found = {m.quantity: m for m in measure(every, sittings, repeated=False)}
    if not every:
        return []
    for quantity, m in found.items():
        if quantity != "tokens_per_second":
            losses = ([row["valid_loss"] for row in side if row["valid_loss"] is not None] for side in sides)
            found[quantity] = replace(m, before=next(losses), after=next(losses), paired=False)
    return [*found.values()]


def _difference(
    measured: Measured, sample: Sample | Sittings | None = None, finding: Finding | None = None
) -> Difference:
    before, after = measured.means
    shown = float if measured.quantity == "valid_loss" else perplexity_of
    interval = sample.interval() if sample else None
    # A sample's nats are positive where it got worse.
    low, high = sorted(measured.difference(measured.worse * nats) for nats in interval) if interval else (None, None)
    verdict: Verdict = "undecided"
    reason = measured.reason
    if sample and finding:
        # One difference is more than none, but says nothing of chance.
        alone = not sample.is_repeated and sample.threshold == 0
        if not sample.is_repeated:
            sitting = measured.quantity == "tokens_per_second" and not measured.paired
            reason = "was measured in one session" if sitting else "was measured once"
        if finding.changed and not alone:
            verdict = "worse" if sample.mean > 0 else "better"
        elif finding.within:
            verdict = "unchanged"
    return Difference(
        measured.quantity,
        shown(before),
        shown(after),
        measured.difference(after - before),
        low,
        high,
        (len(measured.before), len(measured.after)),
        finding.p_value if finding else None,
        verdict,
        reason if verdict == "undecided" else "",
    )


def _point(runs: PairedRuns, by_seed: bool, loss: Difference | None = None, speed: Difference | None = None) -> Point:
    shown = loss or speed
    verdict: Verdict = shown.verdict if shown else "undecided"
    if runs.diverged:
        verdict = "worse"
    elif runs.recovered and verdict != "worse":
        verdict = "better"
    remarks = [*runs.diverged, *runs.recovered, *runs.lost, *runs.remarks]
    if by_seed and not runs.match.before.keys() & runs.match.after.keys() and not shown:
        remarks = ["no seed is in both; --ignore seed compares the means"]
    elif not shown and not runs.settled and not runs.diverged:
        remarks.append("nothing was measured in both")
    remarks += [f"{NAMES[each.quantity]} {each.reason}" for each in (loss, speed) if each and each.reason]
    return Point(runs.match.label or "all runs", runs.match.settings, loss, speed, verdict, tuple(remarks))
