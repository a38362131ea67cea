"""Recurrent layers: MXNet's fused operator, and the same cells written out as their equations.

Every layer here has the parameters of one layer of ``mxnet.gluon.rnn.LSTM``, ``GRU`` or ``RNN`` (MXNet 1.9.1), with H
units, G gates and I inputs: `i2h_weight` (G x H, I), `h2h_weight` (G x H, H), `i2h_bias` and `h2h_bias` (G x H). So a
fused layer and its from-scratch counterpart can share parameters, and then have equal outputs and gradients.
(`CharLoopConcatCell` alone has wider `i2h_weight`.)

Sequences of different lengths share a batch when they are padded to the longest and their `lengths` are given. The
content of the padding, even NaN, then has no effect.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import HybridBlock, Parameter
from mxnet.gluon.rnn import HybridRecurrentCell

from gluon_rnn.config.run import CUSTOM_CELLS, FUSED_CELLS
from gluon_rnn.machine.environment import unfused
from gluon_rnn.networks.regularization import drop

#: A list of NDArrays in eager code, of Symbols in a hybridized graph.
Tensors = list[Any]
#: The states of each recurrent layer, (1, batch, units) each: h, and c of an LSTM. A layer of two directions counts as
#: two, the forward one first.
States = list[Tensors]

#: Opens a gate when it is added to what enters its sigmoid, and shuts one when it is subtracted: 1 and 0 in float32.
_SATURATION = 1e30

_NO_GRAPH = {"_cached_graph": (), "_cached_op": None, "_cached_op_args": (), "_in_format": None, "_out_format": None}


class VariadicBlock(HybridBlock):
    """A block some of whose arguments may be left out or None, hybridized or not.

    ``HybridBlock`` of MXNet 1.9.1 keeps the graph of its first call, and answers one with more or fewer arguments by
    "The argument structure of HybridBlock does not match the cached version". Here each combination of arguments has
    its own graph, and there is no warning about parameters that one of the graphs does not use.
    """

    #: Whether MXNet may fuse operators of every graph on a GPU: see `gluon_rnn.machine.environment.FUSION_VARIABLE`.
    fuses = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._graphs: dict[tuple[Any, ...], dict[str, Any]] = {}

    def _clear_cached_op(self) -> None:
        super()._clear_cached_op()
        self._graphs = {}

    def _kind_of_call(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Calls of one kind share a graph."""
        return tuple(argument is not None for argument in args)

    def _call_cached_op(self, *args: Any) -> Any:
        while args[-1] is None:
            args = args[:-1]
        given = self._kind_of_call(args)
        self.__dict__.update(self._graphs.get(given, _NO_GRAPH))
        # MXNet asks for it as it makes a graph's state, of which a graph may have several, and at each call of a loop.
        with nullcontext() if self._may_fuse(args) else unfused():
            outputs = super()._call_cached_op(*args)
        self._graphs[given] = {name: vars(self)[name] for name in _NO_GRAPH}
        return outputs

    def _may_fuse(self, args: tuple[Any, ...]) -> bool:
        """Whether MXNet may fuse operators of the graph for these arguments."""
        return self.fuses

    def _build_cache(self, *args: Any) -> None:
        reads = set(self._get_graph(*args)[1].list_inputs())
        # MXNet takes the parameters in a list that is not empty, as that of a graph made before, for all there are.
        parameters = [(False, each) for each in self.collect_params().values() if each.name in reads]
        self._cached_op_args = [(True, 0), *parameters]
        super()._build_cache(*args)


class RecurrentLayer(VariadicBlock):
    """One recurrent layer over a window of any length.

    Called with inputs (steps, batch, I) and `state_count` states of (1, batch, H), it returns outputs (steps, batch, H)
    and the states after the last step. A third argument, `lengths` (batch,) in float32, says how many steps of each
    sequence count, from 0 to all: outputs after those are zero, and the states are those after the last of them.

    Args:
        hidden_size: H, units.
        input_size: I, features of an input.
    """

    gates: ClassVar[int]
    state_count: ClassVar[int] = 1
    #: Rate of the dropout of `h2h_weight`, with one mask for a call.
    weight_drop: float = 0.0

    def __init__(self, hidden_size: int, input_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        rows = self.gates * hidden_size
        with self.name_scope():
            self.i2h_weight = self.params.get("i2h_weight", shape=(rows, input_size))
            self.h2h_weight = self.params.get("h2h_weight", shape=(rows, hidden_size))
            self.i2h_bias = self.params.get("i2h_bias", shape=(rows,), init="zeros")
            self.h2h_bias = self.params.get("h2h_bias", shape=(rows,), init="zeros")


class PackedParameters:
    """Parameters kept, with their gradients, in one vector on each device, of which theirs become views.

    Nothing changes for other code: names, values, files and trainers stay the same. Optimizers, KVStore and
    ``set_data`` of MXNet 1.9.1 write in place.

    Args:
        parameters: initialised, in the order in which the vector is to hold them.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._parameters = parameters
        self._vectors: list[mx.nd.NDArray] = []
        views: list[list[tuple[mx.nd.NDArray, mx.nd.NDArray]]] = [[] for _ in parameters]
        for context in parameters[0].list_ctx():
            vector = mx.nd.concat(*(each.data(context).reshape(-1) for each in parameters), dim=0)
            vector.attach_grad()
            self._vectors.append(vector)
            first = 0
            for each, of_each in zip(parameters, views, strict=True):
                part = slice(first, first := first + each.data(context).size)
                data, gradient = (array[part].reshape(each.shape) for array in (vector, vector.grad))
                autograd.mark_variables([data], [gradient], each.grad_req)
                of_each.append((data, gradient))
        self._views = [([data for data, _ in each], [gradient for _, gradient in each]) for each in views]
        for each, (data, gradients) in zip(parameters, self._views, strict=True):
            # There is no public interface for this. MXNet 1.9.1 itself replaces the arrays where it must, see `on`.
            each._data, each._grad = data, gradients

    def on(self, context: mx.Context) -> mx.nd.NDArray | None:
        """The vector on `context`; None if there is none, or if a change of ``grad_req``, type or device gave a
        parameter another array, so that the vector is out of date.
        """
        for each, (data, gradients) in zip(self._parameters, self._views, strict=True):
            if each._data is not data or each._grad is not gradients:
                return None
        return next((vector for vector in self._vectors if vector.context == context), None)


class FusedLayer(RecurrentLayer):
    """MXNet's ``RNN`` operator with one layer: cuDNN on a GPU, oneDNN or MXNet's own code on a CPU.

    The operator of MXNet 1.9.1 ignores ``use_sequence_length=True`` on a CPU without a word (seen as equal outputs and
    states whatever the lengths), so it is given all steps, and zeros for the padding. Its outputs hold every h, but an
    LSTM's cell state is an output after the last step only. Therefore one more input marks the padding, 1 there and 0
    elsewhere. Its weights, `padding_weights`, are not parameters: they shut the input gate and open the forget gate, so
    that the cell state stays as it was to the bit, and so does its gradient (seen on oneDNN beside the same sequences
    cut to length, and with cuDNN beside the CPU).

    The operator takes its parameters as one vector. Without it, the four are concatenated at each call and the gradient
    is split again, which takes 28 of a step's 415 ms (LSTM 650). After `pack` there is a vector to give. Where weights
    are dropped there is none, since the operator then reads others than the parameters.
    """

    mode: ClassVar[str]

    #: What padding adds to each gate, if anything.
    padding_weights: ClassVar[tuple[float, ...]] = ()

    def __init__(self, hidden_size: int, input_size: int, **kwargs: Any) -> None:
        super().__init__(hidden_size, input_size, **kwargs)
        self._packed: PackedParameters | None = None

    def pack(self, *, for_scoring: bool = False) -> None:
        """Keep the four parameters and their gradients in one vector: see `PackedParameters`.

        Args:
            for_scoring: also where weights are dropped, which they are in training alone.
        """
        if for_scoring or not self.weight_drop:
            self._packed = PackedParameters([*self.weights, *self.biases])

    def packed(self, context: mx.Context) -> mx.nd.NDArray | None:
        """`PackedParameters.on`; None, too, of a layer that is not packed."""
        return self._packed.on(context) if self._packed else None

    @property
    def weights(self) -> tuple[Parameter, Parameter]:
        """In the order of the operator's vector, which holds all weights before all biases."""
        return self.i2h_weight, self.h2h_weight

    @property
    def biases(self) -> tuple[Parameter, Parameter]:
        """Likewise."""
        return self.i2h_bias, self.h2h_bias

    def hybrid_forward(
        self,
        F: Any,
        inputs: Any,
        states: Tensors,
        lengths: Any = None,
        vector: Any = None,
        *,
        i2h_weight: Any,
        h2h_weight: Any,
        i2h_bias: Any,
        h2h_bias: Any,
    ) -> tuple[Any, Tensors]:
        """See `RecurrentLayer`. `vector`: the four parameters as `packed` gives them; without lengths only."""
        first_hidden = states[0]
        h2h_weight = drop(F, h2h_weight, self.weight_drop)
        if lengths is not None:
            inputs = _without_padding(F, inputs, lengths)
            if self.padding_weights:
                inputs = F.concat(inputs, _padding(F, inputs, lengths), dim=2)
                column = F.concat(*(F.full((self.hidden_size, 1), added) for added in self.padding_weights), dim=0)
                i2h_weight = F.concat(i2h_weight, column, dim=1)
        if vector is None:
            vector = F.concat(*(part.reshape(-1) for part in (i2h_weight, h2h_weight, i2h_bias, h2h_bias)), dim=0)
        outputs, *states = F.RNN(
            inputs, vector, *states, state_size=self.hidden_size, num_layers=1, mode=self.mode, state_outputs=True
        )
        if lengths is not None:
            # The first hidden state counts as step 0, for sequences without any.
            hidden = F.SequenceLast(F.concat(first_hidden, outputs, dim=0), lengths + 1, use_sequence_length=True)
            outputs, states[0] = _without_padding(F, outputs, lengths), hidden.expand_dims(0)
        return outputs, states


class FusedLSTM(FusedLayer):
    """``mode='lstm'``."""

    mode, gates, state_count = "lstm", 4, 2
    padding_weights = (-_SATURATION, _SATURATION, 0, 0)


class FusedGRU(FusedLayer):
    """``mode='gru'``."""

    mode, gates = "gru", 3


class FusedTanhRNN(FusedLayer):
    """``mode='rnn_tanh'``."""

    mode, gates = "rnn_tanh", 1


class FusedReluRNN(FusedLayer):
    """``mode='rnn_relu'``. Padding sets h to zero: left alone it may grow to infinity, and 0 x infinity is NaN."""

    mode, gates = "rnn_relu", 1
    padding_weights = (-_SATURATION,)


class StepwiseLayer(VariadicBlock):
    """A layer that processes a window step by step, by a loop in its graph or by unrolling."""

    #: How many steps the window of the graph that is being made has; None: it is made for windows of any length.
    unrolled: int | None = None

    def _scan(self, F: Any, body: Any, inputs: Any, states: Tensors, lengths: Any) -> tuple[Any, Tensors]:
        """Outputs and states of `body` over the steps of `inputs`."""
        states = [state.reshape((-3, 0)) for state in states]
        if lengths is not None:
            outputs, states = _scan_padded(F, body, inputs, states, lengths)
        elif self.unrolled is None:
            outputs, states = F.contrib.foreach(body, inputs, states)
        else:
            each = []
            for step_input in F.split(inputs, num_outputs=self.unrolled, axis=0, squeeze_axis=True):
                output, states = body(step_input, states)
                each.append(output)
            outputs = F.stack(*each, axis=0)
        return outputs, [state.expand_dims(0) for state in states]


class CustomCell(StepwiseLayer, RecurrentLayer):
    """A cell given by its equations in `step`. A subclass defines `gates`, `state_count` and the equations.

    The products with the inputs do not depend on the state, so they are made for the whole window at once; only the
    products with the state run step by step, by ``F.contrib.foreach``, which takes windows of any length in one
    hybridized graph, or unrolled.
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
        self,
        F: Any,
        inputs: Any,
        states: Tensors,
        lengths: Any = None,
        *,
        i2h_weight: Any,
        h2h_weight: Any,
        i2h_bias: Any,
        h2h_bias: Any,
    ) -> tuple[Any, Tensors]:
        """See `RecurrentLayer`."""
        if lengths is not None:
            inputs = _without_padding(F, inputs, lengths)
        rows = self.gates * self.hidden_size
        h2h_weight = drop(F, h2h_weight, self.weight_drop)
        projected = F.FullyConnected(inputs, i2h_weight, i2h_bias, num_hidden=rows, flatten=False)

        def body(projected: Any, states: Tensors) -> tuple[Any, Tensors]:
            return self.step(
                F, projected, states, lambda hidden: F.FullyConnected(hidden, h2h_weight, h2h_bias, num_hidden=rows)
            )

        return self._scan(F, body, projected, states, lengths)


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
        hidden, cell_state = states
        gates = F.split(projected + recurrent(hidden), num_outputs=4, axis=1)
        input_gate, forget_gate, output_gate = (F.sigmoid(gates[n]) for n in (0, 1, 3))
        cell_state = forget_gate * cell_state + input_gate * F.tanh(gates[2])
        hidden = output_gate * F.tanh(cell_state)
        return hidden, [hidden, cell_state]


class CharLoopCell(CustomCell):
    """The cell of fast.ai's CharLoopModel (2018 course, lesson 6): the input has a layer of its own and is added to h.

    h' = tanh(W_h2h (h + relu(W_i2h x + b_i2h)) + b_h2h).
    """

    gates = 1

    def step(self, F: Any, projected: Any, states: Tensors, recurrent: Any) -> tuple[Any, Tensors]:
        """See `CustomCell.step`."""
        hidden = F.tanh(recurrent(states[0] + F.relu(projected)))
        return hidden, [hidden]


class CharLoopConcatCell(StepwiseLayer, RecurrentLayer):
    """The cell of fast.ai's CharLoopConcatModel (2018 course, lesson 6): h and the input share a first layer.

    h' = tanh(W_h2h relu(W_i2h [h; x] + b_i2h) + b_h2h), where W_i2h is (H, H + I). The columns of W_i2h that multiply x
    do so for all steps at once.
    """

    gates = 1

    def __init__(self, hidden_size: int, input_size: int, **kwargs: Any) -> None:
        super().__init__(hidden_size, hidden_size + input_size, **kwargs)

    def hybrid_forward(
        self,
        F: Any,
        inputs: Any,
        states: Tensors,
        lengths: Any = None,
        *,
        i2h_weight: Any,
        h2h_weight: Any,
        i2h_bias: Any,
        h2h_bias: Any,
    ) -> tuple[Any, Tensors]:
        """See `RecurrentLayer`."""
        if lengths is not None:
            inputs = _without_padding(F, inputs, lengths)
        units = self.hidden_size
        h2h_weight = drop(F, h2h_weight, self.weight_drop)
        of_hidden = F.slice_axis(i2h_weight, axis=1, begin=0, end=units)
        of_input = F.slice_axis(i2h_weight, axis=1, begin=units, end=None)
        projected = F.FullyConnected(inputs, of_input, i2h_bias, num_hidden=units, flatten=False)

        def body(projected: Any, states: Tensors) -> tuple[Any, Tensors]:
            first = F.relu(projected + F.FullyConnected(states[0], of_hidden, no_bias=True, num_hidden=units))
            hidden = F.tanh(F.FullyConnected(first, h2h_weight, h2h_bias, num_hidden=units))
            return hidden, [hidden]

        return self._scan(F, body, projected, states, lengths)


class ScannedCell(StepwiseLayer):
    """A Gluon recurrent cell (a ``HybridRecurrentCell``) as a layer over a window.

    Args:
        cell: each of its states must be of shape (batch, H).
    """

    #: See `RecurrentLayer`; needs a cell that has an `h2h_weight`.
    weight_drop: float = 0.0

    def __init__(self, cell: HybridRecurrentCell, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell = cell
        self.state_count = len(cell.state_info())

    def hybrid_forward(self, F: Any, inputs: Any, states: Tensors, lengths: Any = None) -> tuple[Any, Tensors]:
        """See `RecurrentLayer`."""
        if lengths is not None:
            inputs = _without_padding(F, inputs, lengths)
        # A Gluon cell counts its calls to name its operators; the count is not part of the graph.
        self.cell.reset()
        if not self.weight_drop:
            return self._scan(F, lambda step_input, states: self.cell(step_input, states), inputs, states, lengths)
        # What ``HybridBlock.forward`` gives the cell's equations, but for the weights with their one mask.
        parameters = {
            name: each.var() if F is mx.sym else each.data(inputs.context)
            for name, each in self.cell._reg_params.items()
        }
        parameters["h2h_weight"] = drop(F, parameters["h2h_weight"], self.weight_drop)
        return self._scan(F, lambda *step: self.cell.hybrid_forward(F, *step, **parameters), inputs, states, lengths)


def _scan_padded(F: Any, body: Any, inputs: Any, states: Tensors, lengths: Any) -> tuple[Any, Tensors]:
    """Outputs and states of `body`; states stay unchanged in the padding."""

    def holding(step: Tensors, before: Tensors) -> tuple[Any, Tensors]:
        step_input, is_padding = step
        output, after = body(step_input, before)
        return output, [F.where(is_padding, old, new) for old, new in zip(before, after, strict=True)]

    # (steps, batch): `where` takes one number for a row.
    padding = _padding(F, inputs, lengths).reshape((0, -1))
    outputs, states = F.contrib.foreach(holding, [inputs, padding], states)
    return _without_padding(F, outputs, lengths), states


def _without_padding(F: Any, sequences: Any, lengths: Any) -> Any:
    """`sequences` (steps, batch, features) with zeros for padding, whatever is there; so is their gradient."""
    return F.SequenceMask(sequences, lengths, use_sequence_length=True)


def _padding(F: Any, sequences: Any, lengths: Any) -> Any:
    """1 where there is padding, else 0: (steps, batch, 1)."""
    zeros = F.zeros_like(F.slice_axis(sequences, axis=2, begin=0, end=1))
    return F.SequenceMask(zeros, lengths, use_sequence_length=True, value=1)


_LAYERS: dict[str, type[RecurrentLayer]] = {
    **{layer.mode: layer for layer in (FusedLSTM, FusedGRU, FusedTanhRNN, FusedReluRNN)},
    "custom_lstm": LSTMCell,
    "custom_gru": GRUCell,
    "custom_rnn": RNNCell,
    "char_loop": CharLoopCell,
    "char_loop_concat": CharLoopConcatCell,
}
assert set(FUSED_CELLS + CUSTOM_CELLS) == set(_LAYERS)


def build_layer(
    cell: str, *, hidden_size: int, input_size: int, weight_drop: float = 0.0, prefix: str | None = None
) -> HybridBlock:
    """The layer of a configuration's `cell`.

    ``package.module:CellClass`` names a subclass of `CustomCell`, or of ``mxnet.gluon.rnn.HybridRecurrentCell``; either
    is made as ``CellClass(hidden_size, input_size=input_size)``.

    Args:
        cell: as in a configuration.
        hidden_size: H, units.
        input_size: I, features of an input.
        weight_drop: rate of the dropout of its `h2h_weight`.
        prefix: of its parameters' names, unless the cell is a user's own.

    Raises:
        ImportError, AttributeError: there is no such class.
        TypeError: the class is neither.
        ValueError: its weights are to be dropped, and it has no `h2h_weight`.
    """
    if cell in _LAYERS:
        layer: HybridBlock = _LAYERS[cell](hidden_size, input_size, prefix=prefix)
    else:
        layer = _build_own(cell, hidden_size, input_size)
    if weight_drop and isinstance(layer, ScannedCell) and "h2h_weight" not in layer.cell._reg_params:
        raise ValueError(f"weight_drop={weight_drop} needs a cell with an h2h_weight, which {cell} does not have")
    layer.weight_drop = weight_drop
    return layer


def _build_own(cell: str, hidden_size: int, input_size: int) -> HybridBlock:
    module, _, name = cell.partition(":")
    cell_class = getattr(importlib.import_module(module), name)
    if not isinstance(cell_class, type) or not issubclass(cell_class, RecurrentLayer | HybridRecurrentCell):
        raise TypeError(
            f"{cell} is neither a gluon_rnn.networks.layers.CustomCell nor a mxnet.gluon.rnn.HybridRecurrentCell"
        )
    made = cell_class(hidden_size, input_size=input_size)
    return made if isinstance(made, RecurrentLayer) else ScannedCell(made)
