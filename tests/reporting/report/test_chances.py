"""Which points are better than which: probabilities by hand, fronts of small sweeps, and the committed repeats."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

import main_table
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.reporting.report.chances import Chances, front_of, rivals_of
from gluon_rnn.reporting.report.content import Scatter
from gluon_rnn.reporting.report.plots import to_picture
from gluon_rnn.reporting.report.points import Point
from tests.reporting.report.test_report import PPL, document_of, good, make, points, section

SPEED = "tokens_per_second"
RESULTS = Path(__file__).parents[3] / "results"


def seeds(corpus: CorpusFiles, bptt: int, *runs: tuple[float, float]) -> list[Point]:
    """A point of (perplexity, speed) for each seed."""
    records = [good(corpus, f"{bptt}-{n}", ppl, speed, bptt=bptt, seed=n) for n, (ppl, speed) in enumerate(runs)]
    return points(*records)


def windows(found: tuple[Point, ...] | list[Point]) -> list[int]:
    return [point.settings["bptt"] for point in found]


def test_two_repeated_points_are_compared_by_student(small_corpus: CorpusFiles) -> None:
    """Losses of 1.0 and 1.2 beside 1.3 and 1.5: t = 0.3 / 0.1414, two degrees of freedom; P(T < t) by its formula."""
    (first,), (second,) = (
        seeds(small_corpus, bptt, *((math.exp(loss), 10.0) for loss in losses))
        for bptt, losses in ((1, (1.0, 1.2)), (2, (1.3, 1.5)))
    )
    t = 0.3 / math.sqrt(0.02)
    better = (1 + t / math.sqrt(t * t + 2)) / 2
    chances = Chances([first, second], PPL)
    assert chances.at_least_as_good_as(second) == pytest.approx([better, 1.0])
    assert chances.at_least_as_good_as(first) == pytest.approx([1.0, 1 - better])
    # The same of a speed, of which more is better; equal values are as good for certain.
    assert Chances([first, second], SPEED).at_least_as_good_as(first).tolist() == [1.0, 1.0]


def test_a_single_run_is_compared_by_the_spread_of_the_others(small_corpus: CorpusFiles) -> None:
    (repeated,) = seeds(small_corpus, 1, (math.exp(1.0), 10.0), (math.exp(1.2), 10.0))
    (single,) = seeds(small_corpus, 2, (math.exp(1.4), 10.0))
    chances = Chances([repeated, single], PPL)
    # Standard deviation 0.1414 of one degree of freedom, as Cauchy has it.
    t = 0.3 / (math.sqrt(0.02) * math.sqrt(1 + 1 / 2))
    assert chances.at_least_as_good_as(repeated) == pytest.approx([1.0, 0.5 - math.atan(t) / math.pi])
    assert chances.spread_known
    assert rivals_of(repeated, [repeated, single], PPL) == [single]
    alone = Chances([single], PPL)
    assert not alone.spread_known
    assert rivals_of(single, [single], PPL) is None


def test_without_repeats_the_values_decide(small_corpus: CorpusFiles) -> None:
    found = [*seeds(small_corpus, 1, (100.0, 10.0)), *seeds(small_corpus, 2, (101.0, 10.1))]
    found += seeds(small_corpus, 3, (102.0, 10.0))
    front = front_of(found, PPL)
    assert (windows(front.sure), windows(front.undecided), front.spread_known) == ([2, 1], [], False)
    assert front_of([], PPL).sure == ()


def test_repeats_leave_a_small_lead_undecided_and_a_large_one_not(small_corpus: CorpusFiles) -> None:
    (best,) = seeds(small_corpus, 1, (100.0, 1000.0), (100.5, 1100.0), (99.5, 950.0))
    # A hundredth faster, whatever that is worth, and clearly worse.
    (near,) = seeds(small_corpus, 2, (120.0, 1010.0), (120.5, 1110.0), (119.5, 960.0))
    (beaten,) = seeds(small_corpus, 3, (140.0, 700.0), (140.5, 710.0), (139.5, 690.0))
    (fast,) = seeds(small_corpus, 4, (160.0, 3000.0), (160.5, 3010.0), (159.5, 2990.0))
    front = front_of([best, near, beaten, fast], PPL)
    assert (windows(front.sure), windows(front.undecided), front.spread_known) == ([4, 1], [2], True)


def test_repeats_that_agree_to_the_bit_leave_nothing_to_chance(small_corpus: CorpusFiles) -> None:
    (first,) = seeds(small_corpus, 1, (100.0, 10.0), (100.0, 10.0))
    (second,) = seeds(small_corpus, 2, (101.0, 11.0), (101.0, 11.0))
    (third,) = seeds(small_corpus, 3, (101.0, 10.5))
    front = front_of([first, second, third], PPL)
    assert (windows(front.sure), windows(front.undecided)) == ([2, 1], [])


def main_points() -> list[Point]:
    folders = [RESULTS / name for name in ("wikitext2-cpu", "notebook-cpu", "seeds-cpu")]
    return main_table.ranking_of(folders, RESULTS / "throughput-xeon", 2)


def test_the_committed_repeats_leave_the_front_as_open_as_a_bootstrap_does() -> None:
    """Over its repeats a bootstrap keeps lstm 35 there always, rnn_tanh 35, lstm 70 and gru 35 now and then."""
    found = main_points()
    front = front_of(found, PPL)
    sure, undecided = (
        {(p.settings["cell"], p.settings["bptt"], p.settings["learning_rate"]) for p in some}
        for some in (front.sure, front.undecided)
    )
    assert sure == {("lstm", 35, 20.0)}
    assert {("rnn_tanh", 35, 2.5), ("lstm", 70, 40.0), ("gru", 35, 10.0)} <= undecided
    # Of one network, as fast by the same repeats, the better rate.
    assert not {("gru", 35, 5.0), ("rnn_tanh", 35, 1.25)} & undecided
    (best,) = front.sure
    assert len(best.values(SPEED)) == 3
    assert len(best.values(PPL)) == 2


def test_the_report_names_what_chance_leaves_open(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    speeds = {"lstm": (1000.0, 1100.0, 950.0), "gru": (1010.0, 1110.0, 960.0), "rnn_tanh": (700.0, 710.0, 690.0)}
    records = [
        good(small_corpus, f"{cell}{n}", 100.0 + 4 * place + n / 2, speed, cell=cell, seed=n)
        for place, (cell, every) in enumerate(speeds.items())
        for n, speed in enumerate(every)
    ]
    document = document_of(tmp_path / "grid", *records)
    choices = dict(section(document, "Corpus small, words, language_model").choices)
    assert choices["Pareto-optimal"] == (
        "1 of 3 points, fastest first: cell=lstm (no. 1). Undecided: 1 of 3 points: cell=gru (no. 2). Beyond chance, "
        "no other point is better in both perplexity and speed."
    )
    assert choices["Best perplexity"].endswith("All other points are worse, beyond chance.")
    assert choices["Fastest within 5% of the best"].endswith("Undecided: no. 1 may be as fast.")
    # What is not known of a point whose run failed is not said.
    failed = (
        good(small_corpus, "f", 103.0, 700.0, cell="rnn_relu", seed=0),
        make(small_corpus, "g", cell="rnn_relu", seed=1),
    )
    document = document_of(tmp_path / "failed", *records, failed[0], failed[1].with_columns({"status": "timeout"}))
    choices = dict(section(document, "Corpus small, words, language_model").choices)
    assert choices["Best perplexity"].endswith("The other points whose runs all ended well are worse, beyond chance.")
    trade = section(document, "Perplexity against throughput")
    (plot,) = trade.plots
    assert isinstance(plot, Scatter)
    assert [spot.number for spot in plot.having("yes")] == [1]
    assert [(spot.number, spot.ranges) for spot in plot.having("undecided")] == [(2, (960.0, 1110.0, 104.0, 105.0))]
    (table,) = trade.tables
    assert [row[-1] for row in table.rows] == ["yes", "undecided"]
    picture = "".join(ElementTree.fromstring(to_picture(plot)).itertext())
    assert picture.index("Pareto-optimal") < picture.index("undecided")
    assert to_picture(plot).count("LineCollection") == 1


def test_an_interval_of_a_perplexity_is_that_of_its_loss(tmp_path: Path, small_corpus: CorpusFiles) -> None:
    """Of 44 and 4e13 the mean's own would begin far below 0."""
    records = [good(small_corpus, f"{n}", ppl, 10.0 + n, seed=n) for n, ppl in enumerate((44.0, 4e13))]
    (point,) = points(*records)
    found = point.spread(PPL)
    assert found is not None
    assert found.low is not None
    assert 0 < found.low < 44
    document_of(tmp_path / "grid", *records)
