"""What each learning rate did to each cell, as Markdown tables.

    python scripts/run_sweep.py benchmarks/cpu/learning-rate.yaml --jobs 2
    .venv/bin/python benchmarks/learning_rate_traces.py results/learning-rate-cpu

The first has the validation perplexities and marks the best rate of each cell. The second follows the runs at one rate:
their training perplexities on the way, and the share of the last layer's units that end beyond 0.99 of their range,
where tanh passes on less than 2 % of a gradient. The third looks into the runs that score worse without dropout than
they trained with it: text is scored in columns side by side, each from a state of zeros, and a column's mean state may
point where the best column's does, or away from it. Logs and parameters, the sources, stay where they were made.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import gluon_rnn  # noqa: F401 - before MXNet: it loads what MXNet multiplies with

# isort: split
import mxnet as mx
import numpy as np

from gluon_rnn.common.errors import UserError
from gluon_rnn.data.corpora import find_corpus
from gluon_rnn.data.corpora.loading import load_corpus_for
from gluon_rnn.machine.environment import process_environment
from gluon_rnn.machine.hardware import describe_machine
from gluon_rnn.reporting.report.content import Column, Table
from gluon_rnn.reporting.report.reading import read_folders
from gluon_rnn.reporting.report.rendering import markdown_table
from gluon_rnn.runs.metrics import written
from gluon_rnn.runs.records import RunRecord
from gluon_rnn.trained.run import load_run
from gluon_rnn.training.decoder import log_probabilities
from gluon_rnn.training.objectives import build_objective
from run_logs import interval_perplexities, read_log

_FAR = 0.99


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="the sweep's folder")
    parser.add_argument("--rate", type=float, default=20.0, help="the one to follow (default: 20)")
    options = parser.parse_args()
    # It must stand before MXNet is imported, or scoring takes four times as long; only a worker's has this seed.
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = process_environment("cpu", describe_machine().cores)
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    try:
        show(options.directory, options.rate)
    except UserError as error:
        parser.error(str(error))


def show(directory: Path, rate: float) -> None:
    """Print the tables of the sweep in `directory`, the second of the runs at `rate`.

    Raises:
        UserError: it holds no runs, or their logs are not there.
    """
    records = [run.record for run in read_folders([directory]).runs]
    records.sort(key=lambda record: (record.config.learning_rate, record.config.seed))
    # As they rank by their best.
    cells = dict.fromkeys(record.config.cell for record in sorted(records, key=_valid))
    by_cell = {cell: [record for record in records if record.config.cell == cell] for cell in cells}
    print("\n".join(markdown_table(perplexities(by_cell))), end="\n\n")
    followed = [record for group in by_cell.values() for record in group if record.config.learning_rate == rate]
    worse = [
        record
        for group in by_cell.values()
        for record in group
        if record.status == "ok" and _valid(record) > (record.train_perplexity or math.inf)
    ]
    print("\n".join(markdown_table(traces(followed, directory))), end="\n\n")
    print("\n".join(markdown_table(sides(worse, directory))))


def _valid(record: RunRecord) -> float:
    return math.inf if record.valid_perplexity is None else record.valid_perplexity


def perplexities(by_cell: dict[str, list[RunRecord]]) -> Table:
    """A row for each cell and rate: the runs' validation perplexities by seed, their mean, and which is the best."""
    seeds = sorted({record.config.seed for group in by_cell.values() for record in group})
    rows = []
    for cell, group in by_cell.items():
        means = {
            rate: statistics.fmean(_valid(record) for record in group if record.config.learning_rate == rate)
            for rate in dict.fromkeys(record.config.learning_rate for record in group)
        }
        best = min(means, key=lambda rate: means[rate])
        for rate, mean in means.items():
            runs = [_figure(record) for record in group if record.config.learning_rate == rate]
            rows.append([cell, f"{rate:g}" + " (best)" * (rate == best), *runs, written(mean, 2)])
    return _table(["cell", "learning rate", *(f"seed {seed}" for seed in seeds), "mean"], rows)


def _figure(record: RunRecord) -> str:
    return str(record.reason) if record.status == "diverged" else written(_valid(record), 2)


def traces(records: Sequence[RunRecord], directory: Path) -> Table:
    """A row for each run: training perplexity at each line of its log, validation's, and units beyond `_FAR`."""
    logs = {
        record.run_id: interval_perplexities(read_log(directory, record.run_id))[0].get(1, {}) for record in records
    }
    steps = sorted({step for log in logs.values() for step in log})
    rows = [
        [
            record.config.cell,
            record.config.seed,
            *(written(logs[record.run_id][step], 2) if step in logs[record.run_id] else "" for step in steps),
            _figure(record),
            far_units(record, directory),
        ]
        for record in records
    ]
    return _table(["cell", "seed", *(f"batch {step}" for step in steps), "validation", f"units beyond {_FAR}"], rows)


def far_units(record: RunRecord, directory: Path) -> str:
    """How many of a run's outputs on validation are beyond `_FAR` in size; nothing of a run without parameters."""
    if not (directory / "runs" / record.run_id / "best.params").exists():
        return ""
    outputs, _ = scored(record, directory)
    return f"{np.mean(np.abs(outputs) > _FAR):.0%}"


def sides(records: Sequence[RunRecord], directory: Path) -> Table:
    """A row for each run: its columns on the best one's side and on the other, and their nats a token."""
    rows = []
    for record in records:
        outputs, losses = scored(record, directory)
        nats, states = losses.mean(axis=0), outputs.mean(axis=0)  # (columns,), (columns, units)
        same = states @ states[nats.argmin()] > 0
        rows.append(
            [
                record.config.cell,
                f"{record.config.learning_rate:g}",
                record.config.seed,
                written(record.train_perplexity or math.nan, 2),
                _figure(record),
                same.sum(),
                f"{nats[same].mean():.2f}",
                (~same).sum(),
                f"{nats[~same].mean():.2f}" if (~same).any() else "",
            ]
        )
    names = ["cell", "learning rate", "seed", "training", "validation", "columns as the best", "nats", "away", "nats"]
    return _table(names, rows)


def scored(record: RunRecord, directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """The last layer's outputs on validation, (steps, columns, units), and each target's nats, (steps, columns)."""
    config = record.config
    files = find_corpus(config.dataset, objective=config.objective, level=config.level)
    objective = build_objective(config, load_corpus_for(config, files), [mx.cpu()])
    model = load_run(directory / "runs" / record.run_id).model
    weight, bias = (parameter.data() for parameter in (model.decoder[0].weight, model.decoder[0].bias))
    state = model.begin_state(config.eval_batch_size, mx.cpu())
    outputs, losses = [], []
    for batch in objective.valid[:-1]:  # the last has columns' ends, which count for nothing
        targets = batch.shards[0].targets
        units, _, state = model.read(batch.shards[0], state)
        nats = -mx.nd.pick(log_probabilities(units.reshape((-3, 0)), weight, bias), targets.reshape((-1,)))
        outputs.append(units.asnumpy())
        losses.append(nats.reshape(targets.shape).asnumpy())
    return np.concatenate(outputs), np.concatenate(losses)


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    return Table([Column(name) for name in names], rows)


if __name__ == "__main__":
    main()
