r"""A page on the cells of a sweep of whole epochs: the ranking of its report, best first, with its picture.

    .venv/bin/python benchmarks/main_table.py results/wikitext2-cpu results/notebook-cpu results/seeds-cpu \
        --sweep benchmarks/cpu/wikitext2.yaml --speeds results/throughput-epyc --epochs 2

Writes README.md and pareto.svg into the first folder, and the report that they are taken from. A long run may share its
machine, and then its own speed says nothing; so each run takes the speed and memory of the runs of ``--speeds`` of the
same network in the same windows, with the spread of their repeats. What the page says of the rates and of how the runs
were made are the first folder's notes, which it has from ``--sweep``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from gluon_rnn.cli.report import parse_count
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import write_atomically
from gluon_rnn.reporting.report import write_report
from gluon_rnn.reporting.report.charts import trade_off
from gluon_rnn.reporting.report.content import Column, Scatter, Table
from gluon_rnn.reporting.report.document import groups_of
from gluon_rnn.reporting.report.group import range_of
from gluon_rnn.reporting.report.plots import to_picture
from gluon_rnn.reporting.report.points import Point
from gluon_rnn.reporting.report.reading import read_folders
from gluon_rnn.reporting.report.rendering import markdown_table
from gluon_rnn.runs.notes import read_notes

_NAMES = ("cell", "bptt", "learning_rate")
_LOSS = "valid_perplexity"


def main() -> None:
    """Write the table, the picture and the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="+", metavar="directory", help="folders of trained runs")
    parser.add_argument("--sweep", type=Path, required=True, help="the sweep file of the first folder, run --jobs 2")
    parser.add_argument("--speeds", type=Path, required=True, help="the folder of the runs that were timed")
    parser.add_argument("--epochs", type=parse_count, metavar="N", help="show longer runs as they were after N epochs")
    options = parser.parse_args()
    first, *_ = options.directories
    try:
        points = ranking_of(options.directories, options.speeds, options.epochs)
        write_report(options.directories, first, plots=True, speeds=options.speeds, epochs=options.epochs)
    except UserError as error:
        parser.error(str(error))
    plot = picture_of(points)
    write_atomically(first / "pareto.svg", to_picture(plot))
    write_atomically(first / "README.md", page(options, points, plot))


def ranking_of(directories: Sequence[Path], speeds: Path, epochs: int | None) -> list[Point]:
    """The points of the report on `directories`, best first, with the speeds of `speeds`.

    Raises:
        UserError: a run did not end well or was not evaluated, or no timed run is of its network.
    """
    groups = groups_of(read_folders(directories, speeds=[speeds], epochs=epochs))
    points = [point for group in groups for point in group.points]
    for point in points:
        label = point.label(_NAMES)
        if not point.ok:
            raise UserError(f"the run {label} is {point.status}; finish it with scripts/run_sweep.py --rerun-failed")
        if point.average(_LOSS) is None:
            raise UserError(f"the run {label} was not evaluated; name folders of runs over whole epochs")
        if not point.timed:
            raise UserError(f"no timed run is of the network of {label}; add it to {speeds}")
    if len(groups) > 1:
        raise UserError("the losses of these runs do not compare; name folders of runs of one corpus and objective")
    return points


def picture_of(points: Sequence[Point]) -> Scatter:
    """Perplexity against throughput, as the report draws it."""
    title = "WikiText-2: perplexity against throughput"
    return trade_off(title, "validation perplexity", points, loss=_LOSS, names=_NAMES)


def _table(points: Sequence[Point], plot: Scatter) -> Table:
    columns = [
        *(Column("no.", digits=0), Column("cell"), Column("parameters", digits=0)),
        *(Column("bptt", digits=0), Column("learning rate", digits=2), Column("epochs", digits=0)),
        *(Column("seeds", digits=0), Column("valid ppl", digits=2), Column("range")),
        *(Column("test ppl", digits=2), Column("tokens/s", digits=0), Column("range")),
        *(Column("ms/step", digits=1), Column("peak MB", digits=0), Column("Pareto-optimal")),
    ]
    front = {spot.number: spot.front for spot in plot.spots}
    rows = []
    for point in points:
        row = point.records[0].row
        rows.append(
            [
                *(point.number, *(row[name] for name in ("cell", "parameters", "bptt", "learning_rate", "epochs_run"))),
                *(len(point.seeds), point.average(_LOSS), range_of(point, _LOSS, 2), point.average("test_perplexity")),
                *(point.average("tokens_per_second"), range_of(point, "tokens_per_second", 0)),
                *(point.average("step_ms_p50"), point.average("peak_mb"), front[point.number]),
            ]
        )
    return Table(columns, rows)


def page(options: argparse.Namespace, points: Sequence[Point], plot: Scatter) -> str:
    """``README.md``: the table, best first, the plot, and where its figures come from."""
    first, *others = options.directories
    folders = " ".join(f"results/{_name(directory)}" for directory in options.directories)
    timed = _name(options.speeds)
    record = points[0].records[0]
    config, timed_on = record.config, points[0].timed[0].record
    made = f"--sweep {options.sweep.as_posix()} --speeds results/{timed}"
    if options.epochs:
        made += f" --epochs {options.epochs}"
    softmax = ""
    if config.sampled_softmax:
        link = "[sampled softmax](../../docs/speed.md#a-softmax-over-some-of-the-words)"
        softmax = f", a {link} of {config.sampled_softmax:,} words in training"
    counted = ""
    if others:
        links = " and ".join(f"[{name}](../{name}/README.md)" for name in map(_name, others))
        counted = f" The first {record.epochs_run} epochs of the runs in {links} count, too."
    lines = [
        f"# The cells after {record.epochs_run} epochs of WikiText-2",
        "",
        f"Layers: {config.num_layers} of {config.hidden_size} units; embedding and decoder tied, dropout "
        f"{config.dropout:g}, batch {config.batch_size}, SGD clipped to {config.clip:g}, {config.precision}, "
        f"vocabulary {record.vocab_size:,}{softmax}. {read_notes(first).text} Perplexities are of every token of "
        f"validation and test, test at the best epoch of validation, means over seeds.{counted}",
        "",
        *markdown_table(_table(points, plot)),
        "",
        "![Perplexity against throughput, Pareto-optimal points marked](pareto.svg)",
        "",
        f"Speeds are those of [{timed}](../{timed}/README.md), medians of repeats with nothing else running "
        f"({timed_on.origin.device_name}, {timed_on.config.threads} threads), and memory their mean; ranges are from "
        "the lowest to the highest. A point is Pareto-optimal where no other is probably better in both perplexity and "
        "speed, and undecided where the repeats do not say. More is in [report.md](report.md). Made by",
        "",
        "```",
        f"python scripts/run_sweep.py {options.sweep.as_posix()} --jobs 2",
        f".venv/bin/python benchmarks/main_table.py {folders} {made}",
        "```",
        "",
    ]
    return "\n".join(lines)


def _name(directory: Path) -> str:
    return directory.resolve().name


if __name__ == "__main__":
    main()
