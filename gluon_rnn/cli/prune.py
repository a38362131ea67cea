"""``gluon-rnn prune``: delete failed, unfinished and superseded runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gluon_rnn.cli.arguments import describe, parse_path
from gluon_rnn.cli.output import say, status_of_output
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import warn
from gluon_rnn.sweeps.pruning import list_stale, remove_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "List the runs in a sweep's folder that are stale: failed runs, folders without a record, and runs with a "
        "version of a cell, of word vectors or of a corpus that has since been replaced. "
        "Then ask for confirmation and delete them.",
        {
            "prune results/quick": "list what would go, and ask",
            "prune results/quick --yes": "delete it",
        },
    )
    parser.add_argument("directory", type=parse_path, metavar="DIR", help="the sweep's folder, such as results/quick")
    parser.add_argument("--yes", action="store_true", help="delete without asking")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    directory: Path = options.directory
    stale = list_stale(directory)
    for name, why in stale.items():
        say(f"{name}  {why}")
    if not stale:
        say(f"{directory} has nothing to remove")
        return status_of_output()
    question = f"Delete {'this run' if len(stale) == 1 else f'these {len(stale)} runs'} for good? [y/N] "
    if not options.yes and not sys.stdin.isatty():
        raise UserError("cannot ask for confirmation without a terminal; add --yes to delete them")
    if not options.yes and not _confirmed(question):
        say("nothing was deleted")
        return status_of_output()
    say(f"deleted {remove_runs(directory, stale, warn)} of the runs in {directory}")
    return status_of_output()


def _confirmed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D, which leaves the cursor behind the question
        say("")
        return False
