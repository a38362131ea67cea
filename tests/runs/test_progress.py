"""Sums before exponents, clocks after the device."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gluon_rnn.runs.progress import (
    PROGRESS,
    EpochResult,
    Lap,
    LossTotal,
    Progress,
    Session,
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


def test_the_stopwatch_reads_the_clock_after_the_device_and_leaves_out_what_lies_between_stretches() -> None:
    now = 0.0

    def device() -> None:
        nonlocal now
        now += 10.0

    watch = Stopwatch(device, clock=lambda: now)
    found = []
    for work, between in ((1, 500), (2, 7000), (3, 0)):
        watch.start()
        now += work
        found.append(watch.stop())
        now += between
    assert found == [11.0, 12.0, 13.0]
    # Before the second stretch and before the third, the device is waited for, too.
    assert watch.paused_seconds == 510 + 7010


def session(**facts: Any) -> Session:
    known = {"machine_id": "m", "device": "cpu", "device_name": "p", "threads": 1, "blas": "b", "environment": "E=1"}
    return Session(**{**known, "mxnet_version": "1.9.1", "git_commit": "c", **facts})


@pytest.mark.parametrize(
    "other",
    [
        {"threads": 2},
        {"machine_id": "n"},
        {"device": "cpu:1"},
        {"device_name": "q"},
        {"blas": "a"},
        {"environment": ""},
        {"mxnet_version": None},
        {"git_commit": "d"},
    ],
    ids=str,
)
def test_speeds_compare_within_one_environment_only(other: dict[str, Any]) -> None:
    laps = [Lap(1, 10, 1.0, 1), Lap(1, 10, 2.0, 2), Lap(1, 10, 4.0, 3), Lap(1, 10, 8.0)]
    here = session(host="x", started_at="then", seconds=1.0, peak_rss_mb=1.0, peak_gpu_mb=1.0)
    progress = Progress(laps=laps, sessions=[session(), session(**other), here])
    assert progress.comparable_laps == [laps[0], laps[2]]
    progress.sessions.pop()
    assert progress.comparable_laps == [laps[1]]


def test_of_unknown_sittings_none_compares_with_another() -> None:
    laps = [Lap(1, 10, 1.0, 1), Lap(1, 10, 2.0, 2)]
    assert Progress(laps=laps, sessions=[Session(), Session()]).comparable_laps == [laps[1]]
    assert Progress(laps=laps).comparable_laps == laps


def test_a_sitting_goes_on_from_what_earlier_ones_came_to() -> None:
    restored = Progress([epoch(1, 5.0)], [Lap(1, 2, 3.0, 1)], 3, sessions=[session(seconds=7.0)])
    progress = Progress(sessions=[session(threads=2)])
    progress.resume(restored)
    assert (progress.history, progress.laps, progress.steps) == (restored.history, restored.laps, 3)
    assert progress.sessions == [session(seconds=7.0), session(threads=2)]


def test_what_an_earlier_version_came_to_is_an_unknown_sittings() -> None:
    """Its checkpoints have neither sessions nor laps that say whose they are."""
    content = PROGRESS.dump_python(Progress([epoch(1, 5.0)], [Lap(1, 2, 3.0)], 3, 4.0, 2.0), mode="json")
    del content["sittings"], content["laps"][0]["sitting"], content["history"][0]["sitting"]
    progress = Progress(sessions=[session()])
    progress.resume(PROGRESS.validate_python(content))
    assert progress.sessions == [Session(seconds=6.0), session()]
    assert progress.laps == [Lap(1, 2, 3.0)]
    assert progress.comparable_laps == []
    assert progress.history == [epoch(1, 5.0)]


def test_step_percentiles_weigh_laps_by_their_steps() -> None:
    laps = [Lap(90, 0, 9.0), Lap(6, 0, 1.2), Lap(4, 0, 4.0)]  # 100, 200 and 1,000 ms a step
    assert step_milliseconds(laps, 50) == pytest.approx(100)
    assert step_milliseconds(laps, 90) == pytest.approx(100)
    assert step_milliseconds(laps, 95) == pytest.approx(200)
    assert step_milliseconds(laps, 97) == pytest.approx(1000)
    # Of three steps the second is the nearest rank to the middle, not the first.
    assert step_milliseconds([Lap(1, 0, 0.1), Lap(1, 0, 0.2), Lap(1, 0, 0.3)], 50) == pytest.approx(200)
    assert step_milliseconds([], 50) is None
    assert tokens_per_second([Lap(4, 100, 11.0), Lap(2, 50, 10.0)]) == pytest.approx(150 / 21)
    assert tokens_per_second([]) is None


def test_the_best_epoch_is_the_first_with_the_lowest_validation_loss() -> None:
    progress = Progress(history=[epoch(1, 5.0), epoch(2, 4.0), epoch(3, 4.0), epoch(4, 4.5)])
    assert progress.best == progress.history[1]
    assert Progress().best is None


def test_progress_survives_json_to_the_bit() -> None:
    progress = Progress([epoch(1, 0.1 + 0.2)], [Lap(1, 2, 1 / 3, 1)], 3, 0.7, last_epoch=LossTotal(math.inf, 2))
    progress.sessions.append(session(seconds=1 / 7))
    assert PROGRESS.validate_json(PROGRESS.dump_json(progress)) == progress
    assert PROGRESS.validate_python(PROGRESS.dump_python(progress, mode="json")) == progress
