"""``gluon-rnn status``: show the progress of a sweep, or of all."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live

from gluon_rnn.cli.arguments import add_target, describe, parse_path, parse_seconds
from gluon_rnn.cli.output import status_of_output, stopped_by_signals
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import printable
from gluon_rnn.reporting.terminal.console import make_console
from gluon_rnn.reporting.terminal.status import find_sweeps, is_sweep, read_standing, status_lines, sweeps_table

_WATCH_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Show the progress of a sweep, or list all sweeps in a folder.",
        {
            "status": "all sweeps in results/",
            "status results/quick": "one sweep, point by point",
            "status results/quick --watch": "again every two seconds, until Ctrl-C",
        },
    )
    parser.add_argument(
        "directory",
        nargs="?",
        type=parse_path,
        default=Path("results"),
        metavar="DIR",
        help="a sweep's folder, such as results/quick, or a folder of such folders (default: results)",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=parse_seconds,
        const=_WATCH_SECONDS,
        metavar="S",
        help=f"show it again every S seconds until Ctrl-C (default S: {_WATCH_SECONDS:g})",
    )
    add_target(
        parser,
        "of one sweep: also show when runs reached these validation perplexities, in seconds of training and scoring "
        "and in tokens",
    )


@stopped_by_signals()
def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    console = make_console()
    if options.watch is None:
        # A terminal's lines are folded between words; those of a log are as long as they are.
        console.print(standing_of(options.directory, options.target), soft_wrap=not console.is_terminal)
        return status_of_output()
    if not console.is_terminal:
        raise UserError("--watch needs a terminal; leave it out and run status again")
    return watch(options.directory, console, seconds=options.watch, targets=options.target)


def watch(
    directory: Path,
    console: Console,
    *,
    seconds: float,
    targets: Sequence[float] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Show the progress of a folder repeatedly until Ctrl-C, which ends with status 0."""
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as screen:
            while True:
                screen.update(standing_of(directory, targets), refresh=True)
                sleep(seconds)
    except KeyboardInterrupt:
        return 0


def standing_of(directory: Path, targets: Sequence[float] = ()) -> RenderableType:
    """The output for a folder: a sweep point by point, or a table of the sweeps below it.

    Raises:
        UserError: it is neither, or has several sweeps while `targets` are asked for.
    """
    if is_sweep(directory) or not directory.is_dir():
        return Group(*(printable(line) for line in status_lines(read_standing(directory), targets)))
    if targets:
        raise UserError(f"--target needs one sweep, and {directory} is not a sweep's folder; name one in it")
    return sweeps_table(directory, [read_standing(path) for path in find_sweeps(directory)])
