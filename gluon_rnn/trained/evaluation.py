"""Scores a finished run on validation and test: plain, with a neural cache, or by dynamic evaluation.

As a program, this module answers one request, which `gluon_rnn.cli` sends it.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import sha1_of_file
from gluon_rnn.common.printable import Notice, warn
from gluon_rnn.config.run import RunConfig
from gluon_rnn.data.batches import Batch, columns
from gluon_rnn.data.corpora import find_corpus
from gluon_rnn.data.corpora.content import CorpusFiles
from gluon_rnn.data.corpora.encoded import Corpus, Ids
from gluon_rnn.data.corpora.known import NAMES
from gluon_rnn.data.corpora.loading import load_corpus_for
from gluon_rnn.machine.blas import blas_in_use
from gluon_rnn.machine.hardware import describe_machine
from gluon_rnn.machine.memory import peak_rss_mb
from gluon_rnn.networks.models import SequenceModel
from gluon_rnn.runs.evaluations import (
    EVALUATIONS,
    CacheSettings,
    DynamicSettings,
    Evaluation,
    Method,
    Split,
    append_evaluations,
    check_evaluations,
    read_settings,
)
from gluon_rnn.runs.job import BEST, Job
from gluon_rnn.runs.progress import LossTotal
from gluon_rnn.sweeps.origin import describe_origin
from gluon_rnn.trained.answering import answer
from gluon_rnn.trained.cache import LAMBDAS, THETAS, score_with_caches
from gluon_rnn.trained.dynamic_evaluation import (
    STATISTICS_BATCH_SIZE,
    root_mean_squares,
    score_dynamically,
    search_grid,
)
from gluon_rnn.trained.run import load_run, read_job
from gluon_rnn.training.objectives import build_objective
from gluon_rnn.training.scoring import SoftmaxScorer, evaluate

#: Each choice of splits, in the order of scoring.
SPLITS: dict[str, tuple[Split, ...]] = {"valid": ("valid",), "test": ("test",), "both": ("valid", "test")}
#: Of validation, its beginning, on which a search of dynamic evaluation compares settings, as Krause's ``--gridfast``.
_SEARCHED_TOKENS = 30_000
#: Targets in a window of a pass with a cache; how many changes no result.
_TARGETS_IN_A_WINDOW = 2000

_CPU = mx.cpu()


def evaluate_run(
    run: Path | str,
    *,
    split: str = "both",
    batch_size: int | None = None,
    cache: Mapping[str, Any] | bool = False,
    dynamic: Mapping[str, Any] | bool = False,
    search: bool = False,
    data_dir: Path | str | None = None,
    notice: Notice = warn,
) -> list[Evaluation]:
    """Score the best parameters of a run on the CPU; returns an evaluation for each method and split.

    Every target is scored once, with the state carried along the text; perplexity is exp(total nats / targets). The
    results are added to the ``evaluations.csv`` of the run's sweep one by one, as they come.

    Args:
        run: the run's directory. While it trains, the parameters of its best epoch so far are used.
        split: ``valid``, ``test`` or ``both``.
        batch_size: columns that a split is cut into; None: as many as in training, but one with `cache` or `dynamic`.
        cache: score with a neural cache, with the given settings of `CacheSettings`; True: the defaults.
        dynamic: score by dynamic evaluation, likewise. With neither: score plainly.
        search: choose theta and lambda of the cache, or eta and lambda of dynamic evaluation, by the perplexity of
            validation, unless they are given; test is scored once, with what was chosen.
        data_dir: where the corpus is looked for first; None: as for a sweep.
        notice: called with one-line messages about the progress.

    Raises:
        UserError: a value is invalid, the run has no parameters, or its corpus is missing or has changed.
    """
    directory = Path(run)
    ways = _read_ways(cache, dynamic)
    _check(ways, split, batch_size, search)
    job = read_job(directory)
    if ways:
        _check_objective(job, directory)
    sweep = _sweep_of(directory, notice)
    scored = _Scored(job, directory, data_dir=Path(data_dir) if data_dir else None, notice=notice)
    scored.check_splits(SPLITS[split], batch_size or 1)
    identity = _identity(job, scored.parameters_sha1)
    evaluations = []
    for method, settings in (ways or {"plain": None}).items():
        began = time.monotonic()
        for part, found in scored.by(settings, SPLITS[split], batch_size, search):
            evaluation = Evaluation(
                split=part,
                method=method,
                searched=search,
                batch_size=batch_size or (1 if ways else job.config.eval_batch_size),
                seconds=time.monotonic() - began,
                **identity,
                **_figures(found),
            )
            evaluations.append(evaluation)
            if sweep:
                append_evaluations(sweep, evaluations[-1:])
            began = time.monotonic()
    return evaluations


def _check_objective(job: Job, directory: Path) -> None:
    if job.config.objective != "language_model":
        raise UserError(
            f"{directory} is a run of {job.config.objective}; a cache and dynamic evaluation need "
            "objective=language_model, which reads one text from its beginning to its end"
        )


def _sweep_of(directory: Path, notice: Notice) -> Path | None:
    """The sweep's folder around a run's `directory`, where results can be kept; None if there is none."""
    if directory.resolve().parent.name != "runs":
        notice(f"{directory} is not in a sweep's folder, so that the results are not kept in {EVALUATIONS}")
        return None
    sweep = directory.resolve().parents[1]
    check_evaluations(sweep)
    return sweep


def _read_ways(
    cache: Mapping[str, Any] | bool, dynamic: Mapping[str, Any] | bool
) -> dict[Method, CacheSettings | DynamicSettings | None]:
    """The settings of each requested method."""
    ways: dict[Method, CacheSettings | DynamicSettings | None] = {}
    if cache is not False:
        ways["cache"] = read_settings(CacheSettings, {} if cache is True else cache, of="--cache")
    if dynamic is not False:
        ways["dynamic"] = read_settings(DynamicSettings, {} if dynamic is True else dynamic, of="--dynamic")
    return ways


def _identity(job: Job, parameters_sha1: str) -> dict[str, Any]:
    """The columns that identify what is scored and where."""
    return {
        "run_id": job.run_id,
        "parameters_sha1": parameters_sha1,
        "dataset_sha1": job.corpus.sha1,
        "origin": describe_origin(describe_machine()),
    }


def _figures(found: _Found) -> dict[str, Any]:
    """The result, with facts about this process and this moment."""
    threads = os.environ.get("OMP_NUM_THREADS")
    return {
        "tokens_scored": found.loss.tokens,
        "loss": found.loss.mean,
        "perplexity": found.loss.perplexity,
        "accuracy": found.accuracy,
        "plain_perplexity": found.plain and found.plain.perplexity,
        "cache": found.settings if isinstance(found.settings, CacheSettings) else None,
        "dynamic": found.settings if isinstance(found.settings, DynamicSettings) else None,
        "peak_rss_mb": peak_rss_mb(),
        "threads": int(threads) if threads else None,
        "blas": blas_in_use(),
        "evaluated_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _check(ways: Mapping[Method, Any], split: str, batch_size: int | None, search: bool) -> None:
    """Refuse requests that no run can fulfil."""
    if split not in SPLITS:
        raise UserError(f"split={split!r} is not one of {', '.join(SPLITS)}")
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size={batch_size} leaves nothing to score; give 1 or more")
    if batch_size not in (None, 1) and "dynamic" in ways:
        raise UserError(
            f"batch_size={batch_size} would learn from one part of the text what another is scored on; leave it out "
            "with --dynamic"
        )
    if search and not ways:
        raise UserError("--search chooses the settings of a cache or of dynamic evaluation; add --cache or --dynamic")


def _open_corpus(job: Job, directory: Path, data_dir: Path | None, notice: Notice) -> tuple[CorpusFiles, Corpus]:
    """Find the corpus of `job` again and read it in the same way."""
    config, name = job.config, job.corpus.dataset
    found = find_corpus(
        name if name in NAMES else str(job.corpus.folder),
        objective=config.objective,
        level=config.level,
        data_dir=data_dir,
        notice=notice,
    )
    if found.sha1 != job.corpus.sha1:
        raise UserError(
            f"the {name} in {found.folder} is not the corpus of {directory}: its SHA-1 is {found.sha1[:12]}, not "
            f"{job.corpus.sha1[:12]}; name the folder of the run's data with --data-dir"
        )
    return found, load_corpus_for(config, found)


@dataclass(frozen=True)
class _Found:
    """The result of one split.

    Attributes:
        loss: of all targets.
        settings: of the method.
        accuracy: where it was measured.
        plain: the loss without the cache.
    """

    loss: LossTotal
    settings: CacheSettings | DynamicSettings | None = None
    accuracy: float | None = None
    plain: LossTotal | None = None


_Results = Iterator[tuple[Split, _Found]]


def _load_model(directory: Path) -> tuple[SequenceModel, str]:
    """A run's model, and the SHA-1 of the file of its parameters, which a run that trains replaces at any time."""
    while True:
        before = sha1_of_file(directory / BEST) if (directory / BEST).is_file() else None
        model = load_run(directory, context=_CPU).model
        if before and sha1_of_file(directory / BEST) == before:
            return model, before


class _Scored:
    """A run's model and its corpus.

    Attributes:
        parameters_sha1: of the model's parameters.

    Args:
        job: what the run was given.
        directory: of the run.
        data_dir: see `evaluate_run`.
        notice: see `evaluate_run`.
    """

    def __init__(self, job: Job, directory: Path, *, data_dir: Path | None, notice: Notice) -> None:
        self._config: RunConfig = job.config
        self._directory = directory
        self._notice = notice
        self._model, self.parameters_sha1 = _load_model(directory)
        # As in training on a CPU: see `build_model`.
        self._model.encoder.pack(for_scoring=True)
        self._model.hybridize()
        self._files, self._corpus = _open_corpus(job, directory, data_dir, notice)

    def check_splits(self, splits: Sequence[Split], batch_size: int) -> None:
        """Refuse a split that the corpus does not have, or that has no target for each column.

        Where one text is all training, a part is held out of it.
        """
        if "test" in splits and self._corpus.test is None:
            raise UserError(
                f"the corpus {self._files.dataset} of {self._directory} has no test split; use --split valid"
            )
        if self._config.objective == "language_model":
            targets, split = min((len(self._ids(each)) - 1, each) for each in splits)
            if batch_size > targets:
                raise UserError(f"batch_size={batch_size} is more than the {targets:,} targets of {split}")

    def by(
        self,
        settings: CacheSettings | DynamicSettings | None,
        splits: Sequence[Split],
        batch_size: int | None,
        search: bool,
    ) -> _Results:
        """The result of each split by the method of `settings`."""
        if isinstance(settings, CacheSettings):
            return self._with_cache(settings, splits, batch_size or 1, search)
        if isinstance(settings, DynamicSettings):
            return self._dynamically(settings, splits, search)
        return self._plainly(splits, batch_size or self._config.eval_batch_size)

    def _plainly(self, splits: Sequence[Split], batch_size: int) -> _Results:
        config = self._config.model_copy(update={"eval_batch_size": batch_size})
        objective = build_objective(config, self._corpus, [_CPU])
        for split in splits:
            self._notice(f"scoring {split}")
            score = evaluate(
                self._model,
                objective.valid if split == "valid" else objective.test,
                carries_state=objective.carries_state,
                scorer=SoftmaxScorer(self._model, predicts=objective.measures_accuracy),
            )
            yield split, _Found(score.loss, accuracy=score.accuracy)

    def _with_cache(self, settings: CacheSettings, splits: Sequence[Split], batch_size: int, search: bool) -> _Results:
        def best(split: Split, thetas: Sequence[float], lambdas: Sequence[float]) -> tuple[CacheSettings, _Found]:
            batches = self._columns(self._ids(split), math.ceil(_TARGETS_IN_A_WINDOW / batch_size), batch_size)
            scores = score_with_caches(self._model, batches, window=settings.window, thetas=thetas, lambdas=lambdas)
            theta, share = divmod(int(np.argmin(np.nan_to_num(scores.nats, nan=np.inf))), len(lambdas))
            chosen = settings.model_copy(update={"theta": thetas[theta], "lambda_": lambdas[share]})
            loss = LossTotal(float(scores.nats[theta, share]), scores.plain.tokens)
            return chosen, _Found(loss, chosen, plain=scores.plain)

        found: dict[Split, _Found] = {}
        if search:
            thetas = [settings.theta] if "theta" in settings.model_fields_set else THETAS
            lambdas = [settings.lambda_] if "lambda_" in settings.model_fields_set else LAMBDAS
            self._notice(f"scoring valid with {len(thetas)} values of theta and {len(lambdas)} of lambda")
            settings, found["valid"] = best("valid", thetas, lambdas)
        for split in splits:
            if split not in found:
                self._notice(f"scoring {split} with a cache of {settings.window:,} tokens")
                _, found[split] = best(split, [settings.theta], [settings.lambda_])
            yield split, found[split]

    def _dynamically(self, settings: DynamicSettings, splits: Sequence[Split], search: bool) -> _Results:
        statistics = None
        if settings.rule == "rms":
            training = self._columns(self._corpus.train, settings.bptt, STATISTICS_BATCH_SIZE)[: settings.batches]
            self._notice(f"collecting the gradients of {len(training):,} training batches")
            statistics = root_mean_squares(self._model, training, notice=self._notice)

        def score(ids: Ids, settings: DynamicSettings) -> LossTotal:
            segments = self._columns(ids, settings.bptt, 1)
            return score_dynamically(self._model, segments, settings, statistics, notice=self._notice)

        if search:
            losses = {}
            for tried in search_grid(settings):
                loss = score(self._ids("valid")[: _SEARCHED_TOKENS + 1], tried)
                losses[tried] = loss.mean if math.isfinite(loss.mean) else math.inf
                self._notice(f"eta={tried.eta:g} lambda={tried.lambda_:g}: validation perplexity {loss.perplexity:.2f}")
            settings = min(losses, key=losses.__getitem__)
        for split in splits:
            self._notice(f"scoring {split} by dynamic evaluation")
            yield split, _Found(score(self._ids(split), settings), settings)

    def _ids(self, split: Split) -> Ids:
        ids = self._corpus.valid if split == "valid" else self._corpus.test
        assert isinstance(ids, np.ndarray)
        return ids

    def _columns(self, ids: Any, bptt: int, batch_size: int) -> list[Batch]:
        return columns(ids, bptt=bptt, batch_size=batch_size, contexts=[_CPU])


def main() -> int:
    """Answer a request for evaluations: the arguments of `evaluate_run`."""
    return answer(lambda **request: {"evaluations": [each.row for each in evaluate_run(**request)]})


if __name__ == "__main__":
    sys.exit(main())
