"""Which runs were measured in one session: by hand, and over the committed repeats."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn import load_results
from gluon_rnn.reporting.regression.comparison import compare
from gluon_rnn.reporting.regression.sittings import APART, by_sitting, sittings_of

RESULTS = Path(__file__).parents[3] / "results"


def ran(name: str, start: float | None, seconds: float | None = 60.0) -> dict[str, Any]:
    """A run that began so many seconds into a day."""
    began = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=start or 0.0)
    return {"run_id": name, "started_at": None if start is None else began.isoformat(), "wall_seconds": seconds}


def test_a_pause_of_an_hour_begins_another_sitting() -> None:
    rows = [ran("c", 60 + APART), ran("a", 0), ran("b", 30), ran("d", 120 + 2 * APART - 1), ran("e", 10 * APART)]
    # b runs until 90, so that c begins within the hour after it; d within the one after c, but for a second.
    assert sittings_of(rows) == {"a": 0, "b": 0, "c": 0, "d": 0, "e": 1}
    assert sittings_of([ran("a", 0), ran("b", 60 + APART)]) == {"a": 0, "b": 1}
    # A long run lasts until the next one.
    assert sittings_of([ran("a", 0, 5 * APART), ran("b", 60), ran("c", 5.5 * APART)]) == {"a": 0, "b": 0, "c": 0}


@pytest.mark.parametrize("start", [None, "yesterday"])
def test_what_nothing_shows_to_be_apart_is_one_sitting(start: Any) -> None:
    rows = [ran("a", 0), ran("b", 9 * APART), {**ran("c", 0), "started_at": start}]
    assert set(sittings_of(rows).values()) == {0}
    assert sittings_of([]) == {}
    assert sittings_of([ran("a", 0, None), ran("b", 9 * APART, None)]) == {"a": 0, "b": 1}


def test_a_sitting_counts_with_its_median() -> None:
    rows = [ran(name, 0) for name in "abcd"]
    assert by_sitting(rows, [1.0, 9.0, 2.0, 5.0], {"a": 0, "b": 0, "c": 0, "d": 1}) == (2.0, 5.0)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), list(itertools.permutations((0, 1, 2), 2)))
@pytest.mark.parametrize("throughput", [None, 0.1])
def test_committed_repeats_raise_no_alarm_against_each_other(before: int, after: int, throughput: float | None) -> None:
    """Nothing had changed between them; a test of their points one by one called each of the six slower."""
    frame = load_results(RESULTS / "throughput-xeon")
    sides = [frame[frame["seed"] == seed].assign(seed=0) for seed in (before, after)]
    comparison = compare(*sides, throughput=throughput)
    assert comparison.verdict == ("held" if throughput is None else "not compared")
    assert {change.verdict for point in comparison.points for change in point.changes} == {
        "undecided" if throughput is None else "not compared"
    }
    assert sum(len(point.changes) for point in comparison.points) == 42
    if throughput:
        assert comparison.reason == "could not compare: tokens/s not measured in two sessions or more on each side"
