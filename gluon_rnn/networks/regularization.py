"""What keeps networks from overfitting: dropouts."""

from __future__ import annotations

from typing import Any

from mxnet.gluon import HybridBlock


class Dropout(HybridBlock):
    """Dropout whose masks obey ``mx.random.seed`` on every device.

    ``gluon.nn.Dropout`` of MXNet 1.9.1 always asks for cuDNN's dropout on a GPU, whose state is seeded with C's
    ``rand()`` (src/operator/nn/dropout-inl.h), so that two runs of one seed differ. MXNet's own kernel is used instead.

    Args:
        rate: fraction of the units that are set to zero.
        axes: axes along which one mask is shared; ``(0,)`` drops the same units at every step of a window.
    """

    def __init__(self, rate: float, axes: tuple[int, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rate = rate
        self._axes = axes

    def hybrid_forward(self, F: Any, inputs: Any) -> Any:
        """Same shape as `inputs`; the identity outside ``autograd.train_mode``."""
        return F.Dropout(inputs, p=self._rate, axes=self._axes, cudnn_off=True) if self._rate else inputs
