"""What chance can do: p-values against textbook formulas, corrections by hand, the smallest change by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from gluon_rnn.reporting.regression.significance import ALPHA, POWER, Sample, judge, smallest_effect


def test_holm_corrects_step_by_step() -> None:
    samples = [Sample((0.1 - spread, 0.1, 0.1 + spread), 0.0) for spread in (0.01, 0.02, 0.04)]
    # Two degrees of freedom: P(T > t) = (1 - t / sqrt(t^2 + 2)) / 2.
    alone = [(1 - t / math.sqrt(t * t + 2)) / 2 for t in (math.sqrt(3) * 0.1 / spread for spread in (0.01, 0.02, 0.04))]
    assert alone == pytest.approx([0.00165, 0.00649, 0.02466], rel=1e-2)
    findings = judge(samples[::-1])[::-1]
    assert [finding.p_value for finding in findings] == pytest.approx([3 * alone[0], 2 * alone[1], alone[2]])
    assert all(finding.changed for finding in findings)
    # Four times the least is above none of the limits, three times the next is one.
    weaker = judge([*samples, Sample((-0.1, 0.0, 0.1), 0.0)])
    assert [finding.changed for finding in weaker] == [True, True, True, False]


def test_a_single_difference_costs_the_others_nothing() -> None:
    alone, beside = judge([Sample((0.1, 0.2, 0.3), 0.0)]), judge([Sample((0.1, 0.2, 0.3), 0.0), Sample((9.0,), 0.0)])
    assert beside[0] == alone[0]
    assert (beside[1].changed, beside[1].p_value) == (True, None)


def test_no_samples_show_nothing() -> None:
    assert judge([]) == []


@pytest.mark.parametrize("differences", [(0.5,), (0.5, 0.5), (0.5, 0.5 + 1e-14)])
def test_without_a_spread_the_threshold_decides(differences: tuple[float, ...]) -> None:
    for sign, two_sided, changed in ((1, False, True), (-1, False, False), (-1, True, True)):
        sample = Sample(tuple(sign * difference for difference in differences), 0.1, two_sided)
        (finding,) = judge([sample])
        assert (finding.changed, finding.smallest) == (changed, 0.1)
        assert finding.p_value == (None if len(differences) == 1 else 1 - changed)
    (at_threshold,) = judge([Sample(differences, 0.5)])
    assert not at_threshold.changed


@pytest.mark.parametrize("repeats", [3, 5, 12])
@pytest.mark.parametrize("alpha", [0.05, 0.004])
def test_the_smallest_effect_is_found_nine_times_in_ten_by_other_repeats(repeats: int, alpha: float) -> None:
    generator = np.random.default_rng(repeats)
    tries = 20_000
    claims = smallest_effect(repeats, alpha) * generator.normal(size=(tries, repeats)).std(axis=1, ddof=1)
    others = generator.normal(size=(tries, repeats)) + claims[:, np.newaxis]
    t = others.mean(axis=1) / (others.std(axis=1, ddof=1) / math.sqrt(repeats))
    found = (t > stats.t.isf(alpha, repeats - 1)).mean()
    # A share of 20,000 has a standard deviation of 0.002.
    assert POWER < found < POWER + 0.03


@pytest.mark.parametrize("draw", ["uniform", "logistic"])
def test_it_is_found_as_often_where_spreads_are_not_normal(draw: str) -> None:
    generator = np.random.default_rng(5)
    repeats, alpha, tries = 5, 0.004, 20_000
    # Differences of two draws each.
    differences, others = np.diff(getattr(generator, draw)(size=(2, tries, repeats, 2)))[..., 0]
    claims = smallest_effect(repeats, alpha) * differences.std(axis=1, ddof=1)
    t = (others.mean(axis=1) + claims) / (others.std(axis=1, ddof=1) / math.sqrt(repeats))
    assert (t > stats.t.isf(alpha, repeats - 1)).mean() > POWER


def test_many_repeats_know_their_spread() -> None:
    known = TTestPower().solve_power(nobs=400, alpha=ALPHA, power=POWER, alternative="larger")
    assert known < smallest_effect(400, ALPHA) < 1.05 * known
    assert smallest_effect(5, ALPHA) > TTestPower().solve_power(nobs=5, alpha=ALPHA, power=POWER, alternative="larger")


@pytest.mark.parametrize("samples", [1, 200])
def test_two_repeats_find_next_to_nothing_and_say_so(samples: int) -> None:
    finding = judge([Sample((0.0, 0.1), 0.02, True)] * samples)[0]
    assert 1 < finding.smallest < math.inf


def test_the_smallest_change_is_that_of_the_corrected_level_on_top_of_the_threshold() -> None:
    sample = Sample((0.1, 0.2, 0.3), 0.02)
    (one, *_) = judge([sample] * 4)
    assert one.smallest == pytest.approx(0.02 + 0.1 * smallest_effect(3, ALPHA / 4))
    (both,) = judge([Sample(sample.differences, 0.02, two_sided=True)])
    assert both.smallest == pytest.approx(0.02 + 0.1 * smallest_effect(3, ALPHA / 2))
