"""``gluon-rnn check-regression``: say whether results held against a baseline."""

from __future__ import annotations

import argparse

from gluon_rnn.cli.arguments import parse_floor, parse_path, parse_tolerance
from gluon_rnn.cli.output import status_of_output, warn
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import write_named
from gluon_rnn.reporting.regression import verdicts
from gluon_rnn.reporting.regression.changes import Limits
from gluon_rnn.reporting.regression.comparison import Comparison, compare, not_compared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to its `parser`."""
    parser.description = (
        "Hold the results of CANDIDATE against BASELINE's: each a sweep's folder or its runs.csv. Points are "
        "matched by configuration and paired by seed. What several seeds show is told from chance by a "
        "t-test, corrected for the number of points; with one seed the tolerance alone decides. Speeds are "
        "shown and decide nothing unless --throughput is given."
    )
    parser.epilog = "exit status: 0 held, 1 regressed, 2 could not compare"
    parser.add_argument("baseline", type=parse_path, metavar="BASELINE", help="what to hold against")
    parser.add_argument("candidate", type=parse_path, metavar="CANDIDATE", help="what is to hold")
    parser.add_argument(
        "--perplexity",
        type=parse_tolerance,
        default=Limits.perplexity,
        metavar="X",
        help=f"how much worse validation perplexity may be (default: {Limits.perplexity:.0%}%)",
    )
    parser.add_argument(
        "--throughput",
        type=parse_tolerance,
        default=Limits.throughput,
        metavar="X",
        help="let speeds decide, too: how much slower a run may be, on the same machine. They are compared between "
        "sittings an hour or more apart, of which each side needs two; without those the exit status is 2 (default: "
        "speeds decide nothing)",
    )
    parser.add_argument(
        "--floor",
        type=parse_floor,
        default=Limits.floor,
        metavar="UNITS",
        help=f"a smaller change of perplexity never counts (default: {Limits.floor}); runs that have an accuracy, and "
        "perplexities near 1, have no floor",
    )
    parser.add_argument(
        "--two-sided", action="store_true", help="refuse a perplexity that fell by more than is tolerated, too"
    )
    parser.add_argument("--json", type=parse_path, metavar="FILE", help="write the comparison as JSON")
    parser.add_argument("--junit", type=parse_path, metavar="FILE", help="and as JUnit's XML")
    parser.add_argument("--markdown", type=parse_path, metavar="FILE", help="and as a Markdown table")


def run(options: argparse.Namespace) -> int:
    """Do it; the exit status."""
    limits = {name: getattr(options, name) for name in ("perplexity", "throughput", "floor", "two_sided")}
    forms = (
        (options.json, verdicts.as_json),
        (options.junit, verdicts.as_junit),
        (options.markdown, verdicts.as_markdown),
    )

    def write(comparison: Comparison) -> None:
        # Before anything is printed: whoever reads us may have gone.
        for path, form in forms:
            if path:
                write_named(path, form(comparison))

    try:
        comparison = compare(options.baseline, options.candidate, **limits)
    except UserError as error:
        # What an earlier comparison left there would pass for this one's.
        write(not_compared(str(error), Limits(**limits)))
        raise
    write(comparison)
    for remark in comparison.remarks:
        warn(remark)
    print(verdicts.as_text(comparison))
    status_of_output()
    return verdicts.EXIT_STATUS[comparison.verdict]  # of the verdict, even if its reader has gone
