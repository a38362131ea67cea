r"""Perplexities of the whole WikiText-2 and, beside them, speeds that were measured with nothing else running.

    .venv/bin/python benchmarks/main_table.py results/wikitext2-cpu results/notebook-cpu results/seeds-cpu \
        --speeds results/throughput-epyc

Writes README.md and pareto.svg into the first folder. A long run may share its machine, and then its own speed says
nothing; so each run takes the speed, memory and threads of that point of ``--speeds`` which is the same network in the
same windows, with the spread of its repeats. Runs that trained for longer than the others stand there as they were
after as many epochs: a run's first epochs are those of a run that ends there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import write_atomically
from gluon_rnn.reporting.report.chances import front_of
from gluon_rnn.reporting.report.charts import trade_off
from gluon_rnn.reporting.report.content import Column, Table
from gluon_rnn.reporting.report.group import range_of
from gluon_rnn.reporting.report.plots import to_picture
from gluon_rnn.reporting.report.points import Point, places_of, points_of, ranked
from gluon_rnn.reporting.report.reading import Run, read_folders
from gluon_rnn.reporting.report.rendering import markdown_table
from gluon_rnn.runs.contents import label as settings_label
from gluon_rnn.runs.progress import Progress, perplexity
from gluon_rnn.runs.records import SCORES, RunRecord

#: What makes a network and its batches, and so its speed.
_NETWORK = (
    *("cell", "bidirectional", "hidden_size", "embed_size", "num_layers", "tie_weights", "dropout", "precision"),
    *("vocab_size", "bptt", "batch_size", "optimizer"),
)
_NAMES = ("cell", "bptt", "learning_rate")
_LOSS = "valid_perplexity"


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+", metavar="directory", help="folders of trained runs")
    parser.add_argument("--speeds", type=Path, required=True, help="the folder of the runs that were timed")
    options = parser.parse_args()
    try:
        trained = read_folders(options.directories)
        timed = read_folders([options.speeds])
        points = joined([run.record for run in trained.runs], points_of(timed.runs, places_of(timed.runs)))
    except UserError as error:
        parser.error(str(error))
    title = "WikiText-2: perplexity against throughput"
    plot = trade_off(title, "validation perplexity", dict(enumerate(points, 1)), loss=_LOSS, names=_NAMES)
    write_atomically(options.directories[0] / "pareto.svg", to_picture(plot))
    write_atomically(options.directories[0] / "README.md", page(options.directories, options.speeds, points))


def joined(records: Sequence[RunRecord], timed: Sequence[Point]) -> list[Point]:
    """The points of `records` with the speeds of `timed`, best first.

    Raises:
        UserError: a run did not end well or was not evaluated, or not exactly one timed point is of its network.
    """
    epochs = min(record.epochs_run for record in records)
    runs = []
    repeats = {}
    for record in records:
        label = settings_label(record.row, _NAMES)
        if record.status != "ok":
            raise UserError(f"the run {label} is {record.status}; finish it with scripts/run_sweep.py --rerun-failed")
        if record.valid_perplexity is None:
            raise UserError(f"the run {label} was not evaluated; name folders of runs over whole epochs")
        same = [point for point in timed if _network(point.records[0]) == _network(record)]
        if len(same) != 1:
            raise UserError(f"{len(same)} timed points are of the network of {label}; there must be one")
        runs.append(Run("", with_speed(after(record, epochs), same[0])))
        repeats[record.run_id] = same[0].counted
    points = points_of(runs, places_of(runs))
    return ranked([replace(point, timed=repeats[point.records[0].run_id]) for point in points], _LOSS)


def _network(record: RunRecord) -> tuple[object, ...]:
    return tuple(record.row[name] for name in _NETWORK)


def after(record: RunRecord, epochs: int) -> RunRecord:
    """`record` as it was after so many `epochs`."""
    best = Progress(history=list(record.history[:epochs])).best
    assert best is not None
    return record.with_columns(
        {
            **{name: getattr(best, name) for name in SCORES},
            "best_epoch": best.epoch,
            "train_perplexity": perplexity(record.history[epochs - 1].train_loss),
            **dict.fromkeys(("epochs", "epochs_run"), epochs),
            "model": "rnn_lm",  # another name stands for settings that the record holds as well
        }
    )


def with_speed(record: RunRecord, timed: Point) -> RunRecord:
    """`record` as if it had run where `timed` did, as fast as the median of its repeats."""
    place = {name: timed.records[0].row[name] for name in ("machine_id", "device", "device_name", "threads")}
    costs = {name: timed.average(name) for name in ("tokens_per_second", "step_ms_p50", "peak_rss_mb")}
    return record.with_columns(place | costs)


def _table(points: Sequence[Point]) -> Table:
    columns = [
        *(Column("no.", digits=0), Column("cell"), Column("parameters", digits=0)),
        *(Column("bptt", digits=0), Column("learning rate", digits=2), Column("epochs", digits=0)),
        *(Column("seeds", digits=0), Column("valid ppl", digits=2), Column("range")),
        *(Column("test ppl", digits=2), Column("tokens/s", digits=0), Column("range")),
        *(Column("ms/step", digits=1), Column("peak MB", digits=0), Column("on the front")),
    ]
    front = front_of(points, _LOSS)
    rows = []
    for number, point in enumerate(points, 1):
        row = point.records[0].row
        rows.append(
            [
                *(number, *(row[name] for name in ("cell", "parameters", "bptt", "learning_rate", "epochs_run"))),
                *(
                    len(point.records),
                    point.average(_LOSS),
                    range_of(point, _LOSS, 2),
                    point.average("test_perplexity"),
                ),
                *(point.average("tokens_per_second"), range_of(point, "tokens_per_second", 0)),
                *(point.average("step_ms_p50"), point.average("peak_rss_mb")),
                "yes" if point in front.sure else "undecided" if point in front.undecided else "no",
            ]
        )
    return Table(columns, rows)


def page(directories: Sequence[Path], speeds: Path, points: Sequence[Point]) -> str:
    """``README.md``: the table, best first, the plot, and where its figures come from."""
    names = " ".join(f"results/{_name(directory)}" for directory in directories)
    timed = _name(speeds)
    first = points[0].records[0]
    config, device_name = first.config, first.origin.device_name
    others = " and ".join(f"[{name}](../{name}/README.md)" for name in map(_name, directories[1:]))
    cut = f" Counted, too, are the first {first.epochs_run} epochs of the runs in {others}." if others else ""
    lines = [
        "# The cells on the whole WikiText-2",
        "",
        f"Layers: {config.num_layers} of {config.hidden_size} units; embedding and decoder tied, dropout "
        f"{config.dropout:g}, batch {config.batch_size}, SGD clipped to {config.clip:g}, {config.precision}, "
        f"vocabulary {first.vocab_size:,}. Learning rates are those chosen in "
        "[learning-rate-cpu](../learning-rate-cpu/README.md) and half of each. Perplexities are of every token of "
        f"validation and test, test at the best epoch of validation, means over seeds.{cut}",
        "",
        *markdown_table(_table(points)),
        "",
        "![Perplexity against throughput, with the Pareto front](pareto.svg)",
        "",
        f"Speeds and memory are those of [{timed}](../{timed}/README.md), medians of repeats with nothing else running "
        f"({device_name}, {config.threads} threads); ranges are from the lowest to the highest. A point is on the "
        "front where no other is probably better in both perplexity and speed, and undecided where the repeats do not "
        "say: see gluon_rnn/reporting/report/chances.py. "
        "The runs of this table were made beside other work, on one thread or two, so the speeds in "
        "[report.md](report.md) compare with nothing. Made by",
        "",
        "```",
        "python scripts/run_sweep.py benchmarks/cpu/wikitext2.yaml --jobs 2",
        f".venv/bin/python benchmarks/main_table.py {names} --speeds results/{timed}",
        "```",
        "",
    ]
    return "\n".join(lines)


def _name(directory: Path) -> str:
    return directory.resolve().name


if __name__ == "__main__":
    main()
