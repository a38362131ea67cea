"""Matrix products of the decoder in float32 and in less."""

from __future__ import annotations

import ctypes
from functools import cache

import mxnet as mx
import numpy as np

from gluon_rnn.machine.blas import mkl_library

_BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # MXNet 1.9.1's name for it
_LARGEST_FLOAT16 = 65504.0
_FIRST_SCALE, _LARGEST_SCALE, _STEPS_TO_DOUBLE = 2.0**10, 2.0**15, 1000
_ROW_MAJOR, _AS_IS, _TRANSPOSED = 101, 111, 112  # <mkl_cblas.h>


class Precision:
    """The arithmetic of the decoder's matrix products.

    This class uses float32, in the form that is fastest on a CPU. The inputs of `multiply` and `logits` are cast first;
    the outputs are float32.
    """

    def cast(self, array: mx.nd.NDArray) -> mx.nd.NDArray:
        """`array` in the type that enters a product."""
        return array

    def cast_gradient(self, array: mx.nd.NDArray) -> mx.nd.NDArray:
        """`cast` of the logits' gradient, which may change in place; what it enters is `multiply`."""
        return self.cast(array)

    def start_epoch(self) -> None:
        """Forget what earlier steps were like, so that a resumed run goes on as one never stopped."""

    def finish_step(self) -> mx.nd.NDArray | None:
        """Whether the gradients of all devices since the last call are to be used: 1 or 0, of shape (1,), on the first
        device. None: always.
        """
        return None

    @property
    def skipped_steps(self) -> int | None:
        """Steps since `start_epoch` whose gradients were not to be used; waits for the device. None: there are none."""
        return None

    def multiply(
        self,
        a: mx.nd.NDArray,
        b: mx.nd.NDArray,
        out: mx.nd.NDArray,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        """Leave alpha a b + beta out in `out`, for matrices a and b."""
        mx.nd.linalg_gemm(a, b, out, transpose_a=transpose_a, transpose_b=transpose_b, alpha=alpha, beta=beta, out=out)

    def logits(
        self, units: mx.nd.NDArray, weight: mx.nd.NDArray, bias: mx.nd.NDArray, out: mx.nd.NDArray | None
    ) -> mx.nd.NDArray:
        """Units (targets, units) times the transpose of weight (classes, units), plus bias (classes,); in `out` or new.

        The bias of every row first, since a product can add to what is there: a pass over the logits less.
        """
        array = mx.nd.dot(mx.nd.ones((units.shape[0], 1), ctx=bias.context), bias.reshape((1, -1)), out=out)
        self.multiply(units, weight, array, transpose_b=True)
        return array

    def exponentiate(self, array: mx.nd.NDArray) -> None:
        """Turn log-probabilities (targets, classes) into probabilities, in place.

        The softmax of log-probabilities is the softmax of the logits.
        """
        mx.nd.softmax(array, out=array)


class GpuPrecision(Precision):
    """Float32, in the way that is fastest on a GPU, as far as MXNet 1.9.1's sources and a profile tell.

    - Logits by ``FullyConnected``, which is a product and a kernel that adds the bias.
    - Gradients by ``dot``, which calls ``cublasSgemm``. ``linalg_gemm`` asks cuBLAS for a batch of one
      (``cublasSgemmStridedBatched``), and one of its three products of 700 x 1,500 x 33,278 ran at 21 TFLOP/s where an
      H100 has 60.
    - The exponential: a softmax, which looks for sums that are 1 already, took 0.36 ms of a step of 6.5 (LSTM 200).
    """

    def multiply(
        self,
        a: mx.nd.NDArray,
        b: mx.nd.NDArray,
        out: mx.nd.NDArray,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        """See `Precision.multiply`. ``dot`` has no factor; the smallest of the three matrices is given it."""
        options = {"transpose_a": transpose_a, "transpose_b": transpose_b}
        scaled = alpha != 1
        if scaled and min(a.size, b.size) < out.size:
            a, b, scaled = (a * alpha, b, False) if a.size < b.size else (a, b * alpha, False)
        product = mx.nd.dot(a, b, **options, out=None if beta else out)
        if scaled:
            product *= alpha
        if beta not in (0, 1):
            out *= beta
        if beta:
            out += product

    def logits(
        self, units: mx.nd.NDArray, weight: mx.nd.NDArray, bias: mx.nd.NDArray, out: mx.nd.NDArray | None
    ) -> mx.nd.NDArray:
        """See `Precision.logits`."""
        return mx.nd.FullyConnected(units, weight, bias, num_hidden=weight.shape[0], flatten=False, out=out)

    def exponentiate(self, array: mx.nd.NDArray) -> None:
        """See `Precision.exponentiate`."""
        mx.nd.exp(array, out=array)


class FewRows(Precision):
    """Float32 on a CPU for a handful of targets, of which ``FullyConnected`` (oneDNN) makes logits in less time.

    Five of WikiText-2's with 200 units took 2.5 ms where a product took 7.4 with MKL, 2.8 where it took 9.8 with
    OpenBLAS, and 3.8 where it took 7.0 with MXNet's own; twenty took as long either way (two cores of a busy EPYC).
    """

    logits = GpuPrecision.logits


class Tf32(GpuPrecision):
    """Factors rounded to TF32 on a GPU that has it, if the process was started so (`machine.environment`).

    Not by ``dot``, whose products MXNet 1.9.1 leaves in float32: it sets cuBLAS's mode for ``linalg_gemm`` and
    ``FullyConnected`` alone.
    """

    multiply = Precision.multiply


class LossScale:
    """A dynamic loss scale (Micikevicius et al., 2018) and what it is judged by, which stay on the devices.

    It begins at 2^10, doubles after 1,000 steps without an overflow, and is halved by each step with one. It is between
    1 and 2^15: a gradient of a logit is at most 1, and float16 ends at 65,504.

    Attributes:
        skipped: steps with an overflow, of shape (1,), on the first device.
    """

    def __init__(self, context: mx.Context) -> None:
        self._context = context
        self._value = mx.nd.full((1,), _FIRST_SCALE, ctx=context)
        self._good = mx.nd.zeros((1,), ctx=context)
        self._checks: list[mx.nd.NDArray] = []
        self.skipped = mx.nd.zeros((1,), ctx=context)

    def on(self, context: mx.Context) -> mx.nd.NDArray:
        """The scale, of shape (1,)."""
        return self._value.as_in_context(context)

    def check(self, array: mx.nd.NDArray) -> None:
        """Note whether all of `array`, on any device, is finite."""
        self._checks.append(mx.nd.multi_all_finite(array, num_arrays=1))

    def finish_step(self) -> mx.nd.NDArray:
        """Whether all that was noted since the last call is finite, 1 or 0, of shape (1,); the scale follows."""
        finite = mx.nd.concat(*(check.as_in_context(self._context) for check in self._checks), dim=0).min()
        self._checks = []
        self.skipped = self.skipped + (1 - finite)
        good = (self._good + 1) * finite
        doubles = good >= _STEPS_TO_DOUBLE
        factor = (0.5 + 0.5 * finite) * (1 + doubles)
        self._value = mx.nd.clip(self._value * factor, 1, _LARGEST_SCALE)
        self._good = good * (1 - doubles)
        return finite


class Float16(GpuPrecision):
    """Factors and products rounded to float16, sums of a product in float32, on a GPU; weights stay in float32.

    The logits' gradients are multiplied by a `LossScale`, lest small ones vanish, and what comes of them is divided by
    it. Where a product is too large for float16, the step is made with gradients of zero, and counted.

    Recurrent layers stay in float32: MXNet 1.9.1 denies cuDNN's recurrent layers the GPU's matrix units whatever their
    type (``cudnn_tensor_core_`` in ``rnn-inl.h``).
    """

    def __init__(self) -> None:
        self._scale: LossScale | None = None

    def start_epoch(self) -> None:
        """See `Precision.start_epoch`."""
        self._scale = None

    def finish_step(self) -> mx.nd.NDArray | None:
        """See `Precision.finish_step`."""
        return self._scale.finish_step() if self._scale else None

    @property
    def skipped_steps(self) -> int | None:
        """See `Precision.skipped_steps`."""
        return int(self._scale.skipped.asscalar()) if self._scale else 0

    def cast(self, array: mx.nd.NDArray) -> mx.nd.NDArray:
        """See `Precision.cast`."""
        return mx.nd.amp_cast(array, dtype="float16")

    def cast_gradient(self, array: mx.nd.NDArray) -> mx.nd.NDArray:
        """See `Precision.cast_gradient`."""
        if self._scale is None:
            self._scale = LossScale(array.context)
        scale = self._scale.on(array.context).reshape((1, 1))
        return self.cast(mx.nd.broadcast_mul(array, scale, out=array))

    def multiply(
        self,
        a: mx.nd.NDArray,
        b: mx.nd.NDArray,
        out: mx.nd.NDArray,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        """See `Precision.multiply`; a factor is of `cast_gradient`, whose scale `out` is rid of."""
        assert self._scale is not None
        product = self.product(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
        self._scale.check(product)
        # Infinity times zero would be no number.
        product = mx.nd.clip(product, -_LARGEST_FLOAT16, _LARGEST_FLOAT16).astype("float32")
        factor = (alpha / self._scale.on(out.context)).reshape((1, 1))
        if beta not in (0, 1):
            out *= beta
        if beta:
            out += mx.nd.broadcast_mul(product, factor)
        else:
            mx.nd.broadcast_mul(product, factor, out=out)

    def logits(
        self, units: mx.nd.NDArray, weight: mx.nd.NDArray, bias: mx.nd.NDArray, out: mx.nd.NDArray | None
    ) -> mx.nd.NDArray:
        """See `Precision.logits`."""
        product = self.product(units, weight, transpose_b=True).astype("float32")
        return mx.nd.broadcast_add(product, bias.reshape((1, -1)), out=product if out is None else out)

    def product(self, a: mx.nd.NDArray, b: mx.nd.NDArray, **transposed: bool) -> mx.nd.NDArray:
        """Of two matrices in float16, in float16: the one operator here that MXNet 1.9.1 does not have on a CPU."""
        return mx.nd.dot(a, b, **transposed)


class Bfloat16(Precision):
    """Factors rounded to bfloat16, multiplied by MKL's ``cblas_gemm_bf16bf16f32``, on a CPU.

    MXNet 1.9.1's own bfloat16 (oneDNN 2.4) was slower than its float32 where this is four times as fast: its products
    leave the processor's matrix unit (AMX) idle. MKL is called outside MXNet's engine, so the host waits until the
    engine has finished with the three arrays. On a CPU that time would not have been used otherwise.
    """

    def cast(self, array: mx.nd.NDArray) -> mx.nd.NDArray:
        """See `Precision.cast`."""
        return mx.nd.amp_cast(array, dtype=_BFLOAT16)

    def multiply(
        self,
        a: mx.nd.NDArray,
        b: mx.nd.NDArray,
        out: mx.nd.NDArray,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        """See `Precision.multiply`."""
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


_PRECISIONS: dict[tuple[str, str], type[Precision]] = {
    ("float32", "cpu"): Precision,
    ("bfloat16", "cpu"): Bfloat16,
    ("float32", "gpu"): GpuPrecision,
    ("tf32", "gpu"): Tf32,
    ("float16", "gpu"): Float16,
}


def precision_on(device_type: str, name: str = "float32") -> Precision:
    """How the decoder multiplies on a ``cpu`` or a ``gpu`` in the precision of a configuration.

    This alone says which form a product has on which device.
    """
    return _PRECISIONS[name, device_type]()


def precision_for_few(device_type: str) -> Precision:
    """As `precision_on`, in float32, for batches of a handful of targets."""
    return FewRows() if device_type == "cpu" else precision_on(device_type)
