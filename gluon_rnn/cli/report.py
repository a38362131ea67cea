"""``gluon-rnn report``: write report.html and report.md."""

from __future__ import annotations

import argparse

from gluon_rnn.cli.arguments import parse_path
from gluon_rnn.cli.output import say, status_of_output
from gluon_rnn.reporting.report import write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    parser.description = (
        "Write report.html and report.md for one or several folders of results: what to choose and what it costs, "
        "with rankings, maps, learning curves and the machines. The page is one file and works offline."
    )
    parser.add_argument(
        "directories", nargs="+", type=parse_path, metavar="DIR", help="a sweep's folder, such as results/quick"
    )
    parser.add_argument("--output", type=parse_path, metavar="DIR", help="where to write it (default: the first DIR)")
    parser.add_argument(
        "--plots", action="store_true", help="also write each plot to plots/*.svg there and show it in report.md"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    say(str(write_report(options.directories, options.output, plots=options.plots)))
    return status_of_output()
