"""``gluon-rnn sweep``: run a sweep and leave tables."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from gluon_rnn.cli.arguments import parse_data_dir, parse_pairs, parse_path, parse_seconds
from gluon_rnn.cli.output import say, status_of_output, stopped_by_signals, warn
from gluon_rnn.common import streams
from gluon_rnn.common.errors import UserError, reason
from gluon_rnn.config.run import RunConfig
from gluon_rnn.config.sweep_file import load_sweep
from gluon_rnn.reporting.report import write_report
from gluon_rnn.reporting.terminal import Several, choose_display, make_console, results_tables
from gluon_rnn.runs.job import FINISHED
from gluon_rnn.runs.records import RunRecord, read_records
from gluon_rnn.sweeps.executors import EXECUTORS, Executor, ExecutorOptions
from gluon_rnn.sweeps.executors.base import STALL_SECONDS
from gluon_rnn.sweeps.planning import Plan, plan_sweep
from gluon_rnn.sweeps.pruning import SUPERSEDED, superseded
from gluon_rnn.sweeps.running import Display, run_sweep

QUICK = "quick"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to its `parser`."""
    parser.description = "Run each point of a sweep that has no result yet in a process of its own, and leave tables."
    parser.epilog = "settings:\n" + _settings_help()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_points(parser)
    _add_places(parser)
    _add_repeats(parser)
    _add_output(parser)


def _add_points(parser: argparse.ArgumentParser) -> None:
    """Which points."""
    parser.add_argument(
        "sweep", nargs="?", metavar="SWEEP.yaml", type=parse_path, help="the sweep (default: the quick one)"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="pin settings at every point"
    )
    parser.add_argument(
        "--axis", nargs="+", action="extend", default=[], metavar="KEY=V1,V2", help="add or replace axes"
    )
    parser.add_argument(
        "--results", type=parse_path, default=Path("results"), metavar="DIR", help="where results go (default: results)"
    )
    parser.add_argument("--name", help="of the sweep's folder there (default: the sweep's own name)")
    parser.add_argument(
        "--data-dir",
        type=parse_data_dir,
        metavar="DIR",
        help="where corpora are looked for first (default: $GLUON_RNN_DATA)",
    )


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Where they run, and for how long."""
    parser.add_argument(
        "--device",
        default="auto",
        help="what each worker gets: auto, cpu, gpu, or a list such as gpu:0,gpu:1 (two workers) or "
        "gpu:0+gpu:1,gpu:2+gpu:3 (two workers of two GPUs each, which share every batch) (default: auto)",
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs side by side (default: one for each entry of a list, else 1)"
    )
    parser.add_argument(
        "--executor",
        choices=tuple(EXECUTORS),
        default="local",
        help="where runs go: this machine, or a Ray cluster, which gives a run a share of its smallest node's cores "
        "(--set threads=N says how many) and as many runs as it holds, or --jobs at most (default: local)",
    )
    parser.add_argument(
        "--ray-address",
        metavar="ADDR",
        help="the cluster's head as HOST:PORT, or auto (default: $RAY_ADDRESS, else a cluster on this machine that "
        "ends with the sweep)",
    )
    parser.add_argument(
        "--timeout", type=parse_seconds, metavar="S", help="stop a run after so many seconds (default: never)"
    )
    parser.add_argument(
        "--stall-timeout",
        type=parse_seconds,
        default=STALL_SECONDS,
        metavar="S",
        help=f"stop a run that has written nothing for so many seconds (default: {STALL_SECONDS:g})",
    )


def _add_repeats(parser: argparse.ArgumentParser) -> None:
    """Which points are made again, and which runs go."""
    parser.add_argument(
        "--rerun-failed", action="store_true", help="make failed, timed-out and out-of-memory points again"
    )
    parser.add_argument(
        "--rerun",
        nargs="+",
        action="extend",
        default=[],
        metavar="RUN_ID",
        help="make these points again although they have finished; their runs are moved out of the tables and to "
        "runs.superseded first",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="first move runs that this sweep does not contain, such as those of an earlier version of a cell, out of "
        "its tables and to runs.superseded in its results; with --dry-run say which",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    """What is told, and where."""
    parser.add_argument(
        "--tensorboard",
        nargs="?",
        type=parse_path,
        const=True,
        metavar="DIR",
        help="log the runs for TensorBoard as well (default DIR: tensorboard in the sweep's results)",
    )
    parser.add_argument(
        "--mlflow", metavar="URI", help="send the runs to MLflow as well: a server, or a folder; sweep = experiment"
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failed point")
    parser.add_argument("--dry-run", action="store_true", help="print the points and stop")
    parser.add_argument("--quiet", action="store_true", help="print the final table only")


@stopped_by_signals()
def run(options: argparse.Namespace) -> int:
    """Plan the sweep, run it, and say what came of it; 1 where a point failed or was not reached."""
    if options.executor == "local" and options.ray_address is not None:
        raise UserError("--ray-address is of use with --executor ray only; add that or drop the address")
    if options.executor == "ray" and ":" in options.device:
        raise UserError(f"--device {options.device} cannot be asked of a Ray cluster, which chooses; use --device gpu")
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
            _say_what_would_be(plan, prune=options.prune)
            return status_of_output()
        console = make_console()
        display = choose_display(console, quiet=options.quiet)
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
            again = ", without --rerun" if options.rerun else ""
            warn(f"stopped; what had finished is in {plan.directory}. To go on, start it again{again}:")
            warn(f"  {_command_line()}")
            return 130
        console.print(results_tables(records, plan.varying))
        return _say_what_came_of_it(plan, records)


def _plan(executor: Executor, options: argparse.Namespace) -> Plan:
    sweep = load_sweep(options.sweep or _quick_sweep())
    sweep = sweep.with_arguments(
        parse_pairs("--set", options.set),
        {k: v.split(",") if v else [] for k, v in parse_pairs("--axis", options.axis).items()},
        name=options.name,
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


def _say_what_came_of_it(plan: Plan, records: Sequence[RunRecord]) -> int:
    """Say where the results are and which points failed; the exit status."""
    for remark in plan.remarks:
        say(f"note: {remark}")
    say(f"tables: {plan.directory / 'runs.csv'} and {plan.directory / 'epochs.csv'}")
    try:
        say(f"report: {write_report(plan.directory)}")
    except Exception as error:  # the sweep stands, whatever becomes of its report
        warn(f"no report: {' '.join(str(error).split()) or type(error).__name__}")
    failed = {record.run_id: record for record in records if record.status not in FINISHED}
    for job in plan.jobs:
        if record := failed.get(job.run_id):
            log = plan.directory / "runs" / record.run_id / "log.txt"
            say(f"{record.status}: {plan.label(job)}: {record.reason}; log: {log}")
    if failed:
        say("to make them again: the same command with --rerun-failed")
    why = streams.failure(sys.stdout)
    if why and not isinstance(why, BrokenPipeError):
        warn(f"warning: cannot write to standard output: {reason(why)}; the results are in {plan.directory}")
    return 1 if failed or len(records) < len(plan.jobs) else 0


def _say_what_would_be(plan: Plan, *, prune: bool) -> None:
    missing = {job.run_id for job in plan.missing}
    for job in plan.jobs:
        say(f"{job.run_id}  {'to run' if job.run_id in missing else 'done  '}  {plan.label(job)}")
    say(f"{len(plan.jobs)} points, {len(missing)} to run")
    if prune:
        moving = superseded(plan, read_records(plan.directory)[0])
        for name, label in moving.items():
            say(f"{name}  to move  {label}")
        say(f"{len(moving)} superseded runs to move to {plan.directory / SUPERSEDED}")


def _trackings(options: argparse.Namespace, plan: Plan) -> list[Display]:
    """What sends runs elsewhere; its libraries are imported here alone."""
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
    start = ["python", str(program)] if program.suffix == ".py" else [program.name]
    return shlex.join([*start, *sys.argv[1:]])


def _quick_sweep() -> Path:
    """The checkout's ``benchmarks/quick.yaml``, or the copy in an installed package."""
    for root in (Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "gluon_rnn"):
        if (path := root / "benchmarks" / f"{QUICK}.yaml").exists():
            return path
    raise UserError("there is no benchmarks/quick.yaml here; name a sweep file")


def _settings_help() -> str:
    lines = []
    for name, info in RunConfig.model_fields.items():
        default = "none" if info.default is None else str(info.default)
        text = f"  {name:<17} {info.description} (default: {default.lower()})"
        lines += textwrap.wrap(text, 100, subsequent_indent=" " * 20, break_on_hyphens=False)
    return "\n".join(lines)
