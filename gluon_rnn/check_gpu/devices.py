"""The devices that a part's process compares and measures."""

from __future__ import annotations

import mxnet as mx

from gluon_rnn.check_gpu.parts import Request


def device_of(request: Request) -> mx.Context:
    """What is checked: the GPU, or another context of the CPU than the `reference`."""
    return mx.gpu(0) if request.device == "gpu" else mx.cpu(1)


def reference() -> mx.Context:
    """What it is compared with."""
    return mx.cpu(0)
