"""The simulation of the throughput gate in short: how often it closes by chance, and what it finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gate_false_alarms import (
    SHARED,
    THRESHOLD,
    Design,
    Machine,
    alarms,
    draw,
    false_alarms,
    smallest_found,
)
from gluon_rnn.reporting.regression.significance import ALPHA, Sample, Sittings, judge

TRIES = 4000
#: Of so many gates that close with a probability of `ALPHA`, more than this close once in a hundred thousand.
MOST = stats.binom(TRIES, ALPHA).isf(1e-5) / TRIES


@pytest.mark.parametrize("design", [Design(2, 1, 1), Design(3, 3, 6), Design(5, 5, 1)], ids=str)
@pytest.mark.parametrize("shared", SHARED)
def test_chance_closes_at_most_one_gate_in_twenty(design: Design, shared: float) -> None:
    unchanged, tolerated = false_alarms(design, shared, tries=TRIES)
    assert MOST < 0.066
    assert unchanged <= tolerated <= MOST


def test_repeats_of_one_sitting_would_close_it_by_chance() -> None:
    assert false_alarms(Design(1, 3, 6), 0.05, tries=TRIES)[1] > 0.3
    sample = Sittings((0.0,), (1.0,), THRESHOLD)
    (finding,) = judge([sample])
    assert (finding.changed, finding.within, finding.p_value) == (False, False, None)


def test_the_simulation_is_of_the_gates_own_verdicts() -> None:
    before, after = draw(Machine(0.02, 0.03), Design(3, 1, 4), tries=12)
    change = 1.6 * THRESHOLD
    closed = [
        any(
            finding.changed
            for finding in judge(
                [Sittings(tuple(b), tuple(a + change), THRESHOLD) for b, a in zip(here, there, strict=True)]
            )
        )
        for here, there in zip(before[..., 0], after[..., 0], strict=True)
    ]
    assert 1 < sum(closed) < 11
    assert alarms(before, after, change) == sum(closed) / 12


@pytest.mark.slow
@pytest.mark.parametrize("sittings", [2, 3, 5])
def test_what_sittings_claim_to_find_is_found_by_other_sittings(sittings: int) -> None:
    claims, others = (draw(Machine(0.05, 0.03), Design(sittings, 1, 1), tries=400, seed=seed) for seed in (1, 2))
    hits = 0
    for b, a, c, d in zip(*(side[:, 0, :, 0] for side in (*claims, *others)), strict=True):
        claim = Sittings(tuple(b), tuple(a), THRESHOLD).smallest(ALPHA)
        hits += Sittings(tuple(c), tuple(d + claim), THRESHOLD).p_value() <= ALPHA
    assert stats.binom(400, 0.9).ppf(1e-4) <= hits


def test_more_sittings_find_less() -> None:
    """Two hundredths more or less is chance; with one hour's noise nothing below a fifth is found."""
    found = [smallest_found(Design(sittings, 1, 1), 0.05, tries=TRIES) for sittings in (2, 3, 5)]
    assert found == pytest.approx([0.32, 0.24, 0.20], abs=0.02)
    assert smallest_found(Design(3, 1, 6), 0.05, tries=TRIES) > found[1]


def test_student_is_by_hand() -> None:
    """Means 0 and 0.5, variances 0.02 each: t = (0.5 - 0.1) / sqrt(0.02 * 2 / 2), two degrees of freedom."""
    sample = Sittings((-0.1, 0.1), (0.4, 0.6), 0.1)
    t = 0.4 / np.sqrt(0.02)
    assert sample.p_value() == pytest.approx((1 - t / np.sqrt(t * t + 2)) / 2)
    assert not sample.is_within()
    assert Sittings((-0.01, 0.01), (-0.51, -0.49), 0.1).is_within()
    (constant,) = judge([Sittings((1.0, 1.0), (1.05, 1.05), 0.1)])
    assert (constant.changed, constant.within, constant.smallest) == (False, True, 0.1)


def test_what_is_neither_shown_is_undecided() -> None:
    near, far = judge([Sample((-0.2, 0.0, 0.2), 0.02), Sample((-0.001, 0.0, 0.001), 0.02)])
    assert (near.changed, near.within) == (False, False)
    assert (far.changed, far.within) == (False, True)
    # Either side may be left where both count.
    one, both = judge([Sample((-0.06, -0.05, -0.04), 0.02, two_sided) for two_sided in (False, True)])
    assert (one.within, both.within) == (True, False)
