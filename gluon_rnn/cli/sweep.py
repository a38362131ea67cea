"""``gluon-rnn sweep``: run a sweep and write tables and a report."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from gluon_rnn.cli.arguments import (
    add_target,
    describe,
    parse_data_dir,
    parse_pairs,
    parse_path,
    parse_seconds,
    split_values,
)
from gluon_rnn.cli.output import say, status_of_output, stopped_by_signals
from gluon_rnn.cli.sweep_names import find_sweep
from gluon_rnn.common import streams
from gluon_rnn.common.errors import UserError, reason
from gluon_rnn.common.printable import counted, warn
from gluon_rnn.config.settings import settings_list
from gluon_rnn.config.sweep_file import load_sweep
from gluon_rnn.reporting.report import write_report
from gluon_rnn.reporting.report.searches import importance_line
from gluon_rnn.reporting.terminal.console import make_console
from gluon_rnn.reporting.terminal.displays import Several, choose_display
from gluon_rnn.reporting.terminal.results import results_tables
from gluon_rnn.runs.job import FAILED
from gluon_rnn.runs.records import RunRecord, read_records
from gluon_rnn.runs.tables import read_points
from gluon_rnn.sweeps.executors import EXECUTORS, Executor, ExecutorOptions
from gluon_rnn.sweeps.executors.base import STALL_SECONDS
from gluon_rnn.sweeps.importance import importances
from gluon_rnn.sweeps.own_cells import check_own_cells
from gluon_rnn.sweeps.planning import Plan, plan_sweep
from gluon_rnn.sweeps.pruning import SUPERSEDED, superseded
from gluon_rnn.sweeps.running import Display, run_sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Run every point of a sweep that has no result yet, each in its own process, and write tables and a report.",
        {
            "sweep": "a first look, in a few minutes: benchmarks/quick.yaml",
            "sweep mine.yaml --dry-run": "list the points of a sweep file",
            "sweep mine.yaml --jobs 2": "run them, two at a time",
            "sweep --set epochs=1 --axis cell=lstm,gru seed=0..2": "change settings and axes of quick.yaml",
            "sweep cpu/learning-rate --device gpu:0,gpu:1": "one of the suite's own sweeps, on two GPUs",
            "sweep mine.yaml --rerun-failed": "run what is missing, and what failed once more",
        },
        more="--list-settings lists what --set and --axis take.",
    )
    _add_points(parser.add_argument_group("points"))
    _add_places(parser.add_argument_group("places"))
    _add_repeats(parser.add_argument_group("running again"))
    _add_output(parser.add_argument_group("output"))


class _ListSettings(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        """Print every setting and end."""
        print(settings_list())
        parser.exit()


def _add_points(group: argparse._ArgumentGroup) -> None:
    """Add the arguments that choose points."""
    group.add_argument(
        "sweep",
        nargs="?",
        metavar="SWEEP.yaml",
        type=parse_path,
        help="a sweep file, or the name of one in benchmarks/, such as cpu/seeds (default: quick)",
    )
    group.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="fix settings at every point"
    )
    group.add_argument(
        "--axis",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=V1,V2",
        help="add or replace axes; of numbers also as seed=0..4 or 'learning_rate=log(1,40,5)'",
    )
    group.add_argument("--sample", type=int, metavar="N", help="run only N points, drawn at random")
    group.add_argument(
        "--sample-seed",
        type=int,
        metavar="S",
        help="random seed of --sample; a larger N adds points (default: 0)",
    )
    group.add_argument("--list-settings", action=_ListSettings, nargs=0, help="list every setting, and end")
    group.add_argument("--dry-run", action="store_true", help="list the points without running them")


def _add_places(group: argparse._ArgumentGroup) -> None:
    """Add the arguments on where points run and for how long."""
    group.add_argument(
        "--data-dir",
        type=parse_data_dir,
        metavar="DIR",
        help="folder to search first for corpora (default: $GLUON_RNN_DATA)",
    )
    group.add_argument(
        "--device",
        default="auto",
        help="what each worker gets: auto, cpu, gpu, or a list such as gpu:0,gpu:1 (two workers) or "
        "gpu:0+gpu:1,gpu:2+gpu:3 (two workers with two GPUs each, which share every batch) (default: auto)",
    )
    group.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="number of runs at a time (default: one for each entry of a device list, else 1)",
    )
    group.add_argument(
        "--executor",
        choices=tuple(EXECUTORS),
        default="local",
        help="where to run: on this machine, or on a Ray cluster. A cluster runs as many points at a time as it holds, "
        "--jobs at most, each with a share of its smallest node's cores (or --set threads=N) (default: local)",
    )
    group.add_argument(
        "--ray-address",
        metavar="ADDR",
        help="the cluster's head as HOST:PORT, or auto (default: $RAY_ADDRESS, else a cluster on this machine that "
        "ends with the sweep)",
    )
    group.add_argument(
        "--timeout", type=parse_seconds, metavar="S", help="stop a run after this many seconds (default: never)"
    )
    group.add_argument(
        "--stall-timeout",
        type=parse_seconds,
        default=STALL_SECONDS,
        metavar="S",
        help=f"stop a run that has written nothing for this many seconds (default: {STALL_SECONDS:g})",
    )
    group.add_argument("--fail-fast", action="store_true", help="stop at the first point that fails")


def _add_repeats(group: argparse._ArgumentGroup) -> None:
    """Add the arguments on repeating and deleting runs."""
    group.add_argument(
        "--rerun-failed", action="store_true", help="re-run points that failed, timed out or ran out of memory"
    )
    group.add_argument(
        "--rerun",
        nargs="+",
        action="extend",
        default=[],
        metavar="RUN_ID",
        help="re-run these finished points; their earlier runs are first moved from the tables to runs.superseded",
    )
    group.add_argument(
        "--prune",
        action="store_true",
        help="first move runs that are not points of this sweep, such as those of an earlier version of a cell, from "
        "its tables to runs.superseded in its results; with --dry-run, only list them",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    """Add the arguments on output."""
    group.add_argument(
        "--results",
        type=parse_path,
        default=Path("results"),
        metavar="DIR",
        help="folder for results (default: results)",
    )
    group.add_argument("--name", help="name of the sweep's folder in it (default: the name in the sweep file)")
    group.add_argument(
        "--tensorboard",
        nargs="?",
        type=parse_path,
        const=True,
        metavar="DIR",
        help="also log the runs for TensorBoard (default DIR: tensorboard in the sweep's folder)",
    )
    group.add_argument(
        "--mlflow",
        metavar="URI",
        help="also send the runs to MLflow, a server or a folder; the sweep is the experiment",
    )
    add_target(
        group,
        "also show when runs reached these validation perplexities: seconds of training and scoring, and tokens "
        "(default: only in the report, for perplexities chosen from the results)",
    )
    group.add_argument("--quiet", action="store_true", help="print only the final table")


@stopped_by_signals()
def run(options: argparse.Namespace) -> int:
    """Plan and run the sweep and report its results; returns 1 if a point failed or was not reached."""
    if options.executor == "local" and options.ray_address is not None:
        raise UserError("--ray-address needs --executor ray; add it or drop the address")
    if options.executor == "ray" and ":" in options.device:
        raise UserError(
            f"--device {options.device} cannot be requested from a Ray cluster, which chooses them; use --device gpu"
        )
    given = ExecutorOptions(
        address=options.ray_address,
        jobs=options.jobs,
        timeout=options.timeout,
        stall_timeout=options.stall_timeout,
        notice=warn,
    )
    with closing(EXECUTORS[options.executor](given)) as executor:
        plan = _plan(executor, options)
        if options.dry_run:
            check_own_cells(plan.likely)
            _say_what_would_be(plan, prune=options.prune)
            return status_of_output()
        console = make_console()
        display = choose_display(console, quiet=options.quiet, targets=options.target)
        try:
            records = run_sweep(
                plan,
                executor=executor,
                fail_fast=options.fail_fast,
                prune=options.prune,
                display=Several(display, *_trackings(options, plan)),
                notice=warn,
            )
        except KeyboardInterrupt:
            print(file=sys.stderr)
            _say_how_far_it_came(console, plan, options.target)
            again = ", without --rerun" if options.rerun else ""
            warn(f"stopped; the finished runs are in {plan.directory}. To resume, run the same command again{again}:")
            warn(f"  {_command_line()}")
            return 130
        console.print(results_tables(records, plan.varying, options.target))
        return _say_what_came_of_it(plan, records, options.target)


def _plan(executor: Executor, options: argparse.Namespace) -> Plan:
    if options.sample_seed is not None and options.sample is None:
        raise UserError("--sample-seed needs --sample N; add it or drop the seed")
    sweep = load_sweep(find_sweep(options.sweep))
    sweep = sweep.with_arguments(
        parse_pairs("--set", options.set),
        {name: split_values(values) for name, values in parse_pairs("--axis", options.axis).items()},
        name=options.name,
        sample=options.sample,
        sample_seed=options.sample_seed or 0,
    )
    return plan_sweep(
        sweep,
        results=options.results,
        data_dir=options.data_dir,
        device=options.device,
        jobs=options.jobs,
        rerun_failed=options.rerun_failed,
        rerun=options.rerun,
        notice=warn,
        executor=executor,
    )


def _say_how_far_it_came(console: Console, plan: Plan, targets: Sequence[float]) -> None:
    """Print the results so far of a stopped sweep, if there are any."""
    try:
        points = {point["run_id"] for point in read_points(plan.directory)}
    except UserError:  # it was stopped before it had begun
        return
    records = [record for record in read_records(plan.directory)[0] if record.run_id in points]
    if records:
        console.print(results_tables(records, plan.varying, targets))
        console.print(f"{len(records):,} of {counted(plan.total, 'point')} so far")


def _say_what_came_of_it(plan: Plan, records: Sequence[RunRecord], targets: Sequence[float]) -> int:
    """Report importance, the places of the results and the points that failed; returns the exit status."""
    if plan.search:
        matters = importances(plan.search.settings, plan.search.proposals, records)
        say(importance_line(matters, records))
    for remark in plan.remarks:
        say(f"note: {remark}")
    say(f"tables: {plan.directory / 'runs.csv'} and {plan.directory / 'epochs.csv'}")
    try:
        say(f"report: {write_report(plan.directory, targets=targets)}")
    except Exception as error:  # the sweep stands, whatever becomes of its report
        warn(f"no report: {' '.join(str(error).split()) or type(error).__name__}")
    labels = {point["run_id"]: point["label"] for point in read_points(plan.directory)}
    failed = [record for record in records if record.status in FAILED]
    for record in records:
        if record.reason and record.status not in (*FAILED, "pruned"):
            say(f"{record.status}: {labels[record.run_id]}: {record.reason}")
    if pruned := sum(record.status == "pruned" for record in records):
        say(f"pruned: {counted(pruned, 'run')}; to train them to their end, run the search again with pruner: none")
    for record in failed:
        log = plan.directory / "runs" / record.run_id / "log.txt"
        say(f"{record.status}: {labels[record.run_id]}: {record.reason}; log: {log}")
    if failed:
        say("to re-run them, add --rerun-failed to the same command")
    why = streams.failure(sys.stdout)
    if why and not isinstance(why, BrokenPipeError):
        warn(f"warning: cannot write to standard output: {reason(why)}; the results are in {plan.directory}")
    return 1 if failed or len(records) < len(plan.jobs) else 0


def _say_what_would_be(plan: Plan, *, prune: bool) -> None:
    missing = {job.run_id for job in plan.missing}
    for job in plan.jobs:
        say(f"{job.run_id}  {'to run' if job.run_id in missing else 'done  '}  {plan.label(job)}")
    if plan.search:
        for line in plan.search.summary():
            say(line)
    say(f"{counted(plan.total, 'point')}, {plan.to_run:,} to run")
    if prune:
        moving = superseded(plan, read_records(plan.directory)[0])
        for name, label in moving.items():
            say(f"{name}  to move  {label}")
        say(f"{counted(len(moving), 'superseded run')} to move to {plan.directory / SUPERSEDED}")


def _trackings(options: argparse.Namespace, plan: Plan) -> list[Display]:
    """The trackers that were asked for; only this function imports their libraries."""
    if options.tensorboard is None and options.mlflow is None:
        return []
    from gluon_rnn.reporting.tracking import MlflowTracker, TensorBoardTracker, Tracking

    trackings: list[Display] = []
    # In this order, since the second makes a folder and the first may be refused.
    if options.mlflow is not None:
        trackings.append(Tracking(MlflowTracker(options.mlflow, plan.name)))
    if options.tensorboard is not None:
        directory = plan.directory / "tensorboard" if options.tensorboard is True else options.tensorboard
        trackings.append(Tracking(TensorBoardTracker(directory)))
    return trackings


def _command_line() -> str:
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        start = ["python", "-m", "gluon_rnn"]
    else:
        start = ["python", str(program)] if program.suffix == ".py" else [program.name]
    return shlex.join([*start, *sys.argv[1:]])
