"""Token ids to windows: what a training step and an evaluation step see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np
from gluonnlp.data.batchify import CorpusBPTTBatchify


class _Encoded:
    """Stands in for a ``Vocab`` where the text is ids already."""

    def __getitem__(self, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return ids


#: A training window: (inputs, targets) for each device, each of shape (bptt, the device's share of the batch).
Window = Sequence[tuple[mx.nd.NDArray, mx.nd.NDArray]]


def training_windows(
    ids: np.ndarray[Any, Any] | Sequence[int], *, bptt: int, batch_size: int, contexts: Sequence[mx.Context]
) -> list[Window]:
    """GluonNLP's ``CorpusBPTTBatchify(vocab, bptt, batch_size, last_batch='discard')``, moved to the devices once.

    Args:
        ids: the flat text.
        contexts: the devices; each gets as many neighbouring columns of the batch.

    Returns:
        (inputs, targets) a window and device, int32; the state runs on from window to window. The tokens that fill no
        whole window are left out, as in GluonNLP. All are views of what lies on the device: no copy is made in the
        training loop.

    Raises:
        ValueError: the text does not fill one window, or the batch cannot be shared equally.
    """
    if batch_size % len(contexts):
        raise ValueError(f"{batch_size} sequences cannot be shared equally by {len(contexts)} devices")
    windows = CorpusBPTTBatchify(_Encoded(), bptt, batch_size, last_batch="discard")(np.asarray(ids))
    if not len(windows):
        raise ValueError(f"{len(ids)} tokens do not fill one window of {bptt} steps x {batch_size} sequences")
    # (windows, 2, bptt, batch)
    pairs = np.array([(inputs.asnumpy(), targets.asnumpy()) for inputs, targets in windows], dtype=np.int32)
    shares = np.split(pairs, len(contexts), axis=-1)
    resident = [mx.nd.array(share, ctx=context, dtype="int32") for share, context in zip(shares, contexts, strict=True)]
    return [[(share[0], share[1]) for share in window] for window in zip(*resident, strict=True)]


@dataclass(frozen=True)
class EvaluationColumns:
    """A split laid out in columns such that every token but the first is a target exactly once.

    The N - 1 targets are dealt to `batch_size` columns of equal length, in order; neighbouring columns overlap by the
    one token that is the last target of one and the first input of the next. What does not fill the last column, or the
    last window, has weight 0. So what is scored depends neither on the batch size nor on the window's length
    (``CorpusBPTTBatchify`` would drop a tail that depends on both, or pad it into the loss).

    Attributes:
        windows: (inputs, targets, weights) a window, each of shape (bptt, batch_size); weights are float32, 0 or 1.
        targets: how many targets have weight 1: N - 1.
    """

    windows: list[tuple[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray]]
    targets: int


def evaluation_columns(
    ids: np.ndarray[Any, Any] | Sequence[int], *, bptt: int, batch_size: int, context: mx.Context
) -> EvaluationColumns:
    """Lay out a split of N `ids` for evaluation.

    Raises:
        ValueError: there are fewer than two tokens, so that nothing could be scored.
    """
    ids = np.asarray(ids, dtype=np.int32)
    targets = len(ids) - 1
    if targets < 1:
        raise ValueError("an evaluation split needs at least two tokens")
    per_column = math.ceil(targets / batch_size)
    bptt = min(bptt, per_column)
    steps = math.ceil(per_column / bptt) * bptt
    # (batch, steps): where in `ids` each input stands; its target is the next.
    step = np.arange(steps)
    place = np.arange(batch_size)[:, None] * per_column + step
    counts = (step < per_column) & (place < targets)
    place = np.where(counts, place, 0)

    def windows(table: np.ndarray[Any, Any], dtype: str) -> mx.nd.NDArray:
        # (batch, windows x bptt) -> (windows, bptt, batch)
        cut = table.T.reshape(steps // bptt, bptt, batch_size)
        return mx.nd.array(np.ascontiguousarray(cut), ctx=context, dtype=dtype)

    inputs = windows(np.where(counts, ids[place], 0), "int32")
    labels = windows(np.where(counts, ids[place + 1], 0), "int32")
    weights = windows(counts, "float32")
    return EvaluationColumns(list(zip(inputs, labels, weights, strict=True)), targets)
