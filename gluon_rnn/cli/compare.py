"""``gluon-rnn compare``: show results side by side."""

from __future__ import annotations

import argparse

from gluon_rnn.cli.arguments import describe, parse_path, parse_tolerance
from gluon_rnn.cli.output import status_of_output
from gluon_rnn.common.files import write_named
from gluon_rnn.reporting.regression.changes import Limits
from gluon_rnn.reporting.side_by_side import FORMS, compare_folders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Compare the results of two or more sweeps with those of the first, point by point. A point is a "
        "configuration; its runs are paired by seed. A change is better or worse if a t-test, corrected for the "
        "number of points, tells it from chance, and else undecided. ± is half of its 95 % confidence interval.",
        {
            "compare old/quick new/quick": "one sweep made twice",
            "compare results/wikitext2-cpu results/seeds-cpu --ignore seed": "all runs of a point with all",
        },
        more="exit status: 0 compared, 2 could not compare. For a gate see check-regression.",
    )
    parser.add_argument(
        "folders", nargs="+", type=parse_path, metavar="FOLDER", help="a sweep's folder or its runs.csv; two or more"
    )
    parser.add_argument(
        "--ignore",
        nargs="+",
        default=[],
        metavar="FIELD",
        help="settings in which runs of one point may differ, such as cell learning_rate; with seed, all runs of a "
        "point are compared with all",
    )
    parser.add_argument(
        "--perplexity",
        type=parse_tolerance,
        default=0.0,
        metavar="X",
        help="ignore changes of validation perplexity up to this, such as 1%% (default: 0)",
    )
    parser.add_argument(
        "--throughput",
        type=parse_tolerance,
        default=0.0,
        metavar="X",
        help="ignore changes of speed up to this, such as 5%% (default: 0)",
    )
    add_forms(parser)


def add_forms(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the form of a comparison's output."""
    parser.add_argument("--format", choices=tuple(FORMS), default="text", help="(default: text)")
    parser.add_argument("--output", type=parse_path, metavar="FILE", help="write it to a file instead of printing it")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    limits = Limits(options.perplexity, options.throughput, 0.0, two_sided=True)
    contrast = compare_folders(options.folders, ignore=options.ignore, limits=limits)
    show(FORMS[options.format](contrast), options)
    return status_of_output()


def show(text: str, options: argparse.Namespace) -> None:
    """Print `text` or write it to the file given in `options`."""
    if options.output:
        write_named(options.output, text if text.endswith("\n") else text + "\n")
    else:
        print(text.rstrip("\n"))
