"""Which settings matter, on losses that are worked out by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from gluon_rnn.config.search_space import SearchSettings, parse_search
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.sweeps.importance import LEAST_RUNS, Importance, importances
from gluon_rnn.sweeps.search import Proposal
from tests.runs.test_records import make_done, make_job

#: The loss of a point, or how its run ended otherwise.
Outcome = Callable[[Mapping[str, Any]], float | str]
Matters = Callable[[SearchSettings, Sequence[Mapping[str, Any]], Outcome], list[Importance]]


@pytest.fixture
def matters(small_corpus: CorpusFiles) -> Matters:
    def find(settings: SearchSettings, points: Sequence[Mapping[str, Any]], outcome: Outcome) -> list[Importance]:
        return importances(settings, *trials(small_corpus, points, outcome))

    return find


def trials(
    corpus: CorpusFiles, points: Sequence[Mapping[str, Any]], outcome: Outcome
) -> tuple[list[Proposal], list[RunRecord]]:
    proposals, records = [], []
    for number, point in enumerate(points):
        proposals.append(Proposal(f"{number:012}", point))
        found = outcome(point)
        ended: dict[str, Any] = {"status": found} if isinstance(found, str) else {"status": "ok", "valid_loss": found}
        if found == "pruned":
            ended["valid_loss"] = 1.0
        records.append(make_done(make_job(corpus, f"{number:012}", **point)).model_copy(update=ended))
    return proposals, records


def space(**dimensions: Any) -> SearchSettings:
    conditions = dimensions.pop("conditions", [])
    return parse_search({"trials": 99, "space": dimensions, "conditions": conditions}, {})


SPACE = space(learning_rate="log(0.1, 100)", dropout="uniform(0, 0.5)")


def drawn(count: int) -> list[dict[str, Any]]:
    stream = random.Random(7)
    return [{"learning_rate": 10 ** stream.uniform(-1, 2), "dropout": stream.uniform(0, 0.5)} for _ in range(count)]


def by_rate(point: Mapping[str, Any]) -> float:
    return float(4 + math.log10(point["learning_rate"] / 10) ** 2)


def test_the_divergence_is_that_of_the_paper(matters: Matters) -> None:
    """Of 20 runs the best five are all GRUs, and three of them have the lower dropout; ten runs of 20 have each.

    Parzen estimators of two categories, a prior of weight 1 beside the runs: among the best 17/24 are GRUs (5/6 of
    3/4, 1/6 of 1/2), and 0.55 have the lower dropout (3/6 of 0.8, 2/6 of 0.2, 1/6 of 0.5); among all it is half.
    Pearson's divergences are (2 * 17/24 - 1)^2 = 25/144 and (2 * 0.55 - 1)^2 = 1/100.
    """
    best = [("gru", 0.1)] * 3 + [("gru", 0.2)] * 2
    others = [("gru", 0.1)] * 2 + [("gru", 0.2)] * 3 + [("lstm", 0.1)] * 5 + [("lstm", 0.2)] * 5
    points = [{"cell": cell, "dropout": dropout, "clip": 1.0} for cell, dropout in best + others]
    rank = iter(range(20))
    found = matters(space(cell=["lstm", "gru"], dropout=[0.1, 0.2]), points, lambda point: 5.0 + next(rank) / 100)
    assert [item.parameter for item in found] == ["cell", "dropout"]
    assert found[0].share == pytest.approx(25 / 144 / (25 / 144 + 1 / 100), rel=1e-9)
    assert found[0].share + found[1].share == pytest.approx(1)
    assert found[0].runs == found[1].runs == 20


def test_the_setting_that_decides_exceeds_chance_and_the_other_does_not(matters: Matters) -> None:
    first, second = matters(SPACE, drawn(40), by_rate)
    assert (first.parameter, first.sure) == ("learning_rate", True)
    assert first.share > 0.7
    assert (second.parameter, second.sure) == ("dropout", False)


def test_losses_without_a_cause_exceed_chance_as_often_as_they_should(matters: Matters) -> None:
    """Of 12 settings without effect 0.6 are expected to exceed it; four or more have a chance of 0.2 %."""
    points, stream = drawn(20), random.Random(1)
    found = [item for _ in range(6) for item in matters(SPACE, points, lambda point: stream.random())]
    assert sum(item.sure for item in found) <= 3


def test_only_the_order_counts_and_pruned_and_diverged_runs_are_the_worst(matters: Matters) -> None:
    points = drawn(30)
    whole = matters(SPACE, points, by_rate)
    assert matters(SPACE, points, lambda point: math.exp(by_rate(point))) == whole
    # Whatever loss a pruned run had after fewer epochs; the best quarter of 30 are 8.
    ends = {id(p): "pruned" if n % 2 else "diverged" for n, p in enumerate(sorted(points, key=by_rate)[8:])}
    assert matters(SPACE, points, lambda point: ends.get(id(point)) or by_rate(point)) == whole
    # Of fewer complete runs all are the best, down to five.
    for count, told in ((5, True), (4, False)):
        ends = {id(point): "pruned" for point in sorted(points, key=by_rate)[count:]}
        found = matters(SPACE, points, lambda point, ends=ends: ends.get(id(point)) or by_rate(point))
        assert [item.parameter for item in found] == ["learning_rate", "dropout"] * told


def test_failed_runs_do_not_count(matters: Matters) -> None:
    points = drawn(LEAST_RUNS + 4)
    failed = {id(point) for point in points[::6]}
    found = matters(SPACE, points, lambda point: "failed" if id(point) in failed else by_rate(point))
    kept = [point for point in points if id(point) not in failed]
    assert len(kept) == LEAST_RUNS
    assert found == matters(SPACE, kept, by_rate)
    assert {item.runs for item in found} == {LEAST_RUNS}
    assert matters(SPACE, kept[1:], by_rate) == []


def test_losses_that_tell_nothing_have_no_importances(matters: Matters) -> None:
    assert matters(SPACE, drawn(25), lambda point: 5.0) == []


def test_conditional_settings_count_where_they_are(matters: Matters) -> None:
    settings = space(
        cell=["lstm", "gru"],
        conditions=[{"when": {"cell": cell}, "space": {"learning_rate": "log(0.1, 100)"}} for cell in ("lstm", "gru")],
    )
    points = [
        {"cell": "gru" if n % 3 else "lstm", "learning_rate": p["learning_rate"]} for n, p in enumerate(drawn(60))
    ]
    # Of GRUs the rate decides, of LSTMs it does not.
    found = matters(settings, points, lambda p: by_rate(p) if p["cell"] == "gru" else 5 + p["learning_rate"] % 0.1)
    assert {item.parameter: item.runs for item in found} == {
        "cell": 60,
        "learning_rate (cell=gru)": 40,
        "learning_rate (cell=lstm)": 20,
    }
    assert found[0].parameter == "learning_rate (cell=gru)"
    assert found[0].sure
    assert not next(item for item in found if "lstm" in item.parameter).sure


def test_a_condition_may_be_of_a_setting_that_is_the_same_everywhere(matters: Matters) -> None:
    settings = space(
        dropout="uniform(0, 0.5)",
        conditions=[{"when": {"bptt": 5}, "space": {"learning_rate": "log(0.1, 100)"}}],
    )
    assert [item.parameter for item in matters(settings, drawn(30), by_rate)] == ["learning_rate (bptt=5)", "dropout"]


def test_points_that_the_space_does_not_hold_do_not_count(matters: Matters) -> None:
    outside = [{"learning_rate": 1000.0, "dropout": 0.1}, {"dropout": 0.1}]
    points = drawn(LEAST_RUNS)
    assert matters(SPACE, [*points, *outside], lambda p: by_rate({"learning_rate": 1, **p})) == matters(
        SPACE, points, by_rate
    )
