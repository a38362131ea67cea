"""The learning rate, the beginning of averaging and the last epoch, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from gluon_rnn.config.run import EARLIEST_NTASGD, RunConfig
from gluon_rnn.runs.progress import EpochResult, Lap, Progress
from gluon_rnn.training.schedules import (
    averages_from,
    epochs_expected,
    is_finished,
    learning_rate_after,
    momentum_at,
    schedule_factor,
)


def history(*valid: float) -> list[EpochResult]:
    return [EpochResult(n, 1.0, 1.0, loss, math.exp(loss), None, None, None, 1.0) for n, loss in enumerate(valid, 1)]


@pytest.mark.parametrize(
    ("valid", "patience", "expected"),
    [
        ([], 0, 20.0),
        ([5.0, 4.0], 0, 20.0),
        ([5.0, 5.0], 0, 5.0),
        ([5.0, 5.5, 4.0], 0, 5.0),
        ([5.0, 5.5, 5.2], 0, 1.25),
        ([5.0, 5.5], 1, 20.0),
        ([5.0, 5.5, 5.2], 1, 5.0),
        ([5.0, 5.5, 4.9, 5.0], 1, 20.0),
        ([5.0, 5.5, 5.2, 5.2], 1, 5.0),
        ([5.0, 5.5, 5.2, 5.2, 5.2], 1, 1.25),
    ],
)
def test_the_rate_decays_when_there_is_no_new_best(valid: list[float], patience: int, expected: float) -> None:
    assert learning_rate_after(history(*valid), RunConfig(lr_patience=patience)) == expected


def test_early_stopping() -> None:
    config = RunConfig(epochs=9, early_stopping=2)
    assert not is_finished(Progress(), config)
    assert not is_finished(Progress(history(5.0, 4.0, 4.1)), config)
    assert is_finished(Progress(history(5.0, 4.0, 4.1, 4.0)), config)
    assert is_finished(Progress(history(*[1.0 / n for n in range(1, 10)])), config)
    assert not is_finished(Progress(history(1.0, *[2.0] * 7)), RunConfig(epochs=9))


def timed(*seconds: tuple[float, float]) -> Progress:
    """A run whose epochs took so many seconds to train and to score."""
    return Progress(
        [
            replace(epoch, seconds=training, evaluation_seconds=scoring)
            for epoch, (training, scoring) in zip(history(*[5.0] * len(seconds)), seconds, strict=True)
        ]
    )


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([(8, 2)], 10),
        ([(8, 2), (8, 3)], 9),  # 79 s are left for epochs of 11 s
        ([(8, 2), (4, 1)], 10),  # the longest of the last three counts
        ([(20, 20), (4, 1), (4, 1)], 4),
        ([(20, 20), (4, 1), (4, 1), (4, 1)], 13),
        ([(8, 2)] * 9 + [(8, 1)], 10),
        ([(8, 2)] * 9 + [(9, 1.5)], 10),  # too late by half a second
        ([(150, 0)], 1),
    ],
)
def test_a_time_budget_ends_a_run_with_the_last_epoch_that_fits(
    seconds: list[tuple[float, float]], expected: int
) -> None:
    config = RunConfig(time_budget=100)
    assert epochs_expected(timed(*seconds), config) == expected
    assert is_finished(timed(*seconds), config) == (len(seconds) >= expected)
    # Without it, or with fewer epochs, these decide.
    assert epochs_expected(timed(*seconds), RunConfig(epochs=7)) == 7
    assert epochs_expected(timed(*seconds), RunConfig(time_budget=100, epochs=3)) == max(min(3, expected), len(seconds))


def test_the_first_epoch_is_expected_to_go_on_at_its_speed() -> None:
    config, progress = RunConfig(time_budget=100), Progress(train_tokens=1000)
    assert epochs_expected(progress, config) == config.epochs == 10_000
    progress.laps.append(Lap(steps=1, tokens=100, seconds=2.0))
    assert epochs_expected(progress, config) == 5
    progress.laps.append(Lap(steps=1, tokens=300, seconds=2.0))
    assert epochs_expected(progress, config) == 10
    progress.laps.append(Lap(steps=1, tokens=1, seconds=1000.0))
    assert epochs_expected(progress, config) == 1


@pytest.mark.parametrize(
    ("steps", "valid", "expected"),
    [
        ("", [3.0, 2.0], 20.0),
        ("2:0.001", [], 20.0),
        ("2:0.001", [3.0], 0.001),
        ("2:0.001", [3.0, 2.0], 0.001),
        ("2:0.001 4:0.5", [3.0, 2.0, 1.0], 0.5),
        ("2:0.001", [3.0, 4.0], 0.00025),  # and no new best decays it
        ("3:0.001", [3.0, 4.0], 0.001),  # a step forgets the decay
    ],
)
def test_the_rate_follows_its_steps(steps: str, valid: list[float], expected: float) -> None:
    assert learning_rate_after(history(*valid), RunConfig(lr_steps=steps)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("plateau", {0: 1, 0.5: 1, 1: 1}),
        ("linear", {0: 1, 0.25: 0.75, 1: 0}),
        ("cosine", {0: 1, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1: 0}),
        # Down from the top at 0.3: half of the way at 0.65.
        ("one_cycle", {0: 0.04, 0.15: 0.52, 0.3: 1, 0.65: 0.500002, 1: 0.000004}),
    ],
)
def test_a_schedule_goes_by_the_share_of_the_run(schedule: Any, factors: dict[float, float]) -> None:
    config = RunConfig(lr_schedule=schedule)
    assert {done: schedule_factor(config, done) for done in factors} == pytest.approx(factors)


@pytest.mark.parametrize(
    ("settings", "momenta"),
    [
        ({"optimizer": "sgd", "momentum": 0.95, "min_momentum": 0.85}, [0.95, 0.9, 0.85, 0.9, 0.95]),
        ({"optimizer": "nag", "momentum": 0.95, "min_momentum": 0.85}, [0.95, 0.9, 0.85, 0.9, 0.95]),
        ({"optimizer": "adam", "momentum": 0.8, "min_momentum": 0.7}, [0.8, 0.75, 0.7, 0.75, 0.8]),
        # Adam's own is 0.9.
        ({"optimizer": "adam", "min_momentum": 0.5}, [0.9, 0.7, 0.5, 0.7, 0.9]),
        ({"optimizer": "sgd", "momentum": 0.95}, [None] * 5),
        ({"optimizer": "adam"}, [None] * 5),
    ],
)
def test_momentum_is_lowest_where_the_rate_of_one_cycle_is_highest(
    settings: dict[str, Any], momenta: list[float | None]
) -> None:
    config = RunConfig(lr_schedule="one_cycle", **settings)
    # The corners, and half of the way between them.
    assert [momentum_at(config, done) for done in (0, 0.15, 0.3, 0.65, 1)] == [
        value if value is None else pytest.approx(value) for value in momenta
    ]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "one_cycle"])
def test_validation_has_no_say_in_a_schedule(schedule: Any) -> None:
    assert learning_rate_after(history(3.0, 4.0, 5.0), RunConfig(lr_schedule=schedule)) == 20


@pytest.mark.parametrize(
    ("averaging", "valid", "begins"),
    [
        ("none", [1.0] + [2.0] * 20, None),
        ("3", [], 3),
        ("3", [2.0] * 5, 3),
        ("step 3", [2.0] * 5, None),  # not with an epoch
        # Worse than the best of all but the five before it; earlier there is nothing to compare with.
        ("ntasgd", [1.0, 2.0, 2.0, 2.0, 2.0, 2.0], None),
        ("ntasgd", [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], 8),
        ("ntasgd", [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0], None),  # as good is not worse
        ("ntasgd", [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 6.5], None),  # better than the first
        ("ntasgd", [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 6.5, 6.1], 9),  # worse than the second
        ("ntasgd", [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 7.1, 1.0, 9.0], 8),  # once for all
    ],
)
def test_averaging_begins_with_an_epoch(averaging: str, valid: list[float], begins: int | None) -> None:
    assert averages_from(history(*valid), RunConfig(averaging=averaging)) == begins


def test_a_run_is_told_when_it_is_too_short_for_ntasgd() -> None:
    config = RunConfig(averaging="ntasgd")
    worst = [1.0] + [2.0] * 20
    first = next(n for n in range(20) if averages_from(history(*worst[:n]), config))
    assert averages_from(history(*worst), config) == EARLIEST_NTASGD == first + 1
