"""System A's training beside the perplexities that GluonNLP's notebook printed of its own.

    python scripts/run_sweep.py benchmarks/notebook.yaml
    .venv/bin/python benchmarks/notebook_curve.py results/notebook

Writes README.md and curve.svg beside the sweep's tables, from the run's log, which stays on the machine that trained.
What an earlier README.md says under "How it came about" is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import write_atomically
from gluon_rnn.reporting.report.content import Column, Curves, Table
from gluon_rnn.reporting.report.plots import to_picture
from gluon_rnn.reporting.report.rendering import markdown_table
from gluon_rnn.runs.progress import perplexity
from gluon_rnn.runs.records import RunRecord, read_records
from run_logs import interval_perplexities, read_log

#: Perplexity of the 200 batches up to this one. The notebook's cell had been run before: this is a second epoch.
NOTEBOOK = dict(
    zip(
        range(200, 2601, 200),
        (235.91, 233.75, 197.20, 199.86, 193.16, 191.98, 191.44, 203.73, 178.75, 182.49, 165.54, 171.94, 174.19),
        strict=True,
    )
)
ITS_EPOCH = 2
#: Samples a second of that epoch, as the notebook printed them: windows of 35 tokens, on a GPU of 2019.
NOTEBOOK_SPEED = 1630
_ORIGIN = "## How it came about"


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="the sweep's folder")
    directory = parser.parse_args().directory
    try:
        record, log = read_run(directory)
        curves, batches = interval_perplexities(log)
        if set(NOTEBOOK) - set(curves.get(ITS_EPOCH, ())):
            raise UserError("the log lacks some of the notebook's batches; train with log_interval=200")
    except UserError as error:
        parser.error(str(error))
    write_atomically(directory / "curve.svg", to_picture(plot(curves[ITS_EPOCH], batches)))
    readme = directory / "README.md"
    origin = readme.read_text().partition(_ORIGIN)[1:] if readme.exists() else ("", "")
    write_atomically(readme, page(directory.resolve().name, record, curves) + "".join(origin))


def read_run(directory: Path) -> tuple[RunRecord, str]:
    """The record and the log of the one run of ``standard_lstm_lm_200`` in `directory`."""
    records = [record for record in read_records(directory)[0] if record.config.model == "standard_lstm_lm_200"]
    if len(records) != 1 or records[0].epochs_run < ITS_EPOCH:
        raise UserError(f"{directory} does not hold exactly one run of standard_lstm_lm_200 over {ITS_EPOCH} epochs")
    return records[0], read_log(directory, records[0].run_id)


def plot(curve: Mapping[int, float], batches: int) -> Curves:
    """The epoch that both trained, the notebook's line above the other, which it would else vanish under."""

    def placed(curve: Mapping[int, float]) -> list[tuple[float, float]]:
        return [(ITS_EPOCH - 1 + batch / batches, value) for batch, value in curve.items()]

    lines = [("this suite", [placed(curve)]), ("the notebook, on a GPU of 2019", [placed(NOTEBOOK)])]
    return Curves("System A", "training perplexity of 200 batches", lines)


def page(name: str, record: RunRecord, curves: Mapping[int, Mapping[int, float]]) -> str:
    """``README.md``: the epochs, the curves and how far apart they are.

    Args:
        name: of the sweep's folder.
    """
    device, threads = record.origin.device_name, record.config.threads
    apart = {batch: curves[ITS_EPOCH][batch] / value - 1 for batch, value in NOTEBOOK.items()}
    sizes = [abs(share) for share in apart.values()]
    lines = [
        "# System A: the notebook of GluonNLP's word language model",
        "",
        "`standard_lstm_lm_200` on the whole WikiText-2 (bptt 35, batch 20, SGD at learning rate 20, gradients clipped "
        f"to 0.25), on {device}, {threads} threads. More is in [report.md](report.md). Made by",
        "",
        "```",
        f"python scripts/run_sweep.py benchmarks/notebook.yaml --name {name}",
        f".venv/bin/python benchmarks/notebook_curve.py results/{name}",
        "```",
        "",
        *markdown_table(_epochs(record)),
        "",
        "Perplexity over each 200 batches, as both print it. The notebook's is of a second epoch: its cell had been "
        f"run before. Ours of that epoch is within {max(sizes):.1%} of it, at the median within {median(sizes):.1%}.",
        "",
        *markdown_table(_batches(curves, apart)),
        "",
        "![Training perplexity of the second epoch, of the notebook and of this suite](curve.svg)",
        "",
    ]
    if record.config.device_kind == "gpu":
        speed = record.sequences_per_second
        lines += [
            f"The notebook's GPU trained {NOTEBOOK_SPEED:,} samples/s; this run trained {speed:,.0f} sequences/s.",
            "",
        ]
    return "\n".join(lines)


def _epochs(record: RunRecord) -> Table:
    """A row for each epoch: its learning rate and perplexities."""
    return Table(
        [
            *(Column("epoch", digits=0), Column("learning rate")),
            *(Column(name, digits=2) for name in ("train ppl", "valid ppl", "test ppl")),
        ],
        [
            [
                *(row.epoch, f"{row.learning_rate:g}"),
                *(perplexity(row.train_loss), row.valid_perplexity, row.test_perplexity),
            ]
            for row in record.history
        ],
    )


def _batches(curves: Mapping[int, Mapping[int, float]], apart: Mapping[int, float]) -> Table:
    """A row for each of the notebook's values: those of `curves` beside it, and how far `apart` the epoch's is."""
    return Table(
        [
            Column("batch", digits=0),
            *(Column(name, digits=2) for name in ("notebook", *(f"epoch {epoch}" for epoch in curves))),
            Column(f"epoch {ITS_EPOCH} apart, %", digits=1),
        ],
        [
            [batch, value, *(curve.get(batch) for curve in curves.values()), 100 * apart[batch]]
            for batch, value in NOTEBOOK.items()
        ],
    )


if __name__ == "__main__":
    main()
