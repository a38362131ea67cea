"""``gluon-rnn check-regression``: compare results with a baseline."""

from __future__ import annotations

import argparse

from gluon_rnn.cli.arguments import describe, parse_floor, parse_path, parse_tolerance
from gluon_rnn.cli.output import narrow, status_of_output
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import write_named
from gluon_rnn.common.printable import warn
from gluon_rnn.reporting.regression import verdicts
from gluon_rnn.reporting.regression.changes import Limits
from gluon_rnn.reporting.regression.comparison import Comparison, compare, not_compared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Compare the results of CANDIDATE with those of BASELINE, each a sweep's folder or its runs.csv. Points are "
        "matched by configuration and paired by seed. With several seeds, a t-test corrected for the number of "
        "points decides whether a difference is more than chance; with one seed the tolerance alone decides. "
        "Speeds are shown but do not count unless --throughput is given.",
        {
            "check-regression baseline.csv results/quick": "say whether something regressed, and what",
            "check-regression baseline.csv results/quick --junit gate.xml": "for a CI",
            "check-regression old/quick new/quick --throughput 10%": "speeds count, too",
        },
        more="exit status: 0 no regression, 1 regression, 2 could not compare",
    )
    parser.add_argument("baseline", type=parse_path, metavar="BASELINE", help="results to compare with")
    parser.add_argument("candidate", type=parse_path, metavar="CANDIDATE", help="results to check")
    parser.add_argument(
        "--perplexity",
        type=parse_tolerance,
        default=Limits.perplexity,
        metavar="X",
        help=f"how much worse validation perplexity may get (default: {Limits.perplexity:.0%}%)",
    )
    speeds = parser.add_mutually_exclusive_group()
    speeds.add_argument(
        "--throughput",
        type=parse_tolerance,
        default=Limits.throughput,
        metavar="X",
        help="also check speed: how much slower a run may get on the same machine. Each side needs two series of "
        "measurements an hour or more apart; without them the exit status is 2 (default: speeds do not count)",
    )
    speeds.add_argument("--no-throughput", action="store_true", help="leave speeds out altogether")
    parser.add_argument(
        "--floor",
        type=parse_floor,
        default=Limits.floor,
        metavar="UNITS",
        help=f"ignore changes of perplexity below this (default: {Limits.floor}); not for runs with an accuracy or a "
        "perplexity near 1",
    )
    parser.add_argument(
        "--two-sided", action="store_true", help="also reject a perplexity that fell by more than the tolerance"
    )
    parser.add_argument("--json", type=parse_path, metavar="FILE", help="write the comparison as JSON")
    parser.add_argument("--junit", type=parse_path, metavar="FILE", help="write the comparison as JUnit XML")
    parser.add_argument("--markdown", type=parse_path, metavar="FILE", help="write the comparison as a Markdown table")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    limits = {name: getattr(options, name) for name in ("perplexity", "throughput", "floor", "two_sided")}
    limits["speeds"] = not options.no_throughput
    forms = (
        (options.json, verdicts.as_json),
        (options.junit, verdicts.as_junit),
        (options.markdown, verdicts.as_markdown),
    )

    def write(comparison: Comparison) -> None:
        # Before anything is printed: the reader of our output may have gone.
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
    print(verdicts.as_text(comparison, **narrow()))
    status_of_output()
    return verdicts.EXIT_STATUS[comparison.verdict]  # of the verdict, even if its reader has gone
