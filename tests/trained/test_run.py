"""A run's directory as a model: the same numbers as in training, and one line for what is missing."""

from __future__ import annotations

from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from gluon_rnn import RunConfig, load_epochs, load_run, train
from gluon_rnn.common.errors import UserError
from gluon_rnn.data.corpora import find_corpus
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.training.objectives import build_objective
from gluon_rnn.training.scoring import evaluate

pytestmark = [pytest.mark.numerical, pytest.mark.slow]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run's directory for each objective; it was trained in a process of its own."""
    folder, runs = tmp_path_factory.mktemp("trained"), {}
    sizes = {"dataset": "synthetic", "device": "cpu", "threads": 1, "hidden_size": 8, "epochs": 1}
    for objective in ("language_model", "tagging"):
        limit = {"max_train_tokens": 2000, "max_eval_tokens": 500} if objective == "language_model" else {}
        record = train(RunConfig(objective=objective, **sizes, **limit), directory=str(folder / objective))  # type: ignore[arg-type]
        runs[objective] = folder / objective / "train" / "runs" / record.run_id
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["language_model", "tagging"])
@pytest.mark.parametrize("context", [None, mx.cpu(1)], ids=["default", "given"])
def test_a_loaded_run_scores_as_it_did_in_training(
    trained: dict[str, Path], objective: str, context: mx.Context | None
) -> None:
    directory = trained[objective]
    run = load_run(str(directory), context=context)
    assert run.config.objective == objective
    assert run.model.decoder[0].bias.list_ctx() == [context or mx.cpu()]
    config = run.config
    files = find_corpus(config.dataset, objective=config.objective, level=config.level)
    corpus = load_corpus(files, objective=objective, max_eval_tokens=config.max_eval_tokens)
    assert run.vocabulary.idx_to_token == corpus.vocab.idx_to_token
    laid_out = build_objective(config, corpus, [context or mx.cpu()])
    (loss,) = load_epochs(directory.parents[1])["valid_loss"]
    found = evaluate(run.model, laid_out.valid, carries_state=laid_out.carries_state)
    assert found.loss.mean == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_labels_without_parameters_or_with_damaged_ones_are_named(trained: dict[str, Path], tmp_path: Path) -> None:
    for name in ("config.json", "vocabulary.json"):
        (tmp_path / name).write_bytes((trained["tagging"] / name).read_bytes())
    with pytest.raises(UserError, match=r"has no best\.params: a run has some from the end of its first epoch on"):
        load_run(tmp_path)
    (tmp_path / "best.params").write_bytes((trained["tagging"] / "best.params").read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"best\.params does not hold this run's parameters: .*; train the run again$"):
        load_run(tmp_path)
    mx.nd.save(str(tmp_path / "best.params"), {"another": mx.nd.ones(2)})
    with pytest.raises(UserError, match=r"does not hold this run's parameters: .*decoder\.0\.bias"):
        load_run(tmp_path)


def test_loading_draws_nothing_from_the_callers_random_streams(trained: dict[str, Path]) -> None:
    draws = []
    for loads in (False, True):
        np.random.seed(1)
        mx.random.seed(2)
        if loads:
            load_run(trained["tagging"])
        draws.append([np.random.random_sample(), mx.nd.random.uniform().asscalar()])
    assert draws[0] == draws[1]
