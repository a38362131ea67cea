"""``gluon-rnn status``: show the progress of a sweep."""

from __future__ import annotations

import argparse
from pathlib import Path

from gluon_rnn.cli.arguments import parse_path
from gluon_rnn.cli.output import say, status_of_output
from gluon_rnn.reporting.terminal import status_lines
from gluon_rnn.runs.records import read_records
from gluon_rnn.runs.tables import planned_points, read_points
from gluon_rnn.sweeps.locking import is_locked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    parser.description = "Show the progress of a sweep."
    parser.add_argument("directory", type=parse_path, metavar="DIR", help="the sweep's folder, such as results/quick")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    directory: Path = options.directory
    points, total = read_points(directory), planned_points(directory)
    records, damaged = read_records(directory)
    for line in [
        *status_lines(directory, points, records, total=total, active=is_locked(directory)),
        *damaged.values(),
    ]:
        say(line)
    return status_of_output()
