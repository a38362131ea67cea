"""``gluon-rnn promote``: make a sweep's results the baseline."""

from __future__ import annotations

import argparse

from gluon_rnn.cli.arguments import describe, parse_path
from gluon_rnn.cli.output import narrow, say, status_of_output
from gluon_rnn.reporting.regression.baselines import promote
from gluon_rnn.reporting.regression.verdicts import as_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Make a sweep's results the baseline FILE, and show what changes.",
        {
            "promote results/quick baseline.csv": "later results are compared with baseline.csv",
        },
    )
    parser.add_argument("results", type=parse_path, metavar="DIR", help="the sweep's folder, or its runs.csv")
    parser.add_argument("baseline", type=parse_path, metavar="FILE", help="the baseline to write, such as baseline.csv")
    parser.add_argument(
        "--incomplete", action="store_true", help="promote even if runs failed or are missing; these cannot be compared"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    frame, comparison = promote(options.results, options.baseline, incomplete=options.incomplete)
    if comparison:
        say(f"{options.results} compared with the current baseline:")
        print(as_text(comparison, **narrow()))
    say(f"{options.baseline} now holds the {len(frame)} runs of {options.results}")
    return status_of_output()
