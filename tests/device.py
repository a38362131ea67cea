"""The device on which tests compute: what ``GLUON_RNN_TEST_DEVICE`` names, such as ``gpu`` or ``cpu(1)``; else cpu(0).

Every array of such a test is made here, or on `DEVICE` by name. The default context stays cpu(0), so that code which
forgets to pass a context fails on any other device, another context of the same CPU included. A test that is about a
CPU has the marker ``cpu_only``.
"""

from __future__ import annotations

import os
from typing import Any

import mxnet as mx
import numpy as np

from tests.device_name import VARIABLE, is_gpu, parse

DEVICE = mx.Context(*parse(os.environ.get(VARIABLE)))

#: How much more than on a CPU results may differ on this device: a GPU adds up in another order, and its elementary
#: functions are off by a few units in the last place.
SLACK = 10 if is_gpu() else 1


def array(values: Any, dtype: str | None = None) -> mx.nd.NDArray:
    """As ``mx.nd.array``."""
    return mx.nd.array(values, ctx=DEVICE, dtype=dtype)


def ones(shape: Any) -> mx.nd.NDArray:
    """As ``mx.nd.ones``."""
    return mx.nd.ones(shape, ctx=DEVICE)


def zeros(shape: Any) -> mx.nd.NDArray:
    """As ``mx.nd.zeros``."""
    return mx.nd.zeros(shape, ctx=DEVICE)


def full(shape: Any, value: float) -> mx.nd.NDArray:
    """As ``mx.nd.full``."""
    return mx.nd.full(shape, value, ctx=DEVICE)


def arange(*limits: float, **options: Any) -> mx.nd.NDArray:
    """As ``mx.nd.arange``."""
    return mx.nd.arange(*limits, ctx=DEVICE, **options)


def eye(size: int) -> mx.nd.NDArray:
    """As ``mx.nd.eye``."""
    return mx.nd.eye(size, ctx=DEVICE)


def normal(loc: float = 0.0, scale: float = 1.0, shape: Any = (1,)) -> mx.nd.NDArray:
    """As ``mx.nd.random.normal``."""
    return mx.nd.random.normal(loc, scale, shape=shape, ctx=DEVICE)


def uniform(low: float = 0.0, high: float = 1.0, shape: Any = (1,)) -> mx.nd.NDArray:
    """As ``mx.nd.random.uniform``."""
    return mx.nd.random.uniform(low, high, shape=shape, ctx=DEVICE)


def assert_close(actual: Any, expected: Any, *, rtol: float = 1e-7, atol: float = 0.0, **options: Any) -> None:
    """As ``np.testing.assert_allclose``, with tolerances for a CPU that follow the device."""
    np.testing.assert_allclose(actual, expected, rtol=SLACK * rtol, atol=SLACK * atol, **options)
