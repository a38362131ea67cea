"""What a search varies: ranges, choices, conditions, and one-line errors for every slip."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.search_space import Choice, Range, check_size, parse_dimension, parse_search


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("dropout", "uniform(0, 0.5)", Range(0, 0.5)),
        ("dropout", "uniform(0, 0.5, 0.25)", Range(0, 0.5, step=0.25)),
        ("learning_rate", "log(1, 40)", Range(1, 40, log=True)),
        ("hidden_size", "uniform(100, 400, 100)", Range(100, 400, step=100, whole=True)),
        ("bptt", "log(10, 70)", Range(10, 70, log=True, whole=True)),
        ("early_stopping", "uniform(1, 3)", Range(1, 3, whole=True)),
        ("cell", ["lstm", "gru"], Choice(("lstm", "gru"))),
        ("tie_weights", ["true", False], Choice((True, False))),
        ("clip", [0.25, "none"], Choice((0.25, None))),
    ],
)
def test_dimensions(name: str, value: Any, expected: Range | Choice) -> None:
    assert parse_dimension(name, value) == expected


def test_a_range_holds_its_ends_and_its_steps() -> None:
    steps = parse_dimension("dropout", "uniform(0.1, 0.7, 0.2)")
    assert isinstance(steps, Range)
    assert [value for value in (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9) if steps.holds(value)] == [0.1, 0.3, 0.5, 0.7]
    assert [str(parse_dimension("bptt", text)) for text in ("log(10,70)", "uniform( 1, 9, 2 )")] == [
        "log(10, 70)",
        "uniform(1, 9, 2)",
    ]


def test_axes_are_choices_and_conditions_add_dimensions() -> None:
    search = parse_search(
        {
            "trials": 9,
            "space": {"dropout": "uniform(0, 0.5)"},
            "conditions": [{"when": {"cell": "gru"}, "space": {"learning_rate": "log(1, 20)"}}],
        },
        {"cell": ["lstm", "gru"]},
    )
    assert search.space == {"cell": Choice(("lstm", "gru")), "dropout": Range(0, 0.5)}
    assert (search.sampler, search.pruner, search.seed, search.trials) == ("tpe", "none", 0, 9)
    assert search.fields == ("cell", "dropout", "learning_rate")
    (condition,) = search.conditions
    assert [condition.fits({"cell": cell}) for cell in ("lstm", "gru")] == [False, True]
    assert not condition.fits({})  # the default is an LSTM


def test_settings_are_read_again_as_they_were_written() -> None:
    value = {
        "trials": 7,
        "sampler": "random",
        "pruner": "median",
        "seed": 3,
        "space": {
            "cell": ["lstm", "gru"],
            "tie_weights": [True, False],
            "learning_rate": "log(0.123456789, 1234567.5)",
            "max_train_tokens": "uniform(1000000, 3000000, 500000)",
        },
        "conditions": [{"when": {"cell": "gru"}, "space": {"dropout": "uniform(0, 0.5)", "clip": [None, 0.25]}}],
    }
    settings = parse_search(value, {})
    assert settings.written == value
    assert parse_search(json.loads(json.dumps(settings.written)), {}) == settings
    grid = parse_search({"sampler": "grid", "space": {"cell": ["lstm", "gru"]}}, {})
    assert parse_search(grid.written, {}) == grid


def test_a_grid_is_every_combination_under_its_conditions() -> None:
    search = parse_search(
        {
            "sampler": "grid",
            "space": {"cell": ["lstm", "gru"], "hidden_size": "uniform(100, 200, 100)"},
            "conditions": [{"when": {"cell": "gru"}, "space": {"learning_rate": [5, 10]}}],
        },
        {},
    )
    assert list(search.grid({})) == [
        {"cell": "lstm", "hidden_size": 100},
        {"cell": "lstm", "hidden_size": 200},
        {"cell": "gru", "hidden_size": 100, "learning_rate": 5},
        {"cell": "gru", "hidden_size": 100, "learning_rate": 10},
        {"cell": "gru", "hidden_size": 200, "learning_rate": 5},
        {"cell": "gru", "hidden_size": 200, "learning_rate": 10},
    ]


def test_a_grid_has_the_conditions_of_what_is_fixed() -> None:
    search = parse_search(
        {
            "sampler": "grid",
            "space": {"dropout": [0.1, 0.2]},
            "conditions": [{"when": {"cell": "gru"}, "space": {"learning_rate": [5, 10]}}],
        },
        {},
    )
    assert [len(list(search.grid({"cell": cell}))) for cell in ("gru", "lstm")] == [4, 2]
    for point in search.grid({"cell": "gru"}):
        assert search.parameters(point, {"cell": "gru"})


def test_a_grid_in_which_a_condition_replaces_values_has_each_point_once() -> None:
    search = parse_search(
        {
            "sampler": "grid",
            "space": {"cell": ["lstm", "gru"], "learning_rate": [10, 20]},
            "conditions": [{"when": {"cell": "gru"}, "space": {"learning_rate": [1, 2]}}],
        },
        {},
    )
    points = [(point["cell"], point["learning_rate"]) for point in search.grid({})]
    assert points == [("lstm", 10), ("lstm", 20), ("gru", 1), ("gru", 2)]


def test_a_grid_that_what_is_fixed_makes_too_large_is_refused() -> None:
    search = parse_search(
        {
            "sampler": "grid",
            "space": {"bptt": "uniform(1, 9)"},
            "conditions": [{"when": {"cell": "gru"}, "space": {"hidden_size": "uniform(1, 2000)"}}],
        },
        {},
    )
    check_size(search, {})
    with pytest.raises(UserError, match="the grid has more than 10,000 points"):
        check_size(search, {"cell": "gru"})


@pytest.mark.parametrize(("low", "high", "step"), [(0, 0.3, 0.1), (0, 0.6, 0.2), (0.1, 0.7, 0.2)])
def test_a_grid_over_steps_has_both_ends_and_round_numbers(low: float, high: float, step: float) -> None:
    search = parse_search({"sampler": "grid", "space": {"dropout": f"uniform({low}, {high}, {step})"}}, {})
    points = list(search.grid({}))
    assert [point["dropout"] for point in points] == [
        round(low + place * step, 1) for place in range(round((high - low) / step) + 1)
    ]
    assert all(search.parameters(point, {}) for point in points)


def test_a_condition_replaces_a_range_of_the_space() -> None:
    search = parse_search(
        {
            "trials": 3,
            "space": {"cell": ["lstm", "gru"], "learning_rate": "log(5, 40)"},
            "conditions": [{"when": {"cell": "gru"}, "space": {"learning_rate": "log(0.5, 4)"}}],
        },
        {},
    )
    assert search.parameters({"cell": "gru", "learning_rate": 10.0}, {}) is None
    found = search.parameters({"cell": "gru", "learning_rate": 1.0}, {})
    assert found == {
        "cell": (Choice(("lstm", "gru")), "gru"),
        "learning_rate (cell=gru)": (Range(0.5, 4, log=True), 1.0),
    }
    assert search.parameters({"cell": "lstm", "learning_rate": 1.0}, {}) is None


@pytest.mark.parametrize(
    ("pinned", "axes", "left"),
    [
        ({"cell": "gru"}, {}, ["cell=gru"]),
        ({}, {"cell": ["gru", "rnn_tanh"]}, ["cell=gru"]),
        ({}, {"cell": ["rnn_tanh"]}, []),
        ({"learning_rate": 3.0}, {}, []),
    ],
)
def test_conditions_that_the_command_line_rules_out_are_left_out(
    pinned: dict[str, Any], axes: dict[str, list[Any]], left: list[str]
) -> None:
    search = parse_search(
        {
            "trials": 3,
            "space": {"cell": ["lstm", "gru"], **SPACE},
            "conditions": [
                {"when": {"cell": cell}, "space": {"learning_rate": "log(1, 4)"}} for cell in ("lstm", "gru")
            ],
        },
        {},
    ).with_arguments(pinned, axes)
    assert [str(condition) for condition in search.conditions] == left


def test_conditions_may_be_all_that_is_left_to_search() -> None:
    search = parse_search(
        {
            "trials": 3,
            "space": {"cell": ["lstm", "gru"]},
            "conditions": [{"when": {"cell": "gru"}, "space": {"learning_rate": "log(1, 4)"}}],
        },
        {},
    )
    left = search.with_arguments({"cell": "gru"}, {})
    assert left.fields == ("learning_rate",)
    assert parse_search(json.loads(json.dumps(left.written)), {}) == left
    with pytest.raises(UserError, match="--set leaves nothing to search"):
        search.with_arguments({"cell": "lstm"}, {})


SPACE = {"dropout": "uniform(0, 0.5)"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "search is a mapping"),
        ({"space": SPACE}, "search needs 'trials: N'"),
        ({"trials": 0, "space": SPACE}, "trials=0 is not a whole number from 1 to 10,000"),
        ({"trials": True, "space": SPACE}, "is not a whole number"),
        ({"trials": 3}, "search has no space"),
        ({"trials": 3, "space": []}, "space of search must be a mapping"),
        ({"trials": 3, "space": SPACE, "samplr": "tpe"}, "search has no 'samplr'; did you mean 'sampler'"),
        ({"trials": 3, "space": SPACE, "sampler": "tpee"}, "search sampler='tpee' is not one of tpe, random, grid"),
        ({"trials": 3, "space": SPACE, "pruner": 1}, "search pruner=1 is not one of none, median"),
        ({"trials": 3, "space": SPACE, "conditions": [{"when": {}}]}, "a condition of search is a mapping with"),
        ({"trials": 3, "space": SPACE, "conditions": 5}, "conditions of search are a list of mappings"),
        ({"trials": 3, "space": {"bbtt": [1]}}, "unknown setting 'bbtt'; did you mean 'bptt'"),
        ({"trials": 3, "space": {"bptt": []}}, "search over bptt has no values"),
        ({"trials": 3, "space": {"bptt": 35}}, "search over bptt: 35 is neither a list of values nor a range"),
        ({"trials": 3, "space": {"bptt": "uniform(1, x)"}}, "must hold two numbers"),
        ({"trials": 3, "space": {"bptt": "uniform(1, inf)"}}, "must hold two numbers"),
        ({"trials": 3, "space": {"bptt": "uniform(1.5, 9)"}}, "must have whole numbers"),
        ({"trials": 3, "space": {"bptt": "uniform(9, 1)"}}, "must rise, in whole steps"),
        ({"trials": 3, "space": {"bptt": "uniform(1, 9, 3)"}}, "must rise, in whole steps"),
        ({"trials": 3, "space": {"bptt": "log(1, 9, 2)"}}, "must be log(LOW, HIGH) with LOW above 0"),
        ({"trials": 3, "space": {"learning_rate": "log(0, 9)"}}, "must be log(LOW, HIGH) with LOW above 0"),
        ({"trials": 3, "space": {"dropout": "uniform(0, 1.5)"}}, "dropout=1.5: input should be less than 1"),
        ({"trials": 3, "space": {"cell": "uniform(0, 1)"}}, "it does not take numbers"),
        ({"sampler": "grid", "space": SPACE}, "sampler=grid needs a list of values or a step, not uniform(0, 0.5)"),
        (
            {"sampler": "grid", "space": {"bptt": "uniform(1, 999)", "hidden_size": "uniform(1, 99)"}},
            "the grid has more than 10,000 points",
        ),
    ],
)
def test_a_slip_is_one_line(value: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_search(value, {})
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
