"""The recipe broken on purpose, one defect at a time.

``python -m tests.regression.mutations`` measures each with every run of a sweep and prints the table of README.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_rnn.data.batches import Batch, Shard
from gluon_rnn.data.vectors import text
from gluon_rnn.networks.layers import CharLoopCell, FusedTanhRNN, GRUCell, LSTMCell, RNNCell
from gluon_rnn.networks.models import Backbone, SequenceModel
from gluon_rnn.runs.progress import Progress
from gluon_rnn.training import loop as training
from gluon_rnn.training import objectives, schedules, scoring
from tests.regression import baselines
from tests.regression.baselines import COMPARED, TOLERANCE, kept_rows, measure, points

Mutation = Callable[[pytest.MonkeyPatch], None]


def clip_left_out(patch: pytest.MonkeyPatch) -> None:
    _wrap(
        patch,
        "clip_and_update",
        lambda update, trainer, parameters, clip, **options: update(trainer, parameters, None, **options),
    )


def clipped_one_by_one(patch: pytest.MonkeyPatch) -> None:
    """Each gradient to the norm that is meant for all."""

    def update(update: Any, trainer: Any, parameters: Any, clip: float, **options: Any) -> None:
        for parameter in parameters:
            update(trainer, [parameter], clip, **options)

    _wrap(patch, "clip_and_update", update)


def update_applied_twice(patch: pytest.MonkeyPatch) -> None:
    def update(update: Any, *arguments: Any, **options: Any) -> None:
        update(*arguments, **options)
        update(*arguments, **options)

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
        return loss, _zeros(state)

    _wrap(patch, "backpropagate", backpropagate)


def state_not_carried_in_evaluation(patch: pytest.MonkeyPatch) -> None:
    call = Backbone.__call__

    def forgetful(backbone: Backbone, *arguments: Any) -> Any:
        outputs, penalties, after = call(backbone, *arguments)
        return outputs, penalties, after if autograd.is_training() else _zeros(after)

    patch.setattr(Backbone, "__call__", forgetful)


def learning_rate_not_decayed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(training, "learning_rate_after", lambda history, config: config.learning_rate)


def learning_rate_decayed_an_epoch_late(patch: pytest.MonkeyPatch) -> None:
    _wrap(patch, "learning_rate_after", lambda after, history, config: after(history[:-1], config))


def training_targets_shifted(patch: pytest.MonkeyPatch) -> None:
    """The next but one word is asked for."""

    def windows(windows: Any, ids: Any, **options: Any) -> Any:
        pairs = zip(windows(ids[:-1], **options), windows(ids[1:], **options), strict=True)
        return [replace(now, shards=[now.shards[0]._replace(targets=later.shards[0].targets)]) for now, later in pairs]

    _wrap(patch, "training_windows", windows, objectives)


def evaluation_targets_shifted(patch: pytest.MonkeyPatch) -> None:
    """The word is asked for that was given."""

    def columns(columns: Any, *arguments: Any, **options: Any) -> Any:
        found = columns(*arguments, **options)
        return [replace(window, shards=[shard._replace(targets=shard.inputs)]) for window, shard in _alone(found)]

    _wrap(patch, "columns", columns, objectives)


def padding_counted_in_evaluation(patch: pytest.MonkeyPatch) -> None:
    def columns(columns: Any, *arguments: Any, **options: Any) -> Any:
        found = columns(*arguments, **options)
        return [replace(window, shards=[shard._replace(weights=None)]) for window, shard in _alone(found)]

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
        for dropout in model.encoder._dropouts:
            dropout.rate = 0
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


# Of the reference systems


def tail_dropped_in_spite_of_keeping(patch: pytest.MonkeyPatch) -> None:
    def build_objective(build_objective: Any, config: Any, *arguments: Any, **options: Any) -> Any:
        return build_objective(config.model_copy(update={"last_batch": "discard"}), *arguments, **options)

    _wrap(patch, "build_objective", build_objective)


def padding_counted_in_training(patch: pytest.MonkeyPatch) -> None:
    """Its targets have gradients, and enter the loss; that is still divided by the number of those that count."""

    def backpropagate(backpropagate: Any, model: Any, shard: Any, *arguments: Any, **options: Any) -> Any:
        return backpropagate(model, shard._replace(weights=None), *arguments, **options)

    _wrap(patch, "backpropagate", backpropagate)


def not_lowered(patch: pytest.MonkeyPatch) -> None:
    _wrap(patch, "_corpus", lambda read, **reading: read(**{**reading, "lower": False}), baselines)


def rare_words_kept(patch: pytest.MonkeyPatch) -> None:
    _wrap(patch, "_corpus", lambda read, **reading: read(**{**reading, "min_freq": 1}), baselines)


def frozen_embedding_trained(patch: pytest.MonkeyPatch) -> None:
    _configure(patch, train_embedding=True)


def words_without_vector_left_zero(patch: pytest.MonkeyPatch) -> None:
    def load(load: Any, found: Any, vocab: Any, **options: Any) -> Any:
        vectors, missing = load(found, vocab, **options)
        known = text.rows(found.path, found.size, vocab.idx_to_token)
        vectors[[word not in known for word in vocab.idx_to_token]] = 0
        return vectors, missing

    _wrap(patch, "load_vectors", load, baselines)


def lengths_ignored(patch: pytest.MonkeyPatch) -> None:
    """Padding is read as words, and the backward direction begins with it."""

    def read(read: Any, model: Any, shard: Any, state: Any) -> Any:
        return read(model, shard._replace(lengths=None), state)

    _wrap(patch, "read", read, SequenceModel)


def backward_layer_reads_forward(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mx.sym, "SequenceReverse", lambda sequences, *lengths, **options: sequences)


def cell_state_left_out_of_the_last_states(patch: pytest.MonkeyPatch) -> None:
    """Only an LSTM's h enters the decoder; what stands for c is zero."""

    def read(read: Any, model: Any, *arguments: Any) -> Any:
        outputs, penalty, states = read(model, *arguments)
        half = outputs.shape[2] // len(states[-1])
        kept = mx.nd.arange(outputs.shape[2]) < half
        return mx.nd.broadcast_mul(outputs, kept.reshape((1, 1, -1))), penalty, states

    _wrap(patch, "read", read, SequenceModel)


def accuracy_counted_over_padding(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scoring, "target_mask", lambda shard: np.ones(shard.targets.shape, dtype=bool))


def sequences_not_shuffled(patch: pytest.MonkeyPatch) -> None:
    _wrap(
        patch,
        "FixedBucketSampler",
        lambda sampler, *arguments, shuffle: sampler(*arguments, shuffle=False),
        objectives,
    )


def windows_not_shuffled(patch: pytest.MonkeyPatch) -> None:
    # The windows that are held out are drawn from a RandomState of their own.
    patch.setattr(np.random, "permutation", lambda starts: starts)


def early_stopping_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(training, "is_finished", lambda progress, config: len(progress.history) >= config.epochs)


def learning_rates_steps_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(schedules, "parse_steps", lambda steps: [])


def windows_targets_shifted(patch: pytest.MonkeyPatch) -> None:
    """The next but one character is asked for, in training and in evaluation."""

    def windows(windows: Any, ids: Any, *arguments: Any, **options: Any) -> Any:
        pairs = zip(windows(ids, *arguments, **options), windows(np.roll(ids, -1), *arguments, **options), strict=True)
        return [replace(now, shards=[now.shards[0]._replace(targets=later.shards[0].targets)]) for now, later in pairs]

    _wrap(patch, "token_windows", windows, objectives)


def stride_ignored(patch: pytest.MonkeyPatch) -> None:
    def build_objective(build_objective: Any, config: Any, *arguments: Any, **options: Any) -> Any:
        return build_objective(config.model_copy(update={"stride": 1}), *arguments, **options)

    _wrap(patch, "build_objective", build_objective)


def held_out_windows_trained_on(patch: pytest.MonkeyPatch) -> None:
    def build_objective(build_objective: Any, config: Any, corpus: Any, *arguments: Any, **options: Any) -> Any:
        whole = build_objective(config, replace(corpus, valid=corpus.train, test=corpus.train), *arguments, **options)
        return replace(build_objective(config, corpus, *arguments, **options), training=whole.training)

    _wrap(patch, "build_objective", build_objective)


def state_carried_between_windows(patch: pytest.MonkeyPatch) -> None:
    """From one batch of windows to the next in training, where both are of one size."""
    before: list[Any] = []

    def backpropagate(backpropagate: Any, model: Any, shard: Any, state: Any, **options: Any) -> Any:
        fits = bool(before) and before[0][0].shape == state[0][0].shape
        loss, before[:] = backpropagate(model, shard, before if fits else state, **options)
        return loss, list(before)

    _wrap(patch, "backpropagate", backpropagate)


def char_loop_adds_no_state(patch: pytest.MonkeyPatch) -> None:
    """h' = tanh(W_h2h relu(W_i2h x + b_i2h) + b_h2h): the state is lost."""

    def step(cell: CharLoopCell, F: Any, projected: Any, states: Any, recurrent: Any) -> Any:
        hidden = F.tanh(recurrent(0 * states[0] + F.relu(projected)))
        return hidden, [hidden]

    patch.setattr(CharLoopCell, "step", step)


def _wrap(patch: pytest.MonkeyPatch, name: str, wrapper: Callable[..., Any], module: Any = training) -> None:
    """Let `module` call `wrapper` with the function of that `name` before its arguments."""
    original = getattr(module, name)
    patch.setattr(module, name, lambda *arguments, **options: wrapper(original, *arguments, **options))


def _zeros(states: Any) -> Any:
    return [[mx.nd.zeros_like(state) for state in layer] for layer in states]


def _alone(batches: Sequence[Batch]) -> list[tuple[Batch, Shard]]:
    """Each batch with the shard of its one device."""
    return [(batch, batch.shards[0]) for batch in batches]


def _configure(patch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Build the model of another configuration than is trained."""
    _wrap(
        patch,
        "build_model",
        lambda build, config, *rest, **more: build(config.model_copy(update=settings), *rest, **more),
    )


#: (mutation, sweep, label of the run): what the tests run. README.md says by how much each is off, and what does not
#: see it.
CAUGHT_BY: list[tuple[Mutation, str, str]] = [
    (clip_left_out, "synthetic", "lstm tied"),
    (clipped_one_by_one, "synthetic", "gru untied"),
    (update_applied_twice, "synthetic", "rnn_tanh untied"),
    (loss_summed, "synthetic", "gru untied"),
    (state_not_carried_in_training, "synthetic", "lstm untied"),
    (state_not_carried_in_evaluation, "synthetic", "gru tied"),
    (learning_rate_not_decayed, "synthetic", "lstm tied"),
    (learning_rate_decayed_an_epoch_late, "synthetic", "rnn_relu tied"),
    (training_targets_shifted, "synthetic", "rnn_tanh untied"),
    (evaluation_targets_shifted, "synthetic", "rnn_tanh untied"),
    (padding_counted_in_evaluation, "synthetic", "gru tied"),
    (tail_left_out_of_evaluation, "synthetic", "rnn_tanh untied"),
    (dropout_on_in_evaluation, "synthetic", "lstm tied"),
    (dropout_off_in_training, "synthetic", "gru untied"),
    (dropout_missing_between_layers, "synthetic", "lstm untied"),
    (embedding_not_tied, "synthetic", "rnn_tanh tied"),
    (decoders_share_of_a_tied_gradient_lost, "synthetic", "gru tied"),
    (same_dropout_in_every_epoch, "synthetic", "rnn_tanh tied"),
    (best_epoch_is_the_last, "synthetic", "rnn_relu untied"),
    (windows_in_another_order, "synthetic", "gru untied"),
    (initialised_otherwise, "synthetic", "gru tied"),
    (gru_resets_before_the_product, "synthetic", "custom_gru untied"),
    (lstm_never_forgets, "synthetic", "custom_lstm tied"),
    (rnn_of_another_activation, "synthetic", "custom_rnn tied"),
    (tail_dropped_in_spite_of_keeping, "embeddings", "trained"),
    (not_lowered, "embeddings", "frozen"),
    (frozen_embedding_trained, "embeddings", "frozen"),
    (words_without_vector_left_zero, "embeddings", "frozen"),
    (state_not_carried_in_training, "hihello", "by character random rnn_tanh"),
    (lengths_ignored, "labels", "classification gru"),
    (cell_state_left_out_of_the_last_states, "labels", "classification lstm"),
    (sequences_not_shuffled, "labels", "classification gru"),
    (early_stopping_ignored, "labels", "classification lstm"),
    (rare_words_kept, "labels", "classification gru"),
    (backward_layer_reads_forward, "labels", "tagging gru"),
    (padding_counted_in_training, "labels", "tagging gru"),
    (accuracy_counted_over_padding, "labels", "tagging gru"),
    (learning_rates_steps_ignored, "characters", "eight rnn_tanh"),
    (windows_targets_shifted, "characters", "eight rnn_tanh"),
    (windows_not_shuffled, "characters", "eight rnn_tanh"),
    (held_out_windows_trained_on, "characters", "eight rnn_tanh"),
    (state_carried_between_windows, "characters", "three char_loop"),
    (stride_ignored, "characters", "three char_loop"),
    (char_loop_adds_no_state, "characters", "three char_loop"),
]


def _changes(mutation: Mutation, name: str) -> dict[str, dict[str, float]]:
    """By how much `mutation` moves what is kept of each run of sweep `name`, relatively; not a number where it was
    measured and is not, or the other way round.
    """
    found, kept = {}, kept_rows(name)
    for label, config in points(name).items():
        with pytest.MonkeyPatch.context() as patch:
            mutation(patch)
            record = measure(config)
        was = kept[record.run_id]
        found[label] = {
            column: math.nan if None in (was[column], is_now) else is_now / was[column] - 1
            for column in COMPARED
            for is_now in [getattr(record, column)]
            if (was[column], is_now) != (None, None)
        }
    return found


def _figures(changes: Mapping[str, float]) -> list[str]:
    """Those of the three perplexities, and the largest of what else is kept."""
    first = [f"{changes[column]:+.2%}".replace("+nan%", "none") if column in changes else "" for column in COMPARED[:3]]
    other = max(COMPARED[3:], key=lambda column: abs(changes.get(column, 0)))
    return [*first, f"{other} {changes[other]:+.1%}" if changes.get(other) else ""]


if __name__ == "__main__":
    print("| broken recipe | run of the test | training | validation | test | else | seen by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for mutation, name, label in CAUGHT_BY:
        changes = _changes(mutation, name)
        seen = [of for of, run in changes.items() if any(not abs(change) <= TOLERANCE[name] for change in run.values())]
        figures = " | ".join([f"{name}: {label}", *_figures(changes[label]), f"{len(seen)} of {len(changes)}"])
        print(f"| {mutation.__name__} | {figures} |", flush=True)
