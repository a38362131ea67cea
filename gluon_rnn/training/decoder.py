"""The decoder's softmax: log-probabilities, and the loss with its gradients by hand."""

from __future__ import annotations

from typing import NamedTuple

import mxnet as mx

from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.models import SequenceModel
from gluon_rnn.training.precisions import Precision, precision_on

#: Logits are computed in blocks of at most this size, 128 MiB in float32, which is 1,008 tokens of WikiText-2: one
#: block at bptt 35 and batch 20. Two blocks took the time of one, ten a quarter more (LSTM 200, 700 tokens).
LOGITS_IN_A_BLOCK = 1 << 25


class Decoder(NamedTuple):
    """The layer before the softmax, on one device; the gradients are left in the arrays.

    Attributes:
        weight: (classes, units).
        bias: (classes,).
        weight_gradient: as `weight`.
        bias_gradient: as `bias`.
    """

    weight: mx.nd.NDArray
    bias: mx.nd.NDArray
    weight_gradient: mx.nd.NDArray
    bias_gradient: mx.nd.NDArray

    @classmethod
    def of(cls, model: SequenceModel, context: mx.Context) -> Decoder:
        """The decoder of `model`, over all classes."""
        weight, bias = model.decoder[0].weight, model.decoder[0].bias
        return cls(weight.data(context), bias.data(context), weight.grad(context), bias.grad(context))


def backpropagate_softmax(
    decoder: Decoder,
    units: mx.nd.NDArray,
    shard: Shard,
    *,
    scale: float,
    precision: Precision,
    logits_in_a_block: int = LOGITS_IN_A_BLOCK,
    adds: bool = False,
) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """Leave the gradients of the targets' summed loss times `scale` in `decoder`.

    The logits are gone before the backbone's gradients come: both are the largest arrays of a step.

    Args:
        decoder: over the classes that the targets count.
        units: what enters it, (rows, columns, units).
        shard: with the targets.
        scale: see above.
        precision: of the three products.
        logits_in_a_block: how many logits exist at a time, but always those of a token.
        adds: add to the gradients that are there; False: replace them.

    Returns:
        The loss, (1,), and the gradient of `units`.
    """
    context = units.context
    cast_weight = precision.cast(decoder.weight)
    rows, labels = units.reshape((-3, 0)), shard.targets.reshape((-1,))  # (targets, units), (targets,)
    mask = None if shard.weights is None else shard.weights.reshape((-1, 1))
    bias_gradient = decoder.bias_gradient.reshape((-1, 1))
    # MXNet makes room for an operator's result when the operator runs, for `empty` at once: Python, which runs ahead of
    # the device up to the next log interval, would hold one for each step on the way.
    gradient = mx.nd.zeros_like(rows)
    nats: list[mx.nd.NDArray] = []
    size = max(1, logits_in_a_block // len(decoder.weight))
    for block in (slice(first, first + size) for first in range(0, len(rows), size)):
        cast_units, block_labels = precision.cast(rows[block]), labels[block]
        block_mask = None if mask is None else mask[block]
        array = log_probabilities(cast_units, cast_weight, decoder.bias, precision)
        loss = -mx.nd.pick(array, block_labels)
        nats.append(loss if block_mask is None else loss * block_mask.reshape((-1,)))
        precision.exponentiate(array)
        places = mx.nd.stack(mx.nd.arange(len(array), ctx=context), block_labels.astype("float32"))
        mx.nd._internal._scatter_set_nd(
            array, mx.nd.pick(array, block_labels) - 1, places, shape=array.shape, out=array
        )
        if block_mask is not None:
            mx.nd.broadcast_mul(array, block_mask, out=array)

        beta = 1.0 if block.start or adds else 0.0
        ones = mx.nd.ones((len(array), 1), ctx=context)
        # Three times as fast as a sum over the rows on a CPU; 0.06 ms for 93 MB on an H100, at half its memory's rate.
        mx.nd.linalg_gemm(array, ones, bias_gradient, transpose_a=True, alpha=scale, beta=beta, out=bias_gradient)
        array = precision.cast_gradient(array)
        precision.multiply(array, cast_weight, gradient[block], alpha=scale, beta=0.0)
        precision.multiply(array, cast_units, decoder.weight_gradient, transpose_a=True, alpha=scale, beta=beta)
    loss = (mx.nd.concat(*nats, dim=0) if len(nats) > 1 else nats[0]).sum() * scale
    return loss, gradient.reshape(units.shape)


def log_probabilities(
    units: mx.nd.NDArray,
    weight: mx.nd.NDArray,
    bias: mx.nd.NDArray,
    precision: Precision | None = None,
    *,
    out: mx.nd.NDArray | None = None,
) -> mx.nd.NDArray:
    """The log-softmax of the decoder: (targets, classes), the one array of that size that is made.

    Args:
        units: what enters the decoder, (targets, units), cast by `precision`.
        weight: (classes, units), cast likewise; the classes of a language model are the vocabulary.
        bias: (classes,).
        precision: of the product; None: float32.
        out: where they are to be; None: in a new array.
    """
    precision = precision or precision_on(bias.context.device_type)
    array = precision.logits(units, weight, bias, out)
    return mx.nd.log_softmax(array, out=array)
