"""Sums before exponents, clocks after the device."""

from __future__ import annotations

import math

import pytest

from gluon_rnn.metrics import (
    PROGRESS,
    EpochResult,
    Lap,
    LossTotal,
    Progress,
    Stopwatch,
    perplexity,
    step_milliseconds,
    tokens_per_second,
)


def epoch(number: int, loss: float) -> EpochResult:
    return EpochResult(number, 20.0, 5.0, loss, math.exp(loss), None, None, None, 1.0)


def test_perplexity_is_of_the_whole_not_a_mean_of_parts() -> None:
    total = LossTotal()
    total.add(10 * math.log(4), 10)
    total.add(30 * math.log(16), 30)
    assert total.mean == pytest.approx((10 * math.log(4) + 30 * math.log(16)) / 40)
    assert total.perplexity == pytest.approx(4**0.25 * 16**0.75)


def test_perplexity_is_never_clipped() -> None:
    assert perplexity(700) == math.exp(700)
    assert perplexity(710) == math.inf
    assert perplexity(math.inf) == math.inf
    assert math.isnan(LossTotal().mean)


def test_the_stopwatch_reads_the_clock_after_the_device_and_leaves_warm_up_out() -> None:
    now = 0.0

    def device() -> None:
        nonlocal now
        now += 10.0

    watch = Stopwatch(device, clock=lambda: now)
    watch.restart()
    now += 5
    watch.restart()
    now += 1
    watch.lap(steps=4, tokens=100)
    watch.lap(steps=2, tokens=50)
    assert watch.laps == [Lap(4, 100, 11.0), Lap(2, 50, 10.0)]
    assert tokens_per_second(watch.laps) == pytest.approx(150 / 21)


def test_step_percentiles_weigh_laps_by_their_steps() -> None:
    laps = [Lap(90, 0, 9.0), Lap(6, 0, 1.2), Lap(4, 0, 4.0)]  # 100, 200 and 1,000 ms a step
    assert step_milliseconds(laps, 50) == pytest.approx(100)
    assert step_milliseconds(laps, 90) == pytest.approx(100)
    assert step_milliseconds(laps, 95) == pytest.approx(200)
    assert step_milliseconds(laps, 97) == pytest.approx(1000)
    assert step_milliseconds([], 50) is None
    assert tokens_per_second([]) is None


def test_the_best_epoch_is_the_first_with_the_lowest_validation_loss() -> None:
    progress = Progress(history=[epoch(1, 5.0), epoch(2, 4.0), epoch(3, 4.0), epoch(4, 4.5)])
    assert progress.best == progress.history[1]
    assert Progress().best is None


def test_progress_survives_json_to_the_bit() -> None:
    progress = Progress([epoch(1, 0.1 + 0.2)], [Lap(1, 2, 1 / 3)], 3, 0.7, last_epoch=LossTotal(math.inf, 2))
    assert PROGRESS.validate_json(PROGRESS.dump_json(progress)) == progress
    assert PROGRESS.validate_python(PROGRESS.dump_python(progress, mode="json")) == progress
