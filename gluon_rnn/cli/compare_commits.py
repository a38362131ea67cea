"""``gluon-rnn compare-commits``: run a sweep at two commits and compare the results."""

from __future__ import annotations

import argparse
import traceback
from pathlib import Path

from gluon_rnn.cli.arguments import describe, parse_pairs, parse_path, parse_tolerance
from gluon_rnn.cli.compare import add_forms, show
from gluon_rnn.cli.output import status_of_output, stopped_by_signals
from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import warn
from gluon_rnn.config.sweep_file import load_sweep, shipped_sweep
from gluon_rnn.reporting.regression.changes import Limits
from gluon_rnn.reporting.side_by_side import FORMS, Contrast, compare_folders
from gluon_rnn.sweeps.commits import Repeated, Start, find_commit, measure, prepare, run_logged

#: For ``git bisect run``: this commit can be judged no way.
CANNOT_TEST = 125


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Run a sweep at two commits of this suite, each in a worktree of its own, in turns and with several seeds, and "
        "compare the second with the first. Results and worktrees are kept: the same command resumes, and a commit "
        "that has results is not run again. Packages are installed only for a commit whose lock file names others "
        "than are installed here.",
        {
            "compare-commits v1.0 HEAD": "whether something got worse since v1.0",
            "compare-commits main HEAD benchmarks/quick.yaml --repeats 3": "with a sweep of your own",
        },
        more="exit status, as git bisect run takes it: 0 not worse, 1 worse, 125 could not be tested",
    )
    parser.add_argument("revisions", nargs=2, metavar="REVISION", help="a commit, tag or branch; the first is good")
    parser.add_argument(
        "sweep", nargs="?", type=parse_path, metavar="SWEEP.yaml", help="the sweep (default: benchmarks/commits.yaml)"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="fix settings at every point"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="seeds of each point, two or more (default: 5)"
    )
    parser.add_argument(
        "--perplexity",
        type=parse_tolerance,
        default=Limits.perplexity,
        metavar="X",
        help=f"how much worse validation perplexity may get (default: {Limits.perplexity:.0%}%)",
    )
    parser.add_argument(
        "--throughput",
        type=parse_tolerance,
        default=Limits.throughput,
        metavar="X",
        help="also judge speed: how much slower a run may get; both commits are then measured anew, in turns "
        "(default: speeds do not count)",
    )
    parser.add_argument(
        "--folder",
        type=parse_path,
        default=Path("results/commits"),
        metavar="DIR",
        help="folder for results and worktrees (default: results/commits)",
    )
    add_forms(parser)


@stopped_by_signals()
def run(options: argparse.Namespace, *, start: Start = run_logged) -> int:
    """Run the command; returns the exit status.

    Args:
        options: the command line.
        start: runs the commands of a commit.
    """
    try:
        contrast = _compare(options, start)
        status = 1 if is_worse(contrast) else 0
        show(FORMS[options.format](contrast), options)
        status_of_output()
        return status
    except UserError as error:
        warn(f"error: {error}")
    except Exception:  # whose status, 1, would be a verdict
        traceback.print_exc()
    return CANNOT_TEST


def _compare(options: argparse.Namespace, start: Start) -> Contrast:
    if options.repeats < 2:
        raise UserError(f"--repeats {options.repeats} tells no change from chance; give 2 or more")
    file = options.sweep or shipped_sweep("commits")
    sweep = load_sweep(file).with_arguments(parse_pairs("--set", options.set), {})
    limits = Limits(options.perplexity, options.throughput, two_sided=True)
    repository = Path.cwd()
    commits = [find_commit(repository, revision) for revision in options.revisions]
    folder = options.folder.resolve()
    checkouts = [prepare(repository, commit, folder, notice=warn, start=start) for commit in dict.fromkeys(commits)]
    repeated = Repeated(file, tuple(options.set), sweep, options.repeats)
    by_speed = options.throughput is not None
    folders = measure(checkouts, repeated, folder, apart=by_speed, notice=warn, start=start)
    contrast = compare_folders([folders[0], folders[-1]], limits=limits)
    if not any(point.loss or point.speed or point.remarks for against in contrast.against for point in against.points):
        raise UserError("nothing was measured at both commits")
    return contrast


def is_worse(contrast: Contrast) -> bool:
    """Whether a point is worse in its loss or, if a limit is given, in its speed."""
    points = [point for against in contrast.against for point in against.points]
    by_speed = contrast.limits.throughput is not None
    slower = [point for point in points if by_speed and point.speed and point.speed.verdict == "worse"]
    return bool(slower) or any(point.verdict == "worse" for point in points if point.loss or not point.speed)
