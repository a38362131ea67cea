"""The recipe against a plain loop on GluonNLP's own model, and its bits."""

from __future__ import annotations

import math
from pathlib import Path

import gluonnlp
import mxnet as mx
import numpy as np
import pytest
from gluonnlp.data.batchify import CorpusBPTTBatchify
from mxnet import autograd, gluon

from gluon_rnn.config import RunConfig
from gluon_rnn.corpora import CorpusFiles, find_corpus
from gluon_rnn.corpora.loading import Corpus, load_corpus
from gluon_rnn.metrics import Progress
from gluon_rnn.models import build_model
from gluon_rnn.training import (
    fit,
)

CPU = mx.cpu()


@pytest.fixture(scope="session")
def synthetic() -> Corpus:
    return load_corpus(find_corpus("synthetic"))


@pytest.fixture(scope="session")
def small(small_corpus: CorpusFiles) -> Corpus:
    return load_corpus(small_corpus)


def plain_losses(
    corpus: Corpus, parameters: Path, cell: str, *, tie: bool, rate: float, steps: int, hidden: int
) -> list[float]:
    """The notebook's loop as one would write it from its description, with nothing of this suite in it."""
    model = gluonnlp.model.train.StandardRNN(cell, len(corpus.vocab), hidden, hidden, 2, 0.0, tie)
    model.load_parameters(str(parameters))
    trainer = gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": rate, "momentum": 0, "wd": 0})
    cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()
    windows = CorpusBPTTBatchify(corpus.vocab, 35, 20, last_batch="discard")(corpus.train)
    state = model.begin_state(batch_size=20, func=mx.nd.zeros)
    losses = []
    for inputs, targets in list(windows)[:steps]:
        state = [part.detach() for part in state]
        with autograd.record():
            output, state, _, _ = model(inputs, state)
            loss = cross_entropy(output.reshape(-3, -1), targets.reshape(-1)).mean()
        loss.backward()
        gluon.utils.clip_global_norm([p.grad() for p in model.collect_params().values()], 0.25)
        trainer.step(1)
        losses.append(float(loss.asscalar()))
    return losses


@pytest.mark.parametrize(
    ("cell", "tie", "rate", "steps", "tolerance"),
    [
        *((cell, tie, 1.0, 50, 1e-5) for cell in ("lstm", "gru", "rnn_tanh") for tie in (True, False)),
        ("rnn_relu", True, 1.0, 50, 1e-3),
        ("rnn_relu", False, 1.0, 50, 1e-3),
        ("lstm", True, 20.0, 10, 1e-4),
    ],
)
def test_losses_equal_the_plain_loop_on_gluonnlps_model(
    synthetic: Corpus, tmp_path: Path, cell: str, tie: bool, rate: float, steps: int, tolerance: float
) -> None:
    hidden = 50
    config = RunConfig(
        cell=cell,
        hidden_size=hidden,
        tie_weights=tie,
        dropout=0,
        learning_rate=rate,
        max_steps=steps,
        warmup_steps=0,
        log_interval=7,
    )
    initial = build_model(config, len(synthetic.vocab), CPU)
    initial.save_parameters(str(tmp_path / "initial"))
    expected = plain_losses(synthetic, tmp_path / "initial", cell, tie=tie, rate=rate, steps=steps, hidden=hidden)
    found: list[float] = []
    fit(
        config.model_copy(update={"log_interval": 1}),
        synthetic,
        context=CPU,
        progress=Progress(),
        on_interval=lambda interval: found.append(interval.loss),
    )
    assert len(found) == steps
    # Starts near ln(vocabulary) and learns: the comparison is of real losses.
    assert expected[0] == pytest.approx(math.log(len(synthetic.vocab)), rel=0.02)
    assert expected[-1] < expected[0] - (0.05 if rate == 1 else 0.3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
