"""``gluon-rnn doctor``: check whether this machine will work."""

from __future__ import annotations

import argparse

from gluon_rnn.cli.arguments import describe, parse_data_dir
from gluon_rnn.cli.output import status_of_output
from gluon_rnn.doctor import diagnose, format_checks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Check whether this machine will work, and say how to fix what is missing.",
        {
            "doctor": "check this machine",
            "doctor --data-dir ~/data": "and the corpora in a folder",
        },
    )
    parser.add_argument(
        "--data-dir",
        type=parse_data_dir,
        metavar="DIR",
        help="folder to search first for corpora (default: $GLUON_RNN_DATA)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    checks = diagnose(options.data_dir)
    print(format_checks(checks))
    return status_of_output(1 if any(check.level == "problem" for check in checks.values()) else 0)
