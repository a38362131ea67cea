"""Recurrent layers: MXNet's fused operator, and the same cells written out as their equations.

Every layer here has the parameters of one layer of ``mxnet.gluon.rnn.LSTM`` and its kin (MXNet 1.9.1), with H units, G
gates and I inputs: `i2h_weight` (G x H, I), `h2h_weight` (G x H, H), `i2h_bias` and `h2h_bias` (G x H). So a fused
layer and the one from scratch can be given the same parameters, and must then give the same outputs and gradients.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from mxnet.gluon import HybridBlock
from mxnet.gluon.rnn import HybridRecurrentCell

from gluon_rnn.config import FUSED_CELLS

#: A list of NDArrays in eager code, of Symbols in a hybridized graph.
Tensors = list[Any]


class RecurrentLayer(HybridBlock):
    """One recurrent layer over a window of any length.

    Called with inputs (steps, batch, I) and `state_count` states of (1, batch, H), it returns outputs (steps, batch, H)
    and the states after the last step.

    Args:
        hidden_size: H, units.
        input_size: I, features of an input.
    """

    gates: ClassVar[int]
    state_count: ClassVar[int] = 1

    def __init__(self, hidden_size: int, input_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        rows = self.gates * hidden_size
        with self.name_scope():
            self.i2h_weight = self.params.get("i2h_weight", shape=(rows, input_size))
            self.h2h_weight = self.params.get("h2h_weight", shape=(rows, hidden_size))
            self.i2h_bias = self.params.get("i2h_bias", shape=(rows,), init="zeros")
            self.h2h_bias = self.params.get("h2h_bias", shape=(rows,), init="zeros")


class FusedLayer(RecurrentLayer):
    """MXNet's ``RNN`` operator with one layer: cuDNN on a GPU, oneDNN or MXNet's own code on a CPU."""

    mode: ClassVar[str]

    def hybrid_forward(
        self, F: Any, inputs: Any, states: Tensors, i2h_weight: Any, h2h_weight: Any, i2h_bias: Any, h2h_bias: Any
    ) -> tuple[Any, Tensors]:
        """See `RecurrentLayer`."""
        # The operator takes one flat vector: all weights, then all biases.
        flat = F.concat(*(part.reshape(-1) for part in (i2h_weight, h2h_weight, i2h_bias, h2h_bias)), dim=0)
        outputs, *states = F.RNN(
            inputs, flat, *states, state_size=self.hidden_size, num_layers=1, mode=self.mode, state_outputs=True
        )
        return outputs, states


class FusedLSTM(FusedLayer):
    """``mode='lstm'``."""

    mode, gates, state_count = "lstm", 4, 2


class FusedGRU(FusedLayer):
    """``mode='gru'``."""

    mode, gates = "gru", 3


class FusedTanhRNN(FusedLayer):
    """``mode='rnn_tanh'``."""

    mode, gates = "rnn_tanh", 1


class FusedReluRNN(FusedLayer):
    """``mode='rnn_relu'``."""

    mode, gates = "rnn_relu", 1


class CustomCell(RecurrentLayer):
    """A cell written as its equations in `step`; a subclass states `gates`, `state_count` and the equations.

    The products with the inputs do not depend on the state, so they are made for the whole window at once; only the
    products with the state run step by step, in ``F.contrib.foreach``, which takes windows of any length in one
    hybridized graph.
    """

    def step(self, F: Any, projected: Any, states: Tensors, recurrent: Any) -> tuple[Any, Tensors]:
        """The equations of one step.

        Args:
            F: ``mx.nd`` or ``mx.sym``.
            projected: W_i2h x + b_i2h of this step, (batch, gates x H).
            states: `state_count` arrays of (batch, H).
            recurrent: a function from h (batch, H) to W_h2h h + b_h2h (batch, gates x H).

        Returns:
            The output (batch, H) and the new states.
        """
        raise NotImplementedError

    def hybrid_forward(
        self, F: Any, inputs: Any, states: Tensors, i2h_weight: Any, h2h_weight: Any, i2h_bias: Any, h2h_bias: Any
    ) -> tuple[Any, Tensors]:
        """See `RecurrentLayer`."""
        rows = self.gates * self.hidden_size
        projected = F.FullyConnected(inputs, i2h_weight, i2h_bias, num_hidden=rows, flatten=False)

        def body(projected: Any, states: Tensors) -> tuple[Any, Tensors]:
            return self.step(
                F, projected, states, lambda hidden: F.FullyConnected(hidden, h2h_weight, h2h_bias, num_hidden=rows)
            )

        return _scan(F, body, projected, states)


class RNNCell(CustomCell):
    """The simple recurrent network (Elman, 1990): h' = tanh(W_i2h x + b_i2h + W_h2h h + b_h2h)."""

    gates = 1

    def step(self, F: Any, projected: Any, states: Tensors, recurrent: Any) -> tuple[Any, Tensors]:
        """See `CustomCell.step`."""
        (hidden,) = states
        hidden = F.tanh(projected + recurrent(hidden))
        return hidden, [hidden]


class GRUCell(CustomCell):
    """The gated recurrent unit (Cho et al., 2014), in cuDNN's form: the reset gate scales the product with h, not h.

    r = sigmoid(x_r + h_r), z = sigmoid(x_z + h_z), n = tanh(x_n + r * h_n), h' = (1 - z) * n + z * h, where x_. and h_.
    are the gates' shares of W_i2h x + b_i2h and W_h2h h + b_h2h in the order r, z, n.
    """

    gates = 3

    def step(self, F: Any, projected: Any, states: Tensors, recurrent: Any) -> tuple[Any, Tensors]:
        """See `CustomCell.step`."""
        (hidden,) = states
        x_reset, x_update, x_new = F.split(projected, num_outputs=3, axis=1)
        h_reset, h_update, h_new = F.split(recurrent(hidden), num_outputs=3, axis=1)
        reset = F.sigmoid(x_reset + h_reset)
        update = F.sigmoid(x_update + h_update)
        new = F.tanh(x_new + reset * h_new)
        hidden = (1 - update) * new + update * hidden
        return hidden, [hidden]


class LSTMCell(CustomCell):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997) with a forget gate (Gers et al., 2000), no peepholes.

    i, f, o = sigmoid and g = tanh of the gates' shares of W_i2h x + b_i2h + W_h2h h + b_h2h in the order i, f, g, o;
    c' = f * c + i * g, h' = o * tanh(c').
    """

    gates, state_count = 4, 2

    def step(self, F: Any, projected: Any, states: Tensors, recurrent: Any) -> tuple[Any, Tensors]:
        """See `CustomCell.step`."""
        hidden, memory = states
        gates = F.split(projected + recurrent(hidden), num_outputs=4, axis=1)
        let_in, forget, let_out = (F.sigmoid(gates[n]) for n in (0, 1, 3))
        memory = forget * memory + let_in * F.tanh(gates[2])
        hidden = let_out * F.tanh(memory)
        return hidden, [hidden, memory]


class ScannedCell(HybridBlock):
    """A Gluon recurrent cell (a ``HybridRecurrentCell``) as a layer over a window, by ``F.contrib.foreach``.

    Args:
        cell: each of its states must be of shape (batch, H).
    """

    def __init__(self, cell: HybridRecurrentCell, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell = cell
        self.state_count = len(cell.state_info())

    def hybrid_forward(self, F: Any, inputs: Any, states: Tensors) -> tuple[Any, Tensors]:
        """See `RecurrentLayer`."""
        # A Gluon cell counts its calls to name its operators; the count is not part of the graph.
        self.cell.reset()
        return _scan(F, lambda step_input, states: self.cell(step_input, states), inputs, states)


def _scan(F: Any, body: Any, inputs: Any, states: Tensors) -> tuple[Any, Tensors]:
    outputs, states = F.contrib.foreach(body, inputs, [state.reshape((-3, 0)) for state in states])
    return outputs, [state.expand_dims(0) for state in states]


_LAYERS: dict[str, type[RecurrentLayer]] = {
    **{layer.mode: layer for layer in (FusedLSTM, FusedGRU, FusedTanhRNN, FusedReluRNN)},
    "custom_lstm": LSTMCell,
    "custom_gru": GRUCell,
    "custom_rnn": RNNCell,
}
assert set(FUSED_CELLS) < set(_LAYERS)


def build_layer(cell: str, *, hidden_size: int, input_size: int) -> HybridBlock:
    """The layer of a configuration's `cell`.

    ``package.module:CellClass`` names a subclass of `CustomCell`, or of ``mxnet.gluon.rnn.HybridRecurrentCell``; either
    is made as ``CellClass(hidden_size, input_size=input_size)``.

    Raises:
        ImportError, AttributeError: there is no such class.
        TypeError: the class is neither.
    """
    if cell in _LAYERS:
        return _LAYERS[cell](hidden_size, input_size)
    module, _, name = cell.partition(":")
    cell_class = getattr(importlib.import_module(module), name)
    if not isinstance(cell_class, type) or not issubclass(cell_class, RecurrentLayer | HybridRecurrentCell):
        raise TypeError(f"{cell} is neither a gluon_rnn.cells.CustomCell nor a mxnet.gluon.rnn.HybridRecurrentCell")
    made = cell_class(hidden_size, input_size=input_size)
    return made if isinstance(made, RecurrentLayer) else ScannedCell(made)
