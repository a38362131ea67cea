"""Words on the command line."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import filelock

from gluon_rnn import __version__
from gluon_rnn.config import RunConfig, load_sweep
from gluon_rnn.display import choose_display, make_console, results_table, status_lines
from gluon_rnn.errors import UserError
from gluon_rnn.records import FINISHED, read_records
from gluon_rnn.report import write_report
from gluon_rnn.sweep import plan_sweep, run_sweep

QUICK = "quick"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; exit status 0, 1 when something it ran has failed, 2 when nothing could be started."""
    try:
        options = _parser().parse_args(arguments)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read us has gone (head, less); say nothing more to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def console() -> NoReturn:
    """The ``gluon-rnn`` command."""
    sys.exit(main())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, as everything else that a user can mend."""
        raise UserError(f"{message}; see {self.prog} --help")


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
    sweep.add_argument("sweep", nargs="?", metavar="SWEEP.yaml", type=Path, help="the sweep (default: the quick one)")
    sweep.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="pin settings at every point"
    )
    sweep.add_argument(
        "--axis", nargs="+", action="extend", default=[], metavar="KEY=V1,V2", help="add or replace axes"
    )
    sweep.add_argument(
        "--results", type=_folder, default=Path("results"), metavar="DIR", help="where results go (default: results)"
    )
    sweep.add_argument(
        "--data-dir", type=_folder, metavar="DIR", help="where corpora are looked for first (default: $GLUON_RNN_DATA)"
    )
    sweep.add_argument("--device", default="auto", help="auto, cpu, gpu, or GPUs such as gpu:0,gpu:1 (default: auto)")
    sweep.add_argument(
        "--jobs", type=int, metavar="N", help="runs side by side (default: one for each GPU listed, else 1)"
    )
    sweep.add_argument(
        "--timeout", type=_seconds, metavar="S", help="stop a run after so many seconds (default: never)"
    )
    sweep.add_argument(
        "--rerun-failed", action="store_true", help="make failed, timed-out and out-of-memory points again"
    )
    sweep.add_argument("--fail-fast", action="store_true", help="stop at the first failed point")
    sweep.add_argument("--dry-run", action="store_true", help="print the points and stop")
    sweep.add_argument("--quiet", action="store_true", help="print the final table only")
    sweep.set_defaults(run=_sweep)

    status = commands.add_parser("status", help="say how far a sweep is", description="Say how far a sweep is.")
    status.add_argument("directory", type=Path, metavar="DIR", help="the sweep's folder, such as results/quick")
    status.set_defaults(run=_status)

    report = commands.add_parser(
        "report",
        help="write report.html and report.md",
        description="Write report.html and report.md of one or several folders of results: what to choose and what it "
        "costs, with rankings, maps, curves and the machines. The page is one file and needs no network.",
    )
    report.add_argument(
        "directories", nargs="+", type=_folder, metavar="DIR", help="a sweep's folder, such as results/quick"
    )
    report.add_argument("--output", type=_folder, metavar="DIR", help="where to write it (default: the first DIR)")
    report.set_defaults(run=_report)

    doctor = commands.add_parser(
        "doctor",
        help="say whether this machine will work",
        description="Say what this machine has and whether it will work.",
    )
    doctor.add_argument("--data-dir", type=_folder, metavar="DIR", help="as for sweep")
    doctor.set_defaults(run=_doctor)
    return parser


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


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("'' names no folder; '.' is the current one")
    return Path(text)


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
    sweep = load_sweep(options.sweep or _quick_sweep())
    sweep = sweep.with_arguments(
        _pairs("--set", options.set), {k: v.split(",") if v else [] for k, v in _pairs("--axis", options.axis).items()}
    )
    console = make_console()
    plan = plan_sweep(
        sweep,
        results=options.results,
        data_dir=options.data_dir,
        device=options.device,
        jobs=options.jobs,
        rerun_failed=options.rerun_failed,
        notice=lambda line: print(line, file=sys.stderr),
    )
    labels = {job.run_id: plan.label(job) for job in plan.jobs}
    if options.dry_run:
        missing = {job.run_id for job in plan.missing}
        for name, label in labels.items():
            console.print(f"{name}  {'to run' if name in missing else 'done  '}  {label}", soft_wrap=True)
        console.print(f"{len(labels)} points, {len(missing)} to run")
        return 0
    try:
        records = run_sweep(
            plan,
            timeout=options.timeout,
            fail_fast=options.fail_fast,
            display=choose_display(console, quiet=options.quiet),
        )
    except KeyboardInterrupt:
        print(
            f"\nstopped; what had finished is in {plan.directory}. To go on, start it again:\n  {_command_line()}",
            file=sys.stderr,
        )
        return 130
    console.print(results_table(records, plan.varying))
    console.print(f"tables: {plan.directory / 'runs.csv'} and {plan.directory / 'epochs.csv'}", soft_wrap=True)
    try:
        console.print(f"report: {write_report(plan.directory)}", soft_wrap=True)
    except Exception as error:  # the sweep stands, whatever becomes of its report
        print(f"no report: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
    failed = [record for record in records if record.status not in FINISHED]
    for record in failed:
        log = plan.directory / "runs" / record.run_id / "log.txt"
        console.print(f"{record.status}: {labels[record.run_id]}: {record.reason}; log: {log}", soft_wrap=True)
    if failed:
        console.print("to make them again: the same command with --rerun-failed")
    return 1 if failed or len(records) < len(labels) else 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _command_line() -> str:
    program = Path(sys.argv[0])
    start = ["python", str(program)] if program.suffix == ".py" else [program.name]
    return shlex.join([*start, *sys.argv[1:]])


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
    try:
        content: dict[str, Any] = json.loads((directory / "sweep.json").read_text(encoding="utf-8"))
        points = [{name: str(point[name]) for name in ("run_id", "label")} for point in content["points"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{directory} is no sweep's folder; name one such as results/quick") from None
    records, damaged = read_records(directory)
    for line in [*status_lines(directory, points, records, active=_is_locked(directory)), *damaged]:
        print(line)
    return 0


def _report(options: argparse.Namespace) -> int:
    print(write_report(options.directories, options.output))
    return 0


def _is_locked(directory: Path) -> bool:
    path = directory / ".lock"
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path, blocking=False):
            return False
    except (filelock.Timeout, OSError):
        return True


def _doctor(options: argparse.Namespace) -> int:
    from gluon_rnn.doctor import diagnose, format_checks

    checks = diagnose(options.data_dir)
    print(format_checks(checks))
    return 1 if any(check.level == "problem" for check in checks) else 0
