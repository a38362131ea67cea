"""A network as an ONNX graph, of ONNX's own recurrent operators.

MXNet 1.9.1's exporter (``mxnet.onnx``) is not used. It marks nodes of operator set 13 with the newest set there is,
takes bidirectional layers, one-hot inputs and padded sequences for none of these cells, slices every gate's weights out
of one vector at each call, and needs a module that the package onnx dropped in 1.19.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from gluon_rnn.common.errors import UserError
from gluon_rnn.networks.layers import (
    FusedGRU,
    FusedLSTM,
    FusedReluRNN,
    FusedTanhRNN,
    GRUCell,
    LSTMCell,
    RNNCell,
)
from gluon_rnn.networks.models import OneHot, SequenceModel

Array = np.ndarray[Any, Any]

#: Its operators are those of every onnxruntime since 1.12.
OPERATOR_SET = 17
#: The newest that such an onnxruntime reads.
_IR_VERSION = 8
#: Protocol Buffers write no more bytes into a file.
_MOST_BYTES = 2**31 - 2**20


@dataclass(frozen=True)
class _Operator:
    """The ONNX operator of a layer, and the position of each gate of ONNX's order in MXNet's."""

    name: str
    gates: Sequence[int]
    activation: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def directed(self, directions: int) -> dict[str, Any]:
        """The operator's attributes in one or two directions, each with its activations."""
        named = {"activations": [self.activation] * directions} if self.activation else {}
        return {**self.attributes, **named, "direction": "bidirectional" if directions > 1 else "forward"}


_LSTM = _Operator("LSTM", (0, 3, 1, 2))  # i, o, f, c of i, f, g, o
# z, r, h of r, z, n; the reset gate scales the product with h.
_GRU = _Operator("GRU", (1, 0, 2), attributes={"linear_before_reset": 1})
_OPERATORS = {
    **dict.fromkeys((FusedLSTM, LSTMCell), _LSTM),
    **dict.fromkeys((FusedGRU, GRUCell), _GRU),
    **dict.fromkeys((FusedTanhRNN, RNNCell), _Operator("RNN", (0,), "Tanh")),
    FusedReluRNN: _Operator("RNN", (0,), "Relu"),
}


def build(
    model: SequenceModel,
    cell: str,
    *,
    states: Sequence[Sequence[str]] | None,
    padded: bool,
    metadata: Mapping[str, str],
) -> bytes:
    """`model` as the content of an ONNX file, without the parts that only train.

    Its inputs are ``ids``, int64 (steps, batch), the states, float32 (1, batch, units), and ``lengths``, int32
    (batch,). Its outputs are ``logits``, and for each state the one after the last step, named ``..._out``.

    Args:
        model: with parameters.
        cell: its cell's name, for the message.
        states: the name of each state of each layer; None: the network begins at zeros, and gives none.
        padded: whether there are ``lengths``.
        metadata: to be written beside the graph.

    Raises:
        UserError: the cell is not an operator of ONNX, the file would be longer than two gigabytes, or the package onnx
            is not installed.
    """
    onnx = import_extra("onnx")
    if any(type(layer) not in _OPERATORS for layer in model.encoder.layers):
        raise UserError(
            f"ONNX has no operator for cell={cell}: it has those of lstm, gru, rnn_tanh and rnn_relu, and of "
            "custom_lstm, custom_gru and custom_rnn, which compute the same; export it with --format mxnet"
        )
    graph = _Graph(onnx)
    units, sizes = _backbone(graph, model, states, "lengths" if padded else "")
    dense = model.decoder[0]
    weight = graph.node("Transpose", [graph.parameter(dense.weight)], perm=(1, 0))
    graph.node("Add", [graph.node("MatMul", [units, weight]), graph.parameter(dense.bias)], "logits")
    if graph.size > _MOST_BYTES:
        raise UserError(f"an ONNX file holds at most 2 GB, and this model has {graph.size:,} bytes; use --format mxnet")
    kinds, rows = onnx.TensorProto, "steps" if model.backbone.reads == "outputs" else 1
    inputs = [graph.described("ids", kinds.INT64, ("steps", "batch"))]
    inputs += [graph.described(name, kinds.FLOAT, (1, "batch", size)) for name, size in sizes.items()]
    if padded:
        inputs.append(graph.described("lengths", kinds.INT32, ("batch",)))
    outputs = [graph.described("logits", kinds.FLOAT, (rows, "batch", dense.bias.shape[0]))]
    outputs += [graph.described(f"{name}_out", kinds.FLOAT, (1, "batch", size)) for name, size in sizes.items()]
    return graph.file(inputs, outputs, metadata)


def import_extra(name: str) -> ModuleType:
    """Import the package `name` from the extra ``export``.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UserError(
            f"--format onnx needs the package {name}; install it with: pip install 'gluon_rnn[export]', or in a "
            "checkout: make dev"
        ) from None


def _backbone(
    graph: _Graph, model: SequenceModel, states: Sequence[Sequence[str]] | None, lengths: str
) -> tuple[str, dict[str, int]]:
    """Add the nodes up to the decoder; returns the name of the decoder's input, and the units of each state."""
    encoder, embedding, sizes = model.encoder, model.embedding[0], {}
    if isinstance(embedding, OneHot):
        values = [graph.constant(np.array(embedding.vocab_size)), graph.constant(np.array([0, 1], np.float32))]
        outputs = graph.node("OneHot", ["ids", *values])
    else:
        outputs = graph.node("Gather", [graph.parameter(embedding.weight), "ids"])
    after: list[str] = []
    for first in range(0, len(encoder.layers), encoder.directions):
        layers = encoder.layers[first : first + encoder.directions]
        names = states[first] if states else ()
        sizes.update(dict.fromkeys(names, layers[0].hidden_size))
        outputs, after = graph.recurrent(layers, outputs, names, lengths)
    if model.backbone.reads == "last":
        outputs = graph.node("Gather", [outputs, graph.constant(np.array([-1]))])
    elif model.backbone.reads == "states":
        # (directions, batch, units) each, h before c, to (1, batch, all units)
        together = graph.node("Transpose", [graph.node("Concat", after, axis=0)], perm=(1, 0, 2))
        outputs = graph.reshaped(together, (1, -1, encoder.output_size * encoder.state_count))
    return outputs, sizes


class _Graph:
    """A graph of nodes and constants, named in the order in which they are added."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        #: Bytes of the constants.
        self.size = 0

    def constant(self, value: Array, name: str = "") -> str:
        """Add a constant; returns its name."""
        name = name or f"constant{len(self._constants)}"
        if name not in self._constants:
            self._constants[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
            self.size += value.nbytes
        return name

    def parameter(self, parameter: Parameter) -> str:
        """Add a parameter as a constant, tied ones once; returns its name."""
        return self.constant(_values(parameter), parameter.name)

    def node(self, operator: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        """Add a node with one output or the given `outputs`; returns the name of the first."""
        outputs = outputs or (f"{operator.lower()}{len(self._nodes)}",)
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def reshaped(self, array: str, shape: Sequence[int]) -> str:
        """Reshape `array`; 0 keeps an axis as it is."""
        return self.node("Reshape", [array, self.constant(np.array(shape))])

    def recurrent(
        self, layers: Sequence[HybridBlock], inputs: str, states: Sequence[str], lengths: str
    ) -> tuple[str, list[str]]:
        """One layer in one or two directions: its outputs (steps, batch, units of all) and its states, (directions,
        batch, units) each.
        """
        operator, units = _OPERATORS[type(layers[0])], layers[0].hidden_size
        number = len(self._nodes)
        weights = [
            self.constant(np.stack([_in_order(each, operator, names) for each in layers]))
            for names in (["i2h_weight"], ["h2h_weight"], ["i2h_bias", "h2h_bias"])
        ]
        after = [f"{name}_out" for name in states] or [f"{name}{number}" for name in "hc"[: layers[0].state_count]]
        outputs = self.node(
            operator.name,
            [inputs, *weights, lengths, *states],
            f"outputs{number}",
            *after,
            hidden_size=units,
            **operator.directed(len(layers)),
        )
        # (steps, directions, batch, units) to (steps, batch, all units)
        swapped = self.node("Transpose", [outputs], perm=(0, 2, 1, 3))
        return self.reshaped(swapped, (0, 0, units * len(layers))), after

    def described(self, name: str, kind: int, shape: Sequence[int | str]) -> Any:
        """An input or output of the graph; a named axis may have any length."""
        return self._onnx.helper.make_tensor_value_info(name, kind, shape)

    def file(self, inputs: Sequence[Any], outputs: Sequence[Any], metadata: Mapping[str, str]) -> bytes:
        """The file's content, checked against ONNX's definitions."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, "network", inputs, outputs, list(self._constants.values()))
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPERATOR_SET)],
            ir_version=_IR_VERSION,
            producer_name="gluon_rnn",
        )
        helper.set_model_props(made, dict(metadata))
        self._onnx.checker.check_model(made, full_check=True)
        content: bytes = made.SerializeToString()
        return content


def _values(parameter: Parameter) -> Array:
    values: Array = parameter.list_data()[0].asnumpy()
    return values


def _in_order(layer: HybridBlock, operator: _Operator, names: Sequence[str]) -> Array:
    """A layer's parameters, stacked, with the gates in ONNX's order."""
    parts = []
    for name in names:
        gates = np.split(_values(getattr(layer, name)), len(operator.gates))
        parts += [gates[place] for place in operator.gates]
    return np.concatenate(parts)
