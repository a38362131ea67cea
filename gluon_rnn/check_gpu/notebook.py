"""The part ``notebook``: what a step of the notebook's loop takes."""

from __future__ import annotations

from functools import partial

from gluon_rnn.check_gpu.part import Report
from gluon_rnn.check_gpu.parts import SIZES, Request
from gluon_rnn.check_gpu.steps import time_notebook


def run(request: Request, report: Report) -> None:
    """See `gluon_rnn.check_gpu.parts`."""
    seconds = request.seconds / len(SIZES) / 4
    report.measure({f"hidden {size}": partial(time_notebook, request, size, seconds) for size in SIZES})
