"""The parts ``graphs`` and ``fusion``: one model that reads, by turns, with and without lengths.

On an H100 a process died of a segmentation fault when a stack that loops over its steps did so. MXNet fuses pointwise
operators of a graph on a GPU, and this suite forbids that where it can crash
(`gluon_rnn.machine.environment.FUSION_VARIABLE`): ``graphs`` is as runs are, and ``fusion`` tries what is forbidden.
Both do so with and without memory that a graph keeps from call to call (``static_alloc``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import mxnet as mx
import numpy as np

from gluon_rnn.check_gpu.devices import device_of
from gluon_rnn.check_gpu.parity import VOCABULARY, compared, config_of, outcome, pair
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import Request
from gluon_rnn.data.batches import Shard
from gluon_rnn.networks.models import trained_parameters
from gluon_rnn.training.scoring import initial_state
from gluon_rnn.training.step import backpropagate

_CELLS = ("lstm", "char_loop_concat", "custom_lstm", "custom_gru")
_STEPS, _COLUMNS, _TURNS = 7, 4, 12


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    device = device_of(request)
    fuses = request.part == "fusion"
    items: dict[str, Callable[[], dict[str, Any]]] = {}
    if not fuses:
        items |= {f"{cell}, as runs do": partial(_turns, cell, device) for cell in _CELLS}
    for static_alloc, cell in product((True, False), _CELLS):
        name = f"{cell}, static_alloc {'on' if static_alloc else 'off'}"
        items[name] = partial(_turns, cell, device, fuses=fuses, static_alloc=static_alloc)
    report.measure(items)


def _turns(cell: str, device: mx.Context, *, fuses: bool = False, static_alloc: bool | None = None) -> dict[str, Any]:
    """Each turn gives the losses of the first turns, to the bit, and those of the CPU.

    Windows have two lengths, of which runs on a GPU unroll one, unless `static_alloc` is given.
    """
    words = np.random.RandomState(3).randint(0, VOCABULARY, (2, _STEPS, _COLUMNS))
    found = []
    for model in pair(config_of(cell=cell, bptt=_STEPS), device):
        model.backbone.fuses = fuses
        if static_alloc is not None:
            model.backbone.unroll()
            model.hybridize(static_alloc=static_alloc)
        context = trained_parameters(model)[0].list_ctx()[0]
        losses = []
        for turn in range(_TURNS):
            steps = _STEPS - turn // 2 % 2
            inputs, targets = (mx.nd.array(each[:steps], dtype="int32", ctx=context) for each in words)
            lengths = mx.nd.full((_COLUMNS,), steps, ctx=context) if turn % 2 else None
            shard = Shard(inputs, targets, None, lengths)
            loss, state = backpropagate(model, shard, initial_state(model, shard), targets=targets.size)
            losses.append(float(loss.asscalar()))
        found.append((outcome(model, loss, state, updates=False), losses))
    differences = compared(*(last for last, _ in found))
    steady = all(losses == losses[:4] * (_TURNS // 4) for _, losses in found)
    return {**differences, "every_turn_alike": steady, "ok": differences["ok"] and steady}
