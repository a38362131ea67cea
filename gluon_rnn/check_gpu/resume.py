"""The part ``resume``: one run made twice, and once more with a kill in between, comes to the same bits each time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gluon_rnn.check_gpu import sweeps
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import Request

#: Small, with dropout, an optimizer that has a state, and some forty steps an epoch.
_SETTINGS = {
    "dataset": "synthetic",
    "cell": "lstm",
    "hidden_size": 64,
    "bptt": 20,
    "batch_size": 20,
    "optimizer": "adam",
    "learning_rate": 0.005,
    "dropout": 0.3,
    "epochs": 3,
    "max_train_tokens": 15_000,
    "max_eval_tokens": 4_000,
}


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    folder = Path(request.scratch)
    first: dict[str, Any] = {}

    def whole() -> dict[str, Any]:
        results = folder / "first"
        first.update(sweeps.outcome(results, sweeps.finish(sweeps.start(request, results, _SETTINGS), results, report)))
        losses = ", ".join(f"{epoch['valid_loss']:.6f}" for epoch in first["epochs"])
        return {"what": f"validation losses {losses}"}

    items: dict[str, Callable[[], dict[str, Any]]] = {
        "a run": whole,
        "the same run again": partial(_again, request, report, folder / "second", first, kills=False),
        "killed after an epoch and resumed": partial(_again, request, report, folder / "killed", first, kills=True),
    }
    report.measure(items)


def _again(request: Request, report: Report, results: Path, first: dict[str, Any], *, kills: bool) -> dict[str, Any]:
    if not first:
        raise RuntimeError("there is no first run to compare with")
    process = sweeps.start(request, results, _SETTINGS)
    what = "in other processes"
    if kills:
        what = f"killed after epoch {sweeps.kill_after_an_epoch(process, results)}"
        process = sweeps.start(request, results, _SETTINGS)
    record = sweeps.finish(process, results, report)
    found = sweeps.outcome(results, record)
    if kills and len(record.sessions) < 2:
        raise RuntimeError("the run was done before it could be killed")
    return {"what": what, **compare(first, found)}


def compare(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Where two outcomes of `sweeps.outcome` differ."""
    differences = [
        f"epoch {number}: {name} {before[name]} and {after.get(name)}"
        for number, (before, after) in enumerate(zip(expected["epochs"], found["epochs"], strict=False), 1)
        for name in before
        if before[name] != after.get(name)
    ]
    if len(expected["epochs"]) != len(found["epochs"]):
        differences.append(f"{len(expected['epochs'])} and {len(found['epochs'])} epochs")
    if expected["parameters"] != found["parameters"]:
        differences.append("the parameters")
    return {"differences": "; ".join(differences) or "none", "ok": not differences}
