"""Sampled softmax: in training, the loss over some of the classes stands for the loss over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd

from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.models import SequenceModel
from gluon_rnn.training.precisions import Precision

#: How the chance of being drawn grows with a class's count.
_POWER = 0.75
#: A logit whose exponential is zero.
_NEVER = -1e30


@dataclass(frozen=True)
class ClassSample:
    """Classes that stand for all in one step.

    Attributes:
        classes: their ids, no two the same, int32, (sample,).
        log_chances: the logarithm of the probability with which each was drawn, (sample,).
        places: of every class, where it is in `classes`, or the size of the sample where it is not, int32, (classes,).
    """

    classes: mx.nd.NDArray
    log_chances: mx.nd.NDArray
    places: mx.nd.NDArray

    def on(self, context: mx.Context) -> ClassSample:
        """The same sample on a device."""
        return ClassSample(*(each.as_in_context(context) for each in (self.classes, self.log_chances, self.places)))


class ClassSampler:
    """Draws samples of classes, without replacement and independent of a step's targets.

    A class is drawn with probability min(1, c count^0.75), where c makes the probabilities add up to the size of the
    sample. Frequent classes are therefore always in it, and only the rare ones' part of a softmax is estimated. The
    draw is systematic (Madow, 1949) over the others in random order, so that each has exactly its probability.

    Args:
        counts: of each class in the training text, (classes,); 0 counts as 1.
        size: of a sample, at most the number of classes.
    """

    def __init__(self, counts: np.ndarray[Any, Any], size: int) -> None:
        self._chances = inclusion_probabilities(counts, size)
        self._certain = np.flatnonzero(self._chances == 1)
        self._others = np.flatnonzero(self._chances < 1)
        self._drawn = size - len(self._certain)

    def draw(self) -> ClassSample:
        """A sample, on the CPU, drawn from ``np.random``."""
        order = np.random.permutation(self._others)
        reached = np.floor(np.cumsum(self._chances[order]) + np.random.random_sample())
        # Sums of floats may reach one class more.
        drawn = order[np.diff(reached, prepend=0) > 0][: self._drawn]
        classes = np.concatenate([self._certain, drawn])
        places = np.full(len(self._chances), len(classes))
        places[classes] = np.arange(len(classes))
        return ClassSample(
            mx.nd.array(classes, ctx=mx.cpu(), dtype="int32"),
            mx.nd.array(np.log(self._chances[classes]), ctx=mx.cpu()),
            mx.nd.array(places, ctx=mx.cpu(), dtype="int32"),
        )


def inclusion_probabilities(counts: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """How likely each class is to be in a sample of `ClassSampler`, (classes,); they add up to `size`."""
    weights = np.maximum(counts, 1.0) ** _POWER
    chances = np.zeros(len(weights))
    while True:
        certain = chances == 1
        rest = np.where(certain, 0.0, weights)
        chances = np.where(certain, 1.0, rest * (size - certain.sum()) / max(rest.sum(), 1.0))
        if chances.max() <= 1:
            return chances
        chances = np.minimum(chances, 1.0)


def backpropagate_sampled(
    model: SequenceModel,
    units: mx.nd.NDArray,
    shard: Shard,
    targets: int,
    precision: Precision,
    sample: ClassSample,
) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """Leave the decoder's gradients in its parameters, of a softmax over each target and the classes of `sample`.

    From the logit of a sampled class the logarithm of its probability of being drawn is subtracted (Jean et al., 2015,
    arXiv 1412.2007, section 3); a target's own logit is left as it is, and a target that was drawn counts once. The
    normalizer is then an unbiased estimate of that of the whole softmax; the loss, its logarithm, is biased downwards.

    Args:
        model: the network.
        units: what enters the decoder, (rows, columns, units).
        shard: with the targets.
        targets: of the whole batch, those that count; the loss and the gradients are divided by that.
        precision: of the three products.
        sample: of the classes.

    Returns:
        This device's part of the mean loss in nats a target, (1,), and the gradient of `units`.
    """
    context, labels = units.context, shard.targets.reshape((-1,))
    weight, bias = (each.data(context) for each in (model.decoder[0].weight, model.decoder[0].bias))
    sample = sample.on(context)
    if model.ties_weights:
        # The embedding's share, which comes later, is added: `backpropagate` has marked the weight before.
        autograd.mark_variables([weight], [weight.grad], "write")
    classes, width = weight.shape
    # The row in the middle makes room for each target's own logit; nothing is read of it.
    ids = mx.nd.concat(sample.classes, sample.classes[:1], labels, dim=0)
    with autograd.record():
        rows = mx.nd.Embedding(ids, weight, input_dim=classes, output_dim=width)
        biases = mx.nd.Embedding(ids, bias.reshape((-1, 1)), input_dim=classes, output_dim=1)
    logits = _Logits(units.reshape((-3, 0)), rows.detach(), biases.detach(), sample, labels, precision)
    mask = None if shard.weights is None else shard.weights.reshape((-1, 1))
    loss, gradient, row_gradients, bias_gradients = logits.backpropagate(mask, scale=1 / targets)
    autograd.backward([rows, biases], [row_gradients, bias_gradients])
    return loss, gradient.reshape(units.shape)


@dataclass(frozen=True)
class _Logits:
    """The softmax of `backpropagate_sampled`: over the sample, and in the last column each target's own.

    Attributes:
        units: (targets, units).
        rows: of the decoder's weight: the sample's, one more, and the targets', (sample + 1 + targets, units).
        biases: likewise, (sample + 1 + targets, 1).
        sample: of the classes.
        labels: the targets, (targets,).
        precision: of products.
    """

    units: mx.nd.NDArray
    rows: mx.nd.NDArray
    biases: mx.nd.NDArray
    sample: ClassSample
    labels: mx.nd.NDArray
    precision: Precision

    def backpropagate(
        self, mask: mx.nd.NDArray | None, scale: float
    ) -> tuple[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray]:
        """The loss times `scale`, and the gradients of `units`, `rows` and `biases`; `mask` has shape (targets, 1)."""
        shared, precision, context = len(self.sample.classes) + 1, self.precision, self.units.context
        cast_units, cast_rows = precision.cast(self.units), precision.cast(self.rows[:shared])
        array = self._log_probabilities(cast_units, cast_rows)
        last = mx.nd.full(len(array), shared - 1, ctx=context)
        loss = -mx.nd.pick(array, last)
        precision.exponentiate(array)
        change = mx.nd.pick(array, last, keepdims=True) - 1
        self._set(array, last, mx.nd.zeros_like(last))
        if mask is not None:
            loss, change = loss * mask.reshape((-1,)), change * mask
            mx.nd.broadcast_mul(array, mask, out=array)

        change = change * scale
        row_gradients, bias_gradients = mx.nd.zeros_like(self.rows), mx.nd.zeros_like(self.biases)
        row_gradients[shared:] = mx.nd.broadcast_mul(self.units, change)
        bias_gradients[shared:] = change
        gradient = mx.nd.broadcast_mul(self.rows[shared:], change)
        ones, out = mx.nd.ones((len(array), 1), ctx=context), bias_gradients[:shared]
        mx.nd.linalg_gemm(array, ones, out, transpose_a=True, alpha=scale, beta=0.0, out=out)
        array = precision.cast_gradient(array)
        precision.multiply(array, cast_rows, gradient, alpha=scale)
        precision.multiply(array, cast_units, row_gradients[:shared], transpose_a=True, alpha=scale, beta=0.0)
        return loss.sum() * scale, gradient, row_gradients, bias_gradients

    def _log_probabilities(self, cast_units: mx.nd.NDArray, cast_rows: mx.nd.NDArray) -> mx.nd.NDArray:
        """(targets, sample + 1)."""
        shared, context = len(cast_rows), self.units.context
        biases = self.biases[:shared].reshape((-1,))
        biases = biases - mx.nd.concat(self.sample.log_chances, mx.nd.zeros(1, ctx=context), dim=0)
        array = self.precision.logits(cast_units, cast_rows, biases, None)
        own = (self.units * self.rows[shared:]).sum(axis=1) + self.biases[shared:].reshape((-1,))
        drawn = mx.nd.take(self.sample.places, self.labels).astype("float32")
        self._set(array, drawn, mx.nd.full(len(array), _NEVER, ctx=context))
        self._set(array, mx.nd.full(len(array), shared - 1, ctx=context), own)
        return mx.nd.log_softmax(array, out=array)

    @staticmethod
    def _set(array: mx.nd.NDArray, columns: mx.nd.NDArray, values: mx.nd.NDArray) -> None:
        """Put a value into one column of each row of `array`."""
        places = mx.nd.stack(mx.nd.arange(len(array), ctx=array.context), columns)
        mx.nd._internal._scatter_set_nd(array, values, places, shape=array.shape, out=array)
