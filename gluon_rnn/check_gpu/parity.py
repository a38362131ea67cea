"""The part ``parity``: two training steps on the device and on the CPU, from equal parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import mxnet as mx
import numpy as np

from gluon_rnn.check_gpu.devices import device_of, reference
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import Request
from gluon_rnn.config.run import CUSTOM_CELLS, FUSED_CELLS, RunConfig, configure
from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.models import SequenceModel, build_model, trained_parameters
from gluon_rnn.training.decoder import LOGITS_IN_A_BLOCK
from gluon_rnn.training.scoring import initial_state
from gluon_rnn.training.step import backpropagate, clip_and_update

#: Largest difference that counts as rounding, relative to the largest number of an array: eight times the 1.3e-6 that
#: an H100 and a CPU differed by, with these sizes.
TOLERANCE = 1e-5
VOCABULARY, CLASSES, UNITS = 1000, 5, 64
_STEPS, _COLUMNS, _RATE, _CLIP = 12, 8, 1.0, 0.25


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    device = device_of(request)
    items: dict[str, Callable[[], dict[str, Any]]] = {}
    # Each cell once before the variants: what is there when the time ends says most.
    for tied in (True, False):
        for cell in FUSED_CELLS + CUSTOM_CELLS:
            items[f"{cell}, {'tied' if tied else 'untied'}"] = partial(_language_model, cell, tied, device)
    for objective in ("classification", "tagging"):
        for cell in (*FUSED_CELLS, "custom_lstm", "custom_gru"):
            items[f"{cell}, {objective} with lengths"] = partial(_labeller, cell, objective, device)
    for cell in CUSTOM_CELLS:
        items[f"{cell}, looping"] = partial(_language_model, cell, True, device, unrolled=False)
    for cell in FUSED_CELLS:
        items[f"{cell}, a call for each layer"] = partial(_language_model, cell, True, device, together=False)
    items["lstm, AWD's penalties"] = partial(_language_model, "lstm", True, device, alpha=2.0, beta=1.0)
    items["lstm, in blocks of logits"] = partial(
        _language_model, "lstm", True, device, logits_in_a_block=40 * VOCABULARY
    )
    report.measure(items)


def config_of(**settings: Any) -> RunConfig:
    """A small model without dropout."""
    sizes = {"hidden_size": UNITS, "embed_size": UNITS, "dropout": 0.0, "bptt": _STEPS}
    return configure({**sizes, **settings})


def pair(config: RunConfig, device: mx.Context, classes: int | None = None) -> tuple[SequenceModel, SequenceModel]:
    """The model of `config` on the reference and on `device`, with equal parameters."""
    models = [build_model(config, VOCABULARY, context, classes=classes) for context in (reference(), device)]
    for ours, theirs in zip(*(trained_parameters(model) for model in models), strict=True):
        theirs.set_data(ours.data())
    return models[0], models[1]


def _language_model(
    cell: str,
    tied: bool,
    device: mx.Context,
    *,
    logits_in_a_block: int = LOGITS_IN_A_BLOCK,
    unrolled: bool = True,
    together: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Two windows, of which the second goes on from the first; of the second what it leaves, and one clipped update.

    Args:
        cell: of both layers.
        tied: whether the decoder's weights are the embedding's.
        device: to compare with the reference.
        logits_in_a_block: see `backpropagate`.
        unrolled: as runs do on a GPU; False: the graph loops.
        together: as runs do on a GPU; False: each fused layer is a call of its own, as where there is dropout between.
        settings: of the configuration.
    """
    config = config_of(cell=cell, tie_weights=tied, **settings)
    words = np.random.RandomState(1).randint(0, VOCABULARY, (2, 2, _STEPS, _COLUMNS))
    found = []
    for model in pair(config, device):
        context = trained_parameters(model)[0].list_ctx()[0]
        if not unrolled:
            model.backbone.unroll()
        if not together:
            model.encoder.pack()
        shards = [Shard(*(mx.nd.array(each, dtype="int32", ctx=context) for each in window)) for window in words]
        state = initial_state(model, shards[0])
        for shard in shards:
            loss, state = backpropagate(
                model, shard, state, targets=shard.targets.size, logits_in_a_block=logits_in_a_block
            )
        found.append(outcome(model, loss, state))
    return compared(*found)


def _labeller(cell: str, objective: str, device: mx.Context) -> dict[str, Any]:
    """A batch of sequences of different lengths, read in both directions; other ids in the padding change no bit."""
    model = {"classification": "rnn_classifier", "tagging": "rnn_tagger"}[objective]
    config = config_of(cell=cell, objective=objective, model=model, bidirectional=True)
    models = pair(config, device, CLASSES)
    found = [outcome(each, *_read_labelled(each, objective, padding=0)) for each in models]
    padded_anew = outcome(models[1], *_read_labelled(models[1], objective, padding=7), updates=False)
    again = outcome(models[1], *_read_labelled(models[1], objective, padding=0), updates=False)
    same = all(np.array_equal(a, b) for a, b in zip(_flat(padded_anew), _flat(again), strict=True))
    differences = compared(*found)
    return {**differences, "padding_changes_nothing": same, "ok": differences["ok"] and same}


def _read_labelled(model: SequenceModel, objective: str, *, padding: int) -> tuple[mx.nd.NDArray, Any]:
    draw = np.random.RandomState(2)
    context = trained_parameters(model)[0].list_ctx()[0]
    lengths = draw.randint(1, _STEPS, _COLUMNS)
    lengths[0] = _STEPS
    inside = np.arange(_STEPS)[:, None] < lengths
    inputs = np.where(inside, draw.randint(0, VOCABULARY, inside.shape), padding)
    rows = _STEPS if objective == "tagging" else 1
    targets = draw.randint(0, CLASSES, (rows, _COLUMNS))
    weights = inside.astype("float32") if objective == "tagging" else None
    shard = Shard(
        mx.nd.array(inputs, dtype="int32", ctx=context),
        mx.nd.array(targets, dtype="int32", ctx=context),
        None if weights is None else mx.nd.array(weights, ctx=context),
        mx.nd.array(lengths, dtype="float32", ctx=context),
    )
    count = int(inside.sum()) if objective == "tagging" else _COLUMNS
    return backpropagate(model, shard, initial_state(model, shard), targets=count)


def outcome(model: SequenceModel, loss: mx.nd.NDArray, state: Any, *, updates: bool = True) -> dict[str, Any]:
    """What a step has left, on the host: before the clip, which some devices apply to the gradients in place."""
    parameters = trained_parameters(model)
    gradients = {name: each.grad().asnumpy() for name, each in _named(model)}
    if updates:
        trainer = mx.gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": _RATE}, kvstore=None)
        clip_and_update(trainer, parameters, _CLIP)
    return {
        "loss": float(loss.asscalar()),
        "states": {str(n): each.asnumpy() for n, each in enumerate(each for layer in state for each in layer)},
        "gradients": gradients,
        "parameters": {name: each.data().asnumpy() for name, each in _named(model)},
    }


def _named(model: SequenceModel) -> list[tuple[str, Any]]:
    """Trained parameters by names that two models share."""
    return [(name, each) for name, each in model._collect_params_with_prefix().items() if each.grad_req != "null"]


def _flat(outcome: dict[str, Any]) -> list[Any]:
    return [outcome["loss"], *outcome["states"].values(), *outcome["gradients"].values()]


def compared(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The largest relative difference of each kind of array, where it is, and whether all are within `TOLERANCE`."""
    worst: dict[str, float] = {}
    places: dict[str, str] = {}
    for kind in ("states", "gradients", "parameters"):
        differences = {
            name: float(np.abs(array - found[kind][name]).max() / max(float(np.abs(array).max()), 1e-30))
            for name, array in expected[kind].items()
        }
        places[kind] = max(differences, key=differences.__getitem__)
        worst[kind] = differences[places[kind]]
    loss = abs(expected["loss"] - found["loss"]) / abs(expected["loss"])
    # A difference that is not a number is not within the tolerance.
    ok = all(each <= TOLERANCE for each in [loss, *worst.values()])
    return {"loss": found["loss"], "reference_loss": expected["loss"], **worst, "where": places, "ok": ok}
