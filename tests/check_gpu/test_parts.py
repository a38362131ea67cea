"""What the parts measure, on a CPU: that right numbers pass, and wrong ones do not."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mxnet as mx
import numpy as np
import pytest

from gluon_rnn.check_gpu import (
    dropout,
    epoch,
    graphs,
    library,
    parity,
    products,
    pytorch,
    pytorch_step,
    resume,
    steps,
)
from gluon_rnn.check_gpu import tests as tests_part
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import PARTS, Request
from gluon_rnn.common.errors import UserError
from gluon_rnn.networks.regularization import drop

pytestmark = [pytest.mark.numerical, pytest.mark.several_contexts]

OTHER = mx.cpu(1)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_part_has_its_module_and_says_what_it_shows() -> None:
    package = Path(parity.__file__).parent
    for name, part in PARTS.items():
        assert (package / f"{part.module}.py").is_file(), name
        assert part.columns
        assert part.share > 0


def test_what_fails_is_a_result_and_the_next_item_is_measured(tmp_path: Path) -> None:
    def fails() -> dict[str, Any]:
        raise ValueError("first line\nCUDNN_STATUS_EXECUTION_FAILED")

    def refuses() -> dict[str, Any]:
        raise UserError("no such thing")

    report = Report(tmp_path / "results.jsonl", ["done before"])
    report.measure({"done before": fails, "fails": fails, "refuses": refuses, "infinite": lambda: {"ms": float("inf")}})
    lines = written(tmp_path / "results.jsonl")
    assert lines[0] == {"planned": ["done before", "fails", "refuses", "infinite"]}
    assert [line["begun"] for line in lines if "begun" in line] == ["fails", "refuses", "infinite"]
    found = {line["item"]: line for line in lines if "item" in line}
    assert (found["fails"]["ok"], found["fails"]["error"]) == (False, "ValueError: CUDNN_STATUS_EXECUTION_FAILED")
    assert found["refuses"]["error"] == "no such thing"
    assert found["infinite"]["ms"] == "inf"


@pytest.mark.parametrize(("cell", "tied"), [("lstm", True), ("char_loop_concat", False)])
def test_another_context_agrees_with_the_first(cell: str, tied: bool) -> None:
    found = parity._language_model(cell, tied, OTHER)
    assert found["ok"]
    assert found["loss"] == pytest.approx(np.log(parity.VOCABULARY), rel=0.01)


def test_lengths_and_padding_are_compared() -> None:
    found = parity._labeller("gru", "tagging", OTHER)
    assert found["ok"]
    assert found["padding_changes_nothing"]


def test_a_difference_beyond_rounding_is_found_and_named() -> None:
    weights = np.linspace(-1, 1, 50, dtype=np.float32)
    right: dict[str, Any] = {
        "loss": 6.9,
        **{kind: {"a": weights, "b": 2 * weights} for kind in ("states", "gradients", "parameters")},
    }
    assert parity.compared(right, right)["ok"]
    wrong = {**right, "gradients": {"a": weights, "b": 2 * weights + np.float32(1e-3)}}
    found = parity.compared(right, wrong)
    assert not found["ok"]
    assert (found["where"]["gradients"], found["gradients"]) == ("b", pytest.approx(5e-4, rel=0.01))
    assert not parity.compared(right, {**right, "loss": 6.901})["ok"]
    assert not parity.compared(right, {**right, "states": {"a": weights * np.nan, "b": weights}})["ok"]


@pytest.mark.parametrize("cell", ["char_loop_concat", "lstm"])
def test_graphs_with_and_without_lengths_take_turns(cell: str) -> None:
    found = graphs._turns(cell, OTHER)
    assert found["every_turn_alike"]
    assert found["ok"]
    assert graphs._turns(cell, OTHER, fuses=True, static_alloc=True)["ok"]


@pytest.mark.parametrize("axes", [(), (0,)])
def test_dropouts_share_and_seed_are_checked(axes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    found = dropout._masks(0.2, axes, OTHER)
    assert found["ok"]
    assert found["dropped"] == pytest.approx(0.2, abs=0.05)
    # A device that drops less than it should.
    monkeypatch.setattr(dropout, "drop", lambda F, array, rate, axes: drop(F, array, rate / 2, axes))
    assert not dropout._masks(0.2, axes, OTHER)["ok"]


def test_dropout_that_ignores_the_seed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dropout._steps(OTHER, {"cell": "lstm", "dropout": 0.3})["ok"]
    monkeypatch.setattr(mx.random, "seed", lambda seed: None)
    assert not dropout._masks(0.2, (), OTHER)["ok"]
    assert not dropout._steps(OTHER, {"cell": "lstm", "dropout": 0.3})["ok"]


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_every_form_of_a_product_is_right(transpose_a: bool, transpose_b: bool) -> None:
    draw = np.random.RandomState(1)
    a, b = draw.randn(5, 7).astype(np.float32), draw.randn(7, 3).astype(np.float32)
    expected = a @ b
    on_device = [mx.nd.array(each, ctx=OTHER) for each in (a.T if transpose_a else a, b.T if transpose_b else b)]
    forms = products.forms(transpose_a, transpose_b)
    assert ("FullyConnected" in forms) is (transpose_b and not transpose_a)
    for name, form in forms.items():
        found = form(*on_device, mx.nd.zeros((5, 3), ctx=OTHER)).asnumpy()
        np.testing.assert_allclose(found.T if name.endswith("transposed") else found, expected, atol=1e-5, err_msg=name)


def test_every_form_of_the_biass_gradient_is_right() -> None:
    gradient = np.random.RandomState(1).randn(6, 9).astype(np.float32)
    for name, form in products.BIAS_FORMS.items():
        found = form(mx.nd.array(gradient, ctx=OTHER), mx.nd.zeros((9, 1), ctx=OTHER)).asnumpy()
        np.testing.assert_allclose(found.ravel(), gradient.sum(axis=0), atol=1e-5, err_msg=name)


def test_operators_of_a_step_are_counted(tmp_path: Path) -> None:
    matrix = mx.nd.ones((64, 64), ctx=OTHER)

    def run(count: int) -> None:
        for _ in range(count):
            mx.nd.dot(matrix, mx.nd.dot(matrix, matrix)).wait_to_read()

    found = {each["operator"]: each for each in steps.operators(run, 3, tmp_path)}
    assert found["dot"]["calls"] == 2
    assert found["dot"]["ms"] > 0


def test_steps_are_timed_in_about_the_time_there_is() -> None:
    made = []
    found = pytorch_step.timed(made.append, 0.001)
    assert made[:2] == [1, 2]
    assert len(made) == 7
    assert found["fastest_ms"] <= found["ms"] <= found["slowest_ms"]


def test_pytorch_is_measured_by_another_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake one, which says what the program would and shows what it was told."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nprogram, asked = sys.argv[1], json.loads(sys.argv[2])\n"
        "assert os.environ.get('NVIDIA_TF32_OVERRIDE') == (None if asked['tf32'] else '0')\n"
        "assert program.endswith('pytorch_step.py')\n"
        "for size in asked['sizes']:\n"
        "    print(json.dumps({'begun': f'hidden {size}, as shipped'}))\n"
        "    print(json.dumps({'item': f'hidden {size}, as shipped', 'ms': 1.5, 'asked': asked}))\n"
    )
    python.chmod(0o755)
    request = Request("pytorch", "gpu", "float32", 60.0, 4, str(tmp_path), torch=str(python))
    pytorch.run(request, Report(tmp_path / "results.jsonl"))
    lines = written(tmp_path / "results.jsonl")
    assert len(lines[0]["planned"]) == 12
    items = {line["item"]: line for line in lines if "item" in line}
    assert {*items} <= {*lines[0]["planned"]}
    assert items["hidden 650, as shipped"]["asked"]["tf32"] is False
    assert items["hidden 650, as shipped, TF32"]["asked"] | {"seconds": 0} == {
        "device": "cuda",
        "threads": None,
        "sizes": [200, 650, 1500],
        "tf32": True,
        "seconds": 0,
    }
    python.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(SystemExit, match="ended with status 3"):
        pytorch.run(request, Report(tmp_path / "results.jsonl"))


def test_the_file_of_a_loaded_library_is_found_whatever_its_folder_is_called() -> None:
    maps = (
        "7f00-7f01 r-xp 00000000 08:01 123                        /home/me/my project/lib/libcudart.so.11.0\n"
        "7f02-7f03 rw-p 00000000 00:00 0\n"
        "7f04-7f05 r--p 00000000 08:01 124                        /opt/libcudnn.so.8\n"
    )
    assert library.loaded("libcudart.so", maps) == Path("/home/me/my project/lib/libcudart.so.11.0")
    assert library.loaded("libcudnn.so", maps) == Path("/opt/libcudnn.so.8")
    assert library.loaded("libcublas.so", maps) is None


@pytest.mark.parametrize(
    ("status", "done", "fails"),
    [
        (0, (), False),
        (1, (), False),
        (5, (), True),
        (5, ("a",), False),
        (2, (), True),
        (3, ("a",), True),
        (4, (), True),
    ],
)
def test_tests_that_were_not_run_do_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, done: tuple[str, ...], fails: bool
) -> None:
    monkeypatch.setattr(tests_part.pytest, "main", lambda *_, **__: status)
    request = Request("tests", "gpu", "float32", 60.0, 4, str(tmp_path), done=done)
    with pytest.raises(SystemExit, match=f"pytest ended with status {status}") if fails else nullcontext():
        tests_part.run(request, Report(tmp_path / "results.jsonl"))


@pytest.mark.parametrize(("perplexity", "ok"), [(302.0, True), (298.0, True), (304.0, False), (296.0, False)])
def test_an_epoch_in_another_precision_is_within_a_percent_of_float32s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, perplexity: float, ok: bool
) -> None:
    """Its two sweeps are not run."""
    told: dict[Path, dict[str, Any]] = {}

    def run_epoch(request: Request, report: Report, results: Path, settings: dict[str, Any]) -> dict[str, Any]:
        told[results] = settings
        return {"valid_perplexity": 300.0 if settings["precision"] == "float32" else perplexity}

    def read(folder: Path) -> tuple[list[SimpleNamespace], list[str]]:
        return [SimpleNamespace(valid_perplexity=300.0)] * (folder.parent in told), []

    monkeypatch.setattr(epoch, "_epoch", run_epoch)
    monkeypatch.setattr(epoch, "read_records", read)
    request = Request("epoch-float16", "gpu", "float16", 60.0, 1, str(tmp_path))
    epoch.run(request, Report(tmp_path / "results.jsonl"))
    items = {line["item"]: line for line in written(tmp_path / "results.jsonl") if "item" in line}
    assert told == {
        tmp_path / precision: {"precision": precision, "learning_rate": 5.0} for precision in ("float32", "float16")
    }
    assert "ok" not in items["float32"]
    assert items["float16"]["of_float32"] == pytest.approx(perplexity / 300)
    assert items["float16"]["ok"] is ok
    # The process died in float32's epoch, and another one goes on.
    told.clear()
    epoch.run(request, Report(tmp_path / "again.jsonl", ("float32",)))
    *_, last = written(tmp_path / "again.jsonl")
    assert (last["ok"], last["error"]) == (False, "RuntimeError: there is no epoch in float32 to compare with")


def test_outcomes_of_runs_are_compared_to_the_bit() -> None:
    first = {"epochs": [{"epoch": 1, "valid_loss": 5.0}, {"epoch": 2, "valid_loss": 4.0}], "parameters": "abc"}
    assert resume.compare(first, first) == {"differences": "none", "ok": True}
    other = {"epochs": [{"epoch": 1, "valid_loss": 5.0}, {"epoch": 2, "valid_loss": 4.0000001}], "parameters": "def"}
    found = resume.compare(first, other)
    assert found == {"differences": "epoch 2: valid_loss 4.0 and 4.0000001; the parameters", "ok": False}
    assert resume.compare(first, {**first, "epochs": first["epochs"][:1]})["differences"] == "2 and 1 epochs"
