"""The results of a search: its trials, its best points, and which settings matter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gluon_rnn.common.printable import counted
from gluon_rnn.config.search_space import Range
from gluon_rnn.reporting.report.content import Column, Section, Shares, Table, Trials, figure, listed
from gluon_rnn.reporting.report.group import Group, meaning
from gluon_rnn.reporting.report.reading import Run, Searched
from gluon_rnn.runs.metrics import SECONDS, outcome
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.sweeps.importance import (
    LEAST_BEST,
    LEAST_RUNS,
    Importance,
    counted_runs,
    importances,
    is_complete,
)

#: Of the best points of a search.
_SHOWN = 10


def searched(group: Group, searches: Sequence[Searched]) -> list[Section]:
    """The sections on the `searches` whose runs are in `group`: results and importance of settings."""
    sections = []
    for search, found in _of(group, searches):
        where = f" in {search.folder}" * (len(searches) > 1)
        records = [run.record for run in found.values()]
        matters = importances(search.settings, search.proposals, records)
        sections.append(_outcome(group, search, found, matters, where))
        sections += [_importance(matters, records, where)] if matters else []
    return sections


def searched_axes(group: Group, searches: Sequence[Searched]) -> dict[str, bool | None]:
    """The settings of `group` that a search samples, and whether on a logarithmic scale (None: from a list).

    A grid search is left out: its points are shown as those of any grid.
    """
    dimensions = [
        (name, dimension.log if isinstance(dimension, Range) else None)
        for search, _ in _of(group, searches)
        if search.settings.sampler != "grid"
        for name, _, dimension in search.settings.dimensions()
    ]
    return dict(dimensions)


def _of(group: Group, searches: Sequence[Searched]) -> Iterator[tuple[Searched, dict[str, Run]]]:
    """The `searches` with runs in `group`, each with these by run_id."""
    runs = {run.record.run_id: run for point in group.points for run in point.runs}
    for search in searches:
        if found := {p.run_id: runs[p.run_id] for p in search.proposals if p.run_id in runs}:
            yield search, found


def _outcome(
    group: Group, search: Searched, found: Mapping[str, Run], matters: Sequence[Importance], where: str
) -> Section:
    """The trials, the improvement of the best loss, and the best points."""
    records = {run_id: run.record for run_id, run in found.items()}
    notes = [_trials(search, [*records.values()])]
    searched = {proposal.run_id for proposal in search.proposals}
    here = (run for point in group.points for run in point.runs if run.folder == search.folder)
    if others := sum(run.record.run_id not in searched for run in here):
        does = "is not of the search and does" if others == 1 else "are not of the search and do"
        notes.append(f"{counted(others, 'other run')} in this folder {does} not count here.")
    notes.append(
        "The best points so far, by validation alone, with the settings that were searched. Repeat them with other "
        "seeds before you trust small differences."
    )
    if not matters:
        notes.append(_too_early([*records.values()]))
    trials = [(number, records[p.run_id]) for number, p in enumerate(search.proposals, 1) if p.run_id in records]
    table = _best(group, search, found)
    plots = [plot] if (plot := _history(group, trials)) else []
    return Section(f"Search{where}", notes=notes, plots=plots, tables=[table] if table.rows else [])


def _trials(search: Searched, records: Sequence[RunRecord]) -> str:
    """The number of trials, how they were chosen, and how they ended."""
    settings, tried = search.settings, len(search.proposals)
    ends = Counter("complete" if record.status == "ok" else str(record.status) for record in records)
    waiting = tried - len(records)
    parts = [f"{count:,} {end}" for end, count in sorted(ends.items(), key=lambda item: (item[0] != "complete", item))]
    parts += [f"{waiting:,} not ended yet"] * bool(waiting)
    chosen = f"sampler {settings.sampler}" + f" with seed {settings.seed}" * (settings.sampler != "grid")
    ending = "no pruner" if settings.pruner == "none" else f"pruner {settings.pruner}"
    return f"{tried:,} of {counted(settings.trials or tried, 'trial')}: {listed(parts)}; {chosen}, {ending}."


def _too_early(records: Sequence[RunRecord]) -> str:
    """Why importance cannot be computed."""
    runs, complete = len(counted_runs(records)), sum(map(is_complete, records))
    if runs < LEAST_RUNS or complete < LEAST_BEST:
        return (
            f"Which settings matter cannot be told from {counted(runs, 'run')}, {complete:,} of them complete: that "
            f"takes {LEAST_RUNS} runs, {LEAST_BEST} of them complete."
        )
    return f"Which settings matter cannot be told: the best of the {runs:,} runs differ from the others in nothing."


def _history(group: Group, trials: Sequence[tuple[int, RunRecord]]) -> Trials | None:
    """Losses in the order of the trials; None if fewer than two can be drawn."""
    losses: dict[str, list[tuple[int, float]]] = {"ok": [], "pruned": []}
    best: list[tuple[int, float]] = []
    for number, record in trials:
        loss = getattr(record, group.loss.column)
        if record.status in losses and loss is not None and math.isfinite(loss):
            losses[record.status].append((number, loss))
        if record.status == "ok" and loss is not None:
            best.append((number, min([loss, *(lowest for _, lowest in best[-1:])])))
    if len(losses["ok"]) + len(losses["pruned"]) < 2:
        return None
    if best:
        best.append((trials[-1][0], best[-1][1]))
    return Trials("How the best improved", group.axis, losses["ok"], losses["pruned"], best)


def _best(group: Group, search: Searched, found: Mapping[str, Run]) -> Table:
    """The best points with the settings that were searched."""
    loss = group.loss
    timed = any(run.speeds_count for run in found.values())
    columns = [Column("trial", "place in the order of the search", 0), Column(loss.title, digits=loss.digits)]
    columns += [Column(name, meaning(name)) for name in search.settings.fields]
    columns.append(Column("epochs", meaning("epochs_run"), 0))
    columns += [Column(SECONDS.title, meaning(SECONDS.column), SECONDS.digits)] * timed
    rows: list[list[Any]] = []
    for number, proposal in enumerate(search.proposals, 1):
        run = found.get(proposal.run_id)
        if run is None or run.record.status != "ok" or (value := getattr(run.record, loss.column)) is None:
            continue
        # What stands under another condition is not a setting of this point.
        settings = [proposal.point.get(name, "-") for name in search.settings.fields]
        spent = [run.record.wall_seconds if run.speeds_count else None] * timed
        rows.append([number, loss.figure(value), *settings, run.record.epochs_run, *spent, outcome(run.record)])
    rows = sorted(rows, key=lambda row: (row[1], row[0]))[:_SHOWN]
    if any(row[-1] != "ok" for row in rows):
        return Table([*columns, Column("status", meaning("status"))], rows)
    return Table(columns, [row[:-1] for row in rows])


def _importance(matters: Sequence[Importance], records: Sequence[RunRecord], where: str) -> Section:
    """The importance of each setting, and what it is based on."""
    notes = [
        "How much each setting decides whether a run is among the best quarter, by validation: PED-ANOVA (Watanabe, "
        "Bansal and Hutter, 2023) compares the values of the best quarter of the runs with those of all. Shares add "
        "up to 100 %. They say what to search further, not how much there is to gain.",
        "The mark is what chance exceeds in one case of 20, from losses that are dealt out to the runs at random. "
        "Settings that stay below it are grey: these runs do not tell whether they matter.",
        _used(records),
    ]
    if any(item.parameter.endswith(")") for item in matters):
        notes.append(
            "A setting with a condition in parentheses varied only in runs that meet it. It has 0 % where none of the "
            "best does."
        )
    columns = [
        Column("setting", "with its condition, where it has one"),
        Column("importance %", "share of the importances of all settings", 1),
        Column("by chance %", "what chance exceeds in one case of 20", 1),
        Column("runs", "in which it varied", 0),
    ]
    rows = [[item.parameter, 100 * item.share, 100 * item.chance, item.runs] for item in matters]
    plot = Shares("Importance", "importance (%)", [(item.parameter, item.share, item.chance) for item in matters])
    return Section(f"Importance of settings{where}", notes=notes, plots=[plot], tables=[Table(columns, rows)])


def _used(records: Sequence[RunRecord]) -> str:
    """Which runs importance is based on."""
    ends = Counter(record.status for record in counted_runs(records))
    complete = sum(map(is_complete, records))
    parts = [f"{complete:,} complete", *(f"{ends[end]:,} {end}" for end in ("diverged", "pruned") if ends[end])]
    text = f"From {listed(parts)} runs."
    if len(parts) > 1:
        text += " Only complete runs can be among the best."
    if ends["pruned"]:
        text += " The loss of a pruned run is of fewer epochs and does not compare with theirs."
    return text


def importance_line(matters: Sequence[Importance], records: Sequence[RunRecord]) -> str:
    """A line such as ``importance: learning_rate 62 %, hidden_size 21 %; no more than chance: dropout``, or why not."""
    if not matters:
        return _too_early(records)
    sure = [f"{item.parameter} {figure(100 * item.share, 0)} %" for item in matters if item.sure]
    rest = [item.parameter for item in matters if not item.sure]
    parts = [f"importance: {', '.join(sure)}"] * bool(sure)
    parts += [f"{'no more than chance' if sure else 'importance: none above chance'}: {', '.join(rest)}"] * bool(rest)
    return "; ".join(parts)
