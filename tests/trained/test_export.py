"""A run's model in other programs: the same numbers, at any length and batch size, and one line for what cannot be."""

from __future__ import annotations

import argparse
import io
import json
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gluonnlp
import mxnet as mx
import numpy as np
import pytest

from gluon_rnn import export_run, load_run
from gluon_rnn.cli import export as command
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import seal, write_atomically
from gluon_rnn.config.run import LABELLED
from gluon_rnn.data.corpora import CorpusFiles, vocabulary
from gluon_rnn.data.corpora.vocabulary import Words
from gluon_rnn.networks.models import build_model
from gluon_rnn.trained import export
from tests.conftest import HAS_ONNX, NO_ONNX, WORDS
from tests.runs.test_records import make_job

pytestmark = pytest.mark.numerical

CPU = mx.cpu()
LABELS = ("good", "bad", "neither")
CHECKOUT = Path(__file__).parents[2]

#: Networks whose inputs, layers or outputs are arranged otherwise.
NETWORKS = {
    "tied": {},
    "one layer": {"num_layers": 1, "tie_weights": False},
    "three layers": {"num_layers": 3, "hidden_size": 6, "embed_size": 4, "tie_weights": False},
    "AWD": {"hidden_size": 6, "embed_size": 4, "weight_drop": 0.5, "dropout_embedding": 0.2, "alpha": 2, "beta": 1},
    "one-hot": {"embedding": "one_hot", "tie_weights": False},
    "next token": {"objective": "next_token"},
    "tags": {"objective": "tagging"},
    "tags, both ways": {"objective": "tagging", "bidirectional": True},
    "classes, both ways": {"objective": "classification", "bidirectional": True, "num_layers": 1},
}


def with_onnx(test: Callable[..., None]) -> Callable[..., None]:
    """A test that needs onnx and onnxruntime."""
    return pytest.mark.onnx(pytest.mark.skipif(not HAS_ONNX, reason=NO_ONNX)(test))


@pytest.fixture
def keep(tmp_path: Path, small_corpus: CorpusFiles) -> Callable[..., Path]:
    """A run's directory as the worker leaves it, with parameters that are drawn wide."""

    def make(**settings: object) -> Path:
        job = make_job(small_corpus, **{"dropout": 0.5, "hidden_size": 4, **settings})
        labelled = job.config.objective in LABELLED
        vocab = gluonnlp.Vocab(gluonnlp.data.Counter(WORDS), padding_token=None, bos_token=None, eos_token="<eos>")
        model = build_model(job.config, len(vocab), CPU, classes=len(LABELS) if labelled else None)
        model.initialize(mx.init.Uniform(1.5), ctx=CPU, force_reinit=True)
        directory = tmp_path / "run"
        directory.mkdir()
        write_atomically(directory / "config.json", job.model_dump_json())
        write_atomically(directory / "vocabulary.json", vocabulary.as_json(Words(vocab, LABELS if labelled else None)))
        model.save_parameters(str(directory / "best.params"))
        return directory

    return make


def inputs(run: Path, steps: int, batch: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs of the exported model, and what the run's own makes of them."""
    loaded, random = load_run(run), np.random.RandomState(steps)
    ids = random.randint(0, len(loaded.vocabulary), (steps, batch)).astype(np.int32)
    given, state, lengths = [ids], loaded.model.begin_state(batch, CPU), None
    if loaded.config.objective == "language_model":
        state = [[mx.nd.array(random.randn(*each.shape)) for each in of_layer] for of_layer in state]
        given += [each.asnumpy() for of_layer in state for each in of_layer]
    elif loaded.config.objective in LABELLED:
        lengths = mx.nd.array(np.minimum([steps, 1, *range(2, batch)][:batch], steps))
        given.append(lengths.asnumpy())
    logits, after = loaded.model(mx.nd.array(ids, dtype="int32"), state, lengths)
    expected = [logits, *(each for of_layer in after for each in of_layer)]
    return given, [each.asnumpy() for each in expected[: len(given) if lengths is None else 1]]


def assert_equal(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float) -> None:
    assert [each.shape for each in found] == [each.shape for each in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("cell", "name"),
    [*(("lstm", name) for name in NETWORKS), ("custom_gru", "tied"), ("custom_gru", "tags, both ways")],
)
def test_mxnet_loads_the_same_model(keep: Callable[..., Path], tmp_path: Path, cell: str, name: str) -> None:
    run = keep(cell=cell, **NETWORKS[name])
    found = export_run(run, format="mxnet", output=tmp_path / "there")
    assert found.difference == 0
    assert [path.name for path in found.files] == ["model-symbol.json", "model-0000.params", "vocabulary.json"]
    block = mx.gluon.SymbolBlock.imports(str(found.files[0]), list(found.inputs), str(found.files[1]), ctx=CPU)
    for shape in ((6, 3), (2, 5)):
        given, expected = inputs(run, *shape)
        outputs = block(*(mx.nd.array(each, dtype=each.dtype) for each in given))
        outputs = outputs if isinstance(outputs, list) else [outputs]
        assert_equal([each.asnumpy() for each in outputs], expected, 0)


@pytest.mark.parametrize("cell", ["char_loop", "char_loop_concat", "tests.cells_for_tests:OwnCell"])
def test_mxnet_loads_cells_that_are_equations_without_their_code(keep: Callable[..., Path], cell: str) -> None:
    run = keep(cell=cell)
    assert export_run(str(run), format="mxnet").difference == 0
    assert (run / "export" / "model-symbol.json").is_file()


def onnx_outputs(folder: Path, given: Sequence[np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    kinds = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}
    named = zip(session.get_inputs(), given, strict=True)
    outputs: list[np.ndarray] = session.run(None, {each.name: array.astype(kinds[each.type]) for each, array in named})
    return outputs


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        *(("lstm", name) for name in NETWORKS),
        *(("gru", name) for name in ("tied", "three layers", "next token", "classes, both ways")),
        *((cell, "tied") for cell in ("rnn_tanh", "rnn_relu", "custom_lstm", "custom_gru", "custom_rnn")),
        ("rnn_relu", "tags, both ways"),
    ],
)
@with_onnx
def test_onnxruntime_computes_the_same_at_any_length(keep: Callable[..., Path], cell: str, name: str) -> None:
    run = keep(cell=cell, **NETWORKS[name])
    found = export_run(run)
    assert found.files[0] == run / "export" / "model.onnx"
    assert found.outputs == ("logits", *(f"{state}_out" for state in found.inputs if state[0] in "hc"))
    for shape in ((6, 3), (2, 5), (1, 1)):
        given, expected = inputs(run, *shape)
        # Rounding grows with the units, which a rectifier does not bound.
        assert_equal(
            onnx_outputs(run / "export", given), expected, 1e-6 * max(1, *(np.abs(each).max() for each in expected))
        )


def test_inputs_and_outputs_are_named_by_layer(keep: Callable[..., Path]) -> None:
    found = export_run(keep(cell="lstm"), format="mxnet")
    assert found.inputs == ("ids", "h0", "c0", "h1", "c1")
    assert found.outputs == ("logits", "h0_out", "c0_out", "h1_out", "c1_out")


def test_labels_are_written_and_loaded(keep: Callable[..., Path]) -> None:
    run = keep(objective="classification")
    found = export_run(run, format="mxnet")
    assert found.inputs == ("ids", "lengths")
    assert json.loads(found.files[-1].read_text())["labels"] == list(LABELS)
    assert load_run(run).labels == LABELS


def test_a_vocabulary_is_plain_json_and_the_first_versions_is_read(keep: Callable[..., Path]) -> None:
    run = keep()
    loaded = load_run(run).vocabulary
    assert json.loads((run / "vocabulary.json").read_text())["vocabulary"]["idx_to_token"] == loaded.idx_to_token
    (run / "vocabulary.json").write_text(seal({"vocabulary": loaded.to_json()}))
    assert load_run(run).vocabulary.idx_to_token == loaded.idx_to_token
    assert load_run(run).labels is None


@pytest.mark.parametrize("cell", ["char_loop", "tests.cells_for_tests:OwnCell"])
@with_onnx
def test_a_cell_that_is_no_operator_of_onnx_is_refused(keep: Callable[..., Path], cell: str) -> None:
    run = keep(cell=cell)
    with pytest.raises(UserError, match=f"^ONNX has no operator for cell={cell}: .*; export it with --format mxnet$"):
        export_run(run)
    assert not (run / "export").exists()


@with_onnx
@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    keep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package {package}; install it with: pip install 'gluon_rnn\[exp"):
        export_run(keep())


def test_an_unknown_format_is_refused(keep: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="format='onx' is not one of onnx, mxnet"):
        export_run(keep(), format="onx")  # type: ignore[arg-type]


def test_a_model_that_computes_something_else_is_refused(keep: Callable[..., Path]) -> None:
    run = keep(cell="gru", num_layers=1)
    network = export._Network(load_run(run), "run")

    def almost(off: float) -> Callable[..., Sequence[np.ndarray]]:
        def compute(given: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
            logits, after = network.model(mx.nd.array(given["ids"], dtype="int32"), [[mx.nd.array(given["h0"])]])
            return [logits.asnumpy(), after[0][0].asnumpy() + off]

        return compute

    assert network.difference(almost(1e-5)) == pytest.approx(1e-5, rel=0.1)
    for off in (1e-2, np.nan):
        with pytest.raises(UserError, match="what was exported is not the run's model: h0_out differs by"):
            network.difference(almost(off))


def test_the_command_says_what_it_wrote(
    keep: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = keep()

    def ask(module: str, request: dict[str, str], **process: object) -> dict[str, Any]:
        assert module == export.__name__
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
        assert export.main() == 0
        return dict(json.loads(capsys.readouterr().out))

    options = argparse.Namespace(directory=run, format="mxnet", output=None)
    assert command.run(options, ask=ask) == 0
    files = [f"{run}/export/{name}" for name in ("model-symbol.json", "model-0000.params", "vocabulary.json")]
    assert capsys.readouterr().out.splitlines() == [
        *files,
        "inputs: ids, h0, c0, h1, c1",
        "outputs: logits, h0_out, c0_out, h1_out, c1_out",
        "largest difference from the run's own outputs: 0",
    ]


@with_onnx
def test_the_example_writes_text(keep: Callable[..., Path]) -> None:
    found = export_run(keep())
    generate = runpy.run_path(str(CHECKOUT / "examples" / "onnx_generate.py"))["generate"]
    text = generate(found.files[0].parent, "the cat Nobody", tokens=7)
    assert text.startswith("the cat Nobody ")
    assert len(text.replace("\n", "<eos>").split()) == 10
    assert text == generate(found.files[0].parent, "the cat Nobody", tokens=7)
