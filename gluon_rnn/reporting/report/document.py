"""The sections of a report, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from gluon_rnn.common.printable import counted
from gluon_rnn.reporting.report.charts import against_throughput, curves, maps, over_axes
from gluon_rnn.reporting.report.choices import choice
from gluon_rnn.reporting.report.content import Column, Document, Section, Table, listed
from gluon_rnn.reporting.report.evaluations import evaluations
from gluon_rnn.reporting.report.group import Group, meaning
from gluon_rnn.reporting.report.points import Place, places_of
from gluon_rnn.reporting.report.rankings import beside_published, over_seeds, ranking
from gluon_rnn.reporting.report.reading import Findings, Run, Searched
from gluon_rnn.reporting.report.recipe import recipe, short_commit
from gluon_rnn.reporting.report.searches import searched, searched_axes
from gluon_rnn.reporting.report.single_runs import (
    confusions,
    failures,
    predictions,
    runs,
    time_spent,
    to_the_minute,
)
from gluon_rnn.reporting.report.targets import time_to_targets
from gluon_rnn.runs.contents import Names
from gluon_rnn.runs.metrics import outcome, scored_on


def compose(findings: Findings, targets: Sequence[float] = ()) -> Document:
    """The report on `findings`: a part for each group of runs whose losses compare, and one on machines.

    Within a group one configuration is one point, whichever folder or machine its runs are from. Speeds are set against
    each other within a place only: one machine, device and number of threads.

    Args:
        findings: what folders hold.
        targets: the perplexities to which times are shown; empty: some that tell the points apart.
    """
    every = [*findings.runs, *(findings.timed or ())]
    places = places_of(every)
    names = Names(run.record.row for run in every)
    groups = groups_of(findings)
    sections = [section for group in groups for section in _sections(group, targets, findings.searches)]
    notes = [*findings.notes, *_cautions(groups, places, names)]
    if scored_again := evaluations(findings.runs, findings.evaluations, names):
        sections.append(scored_again)
    sections.append(_machines(every, places))
    if notes:
        sections.insert(0, Section("Before you compare", level=2, notes=notes))
    return Document(_title(findings), _summary(findings.runs), sections)


def groups_of(findings: Findings) -> list[Group]:
    """Groups of runs whose losses compare; throughput runs are grouped by place, since only speeds compare."""
    every = [*findings.runs, *(findings.timed or ())]
    places = places_of(every)
    names = Names(run.record.row for run in every)
    lettered = {place._replace(letter=""): place.letter for place in places}
    found: dict[tuple[Any, ...], list[Run]] = {}
    for run in findings.runs:
        speed_alone = bool(run.record.config.max_steps)
        where = lettered[Place.of(run.record)] if speed_alone else ""
        found.setdefault((scored_on(run.record), speed_alone, where), []).append(run)
    several = len({key[2] for key in found if key[1]}) > 1
    return [
        Group(found[key], places, names, findings.timed, where=key[2] if several else "")
        for key in sorted(found, key=lambda key: tuple(map(str, key)))
    ]


#: What the losses of two groups can differ in, as the note on them says it.
_DIFFERENCES = ("dataset", "max_eval_tokens", "objective", "level", "lower", "min_freq")


def _cautions(groups: Sequence[Group], places: Sequence[Place], names: Names) -> list[str]:
    """Notes that readers need before they compare runs."""
    notes = []
    if names:
        notes.append(
            "Some corpora, word vectors or cells have one name and different contents: the first digits of their SHA-1 "
            "stand behind it."
        )
    scored = [group for group in groups if group.scored]
    if len(scored) > 1:
        values = {name: _distinct([group.record.row[name] for group in scored]) for name in _DIFFERENCES}
        differ = [f"{name} ({' and '.join(found)})" for name, found in values.items() if len(found) > 1]
        what = listed(differ) or "the contents of their corpus"
        notes.append(f"These runs differ in {what}; compare losses only within a section.")
    if len(places) > 1:
        notes.append(
            f"The runs come from {len(places)} places: a machine, device or number of threads each, lettered "
            f"{places[0].letter} to {places[-1].letter} and described at the end. Speed and memory compare within one."
        )
    return notes


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys("none" if value is None else str(value) for value in values))


def _title(findings: Findings) -> str:
    """The title, such as ``wikitext2-cpu: 3 cells on wikitext-2``."""
    configs = [run.record.config for run in findings.runs]
    cells, corpora = (sorted(_distinct(found)) for found in zip(*((c.cell, c.dataset) for c in configs), strict=True))
    what = listed(cells) if len(cells) <= _NAMED else counted(len(cells), "cell")
    where = listed(corpora) if len(corpora) <= _NAMED else f"{len(corpora)} corpora"
    return f"{listed(findings.folders)}: {what} on {where}"


#: Of cells or corpora in a title.
_NAMED = 3


def _summary(runs: Sequence[Run]) -> str:
    counts = Counter(outcome(run.record) for run in runs)
    outcomes = ", ".join(f"{count} {status or 'of unknown status'}" for status, count in sorted(counts.items()))
    times = sorted(to_the_minute(run.record.started_at) for run in runs if run.record.started_at)
    when = ""
    if times:
        # Of the same day the time alone.
        last = times[-1].removeprefix(times[0][:11])
        when = f"; started {times[0]}" + f" to {last}" * (times[-1] != times[0]) + " UTC"
    return f"{counted(len(runs), 'run')} ({outcomes}){when}."


def _sections(group: Group, targets: Sequence[float], searches: Sequence[Searched]) -> list[Section]:
    """The part of a report on one group: every section that is not empty."""
    sections: list[Section | None] = [choice(group), *searched(group, searches), ranking(group), recipe(group)]
    sections += [*over_axes(group, searched_axes(group, searches)), *maps(group)]
    sections += [against_throughput(group), time_to_targets(group, targets), curves(group)]
    rest = (over_seeds, confusions, predictions, time_spent, failures, beside_published, runs)
    return [section for section in (*sections, *(of(group) for of in rest)) if section]


def _machines(runs: Sequence[Run], places: Sequence[Place]) -> Section:
    machine = ("device_name", "machine_id", "device", "threads")
    software = ("blas", "mxnet_version", "gluonnlp_version", "numpy_version", "git_commit", "git_dirty")
    names = machine + software
    letters = {place._replace(letter=""): place.letter for place in places}
    records = [run.record for run in runs]
    counts = Counter(
        (letters[Place.of(record)], *(short_commit(record.row[name], name) for name in names)) for record in records
    )
    columns = [Column("place"), Column("runs", digits=0), *(Column(name, meaning(name)) for name in names)]
    cells = [[key[0], count, *key[1:]] for key, count in sorted(counts.items(), key=lambda c: tuple(map(str, c[0])))]
    notes = []
    environments: dict[str, set[str]] = {}
    for record in records:
        environments.setdefault(record.environment or "none", set()).add(letters[Place.of(record)])
    logs = [
        (f"Environment of the runs on {listed(sorted(found))}", text) for text, found in sorted(environments.items())
    ]
    differ = [name for name in (*software, "environment") if len({record.row[name] for record in records} - {None}) > 1]
    if differ:
        notes.append(f"The runs differ in {listed(differ)}, which can move speeds and the last bits of a result.")
    return Section("Machines and versions", level=2, notes=notes, tables=[Table(columns, cells)], logs=logs)
