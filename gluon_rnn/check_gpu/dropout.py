"""The part ``dropout``: how much each kind of dropout drops on the device, and whether the seed decides it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd

from gluon_rnn.check_gpu.devices import device_of
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import Request
from gluon_rnn.config.run import configure
from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.models import build_model, trained_parameters
from gluon_rnn.networks.regularization import drop
from gluon_rnn.training.scoring import initial_state
from gluon_rnn.training.step import backpropagate, clip_and_update

#: How far from its rate a share of dropped units may lie, in standard deviations of a fair draw.
_DEVIATIONS = 6
_SHAPE = (35, 20, 400)
_VOCABULARY = 1000
_AWD = {"dropout_input": 0.4, "dropout_hidden": 0.3, "dropout_embedding": 0.1, "weight_drop": 0.5}


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    device = device_of(request)
    items: dict[str, Callable[[], dict[str, Any]]] = {
        f"rate {rate}{', one mask for all steps' if axes else ''}": partial(_masks, rate, axes, device)
        for axes in ((), (0,))
        for rate in (0.2, 0.65)
    }
    for cell in ("lstm", "gru", "custom_lstm"):
        items[f"three steps of {cell}"] = partial(_steps, device, {"cell": cell, "dropout": 0.3})
    items["three steps of AWD's dropouts"] = partial(_steps, device, {"cell": "lstm", "dropout": 0.3, **_AWD})
    report.measure(items)


def _masks(rate: float, axes: tuple[int, ...], device: mx.Context) -> dict[str, Any]:
    ones = mx.nd.ones(_SHAPE, ctx=device)

    def draw(seed: int) -> np.ndarray[Any, Any]:
        mx.random.seed(seed)
        with autograd.train_mode():
            dropped: np.ndarray[Any, Any] = drop(mx.nd, ones, rate, axes).asnumpy()
        return dropped

    first, again, other = draw(1), draw(1), draw(2)
    same = np.array_equal(first, again) and not np.array_equal(first, other)
    shared = not axes or bool((first == first[:1]).all())
    share = float((first == 0).mean())
    draws = first.size // (_SHAPE[0] if axes else 1)
    fair = abs(share - rate) <= _DEVIATIONS * math.sqrt(rate * (1 - rate) / draws)
    scaled = bool(np.allclose(first[first != 0], 1 / (1 - rate), rtol=1e-6))
    return {
        "wanted": rate,
        "dropped": share,
        "mean": float(first.mean()),
        "same_bits": same,
        "ok": bool(same and shared and fair and scaled),
    }


def _steps(device: mx.Context, settings: dict[str, Any]) -> dict[str, Any]:
    """Two models from one seed: after three steps with dropout they have the same losses and parameters, to the bit."""
    config = configure({"hidden_size": 64, "embed_size": 64, **settings})
    words = np.random.RandomState(1).randint(0, _VOCABULARY, (3, 2, 20, 8))
    found = []
    for _ in range(2):
        model = build_model(config, _VOCABULARY, device)
        parameters = trained_parameters(model)
        trainer = mx.gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 1.0}, kvstore=None)
        losses = []
        for window in words:
            shard = Shard(*(mx.nd.array(each, dtype="int32", ctx=device) for each in window))
            loss, _ = backpropagate(model, shard, initial_state(model, shard), targets=shard.targets.size)
            clip_and_update(trainer, parameters, 0.25)
            losses.append(float(loss.asscalar()))
        found.append((losses, [each.data().asnumpy() for each in parameters]))
    (first, before), (second, after) = found
    same = first == second and all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    return {"losses": first, "same_bits": same, "ok": same}
