"""Recurrent layers on top of each other: both directions, and sequences of different lengths in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_rnn.config.run import CUSTOM_CELLS, FUSED_CELLS
from gluon_rnn.networks.models import RecurrentStack
from tests import device as on
from tests.networks.test_layers import randomised

pytestmark = pytest.mark.numerical

STEPS, FEATURES, UNITS = 7, 3, 5
LENGTHS = (7, 3, 0, 1, 5)
CELLS = (*FUSED_CELLS, *CUSTOM_CELLS, "tests.networks.test_layers:SlowRNN", "mxnet.gluon.rnn:LSTMCell")


def stack_of(cell: str, *, layers: int = 1, bidirectional: bool = False, features: int = FEATURES) -> RecurrentStack:
    stack = RecurrentStack(
        cell,
        input_size=features,
        layer_sizes=[UNITS] * layers,
        dropouts=[0.0] * (layers - 1),
        bidirectional=bidirectional,
    )
    return randomised(stack, seed=4)


def states_of(stack: RecurrentStack, batch: int) -> list[Any]:
    """Random states, one after another; `nested` makes them the stack's."""
    return [on.normal(shape=zeros.shape) for zeros in flat(stack.begin_state(batch, on.DEVICE))]


def flat(states: Any) -> list[Any]:
    return [state for layer in states for state in layer]


def nested(stack: RecurrentStack, states: list[Any]) -> list[list[Any]]:
    return [states[first : first + stack.state_count] for first in range(0, len(states), stack.state_count)]


def passes(stack: RecurrentStack, inputs: Any, states: list[Any], *lengths: Any, weights: Any) -> dict[str, Any]:
    """Outputs, states and gradients by every input of a loss with `weights` (of outputs, then of each state)."""
    inputs, states = inputs.copy(), [state.copy() for state in states]
    for array in (inputs, *states):
        array.attach_grad()
    with autograd.record():
        outputs, after = stack(inputs, nested(stack, states), *lengths)
        loss = sum((weight * part).sum() for weight, part in zip(weights, (outputs, *flat(after)), strict=True))
    loss.backward()
    found = {"outputs": outputs, "gradient of inputs": inputs.grad}
    for number, (state, before) in enumerate(zip(flat(after), states, strict=True)):
        found |= {f"state {number}": state, f"gradient of state {number}": before.grad}
    found |= {name: parameter.grad() for name, parameter in stack._collect_params_with_prefix().items()}
    return {name: array.asnumpy() for name, array in found.items()}


@pytest.mark.parametrize(
    ("layers", "bidirectional", "hybridize"),
    [(1, False, True), (1, True, False), (2, False, True), (2, True, True)],
)
@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_nothing(cell: str, layers: int, bidirectional: bool, hybridize: bool) -> None:
    """Whatever it holds; and every sequence fares as it does alone, in the same block called without lengths."""
    stack = stack_of(cell, layers=layers, bidirectional=bidirectional)
    if hybridize:
        stack.hybridize(static_alloc=True)
    batch, lengths = len(LENGTHS), on.array(LENGTHS)
    padding = np.arange(STEPS)[:, None] >= np.array(LENGTHS)  # (steps, batch)
    clean = np.random.RandomState(1).randn(STEPS, batch, FEATURES)
    clean[padding] = 0
    states = states_of(stack, batch)
    weights = [on.normal(shape=(STEPS, batch, UNITS * stack.directions)), *states_of(stack, batch)]

    alone = []
    for row, length in enumerate(LENGTHS):
        if length:
            inputs = on.array(clean[:length, row : row + 1])
            of_row = [state[:, row : row + 1] for state in states]
            weights_of_row = [weights[0][:length, row : row + 1], *(weight[:, row : row + 1] for weight in weights[1:])]
            alone.append((row, length, passes(stack, inputs, of_row, weights=weights_of_row)))

    expected = passes(stack, on.array(clean), states, lengths, weights=weights)
    for garbage in (1e30, np.nan):
        dirty = clean.copy()
        dirty[padding] = garbage
        for name, array in passes(stack, on.array(dirty), states, lengths, weights=weights).items():
            np.testing.assert_array_equal(array, expected[name], err_msg=f"{name} with {garbage}")

    close = {"atol": 2e-6, "rtol": 1e-5}
    for name in ("outputs", "gradient of inputs"):
        assert (expected[name][padding] == 0).all(), name
        for row, length, of_row in alone:
            on.assert_close(expected[name][:length, row], of_row[name][:, 0], err_msg=name, **close)
    empty = LENGTHS.index(0)
    for number, (state, weight) in enumerate(zip(states, weights[1:], strict=True)):
        for row, _, of_row in alone:
            for name in (f"state {number}", f"gradient of state {number}"):
                on.assert_close(expected[name][:, row], of_row[name][:, 0], err_msg=name, **close)
        np.testing.assert_array_equal(expected[f"state {number}"][:, empty], state.asnumpy()[:, empty])
        np.testing.assert_array_equal(expected[f"gradient of state {number}"][:, empty], weight.asnumpy()[:, empty])
    for name in stack._collect_params_with_prefix():
        total = sum(of_row[name] for _, _, of_row in alone)
        assert np.abs(total).max() > 0, name
        on.assert_close(expected[name], total, err_msg=name, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_lengths_of_whole_sequences_are_as_good_as_none(cell: str) -> None:
    stack = stack_of(cell, layers=2, bidirectional=True)
    inputs, states = on.normal(shape=(STEPS, 2, FEATURES)), states_of(stack, 2)
    weights = [on.normal(shape=(STEPS, 2, 2 * UNITS)), *states_of(stack, 2)]
    expected = passes(stack, inputs, states, weights=weights)
    stack.hybridize(static_alloc=True)
    for _ in range(2):  # to and fro between the two graphs of one block
        for lengths in ((), (None,), (on.full((2,), STEPS),)):
            for name, array in passes(stack, inputs, states, *lengths, weights=weights).items():
                on.assert_close(array, expected[name], err_msg=name, atol=2e-6, rtol=1e-5)


def test_an_lstms_cell_state_is_held_through_padding_to_the_bit() -> None:
    """The fused operator does not put it out but after the last step. In sizes for which oneDNN has blocked kernels."""
    stack = RecurrentStack("lstm", input_size=100, layer_sizes=[128], dropouts=[])
    randomised(stack, seed=2)
    inputs = on.normal(shape=(300, 32, 100))
    states = [on.normal(shape=(1, 32, 128)) for _ in range(2)]
    cut, (cut_states,) = stack(inputs[:17], [states])
    padded, (padded_states,) = stack(inputs, [states], on.full((32,), 17))
    for mine, expected in zip((padded[:17], *padded_states), (cut, *cut_states), strict=True):
        np.testing.assert_array_equal(mine.asnumpy(), expected.asnumpy())


@pytest.mark.parametrize("cell", ["rnn_relu", "lstm"])
def test_what_would_grow_without_bound_in_the_padding_does_not(cell: str) -> None:
    stack = stack_of(cell)
    for parameter in stack.collect_params().values():
        parameter.set_data(mx.nd.ones(parameter.shape))
    inputs, states = on.ones((100, 1, FEATURES)), [on.ones((1, 1, UNITS)) for _ in range(stack.state_count)]
    weights = [on.ones((100, 1, UNITS)), *states]
    padded = passes(stack, inputs, states, on.full((1,), 2), weights=weights)
    cut = passes(stack, inputs[:2], states, weights=[weights[0][:2], *states])
    for name in stack._collect_params_with_prefix():
        on.assert_close(padded[name], cut[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("cell", FUSED_CELLS)
def test_both_directions_are_gluons_and_so_are_its_files(cell: str, tmp_path: Path) -> None:
    sizes = {"num_layers": 2, "bidirectional": True, "input_size": FEATURES}
    theirs = {
        "lstm": lambda: mx.gluon.rnn.LSTM(UNITS, **sizes),
        "gru": lambda: mx.gluon.rnn.GRU(UNITS, **sizes),
        "rnn_tanh": lambda: mx.gluon.rnn.RNN(UNITS, activation="tanh", **sizes),
        "rnn_relu": lambda: mx.gluon.rnn.RNN(UNITS, activation="relu", **sizes),
    }[cell]()
    stack = stack_of(cell, layers=2, bidirectional=True)
    stack.save_parameters(str(tmp_path / "ours"))
    theirs.load_parameters(str(tmp_path / "ours"), ctx=on.DEVICE)
    stack.hybridize(static_alloc=True)
    states = states_of(stack, 4)
    # Gluon's are (layers x directions, batch, units), one array of h and one of c.
    kinds = range(stack.state_count)
    their_states = [mx.nd.concat(*states[kind :: stack.state_count], dim=0) for kind in kinds]
    for steps in (STEPS, 2):
        inputs = on.normal(shape=(steps, 4, FEATURES))
        expected, expected_states = theirs(inputs, their_states)
        outputs, after = stack(inputs, nested(stack, states))
        on.assert_close(outputs.asnumpy(), expected.asnumpy(), atol=1e-6)
        for kind in kinds:
            mine = mx.nd.concat(*(layer[kind] for layer in after), dim=0)
            on.assert_close(mine.asnumpy(), expected_states[kind].asnumpy(), atol=1e-6)
    theirs.save_parameters(str(tmp_path / "theirs"))
    stack.load_parameters(str(tmp_path / "theirs"), ctx=on.DEVICE)


@pytest.mark.parametrize("cell", ["lstm", "custom_gru"])
def test_layers_of_different_sizes_are_as_many_stacks_of_one(cell: str) -> None:
    """As AWD-LSTM's, each with states of its own size."""
    sizes = (8, 5, 4)
    whole = randomised(RecurrentStack(cell, input_size=FEATURES, layer_sizes=sizes, dropouts=[0.0, 0.0]), seed=6)
    assert whole.output_size == 4
    whole.hybridize()
    inputs = outputs = on.normal(shape=(STEPS, 2, FEATURES))
    states = nested(whole, states_of(whole, 2))
    assert [[state.shape for state in layer] for layer in states] == [[(1, 2, n)] * whole.state_count for n in sizes]
    expected_states = []
    for number, (size, state) in enumerate(zip(sizes, states, strict=True)):
        one = RecurrentStack(cell, input_size=outputs.shape[2], layer_sizes=[size], dropouts=[])
        one.initialize(ctx=on.DEVICE)
        for name, parameter in one._collect_params_with_prefix().items():
            same = whole._collect_params_with_prefix()[name.replace("_unfused.0", f"_unfused.{number}")]
            parameter.set_data(same.data())
        outputs, after = one(outputs, [state])
        expected_states += after
    found, after = whole(inputs, states)
    on.assert_close(found.asnumpy(), outputs.asnumpy(), atol=1e-6)
    for mine, expected in zip(flat(after), flat(expected_states), strict=True):
        on.assert_close(mine.asnumpy(), expected.asnumpy(), atol=1e-6)


def test_each_gap_between_layers_has_its_own_dropout() -> None:
    """Of relu layers that pass on what they are given, with all dropout in one gap."""
    inputs = on.ones((STEPS, 40, 6))
    for rates, kept in (([0.0, 0.5], 0.5), ([0.5, 0.0], 0.5), ([0.5, 0.5], 0.25), ([0.0, 0.0], 1.0)):
        stack = RecurrentStack("rnn_relu", input_size=6, layer_sizes=[6, 6, 6], dropouts=rates)
        stack.initialize(mx.init.Zero(), ctx=on.DEVICE)
        for name, parameter in stack._collect_params_with_prefix().items():
            if name.endswith("i2h_weight"):
                parameter.set_data(mx.nd.eye(6))
        mx.random.seed(2)
        with autograd.train_mode():
            outputs = stack(inputs, stack.begin_state(40, on.DEVICE))[0].asnumpy()
        assert (outputs != 0).mean() == pytest.approx(kept, abs=0.05)
        assert np.unique(outputs[outputs != 0]) == pytest.approx(1 / kept)


def test_one_directions_parameters_are_named_as_ever() -> None:
    assert list(stack_of("gru", layers=2)._collect_params_with_prefix()) == [
        f"_unfused.{number}.{name}"
        for number in range(2)
        for name in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
    ]
