"""Each rule counts what it says, by a model that gives every word the same probability."""

from __future__ import annotations

import math

import mxnet as mx
import numpy as np
import pytest

import comparability
from gluon_rnn.config.run import RunConfig
from gluon_rnn.networks.models import build_model

WORDS = 11
TOKENS = 4_325


@pytest.fixture(scope="module")
def scored() -> comparability.Scored:
    model = build_model(RunConfig(hidden_size=4, num_layers=1), WORDS, mx.cpu())
    for parameter in model.collect_params().values():
        parameter.set_data(mx.nd.zeros_like(parameter.data()))
    ids = np.arange(TOKENS, dtype=np.int32) % WORDS
    return comparability.Scored(model, ids, {"<eos>": 3, "<unk>": 0})


@pytest.mark.parametrize(
    ("rule", "targets"),
    [
        ("this suite", TOKENS - 1),
        ("one column", TOKENS - 1),
        ("10 columns, tail dropped", 431 * 10),
        ("20 columns, windows of 35, incomplete ones dropped", 6 * 35 * 20),
        ("one column in steps of 2,000, the rest dropped", 4_000),
        ("mean of the windows' perplexities", 6 * 35 * 20),
        ("state reset at each window of 35", 6 * 35 * 20),
        ("<eos> read but not scored", TOKENS - 1 - 393),
        ("<unk> read but not scored", TOKENS - 1 - 393),
    ],
)
def test_rules_score_their_targets(scored, rule, targets):
    count, perplexity = comparability.RULES[rule](scored)
    assert count == targets
    assert perplexity == pytest.approx(WORDS, rel=1e-5)


def test_a_pad_word_is_one_more_class(scored):
    count, perplexity = comparability.RULES["one column, with an additional pad word"](scored)
    assert count == TOKENS - 1
    assert perplexity == pytest.approx(WORDS + 1, rel=1e-5)


def test_the_table_has_a_row_for_each_rule():
    figures = dict.fromkeys(comparability.RULES, (10, 2.5))
    first, *rows = comparability.table(figures, figures).splitlines()
    assert first == "rule,valid_targets,valid_perplexity,test_targets,test_perplexity"
    assert rows[0] == "this suite,10,2.5000,10,2.5000"
    assert len(rows) == len(comparability.RULES)


def test_a_division_by_the_length_is_too_low(scored):
    count, perplexity = comparability.RULES["10 columns, tail dropped, divided by the length"](scored)
    assert count == 4_310
    assert math.log(perplexity) == pytest.approx(math.log(WORDS) * 431 / 432, rel=1e-5)


def test_a_mean_of_perplexities_is_not_the_perplexity_of_the_mean(scored, monkeypatch):
    nats = np.array([np.full((35, 20), value) for value in (1.0, 3.0)])
    monkeypatch.setattr(scored, "windows", lambda: nats)
    assert comparability.mean_of_exponentials(scored)[1] == pytest.approx((math.e + math.exp(3)) / 2)
