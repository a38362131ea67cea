"""``gluon-rnn doctor``: say whether this machine will work."""

from __future__ import annotations

import argparse

from gluon_rnn.cli.arguments import parse_data_dir
from gluon_rnn.cli.output import status_of_output
from gluon_rnn.doctor import diagnose, format_checks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to its `parser`."""
    parser.description = "Say what this machine has and whether it will work."
    parser.add_argument("--data-dir", type=parse_data_dir, metavar="DIR", help="as for sweep")


def run(options: argparse.Namespace) -> int:
    """Do it; the exit status."""
    checks = diagnose(options.data_dir)
    print(format_checks(checks))
    return status_of_output(1 if any(check.level == "problem" for check in checks) else 0)
