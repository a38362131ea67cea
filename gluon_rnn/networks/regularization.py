"""Regularization: dropout of units, weights and words, and penalties on activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mxnet.gluon import HybridBlock, nn


@dataclass(frozen=True)
class AWDDropouts:
    """The rates of the dropouts that AWD-LSTM (Merity et al., 2017) has beside that of what is read.

    Attributes:
        input: after the embedding, with one mask for all steps of a window; None: as what is read, a mask a step.
        hidden: between layers, likewise.
        embedding: of whole rows of the embedding.
        weight: of the recurrent weights.
    """

    input: float | None = None
    hidden: float | None = None
    embedding: float = 0.0
    weight: float = 0.0


#: Those of a model that has none of them.
NO_AWD = AWDDropouts()


def drop(F: Any, array: Any, rate: float, axes: tuple[int, ...] = ()) -> Any:
    """Set a fraction `rate` of `array` to zero and scale the rest by 1 / (1 - rate), in ``autograd.train_mode`` alone.

    The masks obey ``mx.random.seed`` on every device. ``gluon.nn.Dropout`` of MXNet 1.9.1 always asks for cuDNN's
    dropout on a GPU, whose state is seeded with C's ``rand()`` (src/operator/nn/dropout-inl.h), so that two runs of one
    seed differ. MXNet's own kernel is used instead.

    Args:
        F: ``mx.nd`` or ``mx.sym``.
        array: of any shape.
        rate: from 0, which leaves `array` alone, to below 1.
        axes: axes along which one mask is shared; ``(0,)`` drops the same units at every step of a window.
    """
    return F.Dropout(array, p=rate, axes=axes, cudnn_off=True) if rate else array


class Dropout(HybridBlock):
    """`drop` as a block, with its `rate` and `axes`."""

    def __init__(self, rate: float, axes: tuple[int, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self._axes = axes

    def hybrid_forward(self, F: Any, inputs: Any) -> Any:
        """Same shape as `inputs`; the identity outside ``autograd.train_mode``."""
        return drop(F, inputs, self.rate, self._axes)


def activation_penalties(F: Any, raw: Any, dropped: Any, *, alpha: float, beta: float) -> list[Any]:
    """AR and TAR (Merity et al., 2017) of a window, each of shape (1,), those whose factors are not 0.

    They are what GluonNLP 0.10's ``ActivationRegularizationLoss`` and ``TemporalActivationRegularizationLoss`` compute.

    Args:
        F: ``mx.nd`` or ``mx.sym``.
        raw: outputs of the last layer, (steps, batch, units).
        dropped: the same after dropout.
        alpha: factor of the mean square of `dropped`.
        beta: factor of the mean square of the change of `raw` from step to step; of a single step that is 0.
    """
    penalties = []
    if alpha:
        penalties.append(alpha * F.mean(F.square(dropped)))
    if beta:
        # A window's length is not known to a graph, and no array may be empty: the first step is compared with itself,
        # and left out of the mean.
        first = F.slice_axis(raw, axis=0, begin=0, end=1)
        before = F.slice_axis(F.concat(first, raw, dim=0), axis=0, begin=0, end=-1)
        one = F.slice_axis(F.slice_axis(raw, axis=1, begin=0, end=1), axis=2, begin=0, end=1)
        steps = F.BlockGrad(F.sum(F.ones_like(one)))
        penalties.append(beta * F.mean(F.square(raw - before)) * steps / F.maximum(steps - 1, 1))
    return penalties


class Embedding(nn.Embedding):
    """``gluon.nn.Embedding`` whose rows are dropped in training, with one mask for a call.

    A word that occurs twice in a window is dropped in both places. The mask is applied to what was looked up, so that
    `weight` stays whole for a decoder that shares it. (GluonNLP 0.10 drops rows of the parameter itself; once its
    ``AWDRNN`` is hybridized, the tied decoder loses them, too.)

    Args:
        vocab_size: tokens.
        embed_size: units of a vector.
        dropout: share of the rows that are dropped.
    """

    def __init__(self, vocab_size: int, embed_size: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(vocab_size, embed_size, **kwargs)
        self._vocab_size = vocab_size
        self._dropout = dropout

    def hybrid_forward(self, F: Any, x: Any, weight: Any) -> Any:
        """Ids of any shape to vectors, with one more axis of `embed_size`."""
        vectors = super().hybrid_forward(F, x, weight)
        if not self._dropout:
            return vectors
        mask = drop(F, F.ones((self._vocab_size, 1)), self._dropout)
        return F.broadcast_mul(vectors, F.Embedding(x, mask, input_dim=self._vocab_size, output_dim=1))
