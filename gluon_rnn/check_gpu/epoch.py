"""The part ``epoch``: the first epoch of ``benchmarks/notebook.yaml``, on a CPU of a short text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gluon_rnn.check_gpu import sweeps
from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import Request
from gluon_rnn.config.sweep_file import shipped_sweep
from gluon_rnn.data.corpora import wikitext2

#: Validation perplexity of this epoch in `results/notebook-cpu`; 228.33 on an H100.
_ON_A_CPU = 225.54
#: How far another device or seed may lie from it: at this learning rate rounding grows; seeds differ by some 5 %.
_TOLERANCE = 0.1
_SHORT = {"max_train_tokens": 14_000, "max_eval_tokens": 4_000}


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    report.measure({"epoch 1": lambda: _epoch(request, report)})


def _epoch(request: Request, report: Report) -> dict[str, Any]:
    results = Path(request.scratch) / "epoch"
    settings: dict[str, Any] = {"epochs": 1, "dataset": "auto"} | (_SHORT if request.device == "cpu" else {})
    record = sweeps.finish(sweeps.start(request, results, settings, shipped_sweep("notebook")), results, report)
    (epoch,) = record.history
    found = {
        "dataset": record.config.dataset,
        "valid_perplexity": record.valid_perplexity,
        "test_perplexity": record.test_perplexity,
        "tokens_per_second": epoch.tokens_per_second,
        "seconds_of_epoch": epoch.seconds,
        "peak_gpu_mb": record.peak_gpu_mb,
        "run_id": record.run_id,
    }
    if request.device == "gpu" and record.config.dataset == wikitext2.NAME:
        found |= {"on_a_cpu": _ON_A_CPU, "ok": abs((epoch.valid_perplexity / _ON_A_CPU) - 1) <= _TOLERANCE}
    return found
