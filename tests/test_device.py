"""The device that tests compute on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import on_device
from tests.device_name import VARIABLE, parse

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "device"),
    [
        (None, ("cpu", 0)),
        ("", ("cpu", 0)),
        ("cpu", ("cpu", 0)),
        ("cpu(1)", ("cpu", 1)),
        ("gpu", ("gpu", 0)),
        ("gpu:2", ("gpu", 2)),
    ],
)
def test_a_device_is_named_as_mxnet_or_a_sweep_names_it(name: str | None, device: tuple[str, int]) -> None:
    assert parse(name) == device


@pytest.mark.parametrize("name", ["tpu", "gpu:x", "gpu:0+gpu:1"])
def test_another_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=VARIABLE):
        parse(name)


def test_tests_on_a_gpu_start_as_a_worker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUON_RNN_TUNING", "off")
    monkeypatch.setenv(VARIABLE, "cpu(1)")
    assert on_device.environment() == dict(os.environ)
    monkeypatch.setenv(VARIABLE, "gpu:1")
    found = on_device.environment()
    assert (found["CUDA_VISIBLE_DEVICES"], found["NVIDIA_TF32_OVERRIDE"], found[VARIABLE]) == ("1", "0", "gpu")


@pytest.mark.parametrize(("device", "outcome"), [("gpu", "1 skipped"), ("cpu(1)", "1 passed")])
def test_what_is_about_a_cpu_is_left_out_on_a_gpu(device: str, outcome: str) -> None:
    test = "tests/kernels/test_kernels.py::test_failures_and_crashes_are_red"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", test]
    done = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, VARIABLE: device}, capture_output=True, text=True, check=False
    )
    assert outcome in done.stdout
