"""What people read of a sweep: which numbers stand where, whatever rows hold, and equal bytes for equal rows."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import pytest
import yaml

from gluon_rnn import cli, load_results, write_report
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import sha1_of_file
from gluon_rnn.common.printable import printable
from gluon_rnn.config.sweep_file import Sweep, load_sweep
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.reporting import columns_page as columns
from gluon_rnn.reporting.report.answers import confusion_tables
from gluon_rnn.reporting.report.content import Bars, Curves, Document, HeatMap, Line, Lines, Scatter, Section, Spot
from gluon_rnn.reporting.report.document import compose
from gluon_rnn.reporting.report.plots import to_svg
from gluon_rnn.reporting.report.points import (
    Point,
    compromise,
    fastest_within,
    pareto_front,
    points_of,
    ranked,
    spread,
)
from gluon_rnn.reporting.report.reading import Run, read_folders
from gluon_rnn.reporting.report.rendering import to_html
from gluon_rnn.runs.epochs import EPOCH_COLUMNS, describe_epoch
from gluon_rnn.runs.job import Job
from gluon_rnn.runs.progress import Confusion, EpochResult, Prediction
from gluon_rnn.runs.records import COLUMNS, FIELDS, RunRecord, describe, write_record
from gluon_rnn.runs.tables import write_tables
from gluon_rnn.sweeps.planning import plan_sweep
from gluon_rnn.sweeps.running import run_sweep
from tests.cli.test_cli import environment
from tests.conftest import small_config
from tests.runs.test_records import as_before, drop_columns, epoch, keep, make_done, make_job
from tests.sweeps.test_sweep import FakeExecutor, machine, write_vectors

HOSTILE = '</script><img src=x onerror="window.ran=1"><script>window.ran=1</script>|`x`**b**$y$ [a](http://h) & \\|'

PPL = "valid_perplexity"

SETTINGS = ("cell", "bptt", "hidden_size", "seed", "clip", "objective", "level", "lower", "min_freq")


def make(corpus: CorpusFiles, name: str, **columns: Any) -> RunRecord:
    """A row called `name`; settings and results alike by their columns' names."""
    settings = {key: columns.pop(key) for key in list(columns) if key in SETTINGS}
    record = make_done(make_job(corpus, run_id=name, **settings))
    loss = columns.get("valid_perplexity")
    # Each at a time of its own: runs that share a processor have no speeds that count.
    minutes = timedelta(minutes=zlib.crc32(name.encode()) % 500_000)
    started = (datetime(2024, 1, 2, tzinfo=timezone.utc) + minutes).isoformat()
    return record.with_columns({"epochs_run": 0 if loss is None else 1, "started_at": started, **columns})


def good(corpus: CorpusFiles, name: str, perplexity: float, speed: float, **columns: Any) -> RunRecord:
    results = {"valid_perplexity": perplexity, "test_perplexity": perplexity - 1, "tokens_per_second": speed}
    return make(corpus, name, **{**results, "peak_rss_mb": 500.0, "wall_seconds": 20.0, **columns})


def learned(corpus: CorpusFiles, name: str, perplexity: float, speed: float, **columns: Any) -> RunRecord:
    """A run whose loss is known beside its perplexity."""
    return good(corpus, name, perplexity, speed, **{"valid_loss": math.log(perplexity), **columns})


def points(*records: RunRecord) -> list[Point]:
    return ranked(points_of(Run("grid", record) for record in records), PPL)


def labelled(corpus: CorpusFiles, name: str, loss: float, accuracy: float, speed: float, **columns: Any) -> RunRecord:
    """A run of which an accuracy was measured."""
    results = {"valid_loss": loss, "test_loss": loss + 0.01, "valid_accuracy": accuracy, "test_accuracy": accuracy / 2}
    perplexities = {"test_perplexity": math.exp(loss + 0.01)}
    return good(corpus, name, math.exp(loss), speed, **{**results, **perplexities, **columns})


def document_of(folder: Path, *records: RunRecord) -> Document:
    for record in records:
        keep(folder, record)
    return compose(read_folders([folder]))


def section(document: Document, heading: str) -> Section:
    (found,) = [section for section in document.sections if section.heading == heading]
    return found


def column(section: Section, name: str) -> list[Any]:
    (table,) = section.tables
    (place,) = [place for place, column in enumerate(table.columns) if column.name == name]
    return [row[place] for row in table.rows]


def cells(points: list[Point]) -> list[Any]:
    return [point.settings["cell"] for point in points]


class Page(HTMLParser):
    """The elements of a page: (name, attributes), and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# Numbers


def test_a_spread_is_students(small_corpus: CorpusFiles) -> None:
    """By hand: mean 4, deviations -2, 0, 2, so variance 8 / 2 and t(0.975, 2) = 4.30265 from any table."""
    found = spread([2.0, 4.0, 6.0])
    assert found is not None
    assert (found.count, found.mean, found.deviation) == (3, 4.0, 2.0)
    half = 4.302653 * 2 / math.sqrt(3)
    assert found.low == pytest.approx(4 - half, rel=1e-6)
    assert found.high == pytest.approx(4 + half, rel=1e-6)


@pytest.mark.parametrize(("values", "mean"), [([3.0], 3.0), ([3.0, math.inf], math.inf)])
def test_a_spread_of_too_little_is_its_mean(values: list[float], mean: float) -> None:
    found = spread(values)
    assert found is not None
    assert (found.count, found.mean, found.deviation, found.low, found.high) == (len(values), mean, None, None, None)
    assert spread([]) is None


def test_points_rank_by_validation_then_by_what_went_wrong(small_corpus: CorpusFiles) -> None:
    found = points(
        make(small_corpus, "a", cell="lstm", status="failed"),
        make(small_corpus, "b", cell="gru", status="diverged", valid_perplexity=1.0),
        good(small_corpus, "c", 120.0, 900.0, cell="rnn_tanh", test_perplexity=1.0),
        good(small_corpus, "d", 110.0, 1.0, cell="rnn_relu"),
        good(small_corpus, "e", 130.0, 900.0, cell="custom_lstm"),
        good(small_corpus, "f", math.nan, 950.0, cell="custom_gru"),
    )
    assert cells(found) == ["rnn_relu", "rnn_tanh", "custom_lstm", "custom_gru", "gru", "lstm"]


def test_a_point_is_the_mean_of_its_good_seeds_and_ranks_below_those_without_bad_ones(
    small_corpus: CorpusFiles,
) -> None:
    found = points(
        good(small_corpus, "a", 100.0, 10.0, cell="lstm", seed=0),
        good(small_corpus, "b", 130.0, 20.0, cell="lstm", seed=1),
        good(small_corpus, "c", 50.0, 99.0, cell="gru", seed=0),
        make(small_corpus, "d", cell="gru", seed=1, status="diverged", valid_perplexity=math.inf),
        good(small_corpus, "e", 116.0, 10.0, cell="rnn_tanh", seed=0),
    )
    assert cells(found) == ["lstm", "rnn_tanh", "gru"]
    assert [point.average("valid_perplexity") for point in found] == [115.0, 116.0, 50.0]
    assert [point.average("tokens_per_second") for point in found] == [15.0, 10.0, 99.0]
    assert [point.status for point in found] == ["ok", "ok", "1 ok, 1 diverged"]


def test_a_run_that_something_slowed_moves_no_speed_but_losses_count_alike(small_corpus: CorpusFiles) -> None:
    (point,) = points(
        *(
            good(small_corpus, str(seed), perplexity, speed, seed=seed, step_ms_p50=1000 / speed, peak_rss_mb=memory)
            for seed, (perplexity, speed, memory) in enumerate(
                [(90.0, 20.0, 300.0), (96.0, 4.0, 330.0), (99.0, 25.0, 300.0)]
            )
        )
    )
    assert point.average("tokens_per_second") == 20.0
    assert point.average("step_ms_p50") == 50.0
    assert point.average("valid_perplexity") == 95.0
    assert point.average("peak_mb") == 310.0


def test_runs_alike_in_all_but_their_name_are_not_averaged(small_corpus: CorpusFiles) -> None:
    older = good(small_corpus, "b", 100.0, 1.0, cell="m:Own", started_at="2024-01-01T00:00:00+00:00")
    newer = good(small_corpus, "a", 50.0, 1.0, cell="m:Own", started_at="2024-01-02T00:00:00+00:00")
    found = points(newer, older)
    assert [(p.average("valid_perplexity"), p.settings["version"]) for p in found] == [(50.0, 2), (100.0, 1)]


def test_the_front_holds_whom_none_beats(small_corpus: CorpusFiles) -> None:
    """Dominated: d by b in both, e by b in speed at the same perplexity, f by a in perplexity at the same speed."""
    found = points(
        good(small_corpus, "a", 200.0, 400.0, bptt=1),
        good(small_corpus, "b", 120.0, 300.0, bptt=2),
        good(small_corpus, "c", 100.0, 100.0, bptt=3),
        good(small_corpus, "d", 150.0, 200.0, bptt=4),
        good(small_corpus, "e", 120.0, 250.0, bptt=5),
        good(small_corpus, "f", 210.0, 400.0, bptt=6),
        good(small_corpus, "g", math.inf, 999.0, bptt=7),
        good(small_corpus, "h", 90.0, math.nan, bptt=8),
        good(small_corpus, "i", 10.0, 999.0, bptt=9, status="diverged"),
    )
    front = pareto_front(found, PPL)
    assert [point.settings["bptt"] for point in front] == [1, 2, 3]
    middle = compromise(front, PPL)
    assert middle is not None
    assert middle.settings["bptt"] == 2
    assert compromise(front[:2], PPL) is None
    assert pareto_front([], PPL) == []


def test_the_compromise_weighs_ratios(small_corpus: CorpusFiles) -> None:
    """At 2 of 4 octaves of speed and 3 of 4 of perplexity, against 3 and 2.5: the second is nearer to both ends."""
    front = pareto_front(
        points(
            good(small_corpus, "a", 1600.0, 1600.0, bptt=1),
            good(small_corpus, "b", 100 * 2**1.5, 800.0, bptt=2),
            good(small_corpus, "c", 200.0, 400.0, bptt=3),
            good(small_corpus, "d", 100.0, 100.0, bptt=4),
        ),
        PPL,
    )
    middle = compromise(front, PPL)
    assert middle is not None
    assert [point.settings["bptt"] for point in front] == [1, 2, 3, 4]
    # hypot(1.5, 1) / 4 = 0.45 for b, hypot(1, 2) / 4 = 0.56 for c.
    assert middle.settings["bptt"] == 2


def test_the_fastest_within_five_per_cent(small_corpus: CorpusFiles) -> None:
    found = points(
        good(small_corpus, "a", 100.0, 10.0, bptt=1),
        good(small_corpus, "b", 104.9, 20.0, bptt=2),
        good(small_corpus, "c", 103.0, 15.0, bptt=3),
        good(small_corpus, "d", 105.1, 30.0, bptt=4),
    )
    best = fastest_within(found, 0.05, PPL)
    assert best is not None
    assert best.settings["bptt"] == 2
    assert fastest_within([], 0.05, PPL) is None


def test_points_that_learned_nothing_rank_with_the_diverged_and_are_on_no_front(small_corpus: CorpusFiles) -> None:
    unigram = {"unigram_loss": math.log(200.0)}
    found = points(
        learned(small_corpus, "a", 100.0, 10.0, cell="lstm", **unigram),
        learned(small_corpus, "b", 250.0, 90.0, cell="gru", **unigram),
        learned(small_corpus, "c", 50.0, 5.0, cell="rnn_relu", seed=0, **unigram),
        learned(small_corpus, "d", 300.0, 5.0, cell="rnn_relu", seed=1, **unigram),
        good(small_corpus, "e", math.inf, 10.0, cell="rnn_tanh", status="diverged"),
        good(small_corpus, "f", 10.0, 10.0, cell="custom_rnn", status="failed"),
    )
    assert cells(found) == ["lstm", "rnn_relu", "gru", "rnn_tanh", "custom_rnn"]
    assert [point.status for point in found[:3]] == ["ok", "1 ok, 1 worse than unigram", "worse than unigram"]
    assert [point.ok for point in found[:3]] == [True, False, False]
    assert found[1].average(PPL) == 50.0  # of the seed that learned
    assert cells(pareto_front(found, PPL)) == ["lstm"]
    fastest = fastest_within(found, 5.0, PPL)
    assert fastest is not None
    assert fastest.settings["cell"] == "lstm"


# What is said


def test_a_page_says_what_learned_nothing_and_is_readable_whatever_came_of_it(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    settings = [(cell, bptt) for cell in ("lstm", "gru") for bptt in (5, 7)]
    perplexities = (100.0, 43_886.14, 1e200, 1e300)
    for name, (cell, bptt), perplexity in zip("abcd", settings, perplexities, strict=True):
        extra = {"cell": cell, "bptt": bptt, "unigram_loss": math.log(983.0)}
        keep(tmp_path / "grid", learned(small_corpus, name, perplexity, 10.0, **extra))
    # Of an earlier version: nothing is known but that it is worse than the uniform model.
    keep(tmp_path / "grid", learned(small_corpus, "e", 43_886.14, 10.0, hidden_size=9))
    write_report(tmp_path / "grid")
    text = (tmp_path / "grid" / "report.md").read_text()
    page = Page((tmp_path / "grid" / "report.html").read_text()).text
    for shown in (text, page):
        assert "5 runs (1 ok, 4 worse than unigram)" in shown
        assert "1.0e+200" in shown
        assert "validation perplexity 1.0e+300, the unigram model's 983.00" in shown
        assert "validation perplexity 43,886.14, the uniform model's 17,000.00" in shown
        assert "A run is worse than unigram if its validation loss is not below" in shown
        assert not re.search(r"\d[\d,]{11}", re.sub(r"<style.*?</style>|[0-9a-f]{40}", "", shown))
    document = compose(read_folders([tmp_path / "grid"]))
    assert column(section(document, "Ranking"), "status") == ["ok"] + ["worse than unigram"] * 4
    assert column(section(document, "Failed runs"), "status") == ["worse than unigram"] * 4
    (perplexity, *_) = section(document, "cell and bptt").plots
    assert isinstance(perplexity, HeatMap)
    assert [text for _, text in perplexity.cells.values()].count("worse than unigram") == 3
    assert "worse than" in to_svg(perplexity, "p")
    assert "than unigram…" not in to_svg(perplexity, "p")


def test_where_nothing_learned_there_is_nothing_to_choose(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    extra = {"unigram_loss": math.log(50.0)}
    document = document_of(tmp_path / "grid", learned(small_corpus, "a", 100.0, 10.0, **extra))
    found = section(document, "Corpus small, words, language_model")
    assert not found.choices
    assert found.notes[0].startswith("No point ended well and learned something, so there is nothing to choose from")


def test_the_choice_is_said_in_words(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    document = document_of(
        tmp_path / "grid",
        good(small_corpus, "a", 100.0, 1000.0, cell="lstm"),
        good(small_corpus, "b", 104.0, 2000.0, cell="gru"),
        good(small_corpus, "c", 150.0, 3000.0, cell="rnn_tanh"),
        good(small_corpus, "d", 160.0, 1500.0, cell="rnn_relu"),
    )
    choices = dict(section(document, "Corpus small, words, language_model").choices)
    assert choices["Best perplexity"].startswith(
        "cell=lstm: validation perplexity 100.00, test 99.00, at 1,000 tokens/s, 500 MB and 20 s a run. Based on one "
    )
    assert choices["Pareto-optimal"] == (
        "3 of 4 points, fastest first: cell=rnn_tanh (no. 3); cell=gru (no. 2); cell=lstm (no. 1). Judged by the "
        "values alone, since no point has several seeds: no other point is better in both perplexity and speed."
    )
    assert choices["Best compromise"].startswith("cell=gru: ")
    assert choices["Fastest within 5% of the best"].startswith("cell=gru: validation perplexity 104.00")
    ranking = section(document, "Ranking")
    assert column(ranking, "cell") == ["lstm", "gru", "rnn_tanh", "rnn_relu"]
    assert column(ranking, "no.") == [1, 2, 3, 4]
    assert column(ranking, "test ppl") == [99.0, 103.0, 149.0, 159.0]
    (plot,) = section(document, "Perplexity against throughput").plots
    assert isinstance(plot, Scatter)
    assert plot.having("yes") == [
        Spot(3000.0, 150.0, 3, "", "rnn_tanh", "yes"),
        Spot(2000.0, 104.0, 2, "", "gru", "yes"),
        Spot(1000.0, 100.0, 1, "", "lstm", "yes"),
    ]
    assert plot.having("no") == [Spot(1500.0, 160.0, 4, "", "rnn_relu", "no")]


def test_the_interval_of_the_best_names_how_many_it_does_not_tell_apart(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    records = [
        good(small_corpus, f"{cell}{seed}", mean + 2 * seed, 10.0, cell=cell, seed=seed)
        for cell, mean in (("lstm", 100.0), ("gru", 104.0), ("custom_gru", 103.0), ("rnn_tanh", 300.0))
        for seed in (0, 1, 2)
    ]
    document = document_of(tmp_path / "grid", *records)
    # Of the losses: log(102) less 0.0001 +- 4.3027 * 0.0196 / sqrt(3). By Student's test of them 105 is within chance
    # of 102 (t = 1.81, four degrees of freedom, p = 0.07), 106 is not (t = 2.40, p = 0.04).
    text = dict(section(document, "Corpus small, words, language_model").choices)["Best perplexity"]
    assert text.endswith(
        "The 95% interval of its mean over 3 seeds is 97.14 to 107.08. Undecided: no. 2 may be as good."
    )
    seeds = section(document, "Over seeds")
    assert column(seeds, "seeds") == [3, 3, 3, 3]
    assert column(seeds, "valid ppl mean") == [102.0, 105.0, 106.0, 302.0]
    assert column(seeds, "test ppl mean") == [101.0, 104.0, 105.0, 301.0]
    (table,) = seeds.tables
    losses = [math.log(perplexity) for perplexity in (100, 102, 104)]
    half = 4.302653 * statistics.stdev(losses) / math.sqrt(3)
    low, high = (math.exp(statistics.mean(losses) + side * half) for side in (-1, 1))
    assert table.rows[0][3:7] == pytest.approx([102.0, 2.0, low, high], rel=1e-5)
    assert column(section(document, "Ranking"), "valid ppl range")[0] == "100.00 to 104.00"
    assert column(section(document, "Ranking"), "tokens/s range")[0] == "10 to 10"
    assert column(section(document, "Ranking"), "seeds") == [3, 3, 3, 3]


def grid(corpus: CorpusFiles, *, without: tuple[str, int, int] | None = None) -> list[RunRecord]:
    """Two cells, each with a rate of its own, two windows and two sizes."""
    rates = {"lstm": 20.0, "gru": 5.0}
    records = [
        good(
            corpus,
            f"{cell}{bptt}{size}",
            100.0 + bptt - size + (cell == "gru"),
            10.0 * size,
            cell=cell,
            bptt=bptt,
            hidden_size=size,
        ).with_columns({"learning_rate": rates[cell]})
        for cell in rates
        for bptt in (20, 9)
        for size in (8, 16)
        if (cell, bptt, size) != without
    ]
    return records


def test_a_map_holds_points_that_differ_in_its_axes_only(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    """A rate that each cell brings along is not an axis; the other settings are those of the best point."""
    document = document_of(tmp_path / "grid", *grid(small_corpus))
    assert [s.heading for s in document.sections if " and " in s.heading and s.level == 3] == [
        "cell and bptt",
        "cell and hidden_size",
        "bptt and hidden_size",
    ]
    pair = section(document, "cell and bptt")
    assert pair.notes == ["The other settings are those of the best point: hidden_size=16."]
    # All have the same speed and memory, so that there is nothing to be mapped.
    (losses,) = pair.plots
    assert isinstance(losses, HeatMap)
    assert (losses.row_values, losses.column_values) == (["gru", "lstm"], ["9", "20"])
    assert losses.cells == {
        (0, 0): (94.0, "94.00"),
        (0, 1): (105.0, "105.00"),
        (1, 0): (93.0, "93.00"),
        (1, 1): (104.0, "104.00"),
    }
    assert losses.lower_is_better
    # Where one is missing there is no map, except of the slice that is whole.
    some = document_of(tmp_path / "some", *grid(small_corpus, without=("gru", 20, 16)))
    assert [s.heading for s in some.sections if " and " in s.heading and s.level == 3] == [
        "cell and hidden_size",
        "bptt and hidden_size",
    ]


def test_each_axis_of_numbers_has_a_line_for_each_combination_of_the_others(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    seeds = [
        good(small_corpus, "again", 101.0 + 9 - 16, 200.0, cell="lstm", bptt=9, hidden_size=16, seed=1).with_columns(
            {"learning_rate": 20.0}
        )
    ]
    document = document_of(tmp_path / "grid", *grid(small_corpus), *seeds)
    losses, speeds = section(document, "By bptt").plots
    assert isinstance(losses, Lines)
    assert isinstance(speeds, Lines)
    assert [(line.kind, line.name, line.points, line.best) for line in losses.lines] == [
        ("gru", "hidden_size=16", [(9.0, 94.0, 94.0, 94.0), (20.0, 105.0, 105.0, 105.0)], 0),
        ("gru", "hidden_size=8", [(9.0, 102.0, 102.0, 102.0), (20.0, 113.0, 113.0, 113.0)], None),
        ("lstm", "hidden_size=16", [(9.0, 93.5, 93.0, 94.0), (20.0, 104.0, 104.0, 104.0)], 0),
        ("lstm", "hidden_size=8", [(9.0, 101.0, 101.0, 101.0), (20.0, 112.0, 112.0, 112.0)], None),
    ]
    assert speeds.measure == "training tokens/s"
    # Of a rate that follows the cell there are no lines.
    assert {s.heading for s in document.sections if s.heading.startswith("By ")} == {"By bptt", "By hidden_size"}


def test_many_lines_are_a_plot_for_each_combination_of_the_others(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    cells = ("custom_gru", "custom_lstm", "custom_rnn", "gru", "lstm")
    records = [
        good(
            small_corpus,
            f"{cell}{bptt}{size}",
            100.0 + 7 * n + bptt + size,
            10.0 * size,
            cell=cell,
            bptt=bptt,
            hidden_size=size,
        )
        for n, cell in enumerate(cells)
        for bptt in (5, 9)
        for size in (8, 16)
    ]
    found = section(document_of(tmp_path / "grid", *records), "By bptt")
    losses = [plot for plot in found.plots if isinstance(plot, Lines) and "perplexity" in plot.title]
    titles = [f"Validation perplexity by bptt: hidden_size={size}" for size in (16, 8)]
    assert [plot.title for plot in losses] == titles
    assert [[(line.kind, line.name) for line in plot.lines] for plot in losses] == [[(cell, "") for cell in cells]] * 2
    # Each cell's best is in the plot of the size that it has.
    assert [[line.best for line in plot.lines] for plot in losses] == [[None] * 5, [0] * 5]
    # One scale: the other's values are on the axis, too.
    assert all(plot.whole is not None and len(plot.whole.lines) == 10 for plot in losses)
    ticks = [set(re.findall(r"\b1\d\d\b", Page(to_svg(plot, "p")).text)) for plot in losses]
    # The ring of the second has a value besides.
    assert len(ticks[0]) > 3
    assert ticks[0] <= ticks[1]


def test_of_one_cell_the_best_lines_are_named(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    records = [
        good(small_corpus, f"{bptt}-{size}", 100.0 + bptt + size, 10.0, bptt=bptt, hidden_size=size)
        for bptt in (5, 9)
        for size in range(10, 21)
    ]
    found = section(document_of(tmp_path / "grid", *records), "By bptt")
    (losses,) = [plot for plot in found.plots if "perplexity" in plot.title]
    assert isinstance(losses, Lines)
    named = [line.name for line in losses.lines if line.kind]
    assert named == [f"hidden_size={size}" for size in range(10, 18)]
    assert len(losses.lines) == 11
    assert "Of each plot the 8 best lines are named, the others are faint." in found.notes
    text = Page(to_svg(losses, "p")).text
    assert "hidden_size=17" in text
    assert "hidden_size=18" not in text


@pytest.mark.parametrize(
    ("rates", "joined", "note"),
    [
        ((1.0, 2.0, 3.0), True, "Along with hidden_size, learning_rate changes."),
        ((2.0, 3.0, 1.0), False, "The points differ in learning_rate as well, so no lines join them."),
        ((1.0, 1.0, 1.0), True, None),
    ],
)
def test_what_changes_along_with_an_axis_is_named(
    tmp_path: Path,
    small_corpus: CorpusFiles,
    rates: tuple[float, ...],
    joined: bool,
    note: str | None,
) -> None:
    """A size may bring its rate along; rates at random are joined by no line."""
    records = [
        good(small_corpus, str(size), 100.0 + size, 10.0, hidden_size=size).with_columns({"learning_rate": rate})
        for size, rate in zip((8, 16, 32), rates, strict=True)
    ]
    found = section(document_of(tmp_path / "grid", *records), "By hidden_size")
    plot = found.plots[0]
    assert isinstance(plot, Lines)
    assert plot.joined == joined
    assert [text for text in found.notes if "learning_rate" in text and note and not text.startswith(note)] == []
    assert any("learning_rate" in text for text in found.notes) == (note is not None)


def test_two_points_that_differ_in_much_are_no_line_and_stand_side_by_side(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    other = {"bptt": 9, "hidden_size": 16, "batch_size": 3, "num_layers": 1, "dropout": 0.5, "epochs": 7, "clip": 0.5}
    document = document_of(
        tmp_path / "grid", good(small_corpus, "a", 100.0, 10.0), good(small_corpus, "b", 90.0, 20.0, **other)
    )
    assert not [found.heading for found in document.sections if found.heading.startswith("By ")]
    table = section(document, "Ranking").tables[0]
    assert [found.name for found in table.columns] == ["point", "no. 1", "no. 2"]
    rows = {name: values for name, *values in table.rows}
    assert rows["valid ppl"] == ["90.00", "100.00"]
    assert rows["dropout"][0] == "0.5"
    # Elsewhere their number and one of the settings say which is which.
    choices = dict(section(document, "Corpus small, words, language_model").choices)
    assert choices["Best perplexity"].startswith("no. 1: bptt=9: validation perplexity 90.00")


def test_curves_and_time_come_from_their_columns(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    history = [epoch(1, 5.0), epoch(2, 4.0), epoch(3, 2000.0)]
    times = {"train_seconds": 12.0, "evaluation_seconds": 3.0, "wall_seconds": 20.0}
    keep(tmp_path / "grid", good(small_corpus, "a", 60.0, 10.0, cell="lstm", **times), history)
    # As an earlier version had it of a resumed run: its last process, which was shorter than all training.
    keep(tmp_path / "grid", good(small_corpus, "b", 70.0, 10.0, cell="gru", train_seconds=30.0, wall_seconds=20.0))
    document = compose(read_folders([tmp_path / "grid"]))
    (plot,) = section(document, "Learning curves").plots
    assert isinstance(plot, Curves)
    assert plot.lines == [("cell=lstm", [((1, math.exp(5.0)), (2, math.exp(4.0)))])]
    time = section(document, "Where the time went")
    assert column(time, "rest s") == [5.0, None]
    assert column(time, "training %") == [60.0, None]
    assert [note for note in time.notes if "resumed" in note] == [
        "Runs that an earlier version resumed have no rest: their whole time is that of the last process."
    ]
    (bars,) = time.plots
    assert isinstance(bars, Bars)
    assert bars.bars == [("no. 1", [12.0, 3.0, 5.0]), ("no. 2", [30.0, 2.5, 0.0])]


def test_a_resumed_runs_seconds_are_those_of_all_its_processes(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    times = {"train_seconds": 2400.0, "evaluation_seconds": 100.0, "wall_seconds": 2600.0, "times_resumed": 2}
    document = document_of(tmp_path / "grid", good(small_corpus, "a", 60.0, 10.0, **times))
    time = section(document, "Where the time went")
    assert (column(time, "rest s"), column(time, "whole s")) == ([100.0], [2600.0])
    assert (
        "1 run was resumed: seconds are the sums over all processes, speeds are those where the last process ran."
        in time.notes
    )
    best = dict(section(document, "Corpus small, words, language_model").choices)["Best perplexity"]
    assert "and 2,600 s a run" in best


def test_losses_of_several_places_are_averaged_and_speeds_are_not(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    here = {"machine_id": "0" * 12, "threads": 2}
    there = {"machine_id": "1" * 12, "threads": 2}
    document = document_of(
        tmp_path / "grid",
        good(small_corpus, "a", 100.0, 10.0, cell="lstm", seed=0, **here),
        good(small_corpus, "b", 90.0, 9000.0, cell="lstm", seed=1, **there),
        good(small_corpus, "c", 120.0, 20.0, cell="gru", seed=0, **here),
        good(small_corpus, "d", 80.0, 5.0, cell="gru", seed=0, **{**here, "threads": 1}),
        good(small_corpus, "e", 81.0, 6.0, cell="gru", seed=1, device="gpu:3", **here),
        good(small_corpus, "f", 82.0, 8.0, cell="gru", seed=2, device="gpu:1", **here),
    )
    ranking = section(document, "Ranking")
    assert column(ranking, "cell") == ["gru", "lstm"]
    # The runs of a seed are averaged first: (100 + 81 + 82) / 3.
    assert column(ranking, "valid ppl") == [pytest.approx(263 / 3), 95.0]
    assert [column(ranking, f"tokens/s on {letter}") for letter in "ABCD"] == [
        [5.0, None],
        [20.0, 10.0],
        [7.0, None],
        [None, 9000.0],
    ]
    choices = dict(section(document, "Corpus small, words, language_model").choices)
    assert choices["Best perplexity"].startswith("cell=gru: validation perplexity 87.67, test 86.67. ")
    assert {title for title in choices if "Pareto" in title} == {"Pareto-optimal on B"}
    (plot,) = section(document, "Perplexity against throughput").plots
    assert isinstance(plot, Scatter)
    assert plot.title == "Perplexity against throughput on B"
    assert [(spot.speed, spot.loss) for spot in plot.spots] == [(20.0, pytest.approx(263 / 3)), (10.0, 95.0)]
    (notes,) = [s.notes for s in document.sections if s.heading == "Before you compare"]
    assert "The runs come from 4 places" in notes[0]
    machines = section(document, "Machines and versions")
    assert column(machines, "place") == ["A", "B", "C", "C", "D"]
    assert column(machines, "runs") == [1, 2, 1, 1, 1]


def test_one_gpu_and_two_are_different_places(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    document = document_of(
        tmp_path / "grid",
        good(small_corpus, "a", 100.0, 10.0, seed=0, device="gpu:0"),
        good(small_corpus, "b", 90.0, 20.0, seed=0, device="gpu:0+gpu:1"),
        good(small_corpus, "c", 80.0, 30.0, seed=1, device="gpu:3+gpu:2"),
    )
    ranking = section(document, "Ranking")
    assert column(ranking, "valid ppl") == [87.5]
    assert (column(ranking, "tokens/s on A"), column(ranking, "tokens/s on B")) == ([10.0], [25.0])


def test_speeds_that_do_not_count_are_not_shown(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    records = [
        good(
            small_corpus,
            name,
            100.0 + n,
            10.0 + n,
            cell=name,
            train_seconds=1.0,
            history=(epoch(1, 4.6), epoch(2, 4.5)),
        )
        for n, name in enumerate(("lstm", "gru"))
    ]
    document_of(tmp_path / "grid", *records)
    (tmp_path / "grid" / "notes.yaml").write_text("notes: A quiet evening.\nspeeds_count: false\n")
    document = compose(read_folders([tmp_path / "grid"]))
    assert section(document, "Before you compare").notes[:2] == [
        "A quiet evening.",
        "The speeds and times in grid do not count, as its notes.yaml says; none are shown.",
    ]
    headings = {found.heading for found in document.sections}
    assert not {"Perplexity against throughput", "Where the time went"} & headings
    names = {c.name for found in document.sections for table in found.tables for c in table.columns}
    assert not {"tokens/s", "ms/step", "seconds", "s to 110"} & names
    assert "peak MB" in names
    assert [title for title, _ in section(document, "Corpus small, words, language_model").choices] == [
        "Best perplexity"
    ]
    (tmp_path / "grid" / "notes.yaml").write_text("speed_counts: false\n")
    with pytest.raises(UserError, match="unknown key 'speed_counts'; did you mean 'speeds_count'"):
        read_folders([tmp_path / "grid"])


@pytest.mark.parametrize(
    ("columns", "shared"),
    [
        ({}, 2),
        ({"host": "elsewhere"}, 0),
        ({"started_at": "2024-01-02T03:04:21+00:00"}, 0),
        ({"device": "gpu:0"}, 0),
        ({"times_resumed": 1}, 0),
    ],
)
def test_runs_that_shared_a_processor_have_no_speeds_that_count(
    tmp_path: Path, small_corpus: CorpusFiles, columns: dict[str, Any], shared: int
) -> None:
    """Two of 20 s at once; of those that began 16 s apart a fifth is shared."""
    start = {"started_at": "2024-01-02T03:04:05+00:00"}
    keep(tmp_path / "grid", good(small_corpus, "a", 100.0, 10.0, cell="lstm", **start))
    keep(tmp_path / "grid", good(small_corpus, "b", 110.0, 20.0, cell="gru", **{**start, **columns}))
    found = read_folders([tmp_path / "grid"])
    assert [run.speeds_count for run in found.runs].count(False) == shared
    assert any("had the same machine's processor" in note for note in found.notes) == bool(shared)


def test_speeds_of_other_runs_and_fewer_epochs_can_be_asked_for(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    history = [epoch(1, 5.0, 5.1), epoch(2, 4.0, 4.1), epoch(3, 3.0, 3.1)]
    longer = good(small_corpus, "a", math.exp(3.0), 10.0, cell="lstm", epochs_run=3)
    keep(tmp_path / "grid", longer, history)
    for seed, speed in enumerate((900.0, 1000.0, 4000.0)):
        timed = make(small_corpus, f"t{seed}", cell="lstm", seed=seed, tokens_per_second=speed, max_steps=5)
        keep(tmp_path / "speeds", timed)
    # As large, but its softmax is over some of the words: another amount of work.
    sampled = make(small_corpus, "s", cell="lstm", sampled_softmax=5, tokens_per_second=5000.0, max_steps=5)
    keep(tmp_path / "speeds", sampled)
    document = compose(read_folders([tmp_path / "grid"], speeds=[tmp_path / "speeds"], epochs=2))
    ranking = section(document, "Ranking")
    assert column(ranking, "valid ppl") == [math.exp(4.0)]
    assert column(ranking, "tokens/s") == [1000.0]
    assert column(ranking, "tokens/s range") == ["900 to 4,000"]
    assert "1 run trained for longer: shown as after epoch 2." in section(document, "Before you compare").notes
    cosine = longer.with_columns({"lr_schedule": "cosine", "run_id": "b"})
    keep(tmp_path / "other", cosine, history)
    with pytest.raises(UserError, match="run b cannot be read as it was after epoch 2: lr_schedule=cosine"):
        read_folders([tmp_path / "other"], epochs=2)


def test_a_network_that_was_not_timed_has_neither_speed_nor_memory(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    keep(tmp_path / "grid", good(small_corpus, "a", 100.0, 10.0, cell="lstm"))
    keep(tmp_path / "grid", good(small_corpus, "b", 110.0, 10.0, cell="lstm", weight_drop=0.3))
    keep(tmp_path / "timed", make(small_corpus, "t", cell="lstm", tokens_per_second=900.0, peak_rss_mb=300.0))
    (tmp_path / "grid" / "notes.yaml").write_text("notes: These do not count as a benchmark.\n")
    document = compose(read_folders([tmp_path / "grid"], speeds=[tmp_path / "timed"]))
    ranking = section(document, "Ranking")
    assert column(ranking, "weight_drop") == [0.0, 0.3]
    assert column(ranking, "tokens/s") == [900.0, None]
    assert column(ranking, "peak MB") == [300.0, None]
    assert "These do not count as a benchmark." in section(document, "Before you compare").notes
    (tmp_path / "timed" / "notes.yaml").write_text("speeds_count: false\n")
    document = compose(read_folders([tmp_path / "grid"], speeds=[tmp_path / "timed"]))
    assert "tokens/s" not in {c.name for c in section(document, "Ranking").tables[0].columns}
    notes = section(document, "Before you compare").notes
    assert "The speeds and times in timed do not count, as its notes.yaml says; none are shown." in notes


def test_a_run_without_its_epochs_is_not_cut(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    keep(tmp_path / "grid", good(small_corpus, "a", math.exp(3.0), 10.0, epochs_run=3))
    with pytest.raises(UserError, match="run a cannot be read as it was after epoch 2: its folder has no epochs"):
        read_folders([tmp_path / "grid"], epochs=2)


@pytest.mark.parametrize("status", ["diverged", "pruned", "timeout"])
def test_a_run_cut_before_it_went_wrong_ended_well(tmp_path: Path, small_corpus: CorpusFiles, status: str) -> None:
    history = [epoch(1, 5.0), epoch(2, 4.0), epoch(3, 3.0)]
    record = good(small_corpus, "a", math.exp(3.0), 10.0, epochs_run=3, status=status, reason="later")
    keep(tmp_path / "grid", record, history)
    (before,), (end,) = (read_folders([tmp_path / "grid"], epochs=epochs).runs for epochs in (2, 3))
    assert (before.record.status, before.record.reason, before.record.valid_loss) == ("ok", "", 4.0)
    assert end.record.status == status


def test_times_to_a_perplexity_are_those_of_the_first_epoch_at_or_below_it(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    def record(name: str, losses: tuple[float, ...], **columns: Any) -> RunRecord:
        history = tuple(
            replace(epoch(n, loss), valid_perplexity=loss, seconds=10.0, evaluation_seconds=2.0)
            for n, loss in enumerate(losses, 1)
        )
        return good(small_corpus, name, losses[-1], 10.0, history=history, train_tokens=1000, **columns)

    records = [record("a", (300.0, 180.0, 150.0), cell="lstm"), record("b", (400.0, 250.0, 200.5), cell="gru")]
    for one in records:
        keep(tmp_path / "grid", one)
    found = section(compose(read_folders([tmp_path / "grid"]), (250.0, 180.0)), "Time to a perplexity")
    names = [c.name for c in found.tables[0].columns]
    assert names[2:] == ["epochs to 250", "tokens to 250", "s to 250", "epochs to 180", "tokens to 180", "s to 180"]
    assert [row[2:] for row in found.tables[0].rows] == [
        ["2", 2000, 24.0, "2", 2000, 24.0],
        ["2", 2000, 24.0, "-", None, None],
    ]
    # Without targets, round ones that all, half and the best reach.
    chosen = section(compose(read_folders([tmp_path / "grid"])), "Time to a perplexity")
    assert [c.name for c in chosen.tables[0].columns if c.name.startswith("epochs")] == ["epochs to 210"]


def runs_of(corpus: CorpusFiles, settings: Sequence[dict[str, Any]]) -> list[RunRecord]:
    """Good runs of these settings."""
    configs = [small_config(dataset="wikitext-2", **given) for given in settings]
    return [
        good(corpus, f"r{n}", 100.0 + n, 10.0, cell=config.cell, seed=config.seed).with_columns(
            config.model_dump(exclude={"device", "threads"})
        )
        for n, config in enumerate(configs)
    ]


@pytest.mark.parametrize(
    ("settings", "points", "axes"),
    [
        (
            # Cells with rates of their own: what is left of the axes is written out.
            [
                {"cell": cell, "learning_rate": rate, "seed": seed}
                for cell, rates in (("lstm", (20.0, 40.0)), ("gru", (5.0, 10.0)))
                for rate in rates
                for seed in (0, 1)
            ],
            [
                {"cell": "lstm", "learning_rate": 20.0},
                {"cell": "lstm", "learning_rate": 40.0},
                {"cell": "gru", "learning_rate": 5.0},
                {"cell": "gru", "learning_rate": 10.0},
            ],
            {"seed": [0, 1]},
        ),
        (
            # A grid and a point beside it, whose cell is the default: all of them say the same settings.
            [
                *({"cell": cell, "bptt": bptt} for cell in ("gru", "lstm") for bptt in (10, 20)),
                {"bptt": 10, "seed": 1},
            ],
            [
                *({"cell": cell, "bptt": bptt, "seed": 0} for cell in ("gru", "lstm") for bptt in (10, 20)),
                {"cell": "lstm", "bptt": 10, "seed": 1},
            ],
            None,
        ),
        (
            [{"cell": cell, "seed": seed} for cell in ("gru", "lstm") for seed in (0, 1)],
            None,
            {"cell": ["gru", "lstm"], "seed": [0, 1]},
        ),
        # A preset keeps its name, by which a sweep knows runs again, and with it go the settings that it fixes.
        (
            [{"model": f"standard_lstm_lm_{units}", "hidden_size": units} for units in (200, 650)],
            None,
            {"model": ["standard_lstm_lm_200", "standard_lstm_lm_650"]},
        ),
    ],
)
def test_the_sweep_file_of_a_report_makes_its_runs(
    tmp_path: Path, small_corpus: CorpusFiles, settings: list[dict[str, Any]], points: Any, axes: Any
) -> None:
    records = runs_of(small_corpus, settings)
    logs = dict(section(document_of(tmp_path / "grid", *records), "Common settings").logs)
    assert logs["Command"] == "gluon-rnn sweep again.yaml"
    content = yaml.safe_load(logs["Sweep file again.yaml"])
    assert (content.get("points"), content.get("axes")) == (points, axes)
    (tmp_path / "again.yaml").write_text(logs["Sweep file again.yaml"])
    again = load_sweep(tmp_path / "again.yaml").points()
    plain = {"device": "auto", "threads": None}
    made, wanted = ({str(c.model_copy(update=plain)) for c in found} for found in (again, [r.config for r in records]))
    assert made == wanted


def test_characters_have_bits_and_blanks_are_seen(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    predictions = (Prediction("a b", " ", "e"), Prediction("xyz", "", " q "))
    record = labelled(
        small_corpus,
        "a",
        2 * math.log(2),
        0.5,
        10.0,
        level="character",
        objective="next_token",
        predictions=predictions,
    )
    document = document_of(tmp_path / "grid", record)
    assert column(section(document, "Ranking"), "valid bpc") == [pytest.approx(2.0)]
    found = section(document, "Predictions and truth")
    assert column(found, "truth") == ["␣", "(empty)"]
    assert column(found, "predicted") == ["e", "␣q␣"]


def test_corpora_are_apart_and_so_are_parts_of_one(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    document = document_of(
        tmp_path / "grid",
        good(small_corpus, "a", 100.0, 10.0),
        good(small_corpus, "b", 10.0, 10.0, dataset_sha1="0" * 40),
        good(small_corpus, "c", 50.0, 10.0, max_eval_tokens=500),
    )
    rankings = [s for s in document.sections if s.heading == "Ranking"]
    assert sorted(column(s, "valid ppl") for s in rankings) == [[10.0], [50.0], [100.0]]
    assert any("first 500 tokens of validation" in note for s in document.sections for note in s.notes)
    assert "These runs differ in max_eval_tokens (none and 500); compare losses only within a section." in (
        section(document, "Before you compare").notes
    )


@pytest.mark.parametrize(
    ("other", "heading"),
    [
        ({"objective": "next_token"}, "Corpus small, words, next_token"),
        ({"level": "character"}, "Corpus small, characters, language_model"),
        ({"lower": True}, "Corpus small, words, lower case, language_model"),
        ({"min_freq": 5}, "Corpus small, words, seen 5 times or more, language_model"),
    ],
)
def test_losses_of_different_things_are_never_in_one_ranking(
    tmp_path: Path, small_corpus: CorpusFiles, other: dict[str, Any], heading: str
) -> None:
    """Neither is what they are of an axis within a ranking."""
    document = document_of(
        tmp_path / "grid",
        good(small_corpus, "a", 100.0, 10.0, cell="lstm"),
        good(small_corpus, "b", 5.0, 10.0, cell="lstm", **other),
        good(small_corpus, "c", 6.0, 10.0, cell="gru", **other),
    )
    rankings = [column(s, "valid ppl") for s in document.sections if s.heading == "Ranking"]
    assert sorted(rankings) == [[5.0, 6.0], [100.0]]
    assert {s.heading for s in document.sections if s.heading.startswith("Corpus ")} == {
        "Corpus small, words, language_model",
        heading,
    }
    assert not {"objective", "level", "lower", "min_freq"} & {
        c.name for s in document.sections for table in s.tables for c in table.columns
    }


def test_how_long_each_was_trained_is_said_where_it_differs(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    alike = document_of(
        tmp_path / "a", good(small_corpus, "a", 100.0, 10.0), good(small_corpus, "b", 90.0, 1.0, bptt=7)
    )
    assert "Every run: 1 epoch of the whole text." in section(alike, "Corpus small, words, language_model").notes
    assert "epochs_run" not in [c.name for c in section(alike, "Ranking").tables[0].columns]
    failed = make(small_corpus, "c", bptt=9, status="failed", reason="x")
    some = document_of(tmp_path / "c", good(small_corpus, "a", 100.0, 10.0), failed)
    assert (
        "Every run that ended well: 1 epoch of the whole text."
        in section(some, "Corpus small, words, language_model").notes
    )
    assert column(section(some, "Ranking"), "epochs_run") == ["1", "0"]
    # Runs that end by themselves are meant to differ.
    stopping = {"epochs": 9, "early_stopping": 2}
    stopped = document_of(
        tmp_path / "d",
        good(small_corpus, "a", 100.0, 10.0, epochs_run=3, **stopping),
        good(small_corpus, "b", 90.0, 1.0, epochs_run=5, bptt=7, **stopping),
    )
    said = section(stopped, "Corpus small, words, language_model").notes
    assert "Every run: up to 9 epochs, ended by 2 without a new best, of the whole text." in said
    unlike = document_of(
        tmp_path / "b",
        good(small_corpus, "a", 100.0, 10.0, epochs_run=3),
        good(small_corpus, "b", 90.0, 1.0, bptt=7, max_train_tokens=300),
    )
    assert any(
        "The runs differ in epochs finished" in note
        for note in section(unlike, "Corpus small, words, language_model").notes
    )
    assert column(section(unlike, "Ranking"), "epochs_run") == ["1", "3"]
    assert column(section(unlike, "Ranking"), "max_train_tokens") == [300, None]


def test_throughput_runs_rank_by_speed(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    fast = {"max_steps": 5, "epochs_run": 0}
    records = [
        make(
            small_corpus,
            f"{cell}{bptt}",
            cell=cell,
            bptt=bptt,
            tokens_per_second=100.0 * bptt + len(cell),
            peak_rss_mb=300.0 + bptt,
            **fast,
        )
        for cell in ("lstm", "gru")
        for bptt in (5, 9)
    ]
    document = document_of(tmp_path / "grid", *records)
    assert column(section(document, "Ranking"), "tokens/s") == [904.0, 903.0, 504.0, 503.0]
    names = [c.name for c in section(document, "Ranking").tables[0].columns]
    # What they are ranked by comes first, so that a phone shows it.
    assert names[:4] == ["no.", "tokens/s", "cell", "bptt"]
    assert names.count("tokens/s") == 1
    assert "valid ppl" not in names
    ((title, text),) = section(document, "Corpus small, words, language_model").choices
    assert (title, text.partition(",")[0]) == ("Fastest", "cell=lstm bptt=9: at 904 tokens/s")
    assert any(
        "a throughput run of 5 timed steps" in note
        for note in section(document, "Corpus small, words, language_model").notes
    )
    speeds, memory = section(document, "cell and bptt").plots
    assert isinstance(speeds, HeatMap)
    assert isinstance(memory, HeatMap)
    assert (speeds.title, speeds.lower_is_better) == ("Tokens/s", False)
    assert (memory.title, memory.lower_is_better) == ("Peak MB", True)
    write_report(tmp_path / "grid")


def test_throughputs_of_two_machines_have_a_ranking_each(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    records = [
        make(small_corpus, f"{cell}{machine}", cell=cell, machine_id=machine, tokens_per_second=speed, max_steps=5)
        for cell, machine, speed in (("lstm", "x", 5.0), ("gru", "y", 50.0), ("gru", "x", 7.0))
    ]
    document = document_of(tmp_path / "grid", *records)
    tables = [table for found in document.sections if found.heading == "Ranking" for table in found.tables]
    assert [found.heading for found in document.sections if found.heading.startswith("Corpus")] == [
        "Corpus small, words, language_model on A",
        "Corpus small, words, language_model on B",
    ]
    assert [[row[1:3] for row in table.rows] for table in tables] == [[[7.0, "gru"], [5.0, "lstm"]], [[50.0, "gru"]]]


def test_a_folder_whose_name_is_not_utf8_is_named_by_escapes(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    keep(folder, good(small_corpus, "a", 100.0, 10.0))
    page = write_report(folder)
    assert r"caf\udce9" in page.read_text(encoding="utf-8")


def test_seeds_that_failed_did_not_end_well(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    records = [good(small_corpus, f"a{seed}", 100.0, 10.0, cell="lstm", seed=seed) for seed in range(3)]
    records += [
        good(small_corpus, f"b{seed}", 100.0, 10.0, cell="gru", seed=seed, status="timeout") for seed in range(3)
    ]
    ranking = section(document_of(tmp_path / "grid", *records), "Ranking")
    assert column(ranking, "seeds") == [3, 0]
    note = "Points with a failed run come last; their figures average the runs that succeeded or, if none did, all."
    assert note in ranking.notes


def test_what_went_wrong_has_its_reason_and_the_end_of_its_log(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    failed = make(small_corpus, "f" * 12, cell="gru", status="failed", reason="because")
    keep(tmp_path / "grid", good(small_corpus, "a" * 12, 100.0, 10.0))
    directory = keep(tmp_path / "grid", failed)
    lines = [f"line {n}" for n in range(99)] + ['  File "/home/me/a b/model.py", line 3', "\x1b[31mred\x1b[0m\x07"]
    (directory / "log.txt").write_text("\n".join(lines) + "\n")
    wrong = section(compose(read_folders([tmp_path / "grid"])), "Failed runs")
    assert column(wrong, "reason") == ["because"]
    ((title, text),) = wrong.logs
    assert title.startswith("cell=gru seed=0")
    assert text.split("\n") == [f"line {n}" for n in range(86, 99)] + ['  File "model.py", line 3', "red"]
    (directory / "log.txt").unlink()
    assert section(compose(read_folders([tmp_path / "grid"])), "Failed runs").logs == []


def test_nothing_to_choose_from_is_said(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    document = document_of(
        tmp_path / "grid",
        make(small_corpus, "a", cell="gru", status="failed", tokens_per_second=None, wall_seconds=None),
        make(small_corpus, "b", status="diverged", train_perplexity=math.inf),
    )
    part = section(document, "Corpus small, words, language_model")
    assert part.choices == ()
    assert part.notes[0].startswith("No point ended well")
    assert column(section(document, "Ranking"), "status") == ["diverged", "failed"]
    write_report(tmp_path / "grid")


@pytest.mark.parametrize(("dataset", "there"), [("wikitext-2", True), ("synthetic", False)])
def test_published_figures_stand_beside_wikitext_2_only(
    tmp_path: Path, small_corpus: CorpusFiles, dataset: str, there: bool
) -> None:
    document = document_of(tmp_path / "grid", good(small_corpus, "a", 100.0, 10.0, dataset=dataset))
    found = [s for s in document.sections if s.heading == "Published perplexities"]
    assert len(found) == there
    if there:
        rows = found[0].tables[0].rows
        assert rows[0][1:] == ["measured here", "1 epoch of the whole text", 100.0, 99.0]
        assert all(row[1].startswith("published: ") for row in rows[1:])
        assert ["LSTM 650, tied, dropout 0.5", "published: GluonNLP 0.10 model zoo", "not stated", 91.30, 85.82] in rows


# What was answered


def test_where_an_accuracy_was_measured_cross_entropy_ranks_and_is_drawn(
    tmp_path: Path, small_corpus: CorpusFiles
) -> None:
    """The better accuracy does not win. A failed run has none, and changes nothing."""
    history = (epoch(1, 0.9, 0.9, (0.5, 0.5)), epoch(2, 0.6, 0.61, (0.6, 0.3)))
    task = {"objective": "tagging"}
    document = document_of(
        tmp_path / "grid",
        labelled(small_corpus, "a", 0.6, 0.6, 10.0, cell="lstm", bptt=5, history=history, **task),
        labelled(small_corpus, "b", 0.62, 0.9, 20.0, cell="gru", bptt=5, **task),
        labelled(small_corpus, "c", 0.64, 0.8, 30.0, cell="lstm", bptt=9, **task),
        make(small_corpus, "d", cell="gru", bptt=9, status="failed", **task),
    )
    choices = dict(section(document, "Corpus small, words, tagging").choices)
    assert choices["Best cross-entropy"].startswith(
        "cell=lstm bptt=5: validation cross-entropy 0.6000, accuracy 60.00 %, test cross-entropy 0.6100, accuracy "
        "30.00 %, at 10 tokens/s"
    )
    # 5 % of the cross-entropy, not of the perplexity, which 0.64 would be within, too.
    assert choices["Fastest within 5% of the best"].startswith("cell=gru bptt=5: validation cross-entropy 0.6200")
    ranking = section(document, "Ranking")
    assert ranking.notes[0] == "Best first, by validation cross-entropy."
    assert column(ranking, "valid loss") == [0.6, 0.62, 0.64, None]
    assert column(ranking, "valid acc. %") == [60.0, 90.0, 80.0, None]
    assert column(ranking, "test acc. %") == [30.0, 45.0, 40.0, None]
    assert [c.digits for c in ranking.tables[0].columns if c.name in ("valid loss", "valid acc. %")] == [4, 2]
    (trade,) = section(document, "Cross-entropy against throughput").plots
    assert isinstance(trade, Scatter)
    assert trade.loss == "validation cross-entropy (nats)"
    assert [(spot.speed, spot.loss, spot.number) for spot in trade.having("yes")] == [
        (30.0, 0.64, 3),
        (20.0, 0.62, 2),
        (10.0, 0.6, 1),
    ]
    losses, accuracies, *_ = section(document, "cell and bptt").plots
    assert isinstance(losses, HeatMap)
    assert isinstance(accuracies, HeatMap)
    assert (losses.title, losses.lower_is_better) == ("Validation cross-entropy, nats", True)
    assert (accuracies.title, accuracies.lower_is_better) == ("Validation accuracy, %", False)
    assert (losses.cells[1, 0], accuracies.cells[1, 0]) == ((0.6, "0.6000"), (60.0, "60.00"))
    (curves,) = section(document, "Learning curves").plots
    assert isinstance(curves, Curves)
    assert (curves.loss, curves.lines[0][1]) == ("validation cross-entropy (nats)", [((1, 0.9), (2, 0.6))])
    assert "ppl" not in str([table.columns for s in document.sections for table in s.tables])
    page = to_html(document)
    assert "validation cross-entropy (nats)" in page
    assert "perplexity" not in re.sub(r'title="[^"]*"', "", page)


def test_seeds_of_accuracies_are_in_per_cent(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    seeds = [labelled(small_corpus, f"{n}", 0.5 + n / 10, 0.7 + n / 10, 10.0, seed=n) for n in (0, 1, 2)]
    table = section(document_of(tmp_path / "grid", *seeds), "Over seeds").tables[0]
    names = [c.name for c in table.columns]
    start = names.index("valid acc. % mean")
    half = 4.302653 * 10 / math.sqrt(3)
    assert table.rows[0][start : start + 4] == pytest.approx([80.0, 10.0, 80 - half, 80 + half])
    assert table.rows[0][names.index("valid loss mean")] == pytest.approx(0.6)


def test_the_best_points_confusion_has_totals_recall_and_precision(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    """By hand: of 10 true a 8 are found, of 9 predicted as a 8 are right; nothing is c."""
    confusion = Confusion(("a", "b", "c"), ((8, 2, 0), (1, 4, 0), (0, 0, 0)))
    other = Confusion(("a",), ((1,),))
    document = document_of(
        tmp_path / "grid",
        labelled(small_corpus, "x", 0.6, 0.6, 10.0, cell="lstm", seed=1, confusion=confusion, test_loss=None),
        labelled(small_corpus, "y", 0.6, 0.6, 10.0, cell="lstm", seed=2, confusion=other),
        labelled(small_corpus, "z", 0.7, 0.9, 10.0, cell="gru", confusion=other),
    )
    found = section(document, "Confusion matrix")
    assert found.notes[0] == "Of no. 1 in the ranking (cell=lstm, seed 1), on validation."
    (table,) = found.tables
    assert [c.name for c in table.columns] == ["true", "a", "b", "c", "total", "recall %", "precision %"]
    assert table.rows[:3] == [
        ["a", 8, 2, 0, 10, 80.0, pytest.approx(800 / 9)],
        ["b", 1, 4, 0, 5, 80.0, pytest.approx(400 / 6)],
        ["c", 0, 0, 0, 0, None, None],
    ]
    assert table.rows[3] == ["all", 9, 6, 0, 15, 80.0, None]


def test_of_many_labels_the_most_confused_pairs_are_shown() -> None:
    """Label n occurs 1,000 - n times, and is mistaken for the next n times; the last for the first."""
    size = 44
    rows = [[0] * size for _ in range(size)]
    for n in range(size):
        rows[n][n] = 1000 - 2 * n
        rows[n][(n + 1) % size] = n
    confusion = Confusion(tuple(f"T{n}" for n in range(size)), tuple(map(tuple, rows)))
    (note,), (pairs, single) = confusion_tables(confusion)
    assert "20 of the 43 that occurred" in note
    assert "20 of 44" in note
    wrong = sum(range(size))
    assert pairs.rows[0] == ["T43", "T0", 43, pytest.approx(4300 / 957), pytest.approx(4300 / wrong)]
    assert [row[2] for row in pairs.rows] == list(range(43, 23, -1))
    assert single.rows[0] == ["T0", 1000, 100.0, pytest.approx(100_000 / 1043)]
    assert single.rows[2] == ["T2", 998, pytest.approx(99_600 / 998), pytest.approx(99_600 / 997)]
    assert [row[0] for row in single.rows] == [f"T{n}" for n in range(20)]
    _, tables = confusion_tables(Confusion(confusion.labels[:12], tuple(row[:12] for row in confusion.counts[:12])))
    assert len(tables) == 1


def test_predictions_stand_beside_the_truth_cut_to_a_length(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    predictions = tuple(Prediction("long " * 99, f"t{n}", "line\nend\u202e") for n in range(12))
    document = document_of(tmp_path / "grid", good(small_corpus, "a", 100.0, 10.0, predictions=predictions))
    found = section(document, "Predictions and truth")
    assert found.notes == ["Of no. 1 in the ranking (cell=lstm bptt=5 hidden_size=8), on validation.", found.notes[1]]
    assert found.notes[1] == "The first 10 of 12, cut to 200 characters."
    assert column(found, "truth") == [f"t{n}" for n in range(10)]
    assert column(found, "text")[0] == ("long " * 40) + "…"
    assert column(found, "predicted")[0] == r"line\nend\u202e"
    assert [c.wide for c in found.tables[0].columns] == [True, False, False]


# Whatever folders hold


def test_results_of_the_version_before_have_the_same_report(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    """From their records, and from their tables alone."""
    history = (epoch(1, 4.6, 4.7), epoch(2, 4.5))
    records = [good(small_corpus, name, 100.0, 10.0, cell=name, history=history) for name in ("lstm", "gru")]
    now = tmp_path / "now" / "grid"
    for record in records:
        keep(now, record, history)
    write_tables(now, records)
    shutil.copytree(now, tmp_path / "then" / "grid")
    for directory in (tmp_path / "then" / "grid" / "runs").iterdir():
        as_before(directory)
    (tmp_path / "bare" / "grid").mkdir(parents=True)
    for name in ("runs.csv", "epochs.csv"):
        drop_columns(Path(shutil.copy(now / name, tmp_path / "bare" / "grid")))
    pages = [to_html(compose(read_folders([tmp_path / when / "grid"]))) for when in ("now", "then", "bare")]
    assert "Learning curves" in pages[0]
    assert "no. 1" in pages[0]
    assert pages[0] == pages[1] == pages[2]


def test_a_lone_run_has_a_report(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    document = document_of(tmp_path / "grid", good(small_corpus, "a", 100.0, 10.0))
    assert column(section(document, "Ranking"), "cell") == ["lstm"]
    assert write_report(tmp_path / "grid") == tmp_path / "grid" / "report.html"


def test_tables_alone_are_enough_and_older_ones_may_lack_columns(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    history = (epoch(1, 4.6), epoch(2, 4.5, 4.4))
    records = [
        good(small_corpus, "a", 100.0, 10.0, cell="gru", clip=None, history=history),
        good(small_corpus, "b", 90.0, math.inf, history=history),
    ]
    for record in records:
        keep(tmp_path / "whole", record)
    write_tables(tmp_path / "whole", records)
    (tmp_path / "bare").mkdir()
    for name in ("runs.csv", "epochs.csv"):
        shutil.copy(tmp_path / "whole" / name, tmp_path / "bare")
    whole, bare = (read_folders([tmp_path / name]) for name in ("whole", "bare"))
    in_tables = [[run.record.model_dump(exclude={"sessions"}) for run in read.runs] for read in (bare, whole)]
    assert in_tables[0] == in_tables[1]
    assert to_html(compose(bare)).replace("bare", "whole") == to_html(compose(whole))

    frame = load_results(tmp_path / "bare")
    gone = ["precision", "evaluation_seconds", "environment", "peak_gpu_mb", "machine_id", "reason", "vocab_size"]
    frame.drop(columns=gone).to_csv(tmp_path / "bare" / "runs.csv", index=False)
    (tmp_path / "bare" / "epochs.csv").write_text("run_id,epoch\na,1\n")
    older = read_folders([tmp_path / "bare"])
    assert [run.record.config.precision for run in older.runs] == ["float32", "float32"]
    assert [(run.record.origin.machine_id, run.record.evaluation_seconds) for run in older.runs] == [("", None)] * 2
    assert older.notes == ("no learning curves of epochs.csv: it has no column learning_rate",)
    write_report(tmp_path / "bare")


def test_records_alone_are_enough(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    keep(tmp_path, good(small_corpus, "a", 100.0, 10.0), [epoch(1, 4.0), epoch(2, 3.0)])
    (run,) = read_folders([tmp_path]).runs
    assert run.record.history == (epoch(1, 4.0), epoch(2, 3.0))


def test_a_damaged_record_is_named_without_this_machines_folders(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    keep(tmp_path / "grid", good(small_corpus, "a", 100.0, 10.0))
    (keep(tmp_path / "grid", good(small_corpus, "b", 100.0, 10.0)) / "record.json").write_text("{")
    write_report(tmp_path / "grid")
    text = (tmp_path / "grid" / "report.md").read_text()
    assert "grid/runs/b/record.json is damaged" in text
    assert str(tmp_path) not in text + (tmp_path / "grid" / "report.html").read_text()


def test_several_folders_are_told_apart_and_a_run_counts_once(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    again = good(small_corpus, "a", 100.0, 10.0)
    keep(tmp_path / "x" / "grid", again)
    keep(tmp_path / "y" / "grid", again)
    keep(tmp_path / "y" / "grid", good(small_corpus, "b", 90.0, 10.0, seed=1))
    path = write_report(
        [tmp_path / "x" / "grid", str(tmp_path / "y" / "grid"), tmp_path / "x" / "grid"], tmp_path / "o"
    )
    assert path == tmp_path / "o" / "report.html"
    document = compose(read_folders([tmp_path / "x" / "grid", tmp_path / "y" / "grid"]))
    assert document.title == "x/grid and y/grid: lstm on small"
    assert document.summary.startswith("2 runs (2 ok)")
    # One configuration is one point, whatever folder a run is in.
    assert column(section(document, "Ranking"), "valid ppl") == [95.0]
    assert column(section(document, "Ranking"), "seeds") == [2]
    assert column(section(document, "Runs"), "folder") == ["x/grid", "y/grid"]
    assert "1 run in several of the folders; each counts once." in section(document, "Before you compare").notes[0]
    assert not (tmp_path / "x" / "grid" / "report.html").exists()


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_runs_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], made: bool) -> None:
    if made:
        (tmp_path / "grid" / "runs").mkdir(parents=True)
    assert cli.main(["report", str(tmp_path / "grid")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {'there are no runs in ' if made else ''}{tmp_path / 'grid'}")
    with pytest.raises(UserError, match="no folder of results is given"):
        write_report([])


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    keep(tmp_path / "grid", good(small_corpus, "a", 100.0, 10.0))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the report to .*--output"):
        write_report(tmp_path / "grid", tmp_path / "file")
    (tmp_path / "grid" / "report.md").mkdir()
    with pytest.raises(UserError, match="cannot write the report"):
        write_report(tmp_path / "grid")


# The files


@pytest.mark.slow
def test_equal_rows_give_equal_bytes(
    tmp_path: Path, small_corpus: CorpusFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process, another folder, in another order of writing, with another user's settings of matplotlib."""
    records = [
        good(small_corpus, f"{cell}{bptt}{seed}", 100.0 + bptt + seed, 10.0 + bptt, cell=cell, bptt=bptt, seed=seed)
        for cell in ("lstm", "gru")
        for bptt in (5, 9)
        for seed in (0, 1)
    ]
    records.append(make(small_corpus, "bad", cell="gru", bptt=7, status="diverged"))
    for base, order in (("x", 1), ("y", -1)):
        for record in records[::order]:
            keep(tmp_path / base / "grid", record, [epoch(1, 5.0), epoch(2, 4.5)])
    write_report(tmp_path / "x" / "grid")
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\nsvg.hashsalt: other\n")
    subprocess.run(
        [sys.executable, "-c", "import gluon_rnn; gluon_rnn.write_report('y/grid')"],
        cwd=tmp_path,
        env=environment(PYTHONHASHSEED="77", TZ="Asia/Tokyo"),
        check=True,
    )
    for name in ("report.html", "report.md"):
        assert (tmp_path / "x" / "grid" / name).read_bytes() == (tmp_path / "y" / "grid" / name).read_bytes()


def hostile(folder: Path, corpus: CorpusFiles) -> Path:
    """A sweep in whose every text stands what would run, load or break a table; no record would let the cell pass."""
    names = {"dataset": HOSTILE, "device_name": HOSTILE, "blas": HOSTILE, "git_commit": HOSTILE, "host": HOSTILE}
    sweep = folder / "<b>grid|"
    records = [
        good(corpus, f"{number}{bptt}", 100.0 + bptt + number, 10.0 * bptt, bptt=bptt, **names).with_columns(
            {"cell": cell}
        )
        for number, cell in enumerate(("lstm", HOSTILE + "é漢🙂"))
        for bptt in (5, 9)
    ]
    records.append(make(corpus, "bad", bptt=7, status="failed", reason=HOSTILE, **names))
    for record in records:
        directory = keep(sweep, record, [epoch(1, 5.0), epoch(2, 4.5)])
        (directory / "log.txt").write_text(f"{HOSTILE}\n</pre></details>\n\n{HOSTILE}\n")
    write_tables(sweep, records)
    for directory in (sweep / "runs").iterdir():
        (directory / "record.json").unlink()
    return sweep


#: Each breaks out of another place: of elements, attributes, comments, styles, scripts, templates, formulas, tables.
PAYLOADS = [
    "</script><script>window.ran=1</script>",
    "<img src=x onerror=window.ran=1>",
    '"><svg onload=window.ran=1>',
    "' onmouseover='window.ran=1' x='",
    '" autofocus onfocus="window.ran=1" tabindex="0',
    "<!--<script>",
    "-->]]><![CDATA[",
    "javascript:window.ran=1//http://127.0.0.1:9/",
    "</title></style><style>*{background:url(http://127.0.0.1:9/x)}</style>",
    "</text></svg><iframe src=javascript:parent.ran=1></iframe>",
    "</pre></details><a href=http://127.0.0.1:9/>x</a>",
    "{{ 7 * 7 }}{% for x in y %}",
    r"$\frac{1}{$\alpha$",
    "a\u2028b\u2029c",
    "&lt;img&gt;&#60;b&#62;",
    "| --- | `x` **b** [a](javascript:window.ran=1) ![i](http://127.0.0.1:9/i)",
]
#: Of tables that anybody can write; those that decide how a row is read are left.
WORDS = [
    *(name for name, info in FIELDS.items() if str in (info.annotation, *get_args(info.annotation))),
    *("model", "optimizer", "initializer", "precision"),
]


def hostile_everywhere(folder: Path, corpus: CorpusFiles) -> Path:
    """A table whose every word is one of `PAYLOADS`, in a folder that is called by one, with damage to be told of."""
    sweep = folder / "<img src=x onerror=window.ran=1>"
    records = []
    for number in range(len(PAYLOADS)):
        words = {
            name: PAYLOADS[(number + place) % len(PAYLOADS)] for place, name in enumerate(WORDS) if name != "run_id"
        }
        # What a corpus and two machines are known by, so that there is something to compare and to draw.
        words |= dict.fromkeys(("dataset", "dataset_sha1", "model", "initializer", "precision"), PAYLOADS[2])
        words |= {
            "run_id": f"r{number}",
            "machine_id": PAYLOADS[number % 2],
            "device_name": PAYLOADS[number % 2 + 3],
            "device": "cpu",
        }
        record = good(corpus, f"r{number}", 100.0 + number, 10.0 * (5 + number % 3), bptt=5 + number % 3)
        record = record.with_columns(words)
        directory = keep(sweep, record, [epoch(1, 5.0), epoch(2, 4.5)])
        (directory / "log.txt").write_text("\n".join(PAYLOADS), encoding="utf-8")
        (directory / "record.json").write_text('{"<img src=x onerror=window.ran=1>": "<b>"}')
        records.append(record)
    write_tables(sweep, records)
    (sweep / "epochs.csv").unlink()
    (sweep / "runs" / "r0" / "epochs.csv").write_text("<script>window.ran=1</script>\n1\n")
    return sweep


def hostile_answers(folder: Path, corpus: CorpusFiles) -> Path:
    """Records whose labels, few or many, and texts are `PAYLOADS`."""
    sweep = folder / "answers"
    labels = tuple(PAYLOADS)
    predictions = tuple(Prediction(a, b, c) for a, b, c in zip(labels, labels[1:], labels[2:], strict=False))
    for name, size, first in (("few", 3, 0), ("more", 12, 4), ("many", len(labels), 0)):
        counts = tuple(tuple(1 + row + place for place in range(size)) for row in range(size))
        answers = {
            "confusion": Confusion(labels[first : first + size], counts),
            "predictions": (*predictions[first:], *predictions),
        }
        keep(sweep, labelled(corpus, name, 0.5, 0.5, 10.0, dataset=name, **answers))
    return sweep


@pytest.mark.parametrize("form", ["html", "md"])
def test_what_was_answered_is_text(tmp_path: Path, small_corpus: CorpusFiles, form: str) -> None:
    from markdown_it import MarkdownIt

    text = write_report(hostile_answers(tmp_path, small_corpus)).with_suffix(f".{form}").read_text(encoding="utf-8")
    page = Page(text if form == "html" else MarkdownIt("commonmark").enable("table").render(text))
    names = [name for name, _ in page.elements]
    assert names.count("script") == (form == "html")
    assert not {"img", "b", "em", "iframe", "object", "form"} & set(names)
    assert all((attributes["href"] or "").startswith("#s-") for name, attributes in page.elements if name == "a")
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    said = " ".join(page.text.split())
    for payload in PAYLOADS:
        # Among the texts whole, among the labels their beginnings.
        assert printable(payload) in said, payload
        assert said.count(printable(payload[:40])) > 4, payload
    if form == "md":
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1
        assert "$" not in text


def test_what_rows_say_is_text_in_the_page(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    page = Page(write_report(hostile(tmp_path, small_corpus)).read_text(encoding="utf-8"))
    names = [name for name, _ in page.elements]
    assert names.count("script") == 1
    assert not {"img", "b", "iframe", "object", "link", "form"} & set(names) - {"link"}
    assert all((attributes["href"] or "").startswith("#s-") for name, attributes in page.elements if name == "a")
    assert not [value for _, attributes in page.elements for key, value in attributes.items() if key.startswith("on")]
    assert page.text.count(HOSTILE) > 8
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_name_in_a_plot_is_no_formula_and_no_tag() -> None:
    name = r"$\frac{$ & <b>"
    svg = to_svg(Scatter(name, name, [Spot(1.0, 2.0, 1, "", name, "yes")]), "p1")
    page = Page(svg)
    assert page.text.count(name) == 4
    assert [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"] == [name]
    assert all((attributes.get("id") or "p1-").startswith("p1-") for _, attributes in page.elements)


@pytest.mark.parametrize(("others", "named"), [(1, 1), (13, 13), (14, 0)])
def test_few_points_have_their_names_in_the_plot(others: int, named: int) -> None:
    """Far apart, so that there is room for each."""
    spots = [Spot(10.0**place, 2.0**place, 1 + place, f"name{place}.", "c", "no") for place in range(1, 1 + others)]
    page = Page(to_svg(Scatter("title", "loss", [Spot(1.0, 1.0, 99, "best.", "c", "yes"), *spots]), "p1"))
    assert "best." in page.text
    assert sum(spot.name in page.text for spot in spots) == named


def test_an_outlier_is_marked_at_the_top_and_does_not_set_the_scale() -> None:
    def line(last: float) -> Lines:
        spots = [(float(x), y, y, y) for x, y in enumerate((400.0, 500.0, 450.0, 470.0, last), 1)]
        return Lines("title", "learning_rate", "validation perplexity", [Line("lstm", "", spots, 0)])

    plain, clipped = (Page(to_svg(line(last), "p")).text for last in (480.0, 4.2e13))
    assert "▲ 4.2e+13" in clipped
    assert "▲" not in plain
    assert "1e+" not in clipped
    # The ticks are those of the rest.
    assert "480" in clipped


def test_a_band_is_whole_where_nothing_is_far_off() -> None:
    spots = [(float(x), 100.0, 90.0, high) for x, high in enumerate((110.0, 180.0), 1)]
    text = Page(to_svg(Lines("title", "bptt", "tokens/s", [Line("lstm", "", spots, 0)]), "p")).text
    assert "180" in text


def test_seven_cells_have_seven_colours() -> None:
    lines = [Line(f"cell{n}", "", [(1.0, n, n, n), (2.0, n, n, n)]) for n in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)]
    svg = to_svg(Lines("title", "bptt", "loss", lines), "p")
    strokes = set(re.findall(r"fill: none; stroke: ([^;]+); stroke-width: 1.2", svg))
    assert len(strokes) == 7


def test_what_took_no_time_has_no_place_in_a_legend() -> None:
    text = Page(
        to_svg(Bars("title", ("training", "evaluation", "the rest"), [("no. 1", [3000.0, 0.0, 1.0])]), "p")
    ).text
    assert "training" in text
    assert "evaluation" not in text
    assert "3,000" in text


def test_the_page_asks_for_nothing(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    keep(tmp_path, good(small_corpus, "a", 100.0, 10.0))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    (policy,) = [a["content"] for name, a in page.elements if name == "meta" and "http-equiv" in a]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    expected = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith(
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{expected}'; img-src data:;"
    )
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"@import|url\((?!#)", text)


def test_what_rows_say_is_text_in_the_markdown(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    from markdown_it import MarkdownIt

    sweep = hostile(tmp_path, small_corpus)
    write_report(sweep)
    text = (sweep / "report.md").read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    assert not {"html_inline", "link_open", "image", "em_open"} & {token.type for token in inline}
    assert {token.content for token in inline if token.type == "code_inline"} == {"report.html"}
    blocks = [token.content for token in tokens if token.type == "html_block"]
    assert not [block for block in blocks if re.search(r"<(script|img)|</pre>.*</pre>", block)]
    html = Page(MarkdownIt("commonmark").enable("table").render(text))
    assert html.text.count(HOSTILE) > 8
    assert not {"script", "img", "a", "em"} & {name for name, _ in html.elements}
    # Every row has as many cells as its head.
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    # Where GitHub would look for formulas.
    assert "$" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)


def test_every_word_of_a_table_is_text_in_the_markdown(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    from markdown_it import MarkdownIt

    sweep = hostile_everywhere(tmp_path, small_corpus)
    write_report(sweep)
    text = (sweep / "report.md").read_text(encoding="utf-8")
    reader = MarkdownIt("commonmark").enable("table")
    inline = [child for token in reader.parse(text) for child in token.children or ()]
    assert not {"html_inline", "link_open", "image", "em_open", "strong_open"} & {
        token.type for token in inline if "**" not in token.markup
    }
    html = Page(reader.render(text))
    assert not {"script", "img", "a", "em", "iframe", "svg", "style"} & {name for name, _ in html.elements}
    assert not [name for _, attributes in html.elements for name in attributes if name.startswith("on")]
    said = " ".join(html.text.split())
    for payload in PAYLOADS:
        assert said.count(" ".join(payload.split())) > 3, payload
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_command_prints_where_the_report_is(
    tmp_path: Path, small_corpus: CorpusFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path / "grid", good(small_corpus, "a", 100.0, 10.0))
    assert cli.main(["report", str(tmp_path / "grid"), "--output", str(tmp_path / "new" / "place")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new' / 'place' / 'report.html'}\n"
    assert sorted(path.name for path in (tmp_path / "new" / "place").iterdir()) == ["report.html", "report.md"]


def test_plots_become_files_that_the_markdown_shows_in_their_places(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    records = [
        good(small_corpus, f"{cell}{bptt}", 100.0 + bptt, 10.0 + bptt, cell=cell, bptt=bptt)
        for cell in ("lstm", "gru")
        for bptt in (20, 35)
    ]
    for record in records:
        keep(tmp_path / "grid", record)
    assert cli.main(["report", str(tmp_path / "grid"), "--plots"]) == 0
    text = (tmp_path / "grid" / "report.md").read_text()
    assert text.count("![") == len(list((tmp_path / "grid" / "plots").iterdir())) == 6
    headings: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if found := re.fullmatch(r"!\[.+\]\((plots/[a-z0-9-]+\.svg)\)", line):
            headings.setdefault(heading, []).append(found[1])
    assert headings == {
        "Perplexity against throughput": ["plots/perplexity-against-throughput.svg"],
        "By bptt": ["plots/by-bptt-validation-perplexity-by-bptt.svg", "plots/by-bptt-speed-by-bptt.svg"],
        "cell and bptt": [f"plots/cell-and-bptt-{what}.svg" for what in ("validation-perplexity", "tokens-s")],
        "Where the time went": ["plots/where-the-time-went.svg"],
    }
    for path in (tmp_path / "grid" / "plots").iterdir():
        root = ElementTree.fromstring(path.read_bytes())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        # The page's colours are not there to be taken over.
        assert root.attrib["style"] == "color: #000; background: #fff"


def test_plots_of_one_title_are_files_of_their_own(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    for tokens in (100, 200):
        for n in range(2):
            name = f"{tokens}{n}"
            keep(
                tmp_path / "grid",
                good(small_corpus, name, 100.0 + n, 10.0 + n, bptt=20 + n, max_eval_tokens=tokens),
            )
    write_report(tmp_path / "grid", plots=True)
    names = {path.name for path in (tmp_path / "grid" / "plots").glob("perplexity*")}
    assert names == {"perplexity-against-throughput.svg", "perplexity-against-throughput-2.svg"}


# results/columns.md


def test_every_column_says_what_it_is() -> None:
    for name in COLUMNS:
        assert len(describe(name)) > 5, name
    for name in EPOCH_COLUMNS:
        assert len(describe_epoch(name)) > 5, name
    assert describe("wall_seconds").startswith("seconds of the worker's process")
    assert describe("dataset") == "name of the corpus"
    assert set(EPOCH_COLUMNS) == {"run_id", "sitting", *EpochResult.__dataclass_fields__} - {"session"}


def test_the_columns_file_of_results_is_what_the_code_says() -> None:
    path = Path(__file__).parents[3] / "results" / "columns.md"
    assert path.read_text(encoding="utf-8") == columns.columns_file(), "run: make columns"
    for name in (*COLUMNS, *EPOCH_COLUMNS):
        assert f"\n| `{name}` | " in path.read_text(encoding="utf-8")


# One name, several contents


def swept(results: Path, corpus: Path, axes: dict[str, tuple[Any, ...]]) -> list[RunRecord]:
    """A sweep of made-up runs: loss 2 with vectors of a folder v1, 3 of another, a little more with each seed."""

    def finish(job: Job, directory: Path) -> tuple[str | None, str]:
        assert job.vectors
        loss = 2.0 + (job.vectors.path.parent.name != "v1") + job.config.seed / 1000
        write_record(directory, make_done(job, [epoch(1, loss, loss)]))
        return None, ""

    settings = small_config(dataset=str(corpus), tie_weights=False).model_dump(exclude_unset=True)
    planned = plan_sweep(Sweep("grid", settings=settings, axes=axes), results=results, machine=machine())
    return run_sweep(planned, executor=FakeExecutor(finish))


def test_vectors_of_one_name_are_points_of_their_own_whatever_the_order_of_axes(
    tmp_path: Path, small_folder: Path
) -> None:
    paths = write_vectors(tmp_path, "v1", "v2")
    names = [f"vec.txt@{sha1_of_file(path)[:7]}" for path in paths]
    axes = {"embedding": tuple(map(str, paths)), "seed": (0, 1, 2, 3)}
    texts = []
    for place, order in enumerate((axes, dict(reversed(axes.items())))):
        results = tmp_path / str(place)
        found = points(*swept(results, small_folder, order))
        assert [(point.label(["embedding"]), [run.record.config.seed for run in point.runs]) for point in found] == [
            (f"embedding={name}", [0, 1, 2, 3]) for name in names
        ]
        assert [point.average("valid_loss") for point in found] == pytest.approx([2.0015, 3.0015])
        document = compose(read_folders([results / "grid"]))
        assert column(section(document, "Ranking"), "embedding") == names
        assert column(section(document, "Ranking"), "seeds") == [4, 4]
        assert "one name and different contents" in " ".join(section(document, "Before you compare").notes)
        texts.append((write_report(results / "grid").parent / "report.md").read_text())
    assert texts[0] == texts[1]


def test_versions_of_a_cell_are_no_seeds_of_one_point(small_corpus: CorpusFiles) -> None:
    """A cell edited between seeds 1 and 2, and one whose old records hold no digest."""

    def of(seed: int, cell: str, sha1: str | None) -> RunRecord:
        return good(small_corpus, f"{cell[0]}{seed}", 10.0 + seed, 5.0, seed=seed, cell=cell, cell_sha1=sha1)

    edited = [of(seed, "mine:Cell", ("a" if seed < 2 else "b") * 40) for seed in range(4)]
    unknown = [of(seed, "yours:Cell", None if seed < 2 else "c" * 40) for seed in range(4)]
    found = points(*edited, *unknown, of(0, "plain:Cell", "d" * 40))
    assert {(point.settings["cell"], tuple(run.record.config.seed for run in point.runs)) for point in found} == {
        ("mine:Cell@aaaaaaa", (0, 1)),
        ("mine:Cell@bbbbbbb", (2, 3)),
        ("yours:Cell@unknown", (0, 1)),
        ("yours:Cell@ccccccc", (2, 3)),
        ("plain:Cell", (0,)),
    }
    assert {point.settings["version"] for point in found} == {1}


def test_corpora_of_one_name_are_told_apart(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    one, two = (good(small_corpus, name, 10.0, 5.0, seed=n, dataset_sha1=name * 40) for n, name in enumerate("ab"))
    assert [len(point.runs) for point in points(one, two)] == [1, 1]
    headings = [found.heading for found in document_of(tmp_path, one, two).sections if found.level == 2]
    assert [heading.split(",")[0] for heading in headings if heading.startswith("Corpus")] == [
        "Corpus small@aaaaaaa",
        "Corpus small@bbbbbbb",
    ]
    alone = document_of(tmp_path / "other", one)
    assert next(found.heading.split(",")[0] for found in alone.sections if found.level == 2) == "Corpus small"
