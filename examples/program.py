"""The names of gluon_rnn that a program uses, with their types: ``make check`` runs ``mypy --strict`` on it."""

from __future__ import annotations

from pathlib import Path

import gluon_rnn
from gluon_rnn import RunConfig, RunRecord, Sweep, UserError


def main(folder: str) -> None:
    """Train, sweep, compare and export, all in `folder`."""
    record: RunRecord = gluon_rnn.train(RunConfig(dataset="synthetic", cell="gru", epochs=1), progress=False)
    perplexity: float | None = record.test_perplexity
    print(record.config.cell, perplexity)

    sweep = Sweep("cells", settings={"dataset": "synthetic", "epochs": 1}, axes={"cell": ["lstm", "gru"]})
    records = gluon_rnn.run_sweep(gluon_rnn.plan_sweep(sweep, results=folder), fail_fast=True)
    best = min(records, key=lambda each: each.valid_loss or float("inf"))
    print(records.to_frame()["cell"].unique(), gluon_rnn.load_results(f"{folder}/cells").shape)
    print(gluon_rnn.load_epochs(Path(folder) / "cells", settings=["cell"]).columns)
    print(gluon_rnn.write_report(f"{folder}/cells"))

    run = Path(folder) / "cells" / "runs" / best.run_id
    text: str = gluon_rnn.generate(run, "", tokens=10)
    print(text, gluon_rnn.load_run(run).config.cell, gluon_rnn.export_run(run, format="mxnet").files)
    try:
        contrast = gluon_rnn.compare_folders([f"{folder}/cells", f"{folder}/others"], ignore=["seed"])
        print([point.verdict for point in contrast.against[0].points])
    except UserError as error:
        print(error)


if __name__ == "__main__":
    main("results")
