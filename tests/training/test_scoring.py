"""Evaluation against plain loops, in blocks, and by another scorer."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import mxnet as mx
import numpy as np
import pytest

from gluon_rnn.data.batches import columns
from gluon_rnn.data.corpora import CorpusFiles
from gluon_rnn.data.corpora.encoded import Corpus
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.networks.models import build_model
from gluon_rnn.training.scoring import Score, SoftmaxScorer, evaluate
from tests import device as on
from tests.conftest import small_config

pytestmark = pytest.mark.numerical


@pytest.fixture(scope="session")
def small(small_corpus: CorpusFiles) -> Corpus:
    return load_corpus(small_corpus)


@pytest.mark.parametrize("eval_bptt", [1, 7, 35, 1000])
def test_evaluation_does_not_depend_on_the_window(small: Corpus, eval_bptt: int) -> None:
    model = build_model(small_config(dropout=0.5), len(small.vocab), on.DEVICE)
    ids = small.valid
    reference = evaluate(model, columns(ids, bptt=5, batch_size=1, contexts=[on.DEVICE])).loss
    found = evaluate(model, columns(ids, bptt=eval_bptt, batch_size=1, contexts=[on.DEVICE])).loss
    assert found.tokens == reference.tokens == len(ids) - 1
    assert found.nats == pytest.approx(reference.nats, rel=1e-6)


def test_evaluation_equals_scoring_token_by_token(small: Corpus) -> None:
    model = build_model(small_config(dropout=0.5, hidden_size=12), len(small.vocab), on.DEVICE)
    for parameter in model.collect_params().values():
        parameter.set_data(mx.nd.random.uniform(-1, 1, parameter.shape))
    ids = small.valid
    batch_size = 3
    per_column = math.ceil((len(ids) - 1) / batch_size)
    nats = 0.0
    for column in range(batch_size):
        state = model.begin_state(1, on.DEVICE)
        for place in range(column * per_column, min((column + 1) * per_column, len(ids) - 1)):
            logits, state = model(on.array([[ids[place]]], dtype="int32"), state)
            row = logits.asnumpy()[0, 0].astype("float64")
            nats += float(np.log(np.exp(row - row.max()).sum()) - (row[ids[place + 1]] - row.max()))
    total = evaluate(model, columns(ids, bptt=4, batch_size=batch_size, contexts=[on.DEVICE])).loss
    assert total.nats == pytest.approx(nats, rel=1e-5)


def test_evaluation_in_blocks_finds_the_same(small: Corpus) -> None:
    model = build_model(small_config(hidden_size=12), len(small.vocab), on.DEVICE)
    for parameter in model.collect_params().values():
        parameter.set_data(mx.nd.random.uniform(-1, 1, parameter.shape))
    batches = columns(small.valid, bptt=7, batch_size=3, contexts=[on.DEVICE])
    assert any(shard.weights is not None for batch in batches for shard in batch.shards), "a padded tail is meant"

    def score(targets: int) -> Score:
        scorer = SoftmaxScorer(model, predicts=True, logits_in_a_block=targets * len(small.vocab))
        return evaluate(model, batches, scorer=scorer)

    whole = score(21)
    assert score(10**6).loss == whole.loss
    for targets in (0, 1, 4, 20):
        found = score(targets)
        assert found.loss.nats == pytest.approx(whole.loss.nats, rel=1e-6)
        assert found.loss.tokens == whole.loss.tokens
        assert found.predictions is not None
        assert whole.predictions is not None
        assert found.predictions.tolist() == whole.predictions.tolist()


def test_another_scorer_sees_each_window_in_order_and_its_nats_are_added_up(small: Corpus) -> None:
    """One that mixes the softmax with the words that were labels before, as a cache does."""
    model = build_model(small_config(), len(small.vocab), on.DEVICE)
    batches = columns(small.valid, bptt=7, batch_size=1, contexts=[on.DEVICE])
    assert batches[-1].shards[0].weights is not None, "a padded tail is meant"
    softmax = SoftmaxScorer(model, predicts=True)
    seen: list[int] = []
    expected = 0.0

    def cached(units: mx.nd.NDArray, labels: mx.nd.NDArray, state: Any) -> Any:
        nonlocal expected
        nats, predictions = softmax(units, labels, state)
        assert predictions is not None
        # The units are an LSTM's h, the last of which is in its state.
        np.testing.assert_array_equal(units[-1].asnumpy(), state[-1][0][0].asnumpy())
        mixed = []
        for label, plain in zip(labels.asnumpy().ravel().tolist(), nats.asnumpy().tolist(), strict=True):
            mixed.append(-math.log(0.5 * math.exp(-plain) + 0.5 * (seen.count(label) + 1) / (len(seen) + 1000)))
            seen.append(label)
        expected += sum(mixed[: len(small.valid) - 1 - (len(seen) - len(mixed))])
        return on.array(mixed), None

    found = evaluate(model, batches, scorer=cached)
    assert seen[: len(small.valid) - 1] == small.valid[1:].tolist()
    assert found.loss.tokens == len(small.valid) - 1
    assert found.loss.nats == pytest.approx(expected, rel=1e-6)
    assert found.loss.nats != pytest.approx(evaluate(model, batches).loss.nats, rel=1e-2)
    assert found.accuracy is None


#: Prints the peak memory after evaluation in one block a batch, and after evaluation in eight.
PEAKS = """
import mxnet as mx
import numpy as np
from gluon_rnn.data.batches import columns
from gluon_rnn.machine.memory import peak_rss_mb
from gluon_rnn.networks.models import build_model
from gluon_rnn.training.scoring import SoftmaxScorer, evaluate
from tests.conftest import small_config

words, targets = 20_000, 100
model = build_model(small_config(), words, mx.cpu())
for steps in (5, 40):
    batches = columns(np.arange(20 * steps * 2 + 1) % words, bptt=steps, batch_size=20, contexts=[mx.cpu()])
    assert [batch.targets for batch in batches] == [20 * steps] * 2
    evaluate(model, batches, scorer=SoftmaxScorer(model, logits_in_a_block=targets * words))
    print(peak_rss_mb())
"""


@pytest.mark.slow
def test_evaluation_holds_one_block_of_logits_at_a_time() -> None:
    """In a process of its own, whose peak is evaluation's."""
    done = subprocess.run([sys.executable, "-I", "-c", PEAKS], capture_output=True, text=True, check=True)
    one_block, eight_blocks = map(float, done.stdout.split())
    # A block is 8 MB, so that eight at once are 56 MB more.
    assert eight_blocks - one_block < 8
