"""Parts in processes of their own: what is kept when one crashes, hangs or has no time. The processes are fakes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gluon_rnn.check_gpu import page, running
from gluon_rnn.check_gpu.parts import PARTS, Request
from gluon_rnn.check_gpu.running import Options, Result
from gluon_rnn.machine.hardware import Machine
from gluon_rnn.machine.libmxnet import CU112, Library
from tests.sweeps.test_sweep import machine

FOR_CUDA, FOR_CPU = Library(Path("libmxnet.so"), CU112), Library(Path("libmxnet.so"))
#: What every fake process begins with.
PRELUDE = """
import json, os, signal, subprocess, sys, time
def write(**line):
    with open(sys.argv[1], "a") as file:
        file.write(json.dumps(line) + "\\n")
done = json.loads(sys.argv[2])
"""


def scripted(scripts: dict[str, str], seen: list[Request] | None = None) -> Callable[[Request, Path], list[str]]:
    """Commands of fake processes, by part."""

    def command(request: Request, results: Path) -> list[str]:
        if seen is not None:
            seen.append(request)
        script = PRELUDE + scripts.get(request.part, "write(planned=['all']); write(item='all', ok=True)")
        return [sys.executable, "-c", script, str(results), json.dumps(request.done)]

    return command


def check(
    tmp_path: Path,
    scripts: dict[str, str],
    *,
    minutes: float = 1.0,
    device: str = "cpu",
    computer: Machine | None = None,
    library: Library = FOR_CPU,
    seen: list[Request] | None = None,
    parts: tuple[str, ...] = (),
    torch: str | None = None,
) -> tuple[dict[str, Result], dict[str, Any], str]:
    """The results, the JSON file and the page of a check."""
    options = Options(device, minutes, tmp_path / "out", parts or tuple(scripts), torch)
    results = running.check(
        options,
        machine=computer or machine(),
        library=library,
        say=lambda line: None,
        command=scripted(scripts, seen),
        environ={**os.environ, "GLUON_RNN_TUNING": "off"},
    )
    content = json.loads((tmp_path / "out" / "check_gpu.json").read_text())
    return results, content, (tmp_path / "out" / "check_gpu.md").read_text()


def test_what_holds_and_what_does_not_is_in_both_files(tmp_path: Path) -> None:
    results, content, text = check(
        tmp_path,
        {
            "machine": "write(planned=['GPU']); write(begun='GPU'); write(item='GPU', value='one | two', ok=True)",
            "parity": "write(planned=['lstm', 'gru']); write(item='lstm', loss=6.9, ok=True);"
            "write(item='gru', loss=7.0, reference_loss=6.9, ok=False)",
        },
    )
    assert [result.state for result in results.values()] == ["done", "done"]
    assert results["parity"].failed == ["gru"]
    assert content["verdict"]["ok"] is False
    assert content["verdict"]["failed"] == {"parity": ["gru"]}
    assert content["parts"]["parity"]["items"][1]["reference_loss"] == 6.9
    assert text.splitlines()[2] == "**Problems in parity.**"
    assert "- parity, gru: loss 7, reference_loss 6.9" in text
    assert "| GPU | one \\| two | yes |" in text
    assert "| parity | done | 0 | 2 of 2 | 1 of 2 |  |" in text
    assert not (tmp_path / "out" / "scratch").exists()


def test_a_crash_costs_its_item_alone(tmp_path: Path) -> None:
    seen: list[Request] = []
    results, content, text = check(
        tmp_path,
        {
            "parity": """
write(planned=['a', 'b', 'c'])
for name in 'abc':
    if name not in done:
        write(begun=name)
        if name == 'b':
            print('a native stack', file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        write(item=name, ok=True)
"""
        },
        seen=seen,
    )
    result = results["parity"]
    assert [each["item"] for each in result.items] == ["a", "c"]
    assert result.crashes == {"b": "SIGSEGV (a native stack)"}
    assert (result.state, result.failed, content["verdict"]["ok"]) == ("done", ["b"], False)
    assert [request.done for request in seen] == [(), ("a", "b")]
    assert "- parity, b: the process died: SIGSEGV (a native stack)" in text
    assert (tmp_path / "out" / "logs" / "parity.txt").read_text() == "a native stack\n"


def test_a_part_that_cannot_even_start_ends_the_check_of_no_other(tmp_path: Path) -> None:
    results, content, text = check(
        tmp_path, {"machine": "raise SystemExit('ImportError: libcudnn.so.8')", "parity": "write(item='a', ok=True)"}
    )
    assert (results["machine"].state, results["machine"].why) == ("crashed", "status 1 (ImportError: libcudnn.so.8)")
    assert results["parity"].state == "done"
    assert content["verdict"]["crashed"] == ["machine"]
    assert "- machine: the process died: status 1 (ImportError: libcudnn.so.8)" in text


def test_a_part_that_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    script = """
names = [str(n) for n in range(50)]
write(planned=names)
write(begun=[name for name in names if name not in done][0])
os._exit(3)
"""
    results, _, _ = check(tmp_path, {"parity": script})
    assert results["parity"].state == "crashed"
    assert len(results["parity"].crashes) == 5
    assert set(results["parity"].crashes.values()) == {"status 3"}


def test_out_of_time_says_how_far_it_got_and_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_ALWAYS_SECONDS", 0.0)
    monkeypatch.setattr(running, "LEAST_SECONDS", 0.0)
    child = tmp_path / "child"
    script = f"""
write(planned=['a', 'b', 'c'])
write(begun='a'); write(item='a', ok=True)
process = subprocess.Popen(['sleep', '600'])
open({str(child)!r}, 'w').write(str(process.pid))
write(begun='b'); write(progress='step 5/70')
time.sleep(600)
"""
    results, content, text = check(tmp_path, {"parity": script}, minutes=1.5 / 60)
    result = results["parity"]
    assert (result.state, [each["item"] for each in result.items]) == ("out of time", ["a"])
    assert result.why.startswith("1 of 3 were done in ")
    assert result.why.endswith("; it was at b (step 5/70)")
    assert content["verdict"]["incomplete"] == ["parity"]
    assert content["verdict"]["text"] == "Everything that was checked holds. Not complete: parity."
    assert "- parity (out of time): b, c" in text
    state = Path(f"/proc/{child.read_text()}/stat")
    for _ in range(200):
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.01)
    else:
        pytest.fail("a child of the part's process is still running")


def test_parts_that_no_time_is_left_for_are_not_begun(tmp_path: Path) -> None:
    results, content, text = check(tmp_path, {"machine": "", "parity": ""}, minutes=0.01)
    assert {result.state for result in results.values()} == {"not begun"}
    assert content["verdict"]["ok"] is False
    assert content["verdict"]["text"] == "Nothing was checked. Not complete: machine, parity."
    assert "were left; give more --minutes" in text


def test_time_that_is_not_needed_is_shared_by_what_follows() -> None:
    names = ("machine", "parity", "products")
    results = {name: Result() for name in names}
    shares = [PARTS[name].share for name in names]
    assert running._limit("parity", results, 600.0) == 600 * shares[1] / sum(shares[1:])
    results["products"].state = "skipped"
    assert running._limit("parity", results, 600.0) == 600.0
    # Enough to start, however small its share; never more than there is.
    assert running._limit("machine", results, 60.0) == 15.0
    assert running._limit("machine", results, 7.0) == 7.0


@pytest.mark.parametrize(
    ("part", "capability", "library", "why"),
    [
        ("parity", (9, 0), FOR_CUDA, "MXNet cannot run on board 0"),
        ("parity", (8, 0), FOR_CPU, "MXNet cannot run on board 0"),
        ("machine", (9, 0), FOR_CUDA, ""),
        ("parity", (8, 0), FOR_CUDA, ""),
        ("steps-tf32", (7, 5), FOR_CUDA, "tf32 needs compute capability 8.0"),
        ("steps-tf32", (8, 6), FOR_CUDA, ""),
        ("steps-float16", (6, 1), FOR_CUDA, "float16 needs compute capability 7.0"),
        ("steps-float16", (7, 0), FOR_CUDA, ""),
        ("steps-tf32", None, FOR_CPU, "tf32 needs a GPU"),
        ("pytorch", (8, 0), FOR_CUDA, "name one with --torch"),
        ("tests", (8, 0), FOR_CUDA, ""),
    ],
)
def test_what_cannot_be_done_is_skipped_and_says_why(
    tmp_path: Path, part: str, capability: tuple[int, int] | None, library: Library, why: str
) -> None:
    computer = machine(capability) if capability else machine()
    device = "gpu:0" if capability else "cpu"
    results, _, text = check(tmp_path, {part: "write(item='a')"}, device=device, computer=computer, library=library)
    assert results[part].state == ("skipped" if why else "done")
    assert why in results[part].why
    if why:
        assert f"- {part}: {results[part].why}" in text


def test_a_part_sees_one_gpu_and_starts_as_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = machine((8, 0), (8, 6))
    gpu = computer.gpus[1]
    environ = {"PATH": "/bin", "OMP_WAIT_POLICY": "active", "MXNET_LIBRARY_PATH": "", "GLUON_RNN_TUNING": "off"}
    worker = running._environment(PARTS["steps"], gpu, 4, environ)
    assert (worker["CUDA_VISIBLE_DEVICES"], worker["OMP_NUM_THREADS"]) == ("GPU-1", "4")
    assert (worker["NVIDIA_TF32_OVERRIDE"], worker["GLUON_RNN_TEST_DEVICE"]) == ("0", "gpu")
    assert "NVIDIA_TF32_OVERRIDE" not in running._environment(PARTS["steps-tf32"], gpu, 4, environ)
    plain = running._environment(PARTS["notebook"], gpu, 4, environ)
    assert (plain["CUDA_VISIBLE_DEVICES"], plain["NVIDIA_TF32_OVERRIDE"]) == ("GPU-1", "0")
    assert not {"OMP_NUM_THREADS", "OMP_WAIT_POLICY"} & plain.keys()
    assert running._environment(PARTS["notebook"], None, 4, environ) == {"PATH": "/bin", "GLUON_RNN_TUNING": "off"}
    assert running._environment(PARTS["tests"], None, 4, environ)["GLUON_RNN_TEST_DEVICE"] == "cpu(1)"


def test_a_library_of_ones_own_is_used_by_every_part(tmp_path: Path) -> None:
    own = tmp_path / "libmxnet.so"
    own.touch()
    environ = {"MXNET_LIBRARY_PATH": str(own), "GLUON_RNN_TUNING": "off"}
    for name in ("steps", "notebook", "epoch"):
        found = running._environment(PARTS[name], machine((8, 0)).gpus[0], 1, environ)
        assert found["MXNET_LIBRARY_PATH"] == str(own)


def test_the_first_python_that_has_torch_is_found(tmp_path: Path) -> None:
    pythons = []
    for name, status in (("without", 1), ("with", 0), ("second", 0)):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\nexit {status}\n")
        path.chmod(0o755)
        pythons.append(str(path))
    assert running.find_torch([None, str(tmp_path / "missing"), *pythons]) == pythons[1]
    assert running.find_torch(pythons[:1]) is None
    # On a GPU, one whose torch can use it.
    for path in pythons:
        Path(path).write_text('#!/bin/sh\ncase "$2" in *cuda.is_available*) exit 1;; *) exit 0;; esac\n')
    assert running.find_torch(pythons) == pythons[0]
    assert running.find_torch(pythons, gpu=True) is None


def test_the_page_compares_steps(tmp_path: Path) -> None:
    def times(**by_size: float) -> list[dict[str, Any]]:
        return [{"hidden": int(size[1:]), "ms": ms} for size, ms in by_size.items()]

    def items(extra: dict[str, Any], **by_size: float) -> list[dict[str, Any]]:
        return [{"item": f"hidden {each['hidden']}", **each, **extra} for each in times(**by_size)]

    results = {
        "steps": Result(
            "done", items=items({"cell": "lstm"}, h200=5.0, h650=8.0) + items({"cell": "custom_lstm"}, h200=15.0)
        ),
        "notebook": Result("done", items=items({"cell": "lstm"}, h200=10.0)),
        "pytorch": Result("done", items=items({"fused": True, "tf32": False}, h200=4.0, h650=6.0)),
        "steps-tf32": Result(
            "done",
            items=[
                {"item": "hidden 200, lstm", "cell": "lstm", "hidden": 200, "ms": 3.0},
                {"item": "hidden 200, notebook's loop", "cell": "lstm", "hidden": 200, "ms": 9.0},
            ],
        ),
    }
    text = "\n".join(page._comparison(results))
    assert "| hidden | this suite | from scratch | notebook's loop | PyTorch fused | this suite, TF32 |" in text
    assert "| 200 | 5.00 | 15.00 | 10.00 | 4.00 | 3.00 |" in text
    assert "| 650 | 8.00 |  |  | 6.00 |  |" in text
    assert "| PyTorch fused | 0.80 | 0.75 |  |" in text
    assert "| notebook's loop | 2.00 |  |  |" in text


def test_the_fastest_right_form_of_a_product_is_marked() -> None:
    items = [
        {"item": form, "hidden": 200, "product": "logits", "form": form, "ms": ms, "ok": ok}
        for form, ms, ok in (("dot", 2.0, True), ("wrong", 1.0, False), ("gemm", 3.0, True))
    ]
    assert [each["fastest"] for each in page._with_fastest(items)] == ["fastest", None, None]


def test_a_result_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    lines = ['{"planned": ["a", "b"]}', '{"begun": "a"}', '{"progress": "half"}', '{"item": "a"}', '{"begun": "b"}']
    path.write_text("\n".join([*lines, '{"item": "b", "lo']))
    result = Result()
    assert running._read(path, result) == ("b", "")
    assert (result.planned, result.items) == (["a", "b"], [{"item": "a"}])
    assert running._read(path, replace(result, crashes={"b": "SIGSEGV"})) == (None, "")
