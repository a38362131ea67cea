"""Settings without effect, because of the objective, another setting or the corpus."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.printable import printable
from gluon_rnn.config.run import LABELLED, RunConfig, parse_steps
from gluon_rnn.config.sweep_file import Sweep
from gluon_rnn.data.corpora import CorpusFiles

#: Settings that take effect only after the first epoch.
_LATER = ("lr_decay", "lr_patience", "early_stopping")
_OF_EVALUATION = ("eval_bptt", "eval_batch_size", "max_eval_tokens")
#: Settings that do not affect a result, so that points that differ only in them are one run.
_UNRECORDED = {"log_interval": "it decides no result"}


def idle_settings(config: RunConfig, corpus: CorpusFiles) -> dict[str, str]:
    """The settings whose value has no effect for `config` on `corpus`, each with the reason."""
    idle: dict[str, str] = {}
    objective = f"objective={config.objective}"
    if config.objective in LABELLED:
        idle |= dict.fromkeys(("bptt", "eval_bptt"), f"{objective} reads whole sequences")
    if config.objective == "next_token":
        idle["eval_bptt"] = f"{objective} scores windows of bptt tokens"
    if config.max_steps:
        reason = f"max_steps={config.max_steps} measures speed, without epochs or evaluation"
        idle |= dict.fromkeys(("epochs", "time_budget", "test_once", "lr_steps", *_LATER, *_OF_EVALUATION), reason)
    elif config.epochs == 1:
        idle |= dict.fromkeys(("lr_steps", *_LATER), "epochs=1 has no later epoch")
    else:
        steps = parse_steps(config.lr_steps)
        if steps and steps[0][0] > config.epochs:
            idle["lr_steps"] = f"it begins after the last of epochs={config.epochs}"
        if config.early_stopping is not None and config.early_stopping >= config.epochs:
            idle["early_stopping"] = f"epochs={config.epochs} ends the run first"
        if config.lr_decay == 1:
            idle["lr_patience"] = "lr_decay=1 keeps the learning rate"
    if config.lr_schedule != "plateau":
        idle |= dict.fromkeys(("lr_decay", "lr_patience"), f"lr_schedule={config.lr_schedule} goes by the step")
    if config.optimizer == "adadelta":
        reason = "optimizer=adadelta has no learning rate"
        idle |= dict.fromkeys(("learning_rate", "lr_schedule", "lr_decay", "lr_patience", "lr_steps"), reason)
    if config.averaging != "none":
        epochs = 1 if config.max_steps else config.epochs
        unit, start = config.earliest_averaging
        if (epochs if unit == "epoch" else _most_steps(config, corpus)) < start:
            idle["averaging"] = f"epochs={epochs} ends the run before it can begin"
    if config.embedding != "random":
        idle["embedding_initializer"] = "the embedding is given"
    if config.embedding == "one_hot":
        idle["train_embedding"] = "embedding=one_hot has nothing to train"
        idle["dropout_embedding"] = "embedding=one_hot has no rows to drop"
    if config.num_layers == 1:
        idle["dropout_hidden"] = "num_layers=1 has nothing between layers"
    if (config.max_train_tokens or 0) >= corpus.train_tokens:
        idle["max_train_tokens"] = f"{corpus.dataset} has {corpus.train_tokens:,} tokens to train on"
    if (config.max_eval_tokens or 0) >= max(corpus.valid_tokens, corpus.test_tokens, 1):
        idle["max_eval_tokens"] = f"the texts of {corpus.dataset} to score are no longer"
    return idle


def _most_steps(config: RunConfig, corpus: CorpusFiles) -> float:
    """An upper bound on a run's training steps, where it is known before the start."""
    if config.objective != "language_model" or config.random_bptt:
        return math.inf
    tokens = min(corpus.train_tokens, config.max_train_tokens or corpus.train_tokens)
    return config.max_steps or config.epochs * math.ceil(tokens / (config.batch_size * config.bptt))


def remarks(sweep: Sweep, points: Sequence[tuple[RunConfig, CorpusFiles]]) -> Iterator[str]:
    """One-line remarks: overrides that match no point of `sweep`, and settings of ``--set`` without effect.

    Args:
        sweep: what was requested.
        points: each of its configurations and its corpus.

    Raises:
        UserError: an axis has no effect at any of its points, so differences along it would be due to chance.
    """
    everywhere = [idle_settings(config, corpus) for config, corpus in points]
    if sweep.sample is None:  # an axis may change nothing at the few points of a sample
        _check_axes(sweep.axes, everywhere)
        for override in sweep.overrides:
            if override.axes:
                there = zip(points, everywhere, strict=True)
                _check_axes(override.axes, [idle for (config, _), idle in there if override.fits(config.model_dump())])
    for name in sweep.pinned:
        if reason := _shared_reason(name, everywhere):
            yield f"{name}={sweep.pinned[name]} changes nothing: {reason}"
    varied = sweep.varied()
    for override in sweep.unmatched():
        said = " ".join(f"{name}={value}" for name, value in override.when.items())
        hints = (
            did_you_mean(str(value), map(str, varied.get(name, ())))
            for name, value in override.when.items()
            if value not in varied.get(name, ())
        )
        yield printable(f"the override for {said} matches no point{next(filter(None, hints), '')}")


def _check_axes(axes: Mapping[str, Sequence[Any]], everywhere: Sequence[dict[str, str]]) -> None:
    """Refuse an axis that has no effect at any of its points."""
    for name, values in axes.items():
        reason = _UNRECORDED.get(name) or _shared_reason(name, everywhere)
        if reason and len(set(values)) > 1:
            raise UserError(f"axis {name} changes nothing: {reason}; drop the axis")


def _shared_reason(name: str, everywhere: Sequence[dict[str, str]]) -> str | None:
    """Why the setting `name` has no effect at any point; None if it has one."""
    return everywhere[0].get(name) if everywhere and all(name in idle for idle in everywhere) else None
