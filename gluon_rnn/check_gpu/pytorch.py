"""The part ``pytorch``: what a step of PyTorch's example takes, measured by the Python that has torch."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

from gluon_rnn.check_gpu import pytorch_step
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import SIZES, Request


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    assert request.torch
    # TF32 is a GPU's.
    kinds = (False, True) if request.device == "gpu" else (False,)
    names = [
        _name(f"hidden {size}, {way}", tf32)
        for tf32, size, way in product(kinds, SIZES, ("as shipped", "fused cross-entropy"))
    ]
    report.write(planned=names)
    for tf32 in kinds:
        _measure(request, report, tf32=tf32, seconds=request.seconds / len(names) / 3)


def _name(item: str, tf32: bool) -> str:
    return f"{item}, TF32" if tf32 else item


def _measure(request: Request, report: Report, *, tf32: bool, seconds: float) -> None:
    asked: dict[str, Any] = {
        "device": "cuda" if request.device == "gpu" else "cpu",
        "threads": None if request.device == "gpu" else request.threads,
        "sizes": SIZES,
        "tf32": tf32,
        "seconds": seconds,
    }
    command = [str(request.torch), str(Path(pytorch_step.__file__)), json.dumps(asked)]
    # NVIDIA's libraries obey this variable before PyTorch.
    environ = {name: value for name, value in os.environ.items() if name != "NVIDIA_TF32_OVERRIDE" or not tf32}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout
        for line in process.stdout:
            said = json.loads(line)
            for key in ("begun", "item"):
                if key in said:
                    said[key] = _name(said[key], tf32)
            if "item" in said:
                said["tf32"] = tf32
            report.write(**said)
    if process.returncode:
        raise SystemExit(f"{request.torch} ended with status {process.returncode}")
