"""Exports a finished run to files for other programs: MXNet's symbol and parameters, or ONNX.

As a program, this module answers one request, which `gluon_rnn.cli` sends it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import mxnet as mx
import numpy as np
from mxnet import gluon

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import write_atomically
from gluon_rnn.config.run import LABELLED
from gluon_rnn.data.corpora import vocabulary
from gluon_rnn.data.corpora.vocabulary import Words
from gluon_rnn.networks.models import SequenceModel
from gluon_rnn.runs.job import VOCABULARY
from gluon_rnn.trained import onnx_graph
from gluon_rnn.trained.answering import answer
from gluon_rnn.trained.run import Run, load_run, read_job
from gluon_rnn.training.checkpoints import serialised

Array = np.ndarray[Any, Any]
Format = Literal["onnx", "mxnet"]

#: Of a run's directory, unless another folder is named.
FOLDER = "export"
#: Steps and columns of the inputs that an exported model is tried with.
_TRIED = ((5, 3), (1, 1), (8, 2))
#: A wrong graph is off by as much as its outputs are; rounding by less than this share of them.
_TOLERANCE = 1e-4

_CPU = mx.cpu()


@dataclass(frozen=True)
class Exported:
    """The files that `export_run` has written.

    Attributes:
        files: all of them, the model first.
        inputs: the names of the model's inputs, in their order.
        outputs: likewise; ``h0_out`` is the state ``h0`` after the last step.
        difference: the largest between outputs of the run's model and of the files, on inputs at random.
    """

    files: tuple[Path, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float


def export_run(run: Path | str, *, format: Format = "onnx", output: Path | str | None = None) -> Exported:
    """Write the model of `run` so that other programs can load it, and check that it computes the same.

    ``onnx``: ``model.onnx``, for onnxruntime and other programs that read ONNX. ``mxnet``: ``model-symbol.json`` and
    ``model-0000.params``, for ``mxnet.gluon.SymbolBlock.imports`` or another binding of MXNet. Either needs nothing of
    this package. ``vocabulary.json`` is written beside it: ``["vocabulary"]["idx_to_token"]`` lists its tokens by id.

    The model takes ``ids`` (steps, batch) of any length and batch size. A language model takes its state, too:
    ``h0`` (1, batch, units) of the first layer, of an LSTM ``c0``, and so on, zeros for a text's beginning. A model of
    labels takes ``lengths`` (batch,), the steps of each sequence that count. Outputs are ``logits`` (steps or 1, batch,
    tokens or labels) and each state after the last step.

    Args:
        run: the run's directory. While it trains, the parameters of its best epoch so far are written.
        format: ``onnx`` or ``mxnet``.
        output: a folder, which is made unless it is there; None: ``export`` in `run`.

    Raises:
        UserError: `run` holds no model that can be read or written in this format, or a package is missing.
        OSError: a file cannot be written.
    """
    if format not in _WRITERS:
        raise UserError(f"format={format!r} is not one of {', '.join(_WRITERS)}")
    run = Path(run)
    loaded = load_run(run)
    network = _Network(loaded, read_job(run).run_id)
    contents = _WRITERS[format](network)
    difference = network.difference(_LOADERS[format](contents, network))
    folder = run / FOLDER if output is None else Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    contents[VOCABULARY] = vocabulary.as_json(Words(loaded.vocabulary, loaded.labels)).encode()
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return Exported(tuple(folder / name for name in contents), network.inputs, network.outputs, difference)


class _Network:
    """The model of a run with one name for each of its inputs and outputs.

    Args:
        run: whose model it is.
        run_id: its name.
    """

    def __init__(self, run: Run, run_id: str) -> None:
        self.model: SequenceModel = run.model
        self.cell = run.config.cell
        #: To be written beside the graph.
        self.metadata = {
            "run_id": run_id,
            **{name: str(getattr(run.config, name)).lower() for name in ("objective", "level", "lower", "cell")},
        }
        self.padded = run.config.objective in LABELLED
        self._vocab_size = len(run.vocabulary)
        #: The names of each layer's states; None: every text begins at zeros.
        self.states: list[list[str]] | None = None
        if run.config.objective == "language_model":
            kinds = [*"hc", *(f"state{number}_" for number in range(2, run.model.encoder.state_count))]
            kinds = kinds[: run.model.encoder.state_count]
            self.states = [[f"{kind}{number}" for kind in kinds] for number in range(len(run.model.encoder.layers))]
        states = tuple(name for of_layer in self.states or () for name in of_layer)
        self.inputs = ("ids", *states, *(("lengths",) if self.padded else ()))
        self.outputs = ("logits", *(f"{name}_out" for name in states))

    def symbol(self) -> mx.sym.Symbol:
        """The network's graph."""
        ids = mx.sym.var("ids")
        if self.states is None:
            # (1, batch, 1)
            zero = mx.sym.slice_axis(ids, axis=0, begin=0, end=1).astype("float32").expand_dims(2) * 0
            states = [
                [mx.sym.broadcast_axis(zero, axis=2, size=state.shape[2]) for state in of_layer]
                for of_layer in self.model.begin_state(1, _CPU)
            ]
        else:
            states = [[mx.sym.var(name) for name in of_layer] for of_layer in self.states]
        logits, after = self.model(ids, states, mx.sym.var("lengths") if self.padded else None)
        outputs = [logits, *(state for of_layer in after for state in of_layer)] if self.states else [logits]
        # A symbol adds _output to the names of its operators.
        named = zip(outputs, self.outputs, strict=True)
        return mx.sym.Group([mx.sym.identity(output, name=name) for output, name in named])

    def difference(self, compute: Callable[[Mapping[str, Array]], Sequence[Array]]) -> float:
        """The largest difference between its outputs and those of `compute` on random inputs.

        Raises:
            UserError: it is more than what rounding makes of it.
        """
        random, largest = np.random.RandomState(0), 0.0
        for steps, batch in _TRIED:
            state = self.model.begin_state(batch, _CPU)
            ids = random.randint(0, self._vocab_size, (steps, batch))
            given: dict[str, Array] = {"ids": ids.astype(np.int32)}
            if self.states is not None:
                state = [[mx.nd.array(random.uniform(-1, 1, each.shape)) for each in layer] for layer in state]
                arrays = [array.asnumpy() for of_layer in state for array in of_layer]
                given.update(zip(self.inputs[1:], arrays, strict=True))
            lengths = None
            if self.padded:
                given["lengths"] = random.randint(1, steps + 1, batch).astype(np.float32)
                lengths = mx.nd.array(given["lengths"])
            logits, after = self.model(mx.nd.array(ids, dtype="int32"), state, lengths)
            expected = [logits, *(each for of_layer in after for each in of_layer)] if self.states else [logits]
            for name, ours, theirs in zip(self.outputs, expected, compute(given), strict=True):
                ours = ours.asnumpy()
                distance = float(np.abs(ours - theirs).max())
                if not distance <= _TOLERANCE * max(1.0, float(np.abs(ours).max())):
                    raise UserError(f"what was exported is not the run's model: {name} differs by {distance:.2g}")
                largest = max(largest, distance)
        return largest


def _as_onnx(network: _Network) -> dict[str, bytes]:
    content = onnx_graph.build(
        network.model, network.cell, states=network.states, padded=network.padded, metadata=network.metadata
    )
    return {"model.onnx": content}


def _load_onnx(contents: Mapping[str, bytes], network: _Network) -> Callable[[Mapping[str, Array]], Sequence[Array]]:
    runtime = onnx_graph.import_extra("onnxruntime")
    session = runtime.InferenceSession(contents["model.onnx"], providers=["CPUExecutionProvider"])
    kinds = {"ids": np.int64, "lengths": np.int32}

    def compute(given: Mapping[str, Array]) -> Sequence[Array]:
        fed = {name: array.astype(kinds.get(name, np.float32)) for name, array in given.items()}
        outputs: Sequence[Array] = session.run(list(network.outputs), fed)
        return outputs

    return compute


def _as_mxnet(network: _Network) -> dict[str, bytes]:
    symbol, parameters = network.symbol(), network.model.collect_params()
    kinds = {"arg": symbol.list_arguments(), "aux": symbol.list_auxiliary_states()}
    arrays = {
        f"{kind}:{name}": parameters[name].list_data()[0]
        for kind, names in kinds.items()
        for name in names
        if name in parameters
    }
    return {"model-symbol.json": symbol.tojson().encode(), "model-0000.params": serialised(arrays)}


def _load_mxnet(contents: Mapping[str, bytes], network: _Network) -> Callable[[Mapping[str, Array]], Sequence[Array]]:
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in contents]
        for path in paths:
            path.write_bytes(contents[path.name])
        block = gluon.SymbolBlock.imports(str(paths[0]), list(network.inputs), str(paths[1]), ctx=_CPU)

    def compute(given: Mapping[str, Array]) -> Sequence[Array]:
        outputs = block(*(mx.nd.array(given[name], dtype=given[name].dtype) for name in network.inputs))
        return [output.asnumpy() for output in (outputs if isinstance(outputs, list) else [outputs])]

    return compute


_WRITERS = {"onnx": _as_onnx, "mxnet": _as_mxnet}
_LOADERS = {"onnx": _load_onnx, "mxnet": _load_mxnet}


def main() -> int:
    """Answer a request for an export: the arguments of `export_run`."""

    def exported(**request: Any) -> dict[str, Any]:
        found = export_run(**request)
        return {
            "files": [str(path) for path in found.files],
            "inputs": found.inputs,
            "outputs": found.outputs,
            "difference": found.difference,
        }

    return answer(exported)


if __name__ == "__main__":
    sys.exit(main())
