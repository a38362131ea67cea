"""Times one BLAS in a process of its own: ``python -I -S blas_probe.py LIBRARY``, with the standard library alone.

The process has a worker's environment, because the threads and the way they wait are fixed when a library is loaded. It
prints one line of JSON: GFLOP/s of the float32 products, and of the bfloat16 ones where the library has them, and for
which share of the time its threads waited for a core that something else had.
"""

from __future__ import annotations

import array
import ctypes
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The decoder's products of one step at batch 20, bptt 35 and 200 units, with an eighth of WikiText-2's vocabulary. They
# take a tenth of a second at the 37 GFLOP/s of OpenBLAS's oldest kernel.
TOKENS, UNITS, WORDS = 700, 200, 4096
#: A library is timed for so many seconds, but at least once after its first products, which start its threads.
SECONDS = 0.06

_ROW_MAJOR, _AS_IS, _TRANSPOSED = 101, 111, 112  # <cblas.h>
#: Elements are whole numbers from -3 to 3, so that every sum is exact in float32 in whatever order it is made.
_PERIOD = 7


def main(path: str) -> dict[str, float]:
    """Load the library at `path` and time it.

    Returns:
        ``float32`` and, where the library has ``cblas_gemm_bf16bf16f32``, ``bfloat16``: GFLOP/s. ``waited``: seconds
        in which a thread was ready and had no core, by second and summed over threads.

    Raises:
        OSError: the library cannot be loaded.
        AttributeError: it has no ``cblas_sgemm``.
        ArithmeticError: a product is wrong.
    """
    library = ctypes.CDLL(path)
    started, waited = time.perf_counter(), _waited_seconds()
    found = {"float32": _rate(library.cblas_sgemm, _whole_numbers("f"), exact=True)}
    if lowered := getattr(library, "cblas_gemm_bf16bf16f32", None):
        found["bfloat16"] = _rate(lowered, _whole_numbers("H"), exact=False)
    return {**found, "waited": (_waited_seconds() - waited) / (time.perf_counter() - started)}


def _waited_seconds() -> float:
    """How long threads of this process have waited for a core, in seconds; 0 if the kernel does not count it."""
    try:
        return sum(int(task.read_text().split()[1]) for task in Path("/proc/self/task").glob("*/schedstat")) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _whole_numbers(code: str) -> Callable[[int], array.array[Any]]:
    """A maker of arrays whose element n is n modulo 7, less 3: as float32 (``f``) or as bfloat16 (``H``)."""
    numbers = array.array("f", (place - _PERIOD // 2 for place in range(_PERIOD)))
    # bfloat16 is the upper half of float32, on a little-endian machine the second.
    halves = memoryview(numbers.tobytes()).cast("H")[1::2].tolist()
    period: array.array[Any] = array.array("H", halves) if code == "H" else numbers

    def make(count: int) -> array.array[Any]:
        return (period * (count // _PERIOD + 1))[:count]

    return make


def _rate(multiply: Any, make: Callable[[int], array.array[Any]], *, exact: bool) -> float:
    """GFLOP/s of the three products of a step, each the fastest of its calls."""
    units, words = make(TOKENS * UNITS), make(WORDS * UNITS)
    logits = make(TOKENS * WORDS)
    products = [  # transposed, rows, columns, inner, a, b
        (_AS_IS, _TRANSPOSED, TOKENS, WORDS, UNITS, units, words),  # logits
        (_AS_IS, _AS_IS, TOKENS, UNITS, WORDS, logits, words),  # gradient of the decoder's input
        (_TRANSPOSED, _AS_IS, WORDS, UNITS, TOKENS, logits, units),  # gradient of its weight
    ]
    out = array.array("f", bytes(4 * TOKENS * WORDS))
    calls = [_call(multiply, product, out, exact=exact) for product in products]
    seconds = [float("inf")] * len(calls)
    started = time.perf_counter()
    while seconds[0] == float("inf") or time.perf_counter() - started < SECONDS:
        seconds = [min(before, call()) for before, call in zip(seconds, calls, strict=True)]
    return 3 * 2e-9 * TOKENS * UNITS * WORDS / sum(seconds)


def _call(multiply: Any, product: Any, out: array.array[Any], *, exact: bool) -> Callable[[], float]:
    transpose_a, transpose_b, rows, columns, inner, a, b = product
    stride_a = rows if transpose_a == _TRANSPOSED else inner
    stride_b = inner if transpose_b == _TRANSPOSED else columns
    scalars = [ctypes.c_float(1), ctypes.c_float(0)]
    addresses = [ctypes.c_void_p(array_.buffer_info()[0]) for array_ in (a, b, out)]

    def call() -> float:
        started = time.perf_counter()
        multiply(
            *(_ROW_MAJOR, transpose_a, transpose_b, rows, columns, inner),
            *(scalars[0], addresses[0], stride_a, addresses[1], stride_b, scalars[1], addresses[2], columns),
        )
        return time.perf_counter() - started

    call()  # the first starts the threads and is not timed
    if exact:
        for row, column in ((0, 0), (rows // 2, columns - 1), (rows - 1, columns // 2)):
            first_a, step_a = (row, stride_a) if transpose_a == _TRANSPOSED else (row * stride_a, 1)
            first_b, step_b = (column * stride_b, 1) if transpose_b == _TRANSPOSED else (column, stride_b)
            due = sum(
                ((first_a + n * step_a) % _PERIOD - _PERIOD // 2) * ((first_b + n * step_b) % _PERIOD - _PERIOD // 2)
                for n in range(inner)
            )
            if out[row * columns + column] != due:
                raise ArithmeticError(f"it multiplies wrongly: {out[row * columns + column]:g} where {due} is right")
    return call


if __name__ == "__main__":
    try:
        print(json.dumps(main(sys.argv[1])))
    except (OSError, AttributeError, ArithmeticError) as problem:
        print(json.dumps({"error": " ".join(str(problem).split())}))
