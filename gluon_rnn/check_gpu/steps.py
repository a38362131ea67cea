"""The parts ``steps``: what a training step of this suite takes, and its operators."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mxnet as mx

from gluon_rnn.check_gpu.contenders import FROM_SCRATCH, Work, notebook_steps, suite_steps
from gluon_rnn.check_gpu.devices import device_of
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import SIZES, Request
from gluon_rnn.check_gpu.pytorch_step import Steps, timed

_PROFILED_STEPS = 20
_MOST_OPERATORS = 30


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    cells = ("lstm", FROM_SCRATCH["lstm"])
    works = [Work(size, cell) for cell in cells for size in SIZES]
    seconds = request.seconds / len(works) / 4
    items: dict[str, Callable[[], dict[str, Any]]] = {
        f"hidden {work.hidden_size}, {work.cell}": partial(_suite, request, work, seconds) for work in works
    }
    if request.device == "gpu" and request.precision == "float32":
        items |= {f"hidden {size}, {cells[1]}, looping": partial(_looping, request, size, seconds) for size in SIZES}
    if request.precision != "float32":
        # Whether MXNet uses TF32 is the process's to say, so that the notebook's loop has it here as well.
        items |= {
            f"hidden {size}, notebook's loop": partial(time_notebook, request, size, seconds)
            for size in SIZES
            if request.precision == "tf32"
        }
    report.measure(items)


def _suite(request: Request, work: Work, seconds: float) -> dict[str, Any]:
    steps = suite_steps(work, device_of(request), precision=request.precision)
    found = _timed(steps, work, seconds)
    # It slows a step down, so it comes after the clock.
    return {**found, "operators": operators(steps, _PROFILED_STEPS if found["ms"] < 100 else 2, Path(request.scratch))}


def _looping(request: Request, size: int, seconds: float) -> dict[str, Any]:
    """The cell from scratch as windows of other lengths than the common ones are computed."""
    work = Work(size, FROM_SCRATCH["lstm"])
    steps = suite_steps(work, device_of(request), unrolled=False)
    return _timed(steps, work, seconds) | {"cell": f"{work.cell}, looping"}


def time_notebook(request: Request, size: int, seconds: float) -> dict[str, Any]:
    """A step of the notebook's loop."""
    work = Work(size)
    return _timed(notebook_steps(work, device_of(request)), work, seconds)


def _timed(steps: Steps, work: Work, seconds: float) -> dict[str, Any]:
    found = timed(steps, seconds)
    tokens = work.bptt * work.batch_size
    return {
        "hidden": work.hidden_size,
        "cell": work.cell,
        **found,
        "tokens_per_second": 1e3 * tokens / found["ms"],
    }


def operators(steps: Steps, count: int, scratch: Path) -> list[dict[str, Any]]:
    """What MXNet's profiler says of `count` steps: of each operator the calls and the ms a step, the longest first."""
    mx.profiler.set_config(
        profile_symbolic=True, profile_imperative=True, aggregate_stats=True, filename=str(scratch / "profile.json")
    )
    mx.profiler.set_state("run")
    steps(count)
    mx.profiler.set_state("stop")
    said = json.loads(mx.profiler.dumps(reset=True, format="json"))
    of_operators = said["Time"].get("operator", {})
    found = [
        {"operator": name, "calls": each["Count"] / count, "ms": each["Total"] / count}
        for name, each in of_operators.items()
    ]
    return sorted(found, key=lambda each: -each["ms"])[:_MOST_OPERATORS]
