"""What a report says of runs, section by section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gluon_rnn.common.printable import counted
from gluon_rnn.reporting.report.charts import against_throughput, curves, maps
from gluon_rnn.reporting.report.choices import choice
from gluon_rnn.reporting.report.content import Column, Document, Section, Table
from gluon_rnn.reporting.report.evaluations import evaluations
from gluon_rnn.reporting.report.group import Group, listed, meaning
from gluon_rnn.reporting.report.points import Place, places_of
from gluon_rnn.reporting.report.rankings import beside_published, over_seeds, ranking
from gluon_rnn.reporting.report.reading import Findings, Run
from gluon_rnn.reporting.report.single_runs import confusions, failures, predictions, time_spent
from gluon_rnn.runs.contents import Names
from gluon_rnn.runs.metrics import outcome, scored_on


def compose(findings: Findings) -> Document:
    """The report of `findings`: a part for each group of runs whose losses compare, and one on machines.

    Within a group runs of different machines, devices or thread counts are ranked in one table, which names the place
    of each; they are never averaged, and speeds are set against each other within a place only.
    """
    places = places_of(findings.runs)
    names = Names(run.record.row for run in findings.runs)
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in findings.runs:
        groups.setdefault(scored_on(run.record), []).append(run)
    sections: list[Section] = []
    for key in sorted(groups, key=lambda key: tuple(map(str, key))):
        sections += _sections(Group(groups[key], places, names))
    notes = list(findings.notes)
    if names:
        notes.append(
            "Some corpora, word vectors or cells have one name and different contents: the first digits of their SHA-1 "
            "stand behind it."
        )
    if len(groups) > 1:
        notes.append(
            "There are several corpora, parts of one, ways to take its text apart, or objectives: a loss, or a "
            "perplexity, compares within one only."
        )
    if len(places) > 1:
        notes.append(
            f"The runs come from {len(places)} places: a machine, device or number of threads each, lettered "
            f"{places[0].letter} to {places[-1].letter} and described at the end. Speed and memory compare within one."
        )
    if scored_again := evaluations(findings.runs, findings.evaluations, names):
        sections.append(scored_again)
    sections.append(_machines(findings.runs, places))
    if notes:
        sections.insert(0, Section("Before you compare", level=2, notes=notes))
    return Document(" and ".join(findings.folders), _summary(findings.runs), sections)


def _summary(runs: Sequence[Run]) -> str:
    counts = Counter(outcome(run.record) for run in runs)
    outcomes = ", ".join(f"{count} {status or 'of unknown status'}" for status, count in sorted(counts.items()))
    times = sorted(run.record.started_at for run in runs if run.record.started_at)
    when = f"; started {times[0]}" + (f" to {times[-1]}" if times[-1] != times[0] else "") if times else ""
    return f"{counted(len(runs), 'run')} ({outcomes}){when}."


def _sections(group: Group) -> list[Section]:
    """The part of a report on a group: all sections that have something to say."""
    sections = [choice(group), ranking(group), against_throughput(group), *maps(group), curves(group)]
    rest = (over_seeds, confusions, predictions, time_spent, failures, beside_published)
    return [section for section in (*sections, *(of(group) for of in rest)) if section]


def _machines(runs: Sequence[Run], places: Sequence[Place]) -> Section:
    machine = ("device_name", "machine_id", "device", "threads")
    software = ("blas", "environment", "mxnet_version", "gluonnlp_version", "numpy_version", "git_commit", "git_dirty")
    names = machine + software
    letters = {place._replace(letter=""): place.letter for place in places}
    records = [run.record for run in runs]
    counts = Counter((letters[Place.of(record)], *(record.row[name] for name in names)) for record in records)
    columns = [Column("place"), Column("runs", digits=0), *(Column(name, meaning(name)) for name in names)]
    cells = [[key[0], count, *key[1:]] for key, count in sorted(counts.items(), key=lambda c: tuple(map(str, c[0])))]
    notes = []
    differ = [name for name in software if len({record.row[name] for record in records} - {None}) > 1]
    if differ:
        notes.append(f"The runs differ in {listed(differ)}, which can move speeds and the last bits of a result.")
    return Section("Machines and versions", level=2, notes=notes, tables=[Table(columns, cells)])
