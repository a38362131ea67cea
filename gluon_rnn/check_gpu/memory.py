"""The part ``memory``: what a model takes in training, each alone in a process.

The process is ``gluon_rnn.check_gpu.memory ARGUMENTS``. One that has trained another model before would count what
MXNet keeps of that one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import SIZES, Request
from gluon_rnn.common import processes
from gluon_rnn.machine.memory import gpu_memory_reader, peak_rss_mb

_STEPS = 3


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    items: dict[str, Callable[[], dict[str, Any]]] = {
        f"hidden {size}, {cell}": partial(_ask, request, size, cell)
        for cell in ("lstm", "custom_lstm")
        for size in SIZES
    }
    report.measure(items)


def _ask(request: Request, size: int, cell: str) -> dict[str, Any]:
    command = processes.command("gluon_rnn.check_gpu.memory", json.dumps([request.device, size, cell]))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(device: str, size: int, cell: str) -> dict[str, Any]:
    in_use = gpu_memory_reader() if device == "gpu" else lambda: None
    before = in_use()
    import mxnet as mx

    from gluon_rnn.check_gpu.contenders import Work, suite_steps
    from gluon_rnn.check_gpu.pytorch_step import VOCABULARY
    from gluon_rnn.config.run import configure
    from gluon_rnn.networks.models import build_network, count_parameters

    suite_steps(Work(size, cell), mx.gpu(0) if device == "gpu" else mx.cpu(0))(_STEPS)
    now = in_use()
    network = build_network(configure({"cell": cell, "hidden_size": size}), VOCABULARY)
    found = {"hidden": size, "cell": cell, "parameters": count_parameters(network), "peak_rss_mb": peak_rss_mb()}
    if now is not None and before is not None:
        found |= {"in_use_mb": now.everyone - before.everyone, "process_mb": now.own}
    return found


if __name__ == "__main__":
    print(json.dumps(_measure(*json.loads(sys.argv[1]))))
