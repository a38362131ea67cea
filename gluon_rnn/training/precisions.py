"""Matrix products of the decoder in float32 and in less."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import mxnet as mx
import numpy as np

from gluon_rnn.machine.blas import mkl_library

_BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # MXNet 1.9.1's name for it
_ROW_MAJOR, _AS_IS, _TRANSPOSED = 101, 111, 112  # <mkl_cblas.h>


@dataclass(frozen=True)
class Precision:
    """How the decoder multiplies.

    Attributes:
        cast: an array in the type that enters a product.
        multiply: ``multiply(a, b, out, transpose_a=False, transpose_b=False, alpha=1.0, beta=1.0)`` leaves
            alpha a b + beta out in `out`, float32; a and b are cast matrices.
    """

    cast: Callable[[mx.nd.NDArray], mx.nd.NDArray]
    multiply: Callable[..., None]


def float32_product(a: mx.nd.NDArray, b: mx.nd.NDArray, out: mx.nd.NDArray, **options: Any) -> None:
    """See `Precision.multiply`."""
    mx.nd.linalg_gemm(a, b, out, out=out, **options)


def bfloat16_product(
    a: mx.nd.NDArray,
    b: mx.nd.NDArray,
    out: mx.nd.NDArray,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> None:
    """See `Precision.multiply`: MKL's ``cblas_gemm_bf16bf16f32``, on a CPU.

    MXNet 1.9.1's own bfloat16 (oneDNN 2.4) was slower than its float32 where this is four times as fast: its products
    leave the processor's matrix unit (AMX) idle. MKL is called past MXNet's engine, so the host waits for what the
    engine still does with the three arrays; on a CPU nobody else would have used that time.
    """
    rows, inner = reversed(a.shape) if transpose_a else a.shape
    for array in (a, b):
        array.wait_to_read()
    mx.base.check_call(mx.base._LIB.MXNDArrayWaitToWrite(out.handle))
    _mkl().cblas_gemm_bf16bf16f32(
        _ROW_MAJOR,
        _TRANSPOSED if transpose_a else _AS_IS,
        _TRANSPOSED if transpose_b else _AS_IS,
        rows,
        out.shape[1],
        inner,
        ctypes.c_float(alpha),
        _address(a),
        a.shape[1],
        _address(b),
        b.shape[1],
        ctypes.c_float(beta),
        _address(out),
        out.shape[1],
    )


def _address(array: mx.nd.NDArray) -> ctypes.c_void_p:
    address = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    return address


@cache
def _mkl() -> ctypes.CDLL:
    library = mkl_library()
    if library is None:
        raise RuntimeError("bfloat16 needs Intel's MKL, which `pip install mkl` brings")
    return ctypes.CDLL(str(library))


PRECISIONS = {
    "float32": Precision(lambda array: array, float32_product),
    # The same call: whether a GPU may round its factors is settled when the process starts.
    "tf32": Precision(lambda array: array, float32_product),
    "bfloat16": Precision(lambda array: mx.nd.amp_cast(array, dtype=_BFLOAT16), bfloat16_product),
}
