"""The parts ``epoch``: the first epoch of ``benchmarks/notebook.yaml``, on a CPU of a short text.

In another precision than float32, the epoch is compared with one in float32.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from gluon_rnn.check_gpu import sweeps
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import Request
from gluon_rnn.config.sweep_file import shipped_sweep
from gluon_rnn.data.corpora import wikitext2
from gluon_rnn.runs.records import read_records

#: Validation perplexity of this epoch in `results/notebook-cpu`; 228.33 on an H100.
_ON_A_CPU = 225.54
#: How far another device or seed may lie from it: at this learning rate rounding grows; seeds differ by some 5 %.
_TOLERANCE = 0.1
#: How far the perplexity of a precision may lie from float32's, at a rate where rounding does not grow: an epoch in
#: bfloat16 and one in float32 ended at 345.84 and 346.06 on a CPU.
_PRECISION_TOLERANCE, _CALM_RATE = 0.01, 5.0
_SHORT = {"max_train_tokens": 14_000, "max_eval_tokens": 4_000}


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    if request.precision == "float32":
        report.measure({"epoch 1": lambda: _beside_a_cpu(request, report)})
    else:
        precisions = ("float32", request.precision)
        report.measure({precision: partial(_in_precision, request, report, precision) for precision in precisions})


def _beside_a_cpu(request: Request, report: Report) -> dict[str, Any]:
    found = _epoch(request, report, Path(request.scratch) / "epoch", {})
    if request.device == "gpu" and found["dataset"] == wikitext2.NAME:
        found |= {"on_a_cpu": _ON_A_CPU, "ok": abs(found["valid_perplexity"] / _ON_A_CPU - 1) <= _TOLERANCE}
    return found


def _in_precision(request: Request, report: Report, precision: str) -> dict[str, Any]:
    folder = Path(request.scratch)
    found = _epoch(request, report, folder / precision, {"learning_rate": _CALM_RATE, "precision": precision})
    if precision != "float32":
        references, _ = read_records(folder / "float32" / "check")
        if not references or references[0].valid_perplexity is None:
            raise RuntimeError("there is no epoch in float32 to compare with")
        share = found["valid_perplexity"] / references[0].valid_perplexity
        found |= {"of_float32": share, "ok": abs(share - 1) <= _PRECISION_TOLERANCE}
    return found


def _epoch(request: Request, report: Report, results: Path, settings: dict[str, Any]) -> dict[str, Any]:
    settings = {"epochs": 1, "dataset": "auto"} | settings | (_SHORT if request.device == "cpu" else {})
    record = sweeps.finish(sweeps.start(request, results, settings, shipped_sweep("notebook")), results, report)
    (epoch,) = record.history
    return {
        "dataset": record.config.dataset,
        "valid_perplexity": record.valid_perplexity,
        "test_perplexity": record.test_perplexity,
        "tokens_per_second": epoch.tokens_per_second,
        "seconds_of_epoch": epoch.seconds,
        "peak_gpu_mb": record.peak_gpu_mb,
        "run_id": record.run_id,
    }
