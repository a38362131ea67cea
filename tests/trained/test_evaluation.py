"""Scoring a finished run: what is scored, what is chosen, what is kept, and what is refused in one line."""

from __future__ import annotations

import hashlib
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
import pytest

import gluon_rnn
from gluon_rnn import cli, evaluate_run, load_evaluations
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import seal, sha1_of_file, write_atomically
from gluon_rnn.data.batches import columns
from gluon_rnn.data.corpora import find_corpus
from gluon_rnn.data.corpora.loading import load_corpus
from gluon_rnn.machine import mxnet_process
from gluon_rnn.networks.models import build_model
from gluon_rnn.runs.evaluations import DynamicSettings
from gluon_rnn.trained import evaluation
from gluon_rnn.trained.cache import LAMBDAS, THETAS, score_with_caches
from gluon_rnn.trained.dynamic_evaluation import root_mean_squares, score_dynamically
from gluon_rnn.trained.run import load_run
from gluon_rnn.training.scoring import evaluate
from tests import device as on
from tests.cli.test_cli import CHECKOUT, environment, refusal
from tests.conftest import WORDS, write_folder
from tests.runs.test_records import make_job

pytestmark = pytest.mark.numerical


#: Makes a run's directory as the worker leaves it.
Keep = Callable[..., Path]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """The parameters are drawn, wide enough for contexts to differ; `corpus` is a folder or a name."""

    def make(*, corpus: str | None = None, **settings: Any) -> Path:
        dataset = corpus or str(write_folder(tmp_path / "corpus"))
        objective = settings.get("objective", "language_model")
        level = settings.get("level", "word")
        job = make_job(
            find_corpus(dataset, objective=objective, level=level), **{"dataset": dataset, "dropout": 0.5, **settings}
        )
        loaded = load_corpus(job.corpus, objective=objective, level=level)
        directory = tmp_path / "grid" / "runs" / job.run_id
        directory.mkdir(parents=True)
        classes = None if loaded.labels is None else len(loaded.labels)
        model = build_model(job.config, len(loaded.vocab), on.DEVICE, classes=classes)
        model.initialize(mx.init.Uniform(0.7), ctx=on.DEVICE, force_reinit=True)
        model.save_parameters(str(directory / "best.params"))
        write_atomically(directory / "config.json", job.model_dump_json())
        write_atomically(directory / "vocabulary.json", seal({"vocabulary": loaded.vocab.to_json()}))
        return directory

    return make


def ids_of(directory: Path, split: str) -> np.ndarray[Any, Any]:
    ids = getattr(load_corpus(find_corpus(str(directory.parents[2] / "corpus"))), split)
    assert isinstance(ids, np.ndarray)
    return ids


def nothing(line: str) -> None:
    """Hears no notice."""


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_plain_perplexity_is_that_of_training(keep: Keep, batch_size: int | None) -> None:
    run = keep()
    found = evaluate_run(str(run), batch_size=batch_size, notice=nothing)
    assert [(each.split, each.method, each.batch_size) for each in found] == [
        ("valid", "plain", batch_size or 3),
        ("test", "plain", batch_size or 3),
    ]
    model = load_run(run, context=on.DEVICE).model
    for each in found:
        batches = columns(ids_of(run, each.split), bptt=7, batch_size=batch_size or 3, contexts=[on.DEVICE])
        expected = evaluate(model, batches).loss
        assert each.tokens_scored == expected.tokens == len(ids_of(run, each.split)) - 1
        assert each.loss == pytest.approx(expected.mean, rel=1e-6)
        assert each.perplexity == pytest.approx(math.exp(expected.nats / expected.tokens), rel=1e-6)
        assert (each.plain_perplexity, each.cache, each.dynamic, each.accuracy) == (None, None, None, None)
        assert each.parameters_sha1 == sha1_of_file(run / "best.params")


def test_results_are_added_to_the_table_of_the_sweep(keep: Keep) -> None:
    run = keep()
    evaluate_run(run, split="test", notice=nothing)
    found = evaluate_run(run, cache={"window": 20}, split="valid", notice=nothing)
    frame = load_evaluations(run.parents[1])
    assert frame["run_id"].tolist() == [run.name, run.name]
    assert frame["split"].tolist() == ["test", "valid"]
    assert frame["method"].tolist() == ["plain", "cache"]
    assert frame["perplexity"].tolist()[1] == found[0].perplexity
    assert frame["dataset_sha1"].notna().all()


def test_a_run_outside_a_sweep_is_scored_and_not_kept(keep: Keep, tmp_path: Path) -> None:
    run = keep().rename(tmp_path / "alone")
    said: list[str] = []
    (found,) = evaluate_run(run, split="valid", notice=said.append)
    assert found.tokens_scored > 0
    assert f"{run} is not in a sweep's folder" in said[0]
    assert not [*tmp_path.rglob("evaluations.csv")]


def test_a_cache_is_scored_beside_the_same_pass_without_it(keep: Keep) -> None:
    run = keep()
    (found,) = evaluate_run(
        run, split="test", cache={"window": "9", "theta": 0.3, "lambda": 0.4}, batch_size=2, notice=nothing
    )
    batches = columns(ids_of(run, "test"), bptt=5, batch_size=2, contexts=[on.DEVICE])
    scores = score_with_caches(load_run(run, context=on.DEVICE).model, batches, window=9, thetas=[0.3], lambdas=[0.4])
    assert found.loss == pytest.approx(scores.nats[0, 0] / scores.plain.tokens, rel=1e-5)
    assert found.plain_perplexity == pytest.approx(scores.plain.perplexity, rel=1e-5)
    assert found.row["cache_window"] == 9
    assert not found.searched


def test_a_search_chooses_on_validation_alone_and_scores_test_once(keep: Keep, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "corpus")
    # Where no word comes again, any cache is a loss.
    (folder / "test.txt").write_text(" ".join(WORDS) + "\n")
    run = keep(corpus=str(folder))
    model = load_run(run, context=on.DEVICE).model
    valid, test = (
        columns(ids_of(run, split), bptt=50, batch_size=1, contexts=[on.DEVICE]) for split in ("valid", "test")
    )
    on_valid = score_with_caches(model, valid, window=30, thetas=THETAS, lambdas=LAMBDAS).nats
    on_test = score_with_caches(model, test, window=30, thetas=THETAS, lambdas=LAMBDAS).nats
    theta, share = divmod(int(on_valid.argmin()), len(LAMBDAS))
    assert on_valid.argmin() != on_test.argmin(), "test is meant to prefer other settings"
    scored, tested = evaluate_run(run, cache={"window": 30}, search=True, notice=nothing)
    for found, nats, split in ((scored, on_valid, "valid"), (tested, on_test, "test")):
        assert (found.split, found.searched) == (split, True)
        assert (found.cache and found.cache.theta, found.cache and found.cache.lambda_) == (
            THETAS[theta],
            LAMBDAS[share],
        )
        assert found.loss == pytest.approx(nats[theta, share] / found.tokens_scored, rel=1e-5)
    (alone,) = evaluate_run(run, cache={"window": 30, "theta": 0.3}, split="test", search=True, notice=nothing)
    kept = THETAS.index(0.3)
    assert (alone.cache and alone.cache.theta, alone.cache and alone.cache.lambda_) == (
        0.3,
        LAMBDAS[int(on_valid[kept].argmin())],
    )


def test_dynamic_evaluation_takes_its_statistics_from_training(keep: Keep) -> None:
    run = keep()
    given = {"eta": 1e-3, "lambda": 0.01, "epsilon": 1e-3}
    found = evaluate_run(run, dynamic=given, notice=nothing)
    model, settings = load_run(run, context=on.DEVICE).model, DynamicSettings.model_validate(given)
    training = columns(ids_of(run, "train"), bptt=5, batch_size=100, contexts=[on.DEVICE])
    statistics = root_mean_squares(model, training, notice=nothing)
    for each in found:
        batches = columns(ids_of(run, each.split), bptt=5, batch_size=1, contexts=[on.DEVICE])
        expected = score_dynamically(model, batches, settings, statistics, notice=nothing)
        assert each.loss == pytest.approx(expected.mean, rel=1e-5)
        assert each.tokens_scored == expected.tokens
        assert each.loss != pytest.approx(evaluate(model, batches).loss.mean, rel=1e-4)


def test_a_search_of_dynamic_evaluation_chooses_on_validation(keep: Keep) -> None:
    run = keep()
    said: list[str] = []
    (found,) = evaluate_run(run, dynamic={"rule": "sgd", "lambda": 0}, search=True, split="test", notice=said.append)
    tried = {line.split(" ")[0]: float(line.rpartition(" ")[2]) for line in said if line.startswith("eta=")}
    assert len(tried) == 6
    assert found.dynamic is not None
    assert tried[f"eta={found.dynamic.eta:g}"] == min(tried.values())
    model, valid = (
        load_run(run, context=on.DEVICE).model,
        columns(ids_of(run, "valid"), bptt=5, batch_size=1, contexts=[on.DEVICE]),
    )
    chosen = score_dynamically(model, valid, found.dynamic, None, notice=nothing)
    assert min(tried.values()) == pytest.approx(chosen.perplexity, abs=0.01)


def test_labels_are_scored_plainly_with_their_accuracy(keep: Keep) -> None:
    run = keep(corpus="synthetic", objective="tagging", tie_weights=False)
    valid, test = evaluate_run(run, notice=nothing)
    assert 0 <= valid.accuracy <= 1  # type: ignore[operator]
    assert test.tokens_scored > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cache": {"window": 0}}, "--cache: window=0: input should be greater than or equal to 1"),
        ({"cache": {"lambda": 1.1}}, "--cache: lambda=1.1: input should be less than or equal to 1"),
        ({"dynamic": {"eta": "fast"}}, "--dynamic: eta='fast': input should be a valid number"),
        ({"split": "train"}, "split='train' is not one of valid, test, both"),
        ({"batch_size": 0}, "batch_size=0 leaves nothing to score"),
        ({"batch_size": 2, "dynamic": True}, "batch_size=2 would learn from one part of the text"),
        ({"search": True}, "add --cache or --dynamic"),
    ],
)
def test_what_no_run_can_be_asked_for_is_one_line(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as found:
        evaluate_run(tmp_path, **given)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("objective", ["classification", "tagging", "next_token"])
@pytest.mark.parametrize("way", ["cache", "dynamic"])
def test_a_cache_for_anything_but_a_language_model_is_one_line(keep: Keep, objective: str, way: str) -> None:
    run = keep(corpus="synthetic", objective=objective, tie_weights=False)
    with pytest.raises(
        UserError, match=f"{run} is a run of {objective}; a cache and dynamic evaluation need objective="
    ):
        evaluate_run(run, **{way: True})  # type: ignore[arg-type]


def test_a_split_that_the_corpus_does_not_have_is_one_line(
    keep: Keep, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLUON_RNN_DATA", str(real_data))
    run = keep(corpus="nietzsche", objective="next_token", level="character", bptt=2, tie_weights=False)
    with pytest.raises(UserError, match=f"the corpus nietzsche of {run} has no test split; use --split valid"):
        evaluate_run(run)
    assert not (run.parents[1] / "evaluations.csv").exists()


def test_more_columns_than_targets_are_one_line(keep: Keep) -> None:
    run = keep()
    with pytest.raises(UserError, match=r"batch_size=1000000000 is more than the [\d,]+ targets of (valid|test)$"):
        evaluate_run(run, batch_size=10**9, notice=nothing)


def test_parameters_that_a_run_replaces_meanwhile_are_read_again(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    run = keep()
    best, load = run / "best.params", evaluation.load_run
    old, loads = best.read_bytes(), []

    def replacing(directory: Path, **options: Any) -> Any:
        found = load(directory, **options)
        loads.append(directory)
        if len(loads) == 1:
            arrays = mx.nd.load(str(best))
            mx.nd.save(str(best), {name: array * 0.5 for name, array in arrays.items()})
        return found

    monkeypatch.setattr(evaluation, "load_run", replacing)
    (found,) = evaluate_run(run, split="valid", notice=nothing)
    assert len(loads) == 2
    assert found.parameters_sha1 == hashlib.sha1(best.read_bytes()).hexdigest() != hashlib.sha1(old).hexdigest()
    monkeypatch.undo()
    (again,) = evaluate_run(run, split="valid", notice=nothing)
    assert again.loss == found.loss


def test_another_corpus_and_a_run_without_parameters_are_one_line(keep: Keep) -> None:
    run = keep()
    text = run.parents[2] / "corpus" / "test.txt"
    content = text.read_text()
    text.write_text(content.replace("cat", "dog"))
    with pytest.raises(UserError, match=r"the corpus in .* is not the corpus of .*: its SHA-1 is .*--data-dir"):
        evaluate_run(run, notice=nothing)
    text.write_text(content)
    (run / "best.params").unlink()
    with pytest.raises(UserError, match=r"has no best\.params"):
        evaluate_run(run, notice=nothing)
    assert not (run.parents[1] / "evaluations.csv").exists()


def test_the_command_asks_another_process_and_prints_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        **dict.fromkeys(evaluation.Evaluation.model_fields),
        **{
            "split": "test",
            "method": "cache",
            "searched": True,
            "tokens_scored": 245_568,
            "loss": 4.35,
            "seconds": 61.2,
        },
        **{"perplexity": 77.48, "plain_perplexity": 102.49, "peak_rss_mb": 900.0},
        **{"cache_window": 2000, "cache_theta": 0.3, "cache_lambda": 0.1, "dynamic_eta": None},
    }
    asked: list[dict[str, object]] = []

    def run(command: list[str], *, input: str, **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(json.loads(input))
        return subprocess.CompletedProcess(command, 0, json.dumps({"evaluations": [row]}) + "\n")

    monkeypatch.setattr(mxnet_process.subprocess, "run", run)
    assert cli.main(["evaluate", "a run", "--cache", "window=2000", "--search", "--split", "test"]) == 0
    assert asked == [
        {
            "run": "a run",
            "split": "test",
            "batch_size": None,
            "search": True,
            "data_dir": None,
            "cache": {"window": "2000"},
        }
    ]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "window=2000" in line)
    assert line.split() == [
        *("test", "cache,", "searched", "window=2000", "theta=0.3", "lambda=0.1"),
        *("245,568", "4.3500", "77.48", "102.49", "61", "900"),
    ]
    assert "takes KEY=VALUE, not 'a run'" in refusal(capsys, "evaluate", "x", "--cache", "a run")


def test_the_other_process_answers_in_a_line(
    keep: Keep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {"run": str(keep()), "split": "valid"}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    assert evaluation.main() == 0
    (row,) = json.loads(capsys.readouterr().out)["evaluations"]
    assert (row["method"], row["split"]) == ("plain", "valid")
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({**request, "batch_size": 0})))
    assert evaluation.main() == 0
    assert json.loads(capsys.readouterr().out) == {"error": "batch_size=0 leaves nothing to score; give 1 or more"}


@pytest.mark.slow
def test_the_script_scores_a_run_from_the_command_line(keep: Keep) -> None:
    run = keep()

    def script(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(CHECKOUT / "scripts" / "evaluate.py"), str(run), *words]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)

    done = script("--cache", "window=10", "--search")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines() if "window=10" in line] == [
        ["valid", "cache,", "searched"],
        ["test", "cache,", "searched"],
    ]
    assert load_evaluations(run.parents[1])["method"].tolist() == ["cache", "cache"]
    refused = script("--cache", "window=0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: --cache: window='0': input should be greater than or equal to 1\n"


def test_the_package_offers_it_by_name() -> None:
    assert gluon_rnn.evaluate_run is evaluation.evaluate_run
