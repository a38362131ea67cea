"""The part ``products``: the decoder's three matrix products and its bias's gradient, in each form MXNet offers.

With T tokens, H units and V words, W the weight (V, H), U what enters the decoder (T, H) and G the logits' gradient (T,
V), the products are U W', G W and G' U.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache, partial
from statistics import median
from typing import Any

import mxnet as mx
import numpy as np

from gluon_rnn.check_gpu.devices import device_of
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import SIZES, Request
from gluon_rnn.check_gpu.pytorch_step import VOCABULARY

TOKENS = 35 * 20
#: Of one entry from the mean of those checked, relative to the largest: float32's rounding in sums of 33,278 products.
_TOLERANCE = 1e-3
_ROUNDS = 5
_CHECKED = 16
_TURNED = ", transposed"

Form = Callable[[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray], mx.nd.NDArray]


def forms(transpose_a: bool, transpose_b: bool) -> dict[str, Form]:
    """Ways to a product ``out`` of matrices a and b, or of their transposes; each returns it, some in a new array.

    A form marked "transposed" leaves the transpose of the product, which a BLAS works out as another shape.
    """
    flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    turned = {"transpose_a": not transpose_b, "transpose_b": not transpose_a}
    found: dict[str, Form] = {
        "linalg_gemm": lambda a, b, out: mx.nd.linalg_gemm(a, b, out, out=out, beta=0.0, **flags),
        "linalg_gemm2": lambda a, b, out: mx.nd.linalg_gemm2(a, b, out=out, **flags),
        "dot": lambda a, b, out: mx.nd.dot(a, b, out=out, **flags),
        "batch_dot": lambda a, b, out: mx.nd.batch_dot(_one(a), _one(b), out=_one(out), **flags)[0],
        f"linalg_gemm2{_TURNED}": lambda a, b, out: mx.nd.linalg_gemm2(b, a, **turned),
        f"dot{_TURNED}": lambda a, b, out: mx.nd.dot(b, a, **turned),
        f"batch_dot{_TURNED}": lambda a, b, out: mx.nd.batch_dot(_one(b), _one(a), **turned)[0],
    }
    if not transpose_a and transpose_b:
        # It multiplies by the transpose of its weight.
        fully_connected = partial(mx.nd.FullyConnected, no_bias=True)
        found["FullyConnected"] = lambda a, b, out: fully_connected(a, b, num_hidden=b.shape[0], out=out)
        found[f"FullyConnected{_TURNED}"] = lambda a, b, out: fully_connected(b, a, num_hidden=a.shape[0])
    return found


def _one(array: mx.nd.NDArray) -> mx.nd.NDArray:
    """A view of a matrix as a batch of one."""
    return array.reshape((1, *array.shape))


#: Ways to the gradient of the bias: sums of the columns of (T, V), the logits' gradient.
BIAS_FORMS: dict[str, Callable[[mx.nd.NDArray, mx.nd.NDArray], mx.nd.NDArray]] = {
    "linalg_gemm with ones": lambda gradient, out: mx.nd.linalg_gemm(
        gradient, mx.nd.ones((len(gradient), 1), ctx=gradient.context), out, transpose_a=True, beta=0.0, out=out
    ),
    "dot with ones": lambda gradient, out: mx.nd.dot(
        gradient, mx.nd.ones((len(gradient), 1), ctx=gradient.context), transpose_a=True, out=out
    ),
    "dot of ones with it": lambda gradient, out: mx.nd.dot(
        mx.nd.ones((1, len(gradient)), ctx=gradient.context), gradient
    ).reshape((-1, 1)),
    "sum": lambda gradient, out: mx.nd.sum(gradient, axis=0, out=out.reshape((-1,))).reshape((-1, 1)),
}


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    device = device_of(request)
    items: dict[str, Callable[[], dict[str, Any]]] = {}
    for size in SIZES:
        shapes = {
            "logits": ((TOKENS, size), (VOCABULARY, size), False, True),
            "gradient of the units": ((TOKENS, VOCABULARY), (VOCABULARY, size), False, False),
            "gradient of the weight": ((TOKENS, VOCABULARY), (TOKENS, size), True, False),
        }
        for name, (a, b, transpose_a, transpose_b) in shapes.items():
            for form in forms(transpose_a, transpose_b):
                key = f"hidden {size}, {name}: {form}"
                items[key] = partial(_product, device, size, name, form, a, b, transpose_a, transpose_b)
    for form in BIAS_FORMS:
        items[f"gradient of the bias: {form}"] = partial(_bias, device, form)
    report.measure(items)


@lru_cache(maxsize=4)
def _matrix(shape: tuple[int, int], seed: int) -> Any:
    values = np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32)
    return values


def _product(
    device: mx.Context,
    size: int,
    name: str,
    form: str,
    a_shape: tuple[int, int],
    b_shape: tuple[int, int],
    transpose_a: bool,
    transpose_b: bool,
) -> dict[str, Any]:
    a, b = _matrix(a_shape, 1), _matrix(b_shape, 2)
    factors = (a.T if transpose_a else a), (b.T if transpose_b else b)
    rows, inner = factors[0].shape
    left, right = (mx.nd.array(each, ctx=device) for each in (a, b))
    out = mx.nd.zeros((rows, factors[1].shape[1]), ctx=device)
    multiply = forms(transpose_a, transpose_b)[form]

    def work() -> mx.nd.NDArray:
        return multiply(left, right, out)

    found = work()
    some = (found.T if form.endswith(_TURNED) else found)[:_CHECKED].asnumpy()
    expected = factors[0][:_CHECKED] @ factors[1]
    ms = _ms(work)
    return {
        "hidden": size,
        "product": name,
        "form": form,
        "ms": ms,
        "teraflops": 2e-9 * rows * inner * factors[1].shape[1] / ms,
        "ok": bool(np.abs(some - expected).max() <= _TOLERANCE * np.abs(expected).max()),
    }


def _bias(device: mx.Context, form: str) -> dict[str, Any]:
    gradient = _matrix((TOKENS, VOCABULARY), 1)
    on_device, out = mx.nd.array(gradient, ctx=device), mx.nd.zeros((VOCABULARY, 1), ctx=device)
    work = partial(BIAS_FORMS[form], on_device, out)
    found, expected = work().asnumpy().ravel(), gradient.sum(axis=0)
    ok = bool(np.abs(found - expected).max() <= _TOLERANCE * np.abs(expected).max())
    return {"product": "gradient of the bias", "form": form, "ms": _ms(work), "ok": ok}


def _ms(work: Callable[[], Any]) -> float:
    """What one call takes: the median of five rounds, each as many calls as fill 20 ms and at least one."""
    calls, rounds = 1, []
    for number in range(_ROUNDS + 1):
        mx.nd.waitall()
        began = time.perf_counter()
        for _ in range(calls):
            work()
        mx.nd.waitall()
        elapsed = 1e3 * (time.perf_counter() - began)
        if number:
            rounds.append(elapsed / calls)
        else:
            calls = max(1, int(20 / elapsed))
    return median(rounds)
