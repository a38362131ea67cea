"""Which points a sweep has: axes for some of them, points that are written out, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.common.errors import UserError
from gluon_rnn.config.identity import run_id
from gluon_rnn.config.sweep_file import MOST_POINTS, Override, Sweep, load_sweep
from gluon_rnn.runs.tables import load_results

CHECKOUT = Path(__file__).parents[2]
CELLS = {"cell": ("lstm", "gru")}
RATES = Override({"cell": "lstm"}, axes={"learning_rate": (10.0, 20.0, 40.0)})


def load(folder: Path, text: str) -> Sweep:
    path = folder / "mine.yaml"
    path.write_text(text)
    return load_sweep(path)


def values(sweep: Sweep, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(point, name) for name in names) for point in sweep.points()]


@pytest.mark.parametrize(("file", "results"), [
    ("learning-rate", "learning-rate-cpu"),
    ("wikitext2", "wikitext2-cpu"),
])  # fmt: skip
def test_a_committed_sweep_has_the_points_that_were_run(file: str, results: str) -> None:
    table = load_results(CHECKOUT / "results" / results)
    (corpus,) = set(table["dataset_sha1"])
    configs = load_sweep(CHECKOUT / "benchmarks" / "cpu" / f"{file}.yaml").points()
    on_cpu = [config.model_copy(update={"device": "cpu"}) for config in configs]
    names = [run_id(config, content={"corpus": corpus}) for config in on_cpu]
    assert sorted(names) == sorted(table["run_id"])


def test_axes_of_an_override_are_of_the_points_it_fits() -> None:
    sweep = Sweep("s", axes={**CELLS, "seed": (0, 1)}, overrides=(RATES,))
    assert values(sweep, "cell", "seed", "learning_rate") == [
        *(("lstm", seed, rate) for seed in (0, 1) for rate in (10, 20, 40)),
        *(("gru", seed, 10) for seed in (0, 1)),
    ]
    assert sweep.count() == 8


def test_axes_of_an_override_replace_the_sweeps_own() -> None:
    sweep = Sweep("s", axes={"learning_rate": (1.0, 2.0), **CELLS}, overrides=(RATES,))
    assert sorted(values(sweep, "cell", "learning_rate")) == [
        *(("gru", rate) for rate in (1, 2)),
        *(("lstm", rate) for rate in (10, 20, 40)),
    ]
    # The LSTM's axis that is replaced makes no repeats that anybody would have to be told of.
    assert sweep.count() == 5


def test_an_override_sees_axes_of_those_before_it_and_not_what_they_set() -> None:
    overrides = (
        RATES,
        Override({"learning_rate": 40.0}, {"epochs": 9}),
        Override({"epochs": 9}, {"bptt": 1}),
        Override({"cell": "lstm", "learning_rate": 10.0}, axes={"clip": (1.0, 2.0)}),
    )
    sweep = Sweep("s", axes=CELLS, overrides=overrides)
    assert values(sweep, "cell", "learning_rate", "epochs", "bptt", "clip") == [
        ("lstm", 10, 3, 35, 1),
        ("lstm", 10, 3, 35, 2),
        ("lstm", 20, 3, 35, 0.25),
        ("lstm", 40, 9, 35, 0.25),
        ("gru", 10, 3, 35, 0.25),
    ]
    assert sweep.unmatched() == [overrides[2]]


def test_a_later_override_wins_whether_it_sets_or_varies() -> None:
    fixed, varied = Override({}, {"learning_rate": 7.0}), Override({}, axes={"learning_rate": (1.0, 2.0)})
    assert values(Sweep("s", overrides=(fixed, varied)), "learning_rate") == [(1,), (2,)]
    assert values(Sweep("s", overrides=(varied, fixed)), "learning_rate") == [(7,)]


def test_points_may_be_written_out(tmp_path: Path) -> None:
    text = "set: {epochs: 2}\npoints:\n- {cell: lstm, learning_rate: 20}\n- {cell: gru, epochs: 5}\n"
    sweep = load(tmp_path, text)
    assert values(sweep, "cell", "learning_rate", "epochs") == [("lstm", 20, 2), ("gru", 10, 5)]
    sweep = load(tmp_path, f"{text}axes: {{seed: 0..1}}\noverrides: [{{when: {{cell: gru}}, set: {{bptt: 7}}}}]")
    assert values(sweep, "cell", "seed", "bptt") == [
        *(("lstm", seed, 35) for seed in (0, 1)),
        *(("gru", seed, 7) for seed in (0, 1)),
    ]


def test_the_command_line_wins_over_points_that_are_written_out() -> None:
    sweep = Sweep("s", listed=({"cell": "lstm", "bptt": 5}, {"cell": "gru", "bptt": 6}))
    assert values(sweep.with_arguments({"cell": "gru"}, {}), "cell", "bptt") == [("gru", 5), ("gru", 6)]
    assert values(sweep.with_arguments({}, {"bptt": "7..8"}), "cell", "bptt") == [
        ("lstm", 7), ("lstm", 8), ("gru", 7), ("gru", 8),
    ]  # fmt: skip


def test_the_command_line_wins_over_axes_of_an_override() -> None:
    sweep = Sweep("s", axes=CELLS, overrides=(RATES,))
    for pinned, axes in (({"learning_rate": "3"}, {}), ({}, {"learning_rate": ["3"]})):
        assert values(sweep.with_arguments(pinned, axes), "cell", "learning_rate") == [("lstm", 3), ("gru", 3)]
    assert values(sweep.with_arguments({"cell": "lstm"}, {}), "learning_rate") == [(10,), (20,), (40,)]


def test_ranges_are_values_of_an_axis(tmp_path: Path) -> None:
    sweep = load(tmp_path, "axes:\n  seed: [0..2, 7]\n  learning_rate: log(5, 80, 5)\n  bptt: 20..21\n")
    assert sweep.axes == {"seed": (0, 1, 2, 7), "learning_rate": (5.0, 10.0, 20.0, 40.0, 80.0), "bptt": (20, 21)}
    assert {type(value) for value in sweep.axes["learning_rate"]} == {float}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("point: []", "unknown key 'point'; did you mean 'points'?; choose from name, set, axes, points, overrides"),
        ("points: {cell: gru}", "points must be a list of '{field: value}'"),
        ("points: [gru]", "points must be a list of '{field: value}'"),
        ("points: [{cel: gru}]", "unknown setting 'cel'; did you mean 'cell'?"),
        ("points: [{bptt: [1, 2]}]", "bptt=[1, 2]: input should be a valid integer; several values go to axes"),
        ("points: [{cell: gru}]\naxes: {cell: [lstm]}", "cell is both in points and in axes; keep one of them"),
        ("set: {seed: 0..4}", "seed='0..4': input should be a valid integer"),
        ("axes: {seed: 4..0}", "axis seed: '4..0' is empty; write '0..4'"),
        ("axes: {learning_rate: log(1, 40, 5)}", "put a range in quotes inside [ ] or { }"),
        ("axes: {seed: 0-4}", "axis seed must be a list of values or a range such as 0..4"),
        ("axes: {cell: lstm}", "axis cell must be a list of values"),
        ("axes: {dropout: ['linear(0, 1, 3)']}", "dropout=1.0: input should be less than 1"),
        ("points: [{cell: gru}]\nsearch: {trials: 3, space: {bptt: [1, 2]}}", "points are not allowed with search"),
        (
            "overrides: [{when: {cell: gru}, axes: {seed: [1]}}]\nsearch: {trials: 3, space: {cell: [gru, lstm]}}",
            "axes of an override are not allowed with search; move them to its conditions",
        ),
        ("overrides: [{axes: {seed: [1]}}]", "an override is a mapping with 'when: {field: value}' and 'set:"),
        ("overrides: [{when: {cell: gru}, axis: {seed: [1]}}]", "unknown key 'axis'; did you mean 'axes'?"),
        ("overrides: [{when: {cell: gru}, axes: [seed]}]", "axes must map fields to lists of values"),
        ("overrides: [{when: {cell: gru}, axes: {seed: []}}]", "axis seed has no values"),
        ("overrides: [{when: {cell: gru}, axes: {cell: [lstm]}}]", "an override cannot vary cell, which its 'when'"),
    ],
)
def test_a_slip_in_a_sweep_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        load(tmp_path, text)
    assert str(refused.value).startswith(f"{tmp_path / 'mine.yaml'}: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_too_many_points_of_overrides_are_refused() -> None:
    override = Override({}, axes={"bptt": range(1, 102), "seed": range(100)})
    with pytest.raises(UserError, match=r"axes and overrides make more than 10,000 points"):
        Sweep("s", overrides=(override,)).points()


# Samples

GRID: Mapping[str, Sequence[Any]] = {**CELLS, "bptt": (5, 6, 7), "seed": tuple(range(10))}


def test_a_sample_is_of_the_sweeps_points_in_their_order() -> None:
    sweep = Sweep("s", axes=GRID)
    everything = sweep.points()
    drawn = sweep.with_arguments({}, {}, sample=20, sample_seed=3)
    found = [everything.index(point) for point in drawn.points()]
    assert found == sorted({*found})
    assert len(found) == drawn.count() == 20
    assert found != list(range(20))
    assert sweep.with_arguments({}, {}, sample=20, sample_seed=3).points() == drawn.points()
    assert sweep.with_arguments({}, {}, sample=20, sample_seed=4).points() != drawn.points()


def test_a_larger_sample_contains_the_smaller_one() -> None:
    samples = [Sweep("s", axes=GRID, sample=size).points() for size in (5, 12, 60, 61)]
    for smaller, larger in pairwise(samples):
        assert {*smaller} <= {*larger}
    assert samples[-1] == Sweep("s", axes=GRID).points()


def test_every_point_is_as_likely_as_another() -> None:
    sweep = Sweep("s", axes=CELLS, overrides=(RATES,))
    counts = dict.fromkeys(sweep.points(), 0)
    assert len(counts) == 4
    for seed in range(400):
        for point in sweep.with_arguments({}, {}, sample=1, sample_seed=seed).points():
            counts[point] += 1
    # 100 each; five standard deviations of a binomial distribution are 43.
    assert all(57 < count < 143 for count in counts.values())


def test_a_grid_that_is_too_large_to_run_can_be_sampled() -> None:
    axes = {
        name: range(1, MOST_POINTS) for name in ("bptt", "seed", "epochs", "max_steps", "batch_size", "warmup_steps")
    }
    sweep = Sweep("s", axes={**axes, **CELLS}, overrides=(RATES,))
    with pytest.raises(UserError, match="points, and a sweep has up to"):
        sweep.points()
    few, more = (sweep.with_arguments({}, {}, sample=size).points() for size in (30, 60))
    assert (len(few), len(more)) == (30, 60)
    assert {*few} < {*more}
    assert len({point.bptt for point in more}) > 50
    assert {point.learning_rate for point in more if point.cell == "lstm"} == {10, 20, 40}


@pytest.mark.parametrize("size", [0, -1, MOST_POINTS + 1])
def test_a_sample_of_no_size_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=rf"^--sample {size} must be from 1 to 10,000$"):
        Sweep("s").with_arguments({}, {}, sample=size)


def test_overrides_that_multiply_each_other_are_refused_before_they_grow() -> None:
    """Ten thousand values, three times over, and again at each of a thousand points."""
    override = Override({}, axes={"seed": range(10_000)})
    for overrides in ((replace(override, axes={**override.axes, "bptt": range(1, 10_000)}),), (override,) * 3):
        with pytest.raises(UserError, match=r"axes and overrides make more than 10,000 points; shorten them"):
            Sweep("s", axes={"threads": range(1, 1001)}, overrides=overrides).points()
    assert Sweep("s", axes={"threads": range(1, 1001)}, overrides=(override,)).unmatched() == []


def test_a_search_is_not_sampled_and_its_overrides_match_points_of_its_space(tmp_path: Path) -> None:
    text = "search: {trials: 3, space: {cell: [lstm, gru]}}\noverrides: [{when: {cell: %s}, set: {bptt: 5}}]"
    sweep = load(tmp_path, text % "gru")
    assert sweep.unmatched() == []
    assert load(tmp_path, text % "rnn_tanh").unmatched() == [Override({"cell": "rnn_tanh"}, {"bptt": 5})]
    with pytest.raises(
        UserError, match=r"^--sample is not allowed with a search; set its trials and 'sampler: random'"
    ):
        sweep.with_arguments({}, {}, sample=2)
