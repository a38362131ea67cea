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
    runs = _Runs(request, report, _SETTINGS)
    items: dict[str, Callable[[], dict[str, Any]]] = {
        "a run": partial(runs.first, folder / "first"),
        "the same run again": partial(runs.again, folder / "second", kills=False),
        "killed after an epoch and resumed": partial(runs.again, folder / "killed", kills=True),
    }
    if request.device == "gpu":
        # All layers are one call of cuDNN then.
        plain = _Runs(request, report, {**_SETTINGS, "dropout": 0.0})
        items["a run without dropout"] = partial(plain.first, folder / "plain")
        items["the same run without dropout again"] = partial(plain.again, folder / "plain-second", kills=False)
    report.measure(items)


class _Runs:
    """Runs of the same `settings`."""

    def __init__(self, request: Request, report: Report, settings: dict[str, Any]) -> None:
        self._request = request
        self._report = report
        self._settings = settings
        self._first: dict[str, Any] = {}

    def first(self, results: Path) -> dict[str, Any]:
        """Make the run that others are compared with, in the folder `results`."""
        process = sweeps.start(self._request, results, self._settings)
        self._first = sweeps.outcome(results, sweeps.finish(process, results, self._report))
        losses = ", ".join(f"{epoch['valid_loss']:.6f}" for epoch in self._first["epochs"])
        return {"what": f"validation losses {losses}"}

    def again(self, results: Path, *, kills: bool) -> dict[str, Any]:
        """Make the run again, with `kills` in two pieces, and compare."""
        if not self._first:
            raise RuntimeError("there is no first run to compare with")
        process = sweeps.start(self._request, results, self._settings)
        what = "in other processes"
        if kills:
            what = f"killed after epoch {sweeps.kill_after_an_epoch(process, results)}"
            process = sweeps.start(self._request, results, self._settings)
        record = sweeps.finish(process, results, self._report)
        found = sweeps.outcome(results, record)
        if kills and len(record.sessions) < 2:
            raise RuntimeError("the run was done before it could be killed")
        return {"what": what, **compare(self._first, found)}


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
