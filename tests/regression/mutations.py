"""The recipe broken on purpose, one defect at a time.

``python -m tests.regression.mutations`` measures each with every run and prints the table of README.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import mxnet as mx
import pytest
from mxnet import autograd

from gluon_rnn import objectives, training
from gluon_rnn.batches import Batch, Share
from gluon_rnn.cells import FusedTanhRNN, GRUCell, LSTMCell, RNNCell
from gluon_rnn.metrics import Progress
from gluon_rnn.models import Body
from gluon_rnn.records import load_results
from tests.regression.baselines import TOLERANCE, measure, points, table

Mutation = Callable[[pytest.MonkeyPatch], None]


def clip_left_out(patch: pytest.MonkeyPatch) -> None:
    _wrap(patch, "clip_and_update", lambda update, trainer, parameters, clip: update(trainer, parameters, None))


def clipped_one_by_one(patch: pytest.MonkeyPatch) -> None:
    """Each gradient to the norm that is meant for all."""

    def update(update: Any, trainer: Any, parameters: Any, clip: float) -> None:
        for parameter in parameters:
            update(trainer, [parameter], clip)

    _wrap(patch, "clip_and_update", update)


def update_applied_twice(patch: pytest.MonkeyPatch) -> None:
    def update(update: Any, *arguments: Any) -> None:
        update(*arguments)
        update(*arguments)

    _wrap(patch, "clip_and_update", update)


def loss_summed(patch: pytest.MonkeyPatch) -> None:
    """Instead of averaged: gradients are larger by the tokens of a window."""

    def backpropagate(backpropagate: Any, model: Any, *arguments: Any, targets: int, **options: Any) -> Any:
        found = backpropagate(model, *arguments, targets=targets, **options)
        for parameter in model.collect_params().values():
            parameter.grad()[:] *= targets
        return found

    _wrap(patch, "backpropagate", backpropagate)


def state_not_carried_in_training(patch: pytest.MonkeyPatch) -> None:
    def backpropagate(backpropagate: Any, *arguments: Any, **options: Any) -> Any:
        loss, state = backpropagate(*arguments, **options)
        return loss, [mx.nd.zeros_like(part) for part in state]

    _wrap(patch, "backpropagate", backpropagate)


def state_not_carried_in_evaluation(patch: pytest.MonkeyPatch) -> None:
    call = Body.__call__

    def forgetful(body: Body, inputs: Any, state: Any) -> Any:
        outputs, after = call(body, inputs, state)
        return outputs, after if autograd.is_training() else [mx.nd.zeros_like(part) for part in after]

    patch.setattr(Body, "__call__", forgetful)


def learning_rate_not_decayed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(training, "learning_rate_after", lambda history, config: config.learning_rate)


def learning_rate_decayed_an_epoch_late(patch: pytest.MonkeyPatch) -> None:
    _wrap(patch, "learning_rate_after", lambda after, history, config: after(history[:-1], config))


def training_targets_shifted(patch: pytest.MonkeyPatch) -> None:
    """The next but one word is asked for."""

    def windows(windows: Any, ids: Any, **options: Any) -> Any:
        pairs = zip(windows(ids[:-1], **options), windows(ids[1:], **options), strict=True)
        return [replace(now, shares=[now.shares[0]._replace(targets=later.shares[0].targets)]) for now, later in pairs]

    _wrap(patch, "training_windows", windows, objectives)


def evaluation_targets_shifted(patch: pytest.MonkeyPatch) -> None:
    """The word is asked for that was given."""

    def columns(columns: Any, *arguments: Any, **options: Any) -> Any:
        found = columns(*arguments, **options)
        return [replace(window, shares=[share._replace(targets=share.inputs)]) for window, share in _alone(found)]

    _wrap(patch, "columns", columns, objectives)


def padding_counted_in_evaluation(patch: pytest.MonkeyPatch) -> None:
    def columns(columns: Any, *arguments: Any, **options: Any) -> Any:
        found = columns(*arguments, **options)
        return [replace(window, shares=[share._replace(weights=None)]) for window, share in _alone(found)]

    _wrap(patch, "columns", columns, objectives)


def tail_left_out_of_evaluation(patch: pytest.MonkeyPatch) -> None:
    """What fills no whole window, as ``last_batch='discard'`` does."""

    def columns(columns: Any, ids: Any, *, bptt: int, batch_size: int, **options: Any) -> Any:
        whole = (len(ids) - 1) // (bptt * batch_size) * bptt * batch_size
        return columns(ids[: whole + 1], bptt=bptt, batch_size=batch_size, **options)

    _wrap(patch, "columns", columns, objectives)


def dropout_on_in_evaluation(patch: pytest.MonkeyPatch) -> None:
    def evaluate(evaluate: Any, *arguments: Any, **options: Any) -> Any:
        with autograd.train_mode():
            return evaluate(*arguments, **options)

    _wrap(patch, "evaluate", evaluate)


def dropout_off_in_training(patch: pytest.MonkeyPatch) -> None:
    _configure(patch, dropout=0.0)


def dropout_missing_between_layers(patch: pytest.MonkeyPatch) -> None:
    """As in GluonNLP's model on a CPU."""

    def build(build: Any, *arguments: Any, **options: Any) -> Any:
        model = build(*arguments, **options)
        model.encoder._between._rate = 0
        return model

    _wrap(patch, "build_model", build)


def embedding_not_tied(patch: pytest.MonkeyPatch) -> None:
    _configure(patch, tie_weights=False)


def decoders_share_of_a_tied_gradient_lost(patch: pytest.MonkeyPatch) -> None:
    """The embedding's share is written over it instead of added."""

    def build(build: Any, *arguments: Any, **options: Any) -> Any:
        model = build(*arguments, **options)
        model.ties_weights = False
        return model

    _wrap(patch, "build_model", build)


def same_dropout_in_every_epoch(patch: pytest.MonkeyPatch) -> None:
    _wrap(patch, "seed_epoch", lambda seed, number, epoch: seed(number, 1))


def best_epoch_is_the_last(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Progress, "best", property(lambda progress: progress.history[-1] if progress.history else None))


def windows_in_another_order(patch: pytest.MonkeyPatch) -> None:
    _wrap(patch, "training_windows", lambda windows, ids, **options: windows(ids, **options)[::-1], objectives)


def initialised_otherwise(patch: pytest.MonkeyPatch) -> None:
    _configure(patch, initializer="uniform")


def gru_resets_before_the_product(patch: pytest.MonkeyPatch) -> None:
    """As Cho et al. have it; cuDNN resets after it."""

    def step(cell: GRUCell, F: Any, projected: Any, states: Any, recurrent: Any) -> Any:
        (hidden,) = states
        x_reset, x_update, x_new = F.split(projected, num_outputs=3, axis=1)
        h_reset, h_update, _ = F.split(recurrent(hidden), num_outputs=3, axis=1)
        _, _, h_new = F.split(recurrent(F.sigmoid(x_reset + h_reset) * hidden), num_outputs=3, axis=1)
        update = F.sigmoid(x_update + h_update)
        hidden = (1 - update) * F.tanh(x_new + h_new) + update * hidden
        return hidden, [hidden]

    patch.setattr(GRUCell, "step", step)


def lstm_never_forgets(patch: pytest.MonkeyPatch) -> None:
    def step(cell: LSTMCell, F: Any, projected: Any, states: Any, recurrent: Any) -> Any:
        hidden, memory = states
        gates = F.split(projected + recurrent(hidden), num_outputs=4, axis=1)
        memory = memory + F.sigmoid(gates[0]) * F.tanh(gates[2])
        hidden = F.sigmoid(gates[3]) * F.tanh(memory)
        return hidden, [hidden, memory]

    patch.setattr(LSTMCell, "step", step)


def rnn_of_another_activation(patch: pytest.MonkeyPatch) -> None:
    def step(cell: RNNCell, F: Any, projected: Any, states: Any, recurrent: Any) -> Any:
        hidden = F.relu(projected + recurrent(*states))
        return hidden, [hidden]

    patch.setattr(RNNCell, "step", step)
    patch.setattr(FusedTanhRNN, "mode", "rnn_relu")


def _wrap(patch: pytest.MonkeyPatch, name: str, wrapper: Callable[..., Any], module: Any = training) -> None:
    """Let `module` call `wrapper` with the function of that `name` before its arguments."""
    original = getattr(module, name)
    patch.setattr(module, name, lambda *arguments, **options: wrapper(original, *arguments, **options))


def _alone(batches: Sequence[Batch]) -> list[tuple[Batch, Share]]:
    """Each batch with the share of its one device."""
    return [(batch, batch.shares[0]) for batch in batches]


def _configure(patch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Build the model of another configuration than is trained."""
    _wrap(
        patch,
        "build_model",
        lambda build, config, *rest, **more: build(config.model_copy(update=settings), *rest, **more),
    )


#: (mutation, cell, whether tied): what the tests run. README.md says by how much each is off, and what does not see it.
CAUGHT_BY: list[tuple[Mutation, str, bool]] = [
    (clip_left_out, "lstm", True),
    (clipped_one_by_one, "gru", False),
    (update_applied_twice, "rnn_tanh", False),
    (loss_summed, "gru", False),
    (state_not_carried_in_training, "lstm", False),
    (state_not_carried_in_evaluation, "gru", True),
    (learning_rate_not_decayed, "lstm", True),
    (learning_rate_decayed_an_epoch_late, "rnn_relu", True),
    (training_targets_shifted, "rnn_tanh", False),
    (evaluation_targets_shifted, "rnn_tanh", False),
    (padding_counted_in_evaluation, "gru", True),
    (tail_left_out_of_evaluation, "rnn_tanh", False),
    (dropout_on_in_evaluation, "lstm", True),
    (dropout_off_in_training, "gru", False),
    (dropout_missing_between_layers, "lstm", False),
    (embedding_not_tied, "rnn_tanh", True),
    (decoders_share_of_a_tied_gradient_lost, "gru", True),
    (same_dropout_in_every_epoch, "rnn_tanh", True),
    (best_epoch_is_the_last, "rnn_relu", False),
    (windows_in_another_order, "gru", False),
    (initialised_otherwise, "gru", True),
    (gru_resets_before_the_product, "custom_gru", False),
    (lstm_never_forgets, "custom_lstm", True),
    (rnn_of_another_activation, "custom_rnn", True),
]


def _changes(mutation: Mutation) -> dict[tuple[str, bool], list[float]]:
    """By how much `mutation` moves the perplexities of training, validation and test of each run, relatively."""
    found = {}
    kept = load_results(table("synthetic")).set_index("run_id")
    for config in points("synthetic"):
        with pytest.MonkeyPatch.context() as patch:
            mutation(patch)
            record = measure(config)
        was = kept.loc[record.run_id]
        found[config.cell, config.tie_weights] = [
            (getattr(record, name) or math.nan) / was[name] - 1
            for name in ("train_perplexity", "valid_perplexity", "test_perplexity")
        ]
    return found


if __name__ == "__main__":
    print("| broken recipe | run of the test | training | validation | test | seen by |")
    print("| --- | --- | --- | --- | --- | --- |")
    for mutation, runs in groupby(CAUGHT_BY, key=itemgetter(0)):
        changes = _changes(mutation)
        seen = sum(any(not abs(change) <= TOLERANCE["synthetic"] for change in of_run) for of_run in changes.values())
        for _, cell, tied in runs:
            moved = " | ".join(f"{change:+.2%}" for change in changes[cell, tied])
            print(f"| {mutation.__name__} | {cell} {'tied' if tied else 'untied'} | {moved} | {seen} |", flush=True)
