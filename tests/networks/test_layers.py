"""A cell from scratch equals the fused one, in outputs and in every gradient."""

from __future__ import annotations

import math
import warnings
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from gluon_rnn.config.run import CUSTOM_CELLS
from gluon_rnn.networks.layers import CustomCell, RecurrentLayer, ScannedCell, VariadicBlock, build_layer
from gluon_rnn.networks.models import RNNLanguageModel
from tests import device as on

pytestmark = pytest.mark.numerical

PARAMETERS = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
PAIRS = [("lstm", "custom_lstm"), ("gru", "custom_gru"), ("rnn_tanh", "custom_rnn")]


class SlowRNN(CustomCell):
    """A user's own cell: half of the old state stays."""

    gates = 1

    def step(self, F: Any, projected: Any, states: list[Any], recurrent: Any) -> tuple[Any, list[Any]]:
        hidden = 0.5 * states[0] + 0.5 * F.tanh(projected + recurrent(states[0]))
        return hidden, [hidden]


class NoCell:
    pass


def numpy_steps(cell: str, x: np.ndarray[Any, Any], states: list[np.ndarray[Any, Any]], p: dict[str, Any]) -> Any:
    """The textbook's equations in plain numpy, in float64."""

    def sigmoid(a: Any) -> Any:
        return 1 / (1 + np.exp(-a))

    outputs = []
    for step in x:
        if cell == "char_loop_concat":
            step = np.concatenate([states[0], step], axis=1)
        i2h = step @ p["i2h_weight"].T + p["i2h_bias"]
        h2h = states[0] @ p["h2h_weight"].T + p["h2h_bias"]
        if cell == "custom_rnn":
            states = [np.tanh(i2h + h2h)]
        elif cell == "char_loop":
            states = [np.tanh((states[0] + np.maximum(i2h, 0)) @ p["h2h_weight"].T + p["h2h_bias"])]
        elif cell == "char_loop_concat":
            states = [np.tanh(np.maximum(i2h, 0) @ p["h2h_weight"].T + p["h2h_bias"])]
        elif cell == "custom_gru":
            (xr, xz, xn), (hr, hz, hn) = np.split(i2h, 3, axis=1), np.split(h2h, 3, axis=1)
            z = sigmoid(xz + hz)
            states = [(1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * states[0]]
        else:
            i, f, g, o = np.split(i2h + h2h, 4, axis=1)
            memory = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(g)
            states = [sigmoid(o) * np.tanh(memory), memory]
        outputs.append(states[0])
    return np.array(outputs), states


def randomised(layer: gluon.HybridBlock, seed: int) -> gluon.HybridBlock:
    mx.random.seed(seed)
    layer.initialize(mx.init.Uniform(0.5), ctx=on.DEVICE)
    for parameter in layer.collect_params().values():  # biases start at zero and would hide a mistake
        parameter.set_data(mx.nd.random.uniform(-0.5, 0.5, parameter.shape))
    return layer


def in_numpy(layer: RecurrentLayer) -> dict[str, Any]:
    return {name: getattr(layer, name).data().asnumpy().astype("float64") for name in PARAMETERS}


@pytest.mark.parametrize("cell", CUSTOM_CELLS)
def test_cells_are_their_equations(cell: str) -> None:
    layer = randomised(build_layer(cell, hidden_size=6, input_size=4), seed=3)
    layer.hybridize(static_alloc=True)
    for steps in (9, 2):  # a window of any length in one graph
        x = on.normal(shape=(steps, 3, 4))
        states = [on.normal(shape=(1, 3, 6)) for _ in range(layer.state_count)]
        outputs, after = layer(x, states)
        expected, expected_after = numpy_steps(
            cell, x.asnumpy().astype("float64"), [s.asnumpy()[0].astype("float64") for s in states], in_numpy(layer)
        )
        on.assert_close(outputs.asnumpy(), expected, atol=2e-6)
        for state, value in zip(after, expected_after, strict=True):
            on.assert_close(state.asnumpy()[0], value, atol=2e-6)


@pytest.mark.parametrize("cell", ["char_loop", "char_loop_concat"])
def test_gradients_of_cells_without_a_fused_twin_are_those_of_their_equations(cell: str) -> None:
    """By central differences in float64 of what the test above compares outputs with."""
    layer = randomised(build_layer(cell, hidden_size=4, input_size=3), seed=7)
    x, before, coefficients = (on.normal(shape=shape) for shape in ((5, 2, 3), (1, 2, 4), (5, 2, 4)))
    for array in (x, before):
        array.attach_grad()
    with autograd.record():
        outputs, _ = layer(x, [before])
        loss = (coefficients * outputs).sum()
    loss.backward()
    values = {**in_numpy(layer), "x": x.asnumpy().astype("float64"), "before": before.asnumpy()[0].astype("float64")}
    gradients = {name: getattr(layer, name).grad().asnumpy() for name in PARAMETERS}
    gradients |= {"x": x.grad.asnumpy(), "before": before.grad.asnumpy()[0]}

    def loss_with(name: str, place: tuple[int, ...], change: float) -> float:
        changed = {**values, name: values[name].copy()}
        changed[name][place] += change
        outputs, _ = numpy_steps(cell, changed["x"], [changed["before"]], changed)
        return float((coefficients.asnumpy() * outputs).sum())

    for name, gradient in gradients.items():
        slopes = [(loss_with(name, at, 1e-5) - loss_with(name, at, -1e-5)) / 2e-5 for at in np.ndindex(gradient.shape)]
        assert np.abs(slopes).max() > 0.01, name
        on.assert_close(gradient.ravel(), slopes, atol=1e-5, err_msg=name)


def test_weights_and_biases_of_the_character_cells_are_initialised_as_such() -> None:
    for cell, columns in (("char_loop", 30), ("char_loop_concat", 70)):
        layer = build_layer(cell, hidden_size=40, input_size=30)
        layer.initialize(mx.init.Xavier(), ctx=on.DEVICE)
        assert layer.i2h_weight.shape == (40, columns)
        bound = math.sqrt(3 / ((40 + columns) / 2))  # uniform, magnitude 3, average of fan-in and fan-out
        assert 0.9 * bound < np.abs(layer.i2h_weight.data().asnumpy()).max() <= bound
        assert all((bias.data().asnumpy() == 0).all() for bias in (layer.i2h_bias, layer.h2h_bias))


@pytest.mark.parametrize("hybridize", [False, True], ids=["eager", "hybridized"])
@pytest.mark.parametrize("tie", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize(("fused", "custom"), PAIRS)
def test_a_stack_from_scratch_equals_the_fused_one_in_outputs_and_gradients(
    fused: str, custom: str, tie: bool, hybridize: bool
) -> None:
    sizes = {"embed_size": 12, "hidden_size": 12, "num_layers": 3, "dropout": 0.0, "tie_weights": tie}
    first = randomised(RNNLanguageModel(fused, 31, **sizes), seed=1)
    second = randomised(RNNLanguageModel(custom, 31, **sizes), seed=2)
    names = first._collect_params_with_prefix()
    assert list(names) == list(second._collect_params_with_prefix())
    for name, parameter in second._collect_params_with_prefix().items():
        parameter.set_data(names[name].data())
    if hybridize:
        for model in (first, second):
            model.hybridize(static_alloc=True, static_shape=True)
    states = {model: model.begin_state(4, on.DEVICE) for model in (first, second)}
    for steps in (5, 5, 11, 1, 5):  # a window of any length in one graph, the state carried on
        words = on.array(np.random.RandomState(steps).randint(0, 31, (steps, 4)), dtype="int32")
        outputs = {}
        for model in (first, second):
            with autograd.record():
                logits, states[model] = model(words, [[part.detach() for part in layer] for layer in states[model]])
                loss = (logits * logits).mean()
            loss.backward()
            outputs[model] = logits.asnumpy()
        on.assert_close(outputs[second], outputs[first], atol=5e-6)
        for layers in zip(states[second], states[first], strict=True):
            for mine, theirs in zip(*layers, strict=True):
                on.assert_close(mine.asnumpy(), theirs.asnumpy(), atol=2e-6)
        for name, parameter in second._collect_params_with_prefix().items():
            expected = names[name].grad().asnumpy()
            assert np.abs(expected).max() > 0, name
            on.assert_close(
                parameter.grad().asnumpy(), expected, atol=1e-5 * max(1, np.abs(expected).max()), err_msg=name
            )


@pytest.mark.parametrize("cell", ["lstm", *CUSTOM_CELLS])
def test_hybridizing_keeps_the_numbers_whatever_is_asked_for(cell: str) -> None:
    """MXNet's static_shape gives garbage with foreach, and other bits with the fused LSTM: it must not get through."""
    sizes = {"embed_size": 8, "hidden_size": 8, "num_layers": 2, "dropout": 0.0, "tie_weights": True}
    words = on.array(np.arange(12).reshape(6, 2), dtype="int32")
    seen = set()
    for _ in range(12):
        model = randomised(RNNLanguageModel(cell, 20, **sizes), seed=5)
        expected = model(words, model.begin_state(2, on.DEVICE))[0].asnumpy()
        model.hybridize(static_alloc=True, static_shape=True)
        for _ in range(3):
            with autograd.train_mode():
                trained = model(words, model.begin_state(2, on.DEVICE))[0].asnumpy()
            on.assert_close(trained, expected, atol=1e-6)
        seen.add(model(words, model.begin_state(2, on.DEVICE))[0].asnumpy().tobytes())
    assert len(seen) == 1


@pytest.mark.parametrize(("fused", "cell"), [("lstm", "LSTMCell"), ("gru", "GRUCell"), ("rnn_tanh", "RNNCell")])
def test_gluons_own_cells_join_by_name(fused: str, cell: str) -> None:
    scanned = randomised(build_layer(f"mxnet.gluon.rnn:{cell}", hidden_size=5, input_size=3), seed=1)
    assert isinstance(scanned, ScannedCell)
    layer = build_layer(fused, hidden_size=5, input_size=3)
    layer.initialize(ctx=on.DEVICE)
    for name in PARAMETERS:
        getattr(layer, name).set_data(getattr(scanned.cell, name).data())
    x = on.normal(shape=(7, 2, 3))
    states = [on.normal(shape=(1, 2, 5)) for _ in range(layer.state_count)]
    scanned.hybridize(static_alloc=True)
    expected, expected_states = layer(x, states)
    for _ in range(2):
        outputs, after = scanned(x, states)
        on.assert_close(outputs.asnumpy(), expected.asnumpy(), atol=1e-6)
        for mine, theirs in zip(after, expected_states, strict=True):
            on.assert_close(mine.asnumpy(), theirs.asnumpy(), atol=1e-6)


def test_a_users_own_cell_joins_by_name() -> None:
    layer = build_layer("tests.networks.test_layers:SlowRNN", hidden_size=5, input_size=3)
    assert isinstance(layer, RecurrentLayer)
    layer.initialize(ctx=on.DEVICE)
    state = on.ones((1, 2, 5))
    outputs, _ = layer(on.zeros((1, 2, 3)), [state])
    recurrent = mx.nd.dot(state[0], layer.h2h_weight.data(), transpose_b=True)
    on.assert_close(outputs[0].asnumpy(), (0.5 + 0.5 * recurrent.tanh()).asnumpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("tests.networks.test_layers:NoCell", TypeError),
        ("tests.networks.test_layers:PAIRS", TypeError),
        ("tests.networks.test_layers:Missing", AttributeError),
        ("no_such_module_here:Cell", ImportError),
    ],
)
def test_what_is_no_cell_is_refused(cell: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        build_layer(cell, hidden_size=5, input_size=3)


class Echo(VariadicBlock):
    """Says how often its graph was made."""

    made = 0

    def hybrid_forward(self, F: Any, inputs: Any, added: Any = None, factor: Any = None) -> Any:
        self.made += 1
        if factor is not None:
            return 2 * inputs * factor
        return inputs * 2 if added is None else inputs + added


def test_a_block_keeps_a_graph_for_each_choice_of_arguments_until_it_is_hybridized_anew() -> None:
    block, one, two = Echo(), on.ones((1,)), on.ones((1,)) * 2
    calls = {(one,): 2, (one, two): 3, (two, None): 4, (two, two): 4, (one, None, two): 4, (two, None, two): 8}
    for expected_made in (3, 6):
        block.hybridize(static_alloc=True)
        for _ in range(3):
            assert [block(*arguments).asscalar() for arguments in calls] == list(calls.values())
        assert block.made == expected_made


def test_a_graph_that_leaves_parameters_unread_warns_of_nothing() -> None:
    layer = randomised(build_layer("lstm", hidden_size=6, input_size=4), seed=3)
    layer.pack()
    layer.hybridize(static_alloc=True)
    x, states = on.ones((5, 3, 4)), [on.ones((1, 3, 6))] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = layer(x, states, None, layer.packed(on.DEVICE))[0].asnumpy()
    np.testing.assert_array_equal(found, layer(x, states)[0].asnumpy())
