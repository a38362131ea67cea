"""What a report says of a search: its trials, its best points, and which settings matter."""

from __future__ import annotations

import json
import math
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.config.search_space import parse_search
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.reporting.report.content import Document, Lines, Section, Shares, Trials
from gluon_rnn.reporting.report.document import compose
from gluon_rnn.reporting.report.reading import read_folders
from gluon_rnn.reporting.report.rendering import to_html, to_markdown
from gluon_rnn.reporting.report.searches import importance_line
from gluon_rnn.runs.epochs import write_epochs
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.records import read_records, write_record
from gluon_rnn.sweeps.importance import Importance
from gluon_rnn.sweeps.running import run_sweep
from tests.conftest import small_config
from tests.runs.test_records import epoch, keep, make_done
from tests.sweeps.test_search import live
from tests.sweeps.test_sweep import FakeExecutor, ignore, plan

SPACE = {
    "cell": ["lstm", "gru"],
    "dropout": "uniform(0, 0.5)",
}
CONDITIONS = [
    {"when": {"cell": "lstm"}, "space": {"learning_rate": "log(3, 300)"}},
    {"when": {"cell": "gru"}, "space": {"learning_rate": "log(0.1, 10)", "clip": "uniform(0.1, 1)"}},
]


def worker(job: Job, directory: Path) -> tuple[str | None, str]:
    """Best at a rate of 10; rates above 100 diverge, and one run fails."""
    rate = job.config.learning_rate
    if zlib.crc32(job.run_id.encode()) % 10 == 0:
        return "failed", "for once"
    if rate > 100:
        write_record(directory, make_done(job, status="diverged", reason="the loss was nan"))
        return None, ""
    first = 5 + math.log10(rate / 10) ** 2 + job.config.dropout / 100
    epochs = [epoch(1, first, 9.0), epoch(2, first - 1, 9.0 + job.config.dropout)]
    live(directory, epochs[:1])
    write_epochs(directory, job.run_id, epochs)
    # Each at a time of its own: runs that share a processor have no times that count.
    started = datetime(2024, 1, 2, tzinfo=timezone.utc) + timedelta(minutes=zlib.crc32(job.run_id.encode()) % 500_000)
    columns = {"unigram_loss": 20.0, "started_at": started.isoformat(), "wall_seconds": 10.0 + rate}
    write_record(directory, make_done(job, epochs).with_columns(columns))
    return None, ""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, small_folder: Path) -> Path:
    """The folder of a search of 30 trials."""
    return search_in(tmp_path_factory.mktemp("results"), small_folder, trials=30, pruner="median", sampler="random")


@pytest.fixture(scope="module")
def document(found: Path) -> Document:
    return document_of(found)


def search_in(results: Path, corpus: Path, **settings: Any) -> Path:
    varied = {"learning_rate", "cell", "dropout", "clip"}
    fixed = small_config(dataset=str(corpus)).model_dump(exclude=varied, exclude_unset=True)
    search = parse_search({"space": SPACE, "conditions": CONDITIONS, **settings}, {})
    run_sweep(
        plan(Sweep("found", settings=fixed, search=search), results), executor=FakeExecutor(worker), notice=ignore
    )
    return results / "found"


def document_of(*folders: Path) -> Document:
    return compose(read_folders(folders))


def section(document: Document, heading: str) -> Section:
    return next(item for item in document.sections if item.heading == heading)


def points_of(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    return {point["run_id"]: point["set"] for point in json.loads((folder / "sweep.json").read_text())["points"]}


def test_the_section_counts_trials_and_has_the_best_points_by_validation(found: Path, document: Document) -> None:
    records = {record.run_id: record for record in read_records(found)[0]}
    ended = [record.status for record in records.values()]
    shown = section(document, "Search")
    counts = [f"{ended.count(status)} {status}" for status in ("diverged", "failed", "pruned")]
    assert min(ended.count(status) for status in ("ok", "diverged", "failed", "pruned")) > 0
    assert shown.notes[0] == (
        f"30 of 30 trials: {ended.count('ok')} complete, {counts[0]}, {counts[1]} and {counts[2]}; sampler random with "
        "seed 0, pruner median."
    )
    (table,) = shown.tables
    assert [c.name for c in table.columns] == [
        *("trial", "valid ppl", "cell", "dropout", "learning_rate", "clip", "epochs", "seconds"),
    ]
    points = [*points_of(found).items()]
    best = sorted((r for r in records.values() if r.status == "ok"), key=lambda r: r.valid_loss or 0)[:10]
    assert [points[row[0] - 1][0] for row in table.rows] == [record.run_id for record in best]
    assert [row[1] for row in table.rows] == [record.valid_perplexity for record in best]
    for row in table.rows:
        point = points[row[0] - 1][1]
        assert row[2:6] == [point["cell"], point["dropout"], point["learning_rate"], point.get("clip", "-")]
        assert row[6:] == [2, 10.0 + point["learning_rate"]]
    assert {row[5] == "-" for row in table.rows if row[2] == "lstm"} == {True}


def test_the_chart_has_every_finite_loss_and_the_best_so_far(found: Path, document: Document) -> None:
    (chart,) = section(document, "Search").plots
    assert isinstance(chart, Trials)
    records = {record.run_id: record for record in read_records(found)[0]}
    trials = {number: records[run_id] for number, run_id in enumerate(points_of(found), 1)}
    for spots, status in ((chart.complete, "ok"), (chart.pruned, "pruned")):
        assert list(spots) == [(n, r.valid_perplexity) for n, r in trials.items() if r.status == status]
    best: list[tuple[int, float]] = []
    for number, loss in chart.complete:
        best.append((number, min([loss, *(lowest for _, lowest in best)])))
    assert list(chart.best) == [*best, (30, best[-1][1])]


def test_importance_says_what_it_rests_on(found: Path, document: Document) -> None:
    shown = section(document, "Importance of settings")
    (chart,) = shown.plots
    assert isinstance(chart, Shares)
    assert [row[1] for row in shown.tables[0].rows] == [100 * share for _, share, _ in chart.bars]
    names = [row[0] for row in shown.tables[0].rows]
    assert {*names} == {
        *("cell", "dropout", "learning_rate (cell=lstm)", "learning_rate (cell=gru)", "clip (cell=gru)"),
    }
    assert names[0].startswith("learning_rate")
    statuses = [record.status for record in read_records(found)[0]]
    complete, diverged, pruned = (statuses.count(status) for status in ("ok", "diverged", "pruned"))
    assert shown.notes[2] == (
        f"From {complete} complete, {diverged} diverged and {pruned} pruned runs. Only complete runs can be among the "
        "best. The loss of a pruned run is of fewer epochs and does not compare with theirs."
    )
    headings = [item.heading for item in document.sections]
    assert headings.index("Search") + 1 == headings.index("Importance of settings") == headings.index("Ranking") - 1
    drawn = [item for item in document.sections if item.heading in ("Search", shown.heading, "By learning_rate")]
    page, text = to_html(replace(document, sections=drawn)), to_markdown(document)
    # A logarithmic axis of many values has numbers, not TeX.
    assert "mathdefault" not in page
    assert 'aria-label="How the best improved"' in page
    assert 'aria-label="Importance"' in page
    assert "| learning_rate (cell=lstm) |" in text


def test_each_good_run_of_a_search_is_a_dot_over_each_setting(found: Path, document: Document) -> None:
    good = [record for record in read_records(found)[0] if record.status == "ok"]
    for name in ("learning_rate", "dropout"):
        chart = section(document, f"By {name}").plots[0]
        assert isinstance(chart, Lines)
        assert (chart.joined, chart.logarithmic) == (False, name == "learning_rate")
        assert [line.kind for line in chart.lines] == ["gru", "lstm"]
        for line in chart.lines:
            mine = sorted((getattr(r.config, name), r.valid_perplexity) for r in good if r.config.cell == line.kind)
            assert [spot[:2] for spot in line.points] == mine
            assert line.points[line.best or 0][1] == min(loss for _, loss in mine)


def test_a_pruned_run_did_not_fail_and_comes_after_the_complete_ones(document: Document) -> None:
    failed = section(document, "Failed runs").tables[0]
    place = [c.name for c in failed.columns].index("status")
    assert {row[place] for row in failed.rows} == {"diverged", "failed"}
    ranking = section(document, "Ranking")
    assert "Pruned points come after complete ones: their losses are of fewer epochs." in ranking.notes
    statuses = [row[-1] for row in ranking.tables[0].rows]
    assert statuses.index("pruned") > max(n for n, status in enumerate(statuses) if status == "ok")
    assert statuses.index("failed") > max(n for n, status in enumerate(statuses) if status == "pruned")


def test_few_runs_are_a_sentence(tmp_path: Path, small_folder: Path) -> None:
    document = document_of(search_in(tmp_path, small_folder, trials=9))
    assert all(not item.heading.startswith("Importance") for item in document.sections)
    assert section(document, "Search").notes[-1] == (
        "Which settings matter cannot be told from 8 runs, 8 of them complete: that takes 20 runs, 5 of them complete."
    )


def test_runs_that_the_search_did_not_propose_are_said_to_be_others(tmp_path: Path, small_folder: Path) -> None:
    folder = search_in(tmp_path, small_folder, trials=5)
    record = read_records(folder)[0][0]
    keep(folder, record.with_columns({"run_id": "other", "valid_perplexity": 2.0, "seed": 5}))
    shown = section(document_of(folder), "Search")
    assert "1 other run in this folder is not of the search and does not count here." in shown.notes
    assert min(row[1] for row in shown.tables[0].rows) > 2.0


def test_runs_of_a_copy_that_went_on_count_once(tmp_path: Path, small_folder: Path) -> None:
    folder = search_in(tmp_path, small_folder, trials=5)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    # One of its points has been run again there.
    record = read_records(copy)[0][0]
    shutil.rmtree(copy / "runs" / record.run_id)
    keep(copy, record.with_columns({"wall_seconds": 123.0}))
    notes = [note for item in document_of(folder, copy).sections for note in item.notes]
    assert not any("not of the search" in note for note in notes)


def test_a_folder_without_a_search_or_its_space_has_no_such_section(tmp_path: Path, small_folder: Path) -> None:
    folder = search_in(tmp_path, small_folder, trials=5)
    content = json.loads((folder / "sweep.json").read_text())
    for search, note in (
        ({"trials": 5, "space": {"cell": "lstm, gru"}}, "an earlier version recorded"),
        (None, None),
    ):
        (folder / "sweep.json").write_text(json.dumps({**content, "search": search}))
        document = document_of(folder)
        assert all(item.heading != "Search" for item in document.sections)
        said = [text for item in document.sections if item.heading == "Before you compare" for text in item.notes]
        assert any(note in text for text in said) if note else all("search" not in text for text in said)


def test_two_searches_have_a_section_each(tmp_path: Path, small_folder: Path) -> None:
    first = search_in(tmp_path / "a", small_folder, trials=5)
    second = search_in(tmp_path / "b", small_folder, trials=6, seed=1)
    headings = [item.heading for item in document_of(first, second).sections]
    assert [heading for heading in headings if heading.startswith("Search")] == [
        "Search in a/found",
        "Search in b/found",
    ]


def test_importance_in_one_line() -> None:
    rate, clip = Importance("learning_rate", 0.8, 0.3, 20), Importance("clip", 0.2, 0.4, 20)
    assert importance_line([rate, clip], []) == "importance: learning_rate 80 %; no more than chance: clip"
    assert importance_line([rate], []) == "importance: learning_rate 80 %"
    assert importance_line([clip], []) == "importance: none above chance: clip"
