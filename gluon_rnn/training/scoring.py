"""Scoring: loss, accuracy and predictions of a model on batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np

from gluon_rnn.data.batches import Batch, Shard
from gluon_rnn.networks.layers import States
from gluon_rnn.networks.models import SequenceModel
from gluon_rnn.runs.progress import Confusion, LossTotal, Prediction
from gluon_rnn.training.objectives import Objective
from gluon_rnn.training.step import LOGITS_IN_A_BLOCK, log_probabilities

#: Of a confusion table, whose cells are their square.
MOST_LABELS = 100


def initial_state(model: SequenceModel, shard: Shard) -> States:
    """The state before the first step of `shard`: zeros, on its device."""
    return model.begin_state(shard.inputs.shape[1], shard.inputs.context)


@dataclass(frozen=True)
class Score:
    """What a model came to on batches.

    Attributes:
        loss: over all targets that count.
        labels: those targets, where predictions were asked for.
        predictions: the most probable class for each of them.
    """

    loss: LossTotal
    labels: np.ndarray[Any, Any] | None = None
    predictions: np.ndarray[Any, Any] | None = None

    @property
    def accuracy(self) -> float | None:
        """The fraction of targets that were predicted."""
        return None if self.labels is None else float(np.mean(self.labels == self.predictions))


def evaluate(
    model: SequenceModel,
    batches: Sequence[Batch],
    *,
    carries_state: bool = True,
    with_predictions: bool = False,
    logits_in_a_block: int = LOGITS_IN_A_BLOCK,
) -> Score:
    """Score every target of `batches` once; only the end waits for the device.

    Args:
        batches: each on one device.
        carries_state: as in `train_epoch`.
        with_predictions: whether to keep the most probable class of each target, too.
        logits_in_a_block: how many logits exist at a time, but always those of a token.
    """
    nats, predictions = _score_targets(
        model,
        batches,
        carries_state=carries_state,
        with_predictions=with_predictions,
        logits_in_a_block=logits_in_a_block,
    )
    # A sum of 200,000 losses in float32 would lose digits.
    total = LossTotal(float(nats.asnumpy().sum(dtype=np.float64)), sum(batch.targets for batch in batches))
    if predictions is None:
        return Score(total)
    counted = np.concatenate([_target_mask(shard).ravel() for batch in batches for shard in batch.shards])
    labels = np.concatenate([shard.targets.asnumpy().ravel() for batch in batches for shard in batch.shards])
    found = predictions.asnumpy().astype(np.int32)
    return Score(total, labels[counted], found[counted])


def _score_targets(
    model: SequenceModel,
    batches: Sequence[Batch],
    *,
    carries_state: bool,
    with_predictions: bool,
    logits_in_a_block: int,
) -> tuple[mx.nd.NDArray, mx.nd.NDArray | None]:
    """The weighted loss of each target of all `batches`, in nats, and, if wanted, the predicted class of each.

    All blocks are decoded into one array. With an array for each, Python, which runs ahead of the device, had MXNet
    1.9.1 hold those of a whole batch: 600 MB more at 5,600 targets and 33,278 classes.
    """
    weight, bias = model.decoder[0].weight, model.decoder[0].bias
    context = batches[0].shards[0].inputs.context
    block_size = max(1, logits_in_a_block // weight.shape[0])
    largest = max(batch.shards[0].targets.size for batch in batches)
    decoded = mx.nd.empty((min(block_size, largest), weight.shape[0]), ctx=context)
    state: States = []
    nats: list[mx.nd.NDArray] = []
    predictions: list[mx.nd.NDArray] = []
    for batch in batches:
        (shard,) = batch.shards
        if not state or not carries_state:
            state = initial_state(model, shard)
        outputs, _, state = model.read(shard, state)
        flat, targets = outputs.reshape((-3, 0)), shard.targets.reshape((-1,))  # (targets, units), (targets,)
        for first in range(0, len(flat), block_size):
            units, labels = (array[first : first + block_size] for array in (flat, targets))
            scores = log_probabilities(units, weight.data(context), bias.data(context), out=decoded[: len(units)])
            loss = -mx.nd.pick(scores, labels)
            if shard.weights is not None:
                loss = loss * shard.weights.reshape((-1,))[first : first + block_size]
            nats.append(loss)
            if with_predictions:
                predictions.append(scores.argmax(axis=1))
    return mx.nd.concat(*nats, dim=0), mx.nd.concat(*predictions, dim=0) if with_predictions else None


def _target_mask(shard: Shard) -> np.ndarray[Any, Any]:
    """Which targets count, as `Shard.targets` is laid out."""
    if shard.weights is None:
        return np.ones(shard.targets.shape, dtype=bool)
    weights: np.ndarray[Any, Any] = shard.weights.asnumpy()
    return weights > 0


def unigram_loss(training: Sequence[Batch], scored: Sequence[Batch], classes: int) -> float:
    """Nats a target of `scored` under the unigram model of the targets of `training`.

    That is the model that knows how frequent each of the `classes` is and reads nothing. It is estimated by maximum
    likelihood with one added to every count: a target has the probability (its count in `training` + 1) / (their number
    + `classes`). Padding is not counted.
    """
    train_counts, scored_counts = (_target_counts(batches, classes) for batches in (training, scored))
    return float(scored_counts @ -np.log((train_counts + 1) / (train_counts.sum() + classes)) / scored_counts.sum())


def _target_counts(batches: Sequence[Batch], classes: int) -> np.ndarray[Any, Any]:
    """How often each of the `classes` is a target that counts, (classes,)."""
    shards = [shard for batch in batches for shard in batch.shards]
    targets = [shard.targets.asnumpy()[_target_mask(shard)] for shard in shards]
    return np.bincount(np.concatenate(targets), minlength=classes)


def predict(model: SequenceModel, objective: Objective, *, joined_by: str) -> tuple[Prediction, ...]:
    """What `model` says of an objective's examples, beside the truth.

    Args:
        joined_by: what stands between two tokens: a blank between words, nothing between characters.
    """
    _, predictions = _score_targets(
        model,
        objective.examples,
        carries_state=objective.carries_state,
        with_predictions=True,
        logits_in_a_block=LOGITS_IN_A_BLOCK,
    )
    assert predictions is not None
    sizes = [batch.shards[0].targets.size for batch in objective.examples]
    parts: list[list[tuple[list[str], list[str], list[str]]]] = []
    for batch, found in zip(
        objective.examples, np.split(predictions.asnumpy().astype(int), np.cumsum(sizes)[:-1]), strict=True
    ):
        (shard,) = batch.shards
        found = found.reshape(shard.targets.shape)
        inputs, targets, counted = shard.inputs.asnumpy(), shard.targets.asnumpy(), _target_mask(shard)
        given = np.ones(inputs.shape, dtype=bool)
        if shard.lengths is not None:
            given = np.arange(len(inputs))[:, None] < shard.lengths.asnumpy()
        elif shard.weights is not None:
            given = counted
        parts.append(
            [
                (
                    [objective.tokens[item] for item in inputs[given[:, column], column]],
                    [objective.classes[item] for item in targets[counted[:, column], column]],
                    [objective.classes[item] for item in found[counted[:, column], column]],
                )
                for column in range(inputs.shape[1])
            ]
        )
    # A text's batches go on from one another; other examples are all in one.
    between = " " if objective.labelled else joined_by
    return tuple(
        Prediction(
            text=joined_by.join(token for text, _, _ in column for token in text),
            truth=between.join(token for _, truth, _ in column for token in truth),
            predicted=between.join(token for _, _, predicted in column for token in predicted),
        )
        for column in zip(*parts, strict=True)
    )


def confusion(score: Score, labels: Sequence[str]) -> Confusion | None:
    """How often which label was taken for which; None where there are more than `MOST_LABELS`."""
    if score.labels is None or score.predictions is None or len(labels) > MOST_LABELS:
        return None
    pairs = np.bincount(score.labels.astype(int) * len(labels) + score.predictions, minlength=len(labels) ** 2)
    return Confusion(tuple(labels), tuple(map(tuple, pairs.reshape(len(labels), -1).tolist())))
