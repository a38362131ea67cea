"""One model's perplexity by the rules of several implementations: the table of docs/comparability.md.

    .venv/bin/python benchmarks/comparability.py results/comparability/runs/RUN_ID --output results/comparability

Reads a run's directory, scores validation and test by each rule and writes rules.csv. Each rule is that of a program
whose source was read; docs/comparability.md names them. The corpus is looked for as for a sweep.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import gluon_rnn  # noqa: F401 - before MXNet: it loads what MXNet multiplies with

# isort: split
import mxnet as mx
import numpy as np

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import write_atomically
from gluon_rnn.data.batches import Batch, Shard, columns, training_windows
from gluon_rnn.data.corpora import find_corpus
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.machine.environment import process_environment
from gluon_rnn.machine.hardware import describe_machine
from gluon_rnn.networks.models import SequenceModel
from gluon_rnn.trained.run import load_run
from gluon_rnn.training.scoring import SoftmaxScorer, evaluate

Array = np.ndarray
_CPU = mx.cpu()
#: Sgugger's evaluator goes in steps of so many words and drops what fills none.
_FASTAI_STEPS = 2000


def main() -> None:
    """Write rules.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("--output", type=Path, default=Path(), help="where rules.csv goes (default: here)")
    options = parser.parse_args()
    # It must stand before MXNet is imported; only a worker's has this seed.
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = process_environment("cpu", describe_machine().cores)
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    try:
        found = [measured(options.run, split) for split in ("valid", "test")]
    except UserError as error:
        parser.error(str(error))
    write_atomically(options.output / "rules.csv", table(*found))


def measured(run: Path, split: str) -> dict[str, tuple[int, float]]:
    """How many targets of a split each rule scores, and the perplexity of the run's model by it.

    Raises:
        UserError: the run or the corpus is not there.
    """
    trained = load_run(run)
    config = trained.config
    corpus = load_corpus(find_corpus(config.dataset), lower=config.lower, min_freq=config.min_freq)
    scored = Scored(trained.model, getattr(corpus, split), corpus.vocab)
    return {rule: measure(scored) for rule, measure in RULES.items()}


def table(valid: dict[str, tuple[int, float]], test: dict[str, tuple[int, float]]) -> str:
    """``rules.csv``: a row for each rule."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["rule", "valid_targets", "valid_perplexity", "test_targets", "test_perplexity"])
    for rule in RULES:
        rows.writerow([rule, *(cell for count, value in (valid[rule], test[rule]) for cell in (count, f"{value:.4f}"))])
    return text.getvalue()


class Scored:
    """A model and a text to score, with the nats of layouts that several rules share."""

    def __init__(self, model: SequenceModel, ids: Array, vocab: object) -> None:
        self.ids = np.asarray(ids)
        self.vocab = vocab
        self.model = model

    @cache  # noqa: B019
    def trimmed(self, batch: int, *, pad_word: bool = False) -> Array:
        """Nats of the text in `batch` columns, without a tail that does not fill them, (steps, columns)."""
        steps = len(self.ids) // batch
        text = self.ids[: steps * batch].reshape(batch, steps).T
        step = 700 // batch
        windows = []
        for first in range(0, steps - 1, step):
            inputs, targets = (mx.nd.array(part[first : first + step], dtype="int32") for part in (text[:-1], text[1:]))
            windows.append(Batch([Shard(inputs, targets)], tokens=inputs.size, targets=targets.size))
        return np.concatenate(self.nats(windows, pad_word=pad_word))

    def nats(self, batches: list[Batch], *, carries_state: bool = True, pad_word: bool = False) -> list[Array]:
        """Of each target, (steps, columns) for each of `batches`.

        Args:
            pad_word: whether the softmax has one more class, whose logit is 0: an untrained row of the decoder.
        """
        softmax = SoftmaxScorer(self.model)
        weight, bias = self.model.decoder[0].weight.data(), self.model.decoder[0].bias.data()
        kept: list[Array] = []

        def keep(units: Array, labels: Array, state: object) -> tuple[Array, None]:
            nats, _ = softmax(units, labels, state)
            if pad_word:
                logits = (units * mx.nd.take(weight, labels)).sum(axis=-1) + mx.nd.take(bias, labels)
                # exp(logit + nats) is the sum of the exponentials of the other logits; the new class adds 1 to it.
                nats = nats + mx.nd.log1p(mx.nd.exp(-(logits.reshape((-1,)) + nats)))
            kept.append(nats.asnumpy().reshape(labels.shape).astype(np.float64))
            return nats, None

        evaluate(self.model, batches, carries_state=carries_state, scorer=keep)
        return kept

    @cache  # noqa: B019 - there are two of these, until the end
    def windows(self, *, carries_state: bool = True) -> Array:
        """Nats of GluonNLP's windows of 35 steps and 20 columns, incomplete ones dropped, (windows, 35, 20)."""
        batches = training_windows(self.ids, bptt=35, batch_size=20, contexts=[_CPU])
        return np.array(self.nats(batches, carries_state=carries_state))


Rule = Callable[[Scored], tuple[int, float]]


def _mean(nats: Array) -> tuple[int, float]:
    return nats.size, math.exp(nats.mean())


def every_target(scored: Scored) -> tuple[int, float]:
    """This suite's: every token but the first, in 20 columns that overlap by one token."""
    loss = evaluate(scored.model, columns(scored.ids, bptt=35, batch_size=20, contexts=[_CPU])).loss
    return loss.tokens, loss.perplexity


def by_length(scored: Scored, batch: int) -> tuple[int, float]:
    """AWD-LSTM's: divided by the tokens of a column, where the first token is not a target."""
    nats = scored.trimmed(batch)
    return nats.size, math.exp(nats.sum() / (nats.size + batch))


def fastai(scored: Scored) -> tuple[int, float]:
    """One column in steps of 2,000 words, the rest dropped."""
    nats = scored.trimmed(1)
    return _mean(nats[: len(scored.ids) // _FASTAI_STEPS * _FASTAI_STEPS])


def mean_of_exponentials(scored: Scored) -> tuple[int, float]:
    """MLBench's: the mean of each window's perplexity."""
    nats = scored.windows()
    return nats.size, float(np.exp(nats.mean(axis=(1, 2))).mean())


def without(token: str) -> Rule:
    """The mean over the targets that are not `token`, which is read nevertheless."""

    def measure(scored: Scored) -> tuple[int, float]:
        nats = scored.trimmed(1).ravel()
        return _mean(nats[scored.ids[1:] != scored.vocab[token]])  # type: ignore[index]

    return measure


RULES: dict[str, Rule] = {
    "this suite": every_target,
    "one column": lambda scored: _mean(scored.trimmed(1)),
    "10 columns, tail dropped": lambda scored: _mean(scored.trimmed(10)),
    "10 columns, tail dropped, divided by the length": lambda scored: by_length(scored, 10),
    "20 columns, windows of 35, incomplete ones dropped": lambda scored: _mean(scored.windows()),
    "one column in steps of 2,000, the rest dropped": fastai,
    "one column, with an additional pad word": lambda scored: _mean(scored.trimmed(1, pad_word=True)),
    "mean of the windows' perplexities": mean_of_exponentials,
    "state reset at each window of 35": lambda scored: _mean(scored.windows(carries_state=False)),
    "<eos> read but not scored": without("<eos>"),
    "<unk> read but not scored": without("<unk>"),
}


if __name__ == "__main__":
    main()
