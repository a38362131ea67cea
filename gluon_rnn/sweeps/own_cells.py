"""A user's own cells are tried once before the first run, so that a misspelt class does not cost a process for each."""

from __future__ import annotations

from collections.abc import Iterable

from gluon_rnn.config.identity import is_own
from gluon_rnn.machine.mxnet_process import ask
from gluon_rnn.runs.job import Job


def check_own_cells(jobs: Iterable[Job]) -> None:
    """Import the own cells of `jobs` and take a few steps with each, all in one process.

    Raises:
        UserError: a cell cannot be imported, fails, or has outputs or states of another shape than a cell's.
    """
    own = [job for job in jobs if is_own(job.config.cell)]
    if not own:
        return
    # The first layer reads the embedding, the others the layer below.
    kinds = {
        (config.cell, config.hidden_size, size, config.weight_drop)
        for config in (job.config for job in own)
        for size in (config.embed_size or config.hidden_size, config.hidden_size)
    }
    names = ("cell", "hidden_size", "input_size", "weight_drop")
    cells = [dict(zip(names, kind, strict=True)) for kind in sorted(kinds)]
    subject = "a step of " + ", ".join(sorted({job.config.cell for job in own}))
    ask("gluon_rnn.networks.own_cells", {"cells": cells}, subject=subject, threads=own[0].threads)
