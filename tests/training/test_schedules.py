"""The learning rate of each epoch and the last epoch, from the history alone."""

from __future__ import annotations

import math

import pytest

from gluon_rnn.config.run import RunConfig
from gluon_rnn.runs.progress import EpochResult
from gluon_rnn.training.schedules import is_finished, learning_rate_after


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
    assert not is_finished([], config)
    assert not is_finished(history(5.0, 4.0, 4.1), config)
    assert is_finished(history(5.0, 4.0, 4.1, 4.0), config)
    assert is_finished(history(*[1.0 / n for n in range(1, 10)]), config)
    assert not is_finished(history(1.0, *[2.0] * 7), RunConfig(epochs=9))


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
