"""Loops whose training steps are compared: the notebook's, and this suite's. `benchmarks/step_time.py` has them, too.

The words are random: speed does not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np

from gluon_rnn.check_gpu.pytorch_step import CLIP, DROPOUT, RATE, VOCABULARY, Steps
from gluon_rnn.config.run import configure
from gluon_rnn.data.batches import Batch, Shard
from gluon_rnn.networks.models import build_model
from gluon_rnn.training.loop import train_epoch
from gluon_rnn.training.precisions import precision_on

#: The cell that is written as its equations, of each that has one.
FROM_SCRATCH = {"lstm": "custom_lstm", "gru": "custom_gru", "rnn_tanh": "custom_rnn"}


@dataclass(frozen=True)
class Work:
    """What a step works on: a language model of two layers with tied weights.

    Attributes:
        hidden_size: units of the embedding and of both layers.
        cell: of the layers.
        bptt: steps of a window.
        batch_size: columns of a window.
    """

    hidden_size: int
    cell: str = "lstm"
    bptt: int = 35
    batch_size: int = 20


def random_windows(work: Work) -> Any:
    """Inputs and targets, each (bptt, batch), of random words."""
    return np.random.RandomState(0).randint(0, VOCABULARY, (2, work.bptt, work.batch_size))


def notebook_steps(work: Work, context: mx.Context) -> Steps:
    """System A's loop, on GluonNLP's model."""
    import gluonnlp

    size = work.hidden_size
    model = gluonnlp.model.language_model.StandardRNN(work.cell, VOCABULARY, size, size, 2, DROPOUT, True)
    model.initialize(mx.init.Xavier(), ctx=context)
    trainer = mx.gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": RATE, "momentum": 0, "wd": 0})
    cross_entropy = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    inputs, targets = (mx.nd.array(words, dtype="float32", ctx=context) for words in random_windows(work))

    def run(steps: int) -> None:
        state = model.begin_state(batch_size=work.batch_size, func=mx.nd.zeros, ctx=context)
        total = 0.0
        for _ in range(steps):
            state = [part.detach() for part in state]
            with mx.autograd.record():
                output, state = model(inputs, state)
                loss = cross_entropy(output.reshape(-3, -1), targets.reshape(-1)).mean()
            loss.backward()
            mx.gluon.utils.clip_global_norm([p.grad() for p in model.collect_params().values()], CLIP)
            trainer.step(1)
            total = total + loss
        total.asscalar()  # type: ignore[attr-defined]
        mx.nd.waitall()

    return run


def suite_steps(work: Work, context: mx.Context, *, precision: str = "float32", unrolled: bool = True) -> Steps:
    """What a run of this suite does.

    Args:
        work: of a step.
        context: the device.
        precision: as of `RunConfig`.
        unrolled: as runs do; False: windows of this length are not unrolled on a GPU.
    """
    settings = {"cell": work.cell, "hidden_size": work.hidden_size, "dropout": DROPOUT, "bptt": work.bptt}
    config = configure({**settings, "device": context.device_type, "precision": precision})
    model = build_model(config, VOCABULARY, context)
    if not unrolled:
        model.backbone.unroll()
    trainer = mx.gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": RATE}, kvstore=None)
    shard = Shard(*(mx.nd.array(words, dtype="int32", ctx=context) for words in random_windows(work)))
    window = Batch([shard], shard.inputs.size, shard.targets.size)

    def run(steps: int) -> None:
        train_epoch(
            model,
            [window] * steps,
            trainer,
            clip=CLIP,
            carries_state=True,
            precision=precision_on(context.device_type, precision),
            synchronise_at=lambda step: False,
            on_losses=lambda losses, batches: None,
        )
        mx.nd.waitall()

    return run
