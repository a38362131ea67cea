"""What the tests of the gate share."""

from __future__ import annotations

import gc

import pytest
import statsmodels.stats.multitest  # noqa: F401 -- the gate imports it at its first call, and it is to be frozen, too


@pytest.fixture(scope="module", autouse=True)
def frozen_objects() -> None:
    """Spare statsmodels, which collects garbage at every call, what other tests have left: 60 ms a call."""
    gc.collect()
    gc.freeze()
