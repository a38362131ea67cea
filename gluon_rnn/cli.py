"""Words on the command line."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from gluon_rnn import __version__
from gluon_rnn.common import processes, streams
from gluon_rnn.common.errors import UserError, reason, shortage, starting
from gluon_rnn.common.files import expand, write_named
from gluon_rnn.common.printable import for_terminal, printable
from gluon_rnn.config.run import RunConfig
from gluon_rnn.config.sweep_file import load_sweep
from gluon_rnn.machine.environment import process_environment
from gluon_rnn.machine.hardware import describe_machine
from gluon_rnn.reporting.regression.changes import Limits
from gluon_rnn.reporting.report import write_report
from gluon_rnn.reporting.terminal import Several, choose_display, make_console, results_tables, status_lines
from gluon_rnn.runs.job import FINISHED
from gluon_rnn.runs.records import read_records
from gluon_rnn.runs.tables import read_points
from gluon_rnn.sweeps.devices import shares_cores
from gluon_rnn.sweeps.executors.local import STALL_SECONDS, LocalExecutor
from gluon_rnn.sweeps.executors.ray import RayExecutor
from gluon_rnn.sweeps.locking import is_locked
from gluon_rnn.sweeps.planning import Plan, plan_sweep
from gluon_rnn.sweeps.pruning import SUPERSEDED, superseded
from gluon_rnn.sweeps.running import Display, run_sweep

QUICK = "quick"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; exit status 0, 1 when something it ran has failed, 2 when nothing could be started.

    Where output cannot be written, what a command leaves elsewhere decides its status; see also `_said`.
    """
    streams.guard()
    try:
        options = _parser().parse_args(arguments)
        status: int = options.run(options)
        return status
    except UserError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except Exception as error:
        why = shortage(error)
        if isinstance(error, ImportError):
            why = f"{why or ' '.join(str(error).split())}; gluon-rnn doctor says how to mend it"
        if why is None:
            raise
        return _failed(why)


def _said(status: int = 0) -> int:
    """The exit status of a command that leaves nothing but its output: `status`, or 1 where the reader has gone.

    Raises:
        UserError: the output cannot be written.
    """
    why = streams.failure(sys.stdout)
    if why is None:
        return status
    if isinstance(why, BrokenPipeError):
        return status or 1
    raise UserError(f"cannot write to standard output: {reason(why)}")


def _failed(why: str) -> int:
    _warn(f"error: {why}")
    return 2


def console() -> NoReturn:
    """The ``gluon-rnn`` command."""
    sys.exit(main())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, as everything else that a user can mend."""
        raise UserError(f"{message}; see {self.prog} --help")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End after ``--help`` or ``--version``."""
        super().exit(_said(status), message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gluon-rnn", description="Benchmarks of recurrent language models on MXNet Gluon and GluonNLP."
    )
    parser.add_argument("--version", action="version", version=f"gluon-rnn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    sweep = commands.add_parser(
        "sweep",
        help="run a sweep and leave tables",
        description="Run each point of a sweep that has no result yet in a process of its own, and leave tables.",
        epilog="settings:\n" + _settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sweep.add_argument("sweep", nargs="?", metavar="SWEEP.yaml", type=_path, help="the sweep (default: the quick one)")
    sweep.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="pin settings at every point"
    )
    sweep.add_argument(
        "--axis", nargs="+", action="extend", default=[], metavar="KEY=V1,V2", help="add or replace axes"
    )
    sweep.add_argument(
        "--results", type=_path, default=Path("results"), metavar="DIR", help="where results go (default: results)"
    )
    sweep.add_argument("--name", help="of the sweep's folder there (default: the sweep's own name)")
    sweep.add_argument(
        "--data-dir",
        type=_data_dir,
        metavar="DIR",
        help="where corpora are looked for first (default: $GLUON_RNN_DATA)",
    )
    sweep.add_argument(
        "--device",
        default="auto",
        help="what each worker gets: auto, cpu, gpu, or a list such as gpu:0,gpu:1 (two workers) or "
        "gpu:0+gpu:1,gpu:2+gpu:3 (two workers of two GPUs each, which share every batch) (default: auto)",
    )
    sweep.add_argument(
        "--jobs", type=int, metavar="N", help="runs side by side (default: one for each entry of a list, else 1)"
    )
    sweep.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="where runs go: this machine, or a Ray cluster, which gives a run a share of its smallest node's cores "
        "(--set threads=N says how many) and as many runs as it holds, or --jobs at most (default: local)",
    )
    sweep.add_argument(
        "--ray-address",
        metavar="ADDR",
        help="the cluster's head as HOST:PORT, or auto (default: $RAY_ADDRESS, else a cluster on this machine that "
        "ends with the sweep)",
    )
    sweep.add_argument(
        "--timeout", type=_seconds, metavar="S", help="stop a run after so many seconds (default: never)"
    )
    sweep.add_argument(
        "--stall-timeout",
        type=_seconds,
        default=STALL_SECONDS,
        metavar="S",
        help=f"stop a run that has written nothing for so many seconds (default: {STALL_SECONDS:g})",
    )
    sweep.add_argument(
        "--rerun-failed", action="store_true", help="make failed, timed-out and out-of-memory points again"
    )
    sweep.add_argument(
        "--rerun",
        nargs="+",
        action="extend",
        default=[],
        metavar="RUN_ID",
        help="make these points again although they have finished; their runs are moved out of the tables and to "
        "runs.superseded first",
    )
    sweep.add_argument(
        "--tensorboard",
        nargs="?",
        type=_path,
        const=True,
        metavar="DIR",
        help="log the runs for TensorBoard as well (default DIR: tensorboard in the sweep's results)",
    )
    sweep.add_argument(
        "--mlflow", metavar="URI", help="send the runs to MLflow as well: a server, or a folder; sweep = experiment"
    )
    sweep.add_argument(
        "--prune",
        action="store_true",
        help="first move runs that this sweep does not contain, such as those of an earlier version of a cell, out of "
        "its tables and to runs.superseded in its results; with --dry-run say which",
    )
    sweep.add_argument("--fail-fast", action="store_true", help="stop at the first failed point")
    sweep.add_argument("--dry-run", action="store_true", help="print the points and stop")
    sweep.add_argument("--quiet", action="store_true", help="print the final table only")
    sweep.set_defaults(run=_sweep)

    status = commands.add_parser("status", help="say how far a sweep is", description="Say how far a sweep is.")
    status.add_argument("directory", type=_path, metavar="DIR", help="the sweep's folder, such as results/quick")
    status.set_defaults(run=_status)

    _add_prune(commands)
    _add_check_regression(commands)
    _add_promote(commands)
    report = commands.add_parser(
        "report",
        help="write report.html and report.md",
        description="Write report.html and report.md of one or several folders of results: what to choose and what it "
        "costs, with rankings, maps, curves and the machines. The page is one file and needs no network.",
    )
    report.add_argument(
        "directories", nargs="+", type=_path, metavar="DIR", help="a sweep's folder, such as results/quick"
    )
    report.add_argument("--output", type=_path, metavar="DIR", help="where to write it (default: the first DIR)")
    report.add_argument(
        "--plots", action="store_true", help="write each plot to plots/*.svg there, too, and show it in report.md"
    )
    report.set_defaults(run=_report)

    _add_generate(commands)
    doctor = commands.add_parser(
        "doctor",
        help="say whether this machine will work",
        description="Say what this machine has and whether it will work.",
    )
    doctor.add_argument("--data-dir", type=_data_dir, metavar="DIR", help="as for sweep")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_prune(commands: Any) -> None:
    prune = commands.add_parser(
        "prune",
        help="remove failed, unfinished and replaced runs",
        description="List the runs of a sweep's folder that are not, or no longer, among its results: failed runs, "
        "folders without a record, and runs of a version of a cell, of word vectors or of a corpus that has since been "
        "replaced. Then ask for confirmation and delete them.",
    )
    prune.add_argument("directory", type=_path, metavar="DIR", help="the sweep's folder, such as results/quick")
    prune.add_argument("--yes", action="store_true", help="delete them without asking")
    prune.set_defaults(run=_prune)


def _add_check_regression(commands: Any) -> None:
    check = commands.add_parser(
        "check-regression",
        help="say whether results held against a baseline",
        description="Hold the results of CANDIDATE against BASELINE's: each a sweep's folder or its runs.csv. Points "
        "are matched by configuration and paired by seed. What several seeds show is told from chance by a t-test, "
        "corrected for the number of points; with one seed the tolerance alone decides. Speeds are shown and decide "
        "nothing unless --throughput is given.",
        epilog="exit status: 0 held, 1 regressed, 2 could not compare",
    )
    check.add_argument("baseline", type=_path, metavar="BASELINE", help="what to hold against")
    check.add_argument("candidate", type=_path, metavar="CANDIDATE", help="what is to hold")
    check.add_argument(
        "--perplexity",
        type=_tolerance,
        default=Limits.perplexity,
        metavar="X",
        help=f"how much worse validation perplexity may be (default: {Limits.perplexity:.0%}%)",
    )
    check.add_argument(
        "--throughput",
        type=_tolerance,
        default=Limits.throughput,
        metavar="X",
        help="let speeds decide, too: how much slower a run may be, on the same machine. They are compared between "
        "sittings an hour or more apart, of which each side needs two; without those the exit status is 2 (default: "
        "speeds decide nothing)",
    )
    check.add_argument(
        "--floor",
        type=_floor,
        default=Limits.floor,
        metavar="UNITS",
        help=f"a smaller change of perplexity never counts (default: {Limits.floor}); runs that have an accuracy, and "
        "perplexities near 1, have no floor",
    )
    check.add_argument(
        "--two-sided", action="store_true", help="refuse a perplexity that fell by more than is tolerated, too"
    )
    check.add_argument("--json", type=_path, metavar="FILE", help="write the comparison as JSON")
    check.add_argument("--junit", type=_path, metavar="FILE", help="and as JUnit's XML")
    check.add_argument("--markdown", type=_path, metavar="FILE", help="and as a Markdown table")
    check.set_defaults(run=_check_regression)


def _add_promote(commands: Any) -> None:
    promote = commands.add_parser(
        "promote",
        help="make a sweep's results a baseline",
        description="Make a sweep's results the baseline FILE, and say what that changes.",
    )
    promote.add_argument("results", type=_path, metavar="DIR", help="the sweep's folder, or its runs.csv")
    promote.add_argument("baseline", type=_path, metavar="FILE", help="the baseline to write, such as baseline.csv")
    promote.add_argument(
        "--incomplete", action="store_true", help="even though runs failed or are missing, which cannot be compared"
    )
    promote.set_defaults(run=_promote)


def _add_generate(commands: Any) -> None:
    generate = commands.add_parser(
        "generate",
        help="write text with a run's model",
        description="Print a prompt and what a run's model says follows it. The run's directory is enough; while it "
        "trains, its best epoch so far is used. A model of next tokens reads the last bptt tokens each time.",
        argument_default=argparse.SUPPRESS,
    )
    generate.add_argument("directory", type=_path, metavar="RUN", help="a run's, such as results/quick/runs/RUN_ID")
    generate.add_argument(
        "--prompt",
        type=_words,
        required=True,
        metavar="TEXT",
        help="read as the run's corpus was, unknown words as <unk>; empty: begin after <eos>",
    )
    generate.add_argument(
        "--tokens", type=int, required=True, metavar="N", help="words or characters to follow, up to 100,000"
    )
    generate.add_argument(
        "--temperature", type=float, metavar="T", help="below 1 the likely gets likelier, above 1 less so (default: 1)"
    )
    generate.add_argument("--top-k", type=int, metavar="K", help="draw among the K likeliest only (default: all)")
    generate.add_argument("--seed", type=int, metavar="S", help="of the draws; same seed, same text (default: 0)")
    generate.add_argument("--greedy", action="store_true", help="take the likeliest token each time")
    generate.set_defaults(run=_generate)


def _settings_help() -> str:
    lines = []
    for name, info in RunConfig.model_fields.items():
        default = "none" if info.default is None else str(info.default)
        text = f"  {name:<17} {info.description} (default: {default.lower()})"
        lines += textwrap.wrap(text, 100, subsequent_indent=" " * 20, break_on_hyphens=False)
    return "\n".join(lines)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def _words(text: str) -> str:
    """`text`, with the bytes that the locale could not decode read as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode(errors="surrogateescape")
    return text


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("'' names no folder; '.' is the current one")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path: none has a null character")
    try:
        return expand(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _data_dir(text: str) -> Path:
    """As `_path`; the home of no user is refused where data are looked for, as one in GLUON_RNN_DATA is."""
    try:
        return _path(text)
    except argparse.ArgumentTypeError:
        if text.startswith("~") and "\0" not in text:
            return Path(text)
        raise


def _tolerance(text: str) -> float:
    number = text.removesuffix("%")
    try:
        value = float(number) / (100 if number != text else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no tolerance; give one below 100%, such as 2% or 0.02")
    return value


def _floor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of units of perplexity, such as 0.05")
    return value


@contextmanager
def _stops_alike() -> Iterator[None]:
    """A sweep stopped by a scheduler or with its terminal ends as one stopped by Ctrl-C.

    So does one that a script has started with ``&``, where SIGINT is ignored. Under ``nohup`` SIGHUP stays ignored.
    """
    signs = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signs.append(signal.SIGHUP)
    before = {sign: signal.signal(sign, _interrupt) for sign in signs}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


@_stops_alike()
def _sweep(options: argparse.Namespace) -> int:
    with _executor(options) as executor:
        return _sweep_on(executor, options)


@contextmanager
def _executor(options: argparse.Namespace) -> Iterator[RayExecutor | None]:
    """The cluster, which is left at the end; None: this machine."""
    if options.executor == "local":
        if options.ray_address is not None:
            raise UserError("--ray-address is of use with --executor ray only; add that or drop the address")
        yield None
        return
    if ":" in options.device:
        raise UserError(f"--device {options.device} cannot be asked of a Ray cluster, which chooses; use --device gpu")
    with RayExecutor(
        options.ray_address,
        jobs=options.jobs,
        timeout=options.timeout,
        stall_timeout=options.stall_timeout,
        notice=_warn,
    ) as executor:
        yield executor


def _sweep_on(executor: RayExecutor | None, options: argparse.Namespace) -> int:
    sweep = load_sweep(options.sweep or _quick_sweep())
    sweep = sweep.with_arguments(
        _pairs("--set", options.set),
        {k: v.split(",") if v else [] for k, v in _pairs("--axis", options.axis).items()},
        name=options.name,
    )
    console = make_console()
    machine = executor.machine if executor else describe_machine()
    plan = plan_sweep(
        sweep,
        results=options.results,
        data_dir=options.data_dir,
        device=options.device,
        jobs=options.jobs,
        rerun_failed=options.rerun_failed,
        rerun=options.rerun,
        notice=_warn,
        machine=machine,
    )
    if executor:
        executor.check(plan.jobs)
        plan = replace(plan, slots=executor.slots(plan.jobs))
    elif crowded := shares_cores(plan.slots, plan.jobs, machine):
        _warn(crowded)
        plan = replace(plan, remarks=(*plan.remarks, crowded))
    labels = {job.run_id: plan.label(job) for job in plan.jobs}
    if options.dry_run:
        _say_what_would_be(plan, labels, prune=options.prune)
        return _said()
    display = choose_display(console, quiet=options.quiet)
    try:
        records = run_sweep(
            plan,
            executor=executor
            or LocalExecutor(plan.slots, timeout=options.timeout, stall_timeout=options.stall_timeout),
            fail_fast=options.fail_fast,
            prune=options.prune,
            display=Several(display, *_trackings(options, plan)),
            notice=_warn,
        )
    except KeyboardInterrupt:
        print(file=sys.stderr)
        again = ", without --rerun" if options.rerun else ""
        _warn(f"stopped; what had finished is in {plan.directory}. To go on, start it again{again}:")
        _warn(f"  {_command_line()}")
        return 130
    console.print(results_tables(records, plan.varying))
    for remark in plan.remarks:
        _say(f"note: {remark}")
    _say(f"tables: {plan.directory / 'runs.csv'} and {plan.directory / 'epochs.csv'}")
    try:
        _say(f"report: {write_report(plan.directory)}")
    except Exception as error:  # the sweep stands, whatever becomes of its report
        _warn(f"no report: {' '.join(str(error).split()) or type(error).__name__}")
    failed = [record for record in records if record.status not in FINISHED]
    for record in failed:
        log = plan.directory / "runs" / record.run_id / "log.txt"
        _say(f"{record.status}: {labels[record.run_id]}: {record.reason}; log: {log}")
    if failed:
        _say("to make them again: the same command with --rerun-failed")
    why = streams.failure(sys.stdout)
    if why and not isinstance(why, BrokenPipeError):
        _warn(f"warning: cannot write to standard output: {reason(why)}; the results are in {plan.directory}")
    return 1 if failed or len(records) < len(labels) else 0


def _say_what_would_be(plan: Plan, labels: Mapping[str, str], *, prune: bool) -> None:
    missing = {job.run_id for job in plan.missing}
    for name, label in labels.items():
        _say(f"{name}  {'to run' if name in missing else 'done  '}  {label}")
    _say(f"{len(labels)} points, {len(missing)} to run")
    if prune:
        moving = superseded(plan, read_records(plan.directory)[0])
        for name, label in moving.items():
            _say(f"{name}  to move  {label}")
        _say(f"{len(moving)} superseded runs to move to {plan.directory / SUPERSEDED}")


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


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _command_line() -> str:
    program = Path(sys.argv[0])
    start = ["python", str(program)] if program.suffix == ".py" else [program.name]
    return shlex.join([*start, *sys.argv[1:]])


def _say(line: str) -> None:
    print(printable(line))


def _warn(line: str) -> None:
    print(printable(line), file=sys.stderr)


def _quick_sweep() -> Path:
    """The checkout's ``benchmarks/quick.yaml``, or the copy in an installed package."""
    for root in (Path(__file__).resolve().parents[1], Path(sys.prefix) / "share" / "gluon_rnn"):
        if (path := root / "benchmarks" / f"{QUICK}.yaml").exists():
            return path
    raise UserError("there is no benchmarks/quick.yaml here; name a sweep file")


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"{option} takes KEY=VALUE, not {item!r}; a sweep file goes before the options")
        if key in pairs:
            raise UserError(f"{option} names {key} twice; keep one of them")
        pairs[key] = value
    return pairs


def _status(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    points = read_points(directory)
    records, damaged = read_records(directory)
    for line in [*status_lines(directory, points, records, active=is_locked(directory)), *damaged.values()]:
        _say(line)
    return _said()


def _prune(options: argparse.Namespace) -> int:
    from gluon_rnn.sweeps.pruning import list_stale, remove_runs

    directory: Path = options.directory
    stale = list_stale(directory)
    for name, why in stale.items():
        _say(f"{name}  {why}")
    if not stale:
        _say(f"{directory} has nothing to remove")
        return _said()
    question = f"Delete {'this run' if len(stale) == 1 else f'these {len(stale)} runs'} for good? [y/N] "
    if not options.yes and not sys.stdin.isatty():
        raise UserError("cannot ask for confirmation without a terminal; add --yes to delete them")
    if not options.yes and input(question).strip().lower() not in ("y", "yes"):
        _say("nothing was deleted")
        return _said()
    remove_runs(directory, stale, _warn)
    _say(f"deleted {len(stale)} of the runs in {directory}")
    return _said()


def _report(options: argparse.Namespace) -> int:
    _say(str(write_report(options.directories, options.output, plots=options.plots)))
    return _said()


@_stops_alike()
def _generate(options: argparse.Namespace) -> int:
    names = ("prompt", "tokens", "temperature", "top_k", "seed", "greedy")
    request = {name: value for name, value in vars(options).items() if name in names}
    idle = [f"--{name.replace('_', '-')}" for name in ("temperature", "top_k", "seed") if name in request]
    if idle and "greedy" in request:
        raise UserError(f"--greedy takes the likeliest token each time; drop it or {' and '.join(idle)}")
    with starting("MXNet's process"):
        done = subprocess.run(
            processes.command("gluon_rnn.trained.generation"),
            input=json.dumps({"run": str(options.directory), **request}),
            capture_output=True,
            text=True,
            errors="replace",
            # One thread: how many there are decides the last bits of the logits, and so now and then a word.
            env=process_environment("cpu", 1),
            # Ctrl-C reaches this process alone, which then ends that one.
            start_new_session=True,
            check=False,
        )
    try:
        # Before it a user's own cell may have said something.
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
        said = "".join(f" ({line.strip()})" for line in (done.stderr or "").splitlines()[-1:])
        raise UserError(f"MXNet ended with {ended}{said} over {options.directory}; see gluon-rnn doctor") from None
    sys.stderr.write(done.stderr or "")
    if "error" in answer:
        raise UserError(answer["error"])
    _print_text(answer["text"])
    return _said()


def _print_text(text: str) -> None:
    """Print `text` as it is, in UTF-8; on a terminal, with what that would obey escaped."""
    if sys.stdout.isatty():
        text = for_terminal(text)
    elif isinstance(sys.stdout, io.TextIOWrapper):
        # Whatever the locale is; and bytes of an argument that are not UTF-8 are written as they were.
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    print(text)


def _doctor(options: argparse.Namespace) -> int:
    from gluon_rnn.doctor import diagnose, format_checks

    checks = diagnose(options.data_dir)
    print(format_checks(checks))
    return _said(1 if any(check.level == "problem" for check in checks) else 0)


def _check_regression(options: argparse.Namespace) -> int:
    from gluon_rnn.reporting.regression import verdicts
    from gluon_rnn.reporting.regression.comparison import Comparison, compare, not_compared

    limits = {name: getattr(options, name) for name in ("perplexity", "throughput", "floor", "two_sided")}
    forms = (
        (options.json, verdicts.as_json),
        (options.junit, verdicts.as_junit),
        (options.markdown, verdicts.as_markdown),
    )

    def write(comparison: Comparison) -> None:
        # Before anything is printed: whoever reads us may have gone.
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
        _warn(remark)
    print(verdicts.as_text(comparison))
    _said()
    return verdicts.EXIT_STATUS[comparison.verdict]  # of the verdict, even if its reader has gone


def _promote(options: argparse.Namespace) -> int:
    from gluon_rnn.reporting.regression.baselines import promote
    from gluon_rnn.reporting.regression.verdicts import as_text

    frame, comparison = promote(options.results, options.baseline, incomplete=options.incomplete)
    if comparison:
        _say(f"{options.results} beside the baseline so far:")
        print(as_text(comparison))
    _say(f"{options.baseline} now holds the {len(frame)} runs of {options.results}")
    return _said()
