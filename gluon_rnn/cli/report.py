"""``gluon-rnn report``: write report.html and report.md."""

from __future__ import annotations

import argparse

from gluon_rnn.cli.arguments import add_target, describe, parse_path
from gluon_rnn.cli.output import say, status_of_output
from gluon_rnn.common.printable import quoted
from gluon_rnn.reporting.report import write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Write report.html and report.md for one or several folders of results: what to choose and what it costs, "
        "with rankings, plots, learning curves and a sweep file that makes the runs again. Runs of one configuration "
        "are one point, whichever folder they are in. The page is one file and works offline.",
        {
            "report results/quick": "of one sweep",
            "report results/quick results/mine --output page": "of two, into a folder of its own",
            "report results/quick --target 150,120": "with the time to these perplexities",
        },
    )
    parser.add_argument(
        "directories", nargs="+", type=parse_path, metavar="DIR", help="a sweep's folder, such as results/quick"
    )
    parser.add_argument("--output", type=parse_path, metavar="DIR", help="where to write it (default: the first DIR)")
    parser.add_argument(
        "--plots", action="store_true", help="also write each plot to plots/*.svg there and show it in report.md"
    )
    parser.add_argument(
        "--speeds",
        nargs="+",
        type=parse_path,
        default=[],
        metavar="DIR",
        help="take speeds and memory from these folders of throughput runs, by network, not from the runs themselves",
    )
    parser.add_argument(
        "--epochs",
        type=parse_count,
        metavar="N",
        help="show longer runs as they were after N epochs (default: at their end)",
    )
    add_target(
        parser, "perplexities for which the report shows epochs, tokens and seconds (default: chosen from the results)"
    )


def parse_count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number from 1")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    say(
        str(
            write_report(
                options.directories,
                options.output,
                plots=options.plots,
                speeds=options.speeds,
                epochs=options.epochs,
                targets=options.target,
            )
        )
    )
    return status_of_output()
