"""Sampled softmax: in training, the loss over some of the classes stands for the loss over all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd

from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.models import SequenceModel
from gluon_rnn.training.decoder import Decoder

#: How the chance of being drawn grows with a class's count.
_POWER = 0.75
#: A sample has a multiple of so many classes, as far as there are: MXNet's pool of a GPU's memory keeps a block for
#: each size that it has seen.
_MULTIPLE = 256


@dataclass(frozen=True)
class ClassSample:
    """A sample of classes that represents all classes in one step.

    Attributes:
        classes: their ids in rising order, int32, (sample,).
        log_chances: the logarithm of the probability with which each was in the sample, (sample,).
        places: of every class, where it is in `classes`, int32, (classes,); 0 for those that are not.
    """

    classes: mx.nd.NDArray
    log_chances: mx.nd.NDArray
    places: mx.nd.NDArray

    def on(self, context: mx.Context) -> ClassSample:
        """The same sample on a device."""
        return ClassSample(*(each.as_in_context(context) for each in (self.classes, self.log_chances, self.places)))


class ClassSampler:
    """Draws samples of classes, without replacement: a step's own targets, and others.

    A class that is not among the targets is drawn with probability min(1, c count^0.75), where c makes the
    probabilities add up to the number of classes that are drawn. So frequent classes are always in a sample, and so are
    words that the text around a target repeats; only the other rare ones' part of a softmax is estimated. The draw is
    systematic (Madow, 1949) over the classes in random order, so that each has exactly its probability.

    Args:
        counts: of each class in the training text, (classes,); 0 counts as 1.
        size: how many are drawn beside the targets, at least; see `_MULTIPLE`.
    """

    def __init__(self, counts: np.ndarray[Any, Any], size: int) -> None:
        self._weights = np.maximum(counts, 1.0) ** _POWER
        self._size = size

    def draw(self, targets: np.ndarray[Any, Any]) -> ClassSample:
        """A sample for these targets, of any shape; on the CPU, drawn from ``np.random``."""
        certain = np.zeros(len(self._weights), dtype=bool)
        certain[targets.ravel()] = True
        wanted = -(-(certain.sum() + self._size) // _MULTIPLE) * _MULTIPLE
        chances = inclusion_probabilities(self._weights, certain, min(wanted, len(certain)))
        others = np.random.permutation(np.flatnonzero(chances < 1))
        reached = np.floor(np.cumsum(chances[others]) + np.random.random_sample())
        chosen = chances == 1
        chosen[others[np.diff(reached, prepend=0) > 0]] = True
        classes = np.flatnonzero(chosen)
        places = np.zeros(len(chances))
        places[classes] = np.arange(len(classes))
        return ClassSample(
            mx.nd.array(classes, ctx=mx.cpu(), dtype="int32"),
            mx.nd.array(np.log(chances[classes]), ctx=mx.cpu()),
            mx.nd.array(places, ctx=mx.cpu(), dtype="int32"),
        )


def inclusion_probabilities(
    weights: np.ndarray[Any, Any], certain: np.ndarray[Any, Any], size: int
) -> np.ndarray[Any, Any]:
    """The probability of each class to be in a sample of `size`, (classes,): proportional to its weight, at most 1.

    Args:
        weights: of the classes, (classes,), above 0.
        certain: whether a class is in every sample, (classes,), fewer than `size`.
        size: what the probabilities add up to.
    """
    chances = certain.astype(float)
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
    sample: ClassSample,
    decode: Callable[[Decoder, mx.nd.NDArray, Shard], tuple[mx.nd.NDArray, mx.nd.NDArray]],
) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """As `backpropagate_softmax`, over the classes of `sample` alone: the gradients are left in `model`'s decoder.

    From a class's logit the logarithm of its probability of being in the sample is subtracted (Jean et al., 2015, arXiv
    1412.2007, section 3). The normalizer is then an unbiased estimate of that of the whole softmax; the loss, its
    logarithm, is biased downwards.

    Args:
        model: the network.
        units: what enters the decoder, (rows, columns, units).
        shard: with the targets, all of which are in the sample.
        sample: on the device of `units`.
        decode: `backpropagate_softmax`, which is given the sample's rows of the decoder.

    Returns:
        The loss, (1,), and the gradient of `units`.
    """
    context = units.context
    weight, bias = (each.data(context) for each in (model.decoder[0].weight, model.decoder[0].bias))
    if model.ties_weights:
        # The embedding's share, which comes later, is added: `backpropagate` has marked the weight before.
        autograd.mark_variables([weight], [weight.grad], "write")
    classes, width = weight.shape
    with autograd.record():
        rows = mx.nd.Embedding(sample.classes, weight, input_dim=classes, output_dim=width)
        biases = mx.nd.Embedding(sample.classes, bias.reshape((-1, 1)), input_dim=classes, output_dim=1)
    shifted = biases.detach().reshape((-1,)) - sample.log_chances
    decoder = Decoder(rows.detach(), shifted, mx.nd.zeros_like(rows), mx.nd.zeros_like(biases))
    placed = shard._replace(targets=mx.nd.take(sample.places, shard.targets))
    found = decode(decoder, units, placed)
    autograd.backward([rows, biases], [decoder.weight_gradient, decoder.bias_gradient])
    return found
