"""``gluon-rnn check-gpu`` as users start it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_rnn.cli import check_gpu, main
from gluon_rnn.common.errors import UserError
from tests.sweeps.test_sweep import machine

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_cpu_is_checked_from_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, str(CHECKOUT / "scripts" / "check_gpu.py"), "--device", "cpu", "--minutes", "2"]
    arguments = ["--parts", "machine,parity", "--output", str(tmp_path / "out")]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything that was checked holds." in done.stdout
    content = json.loads((tmp_path / "out" / "check_gpu.json").read_text())
    assert content["verdict"] == {
        "ok": True,
        "text": "Everything that was checked holds.",
        "failed": {},
        "crashed": [],
        "incomplete": [],
        "skipped": [],
    }
    parity = content["parts"]["parity"]
    assert [each["item"] for each in parity["items"]] == parity["planned"]
    assert len(parity["planned"]) > 30
    # Two contexts of one CPU agree to the bit.
    assert {each["gradients"] for each in parity["items"]} == {0.0}
    text = (tmp_path / "out" / "check_gpu.md").read_text()
    assert text.startswith("# GPU check\n\n**Everything that was checked holds.**\n")
    assert "| char_loop_concat, untied |" in text


def test_a_gpu_is_named_by_its_number() -> None:
    gpus = machine((8, 0), (8, 0))
    assert [check_gpu._device(name, gpus) for name in ("gpu", "gpu:1", "cpu")] == ["gpu:0", "gpu:1", "cpu"]
    with pytest.raises(UserError, match="--device gpu:2 is not there: this machine shows gpu:0 to gpu:1"):
        check_gpu._device("gpu:2", gpus)
    with pytest.raises(UserError, match="the driver shows no GPU; see gluon-rnn doctor, or use --device cpu"):
        check_gpu._device("gpu", machine())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--minutes", "0"], "'0' is not a number of minutes above 0"),
        (["--minutes", "nan"], "'nan' is not a number of minutes above 0"),
        (["--device", "tpu"], "--device 'tpu' is not cpu, gpu or gpu:N"),
        (["--device", "cpu", "--parts", "partiy"], "--parts: 'partiy' is not a part; did you mean 'parity'?"),
        (["--device", "cpu", "--torch", "/nowhere/python"], "--torch /nowhere/python is not a Python that has torch"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-gpu", *arguments, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
