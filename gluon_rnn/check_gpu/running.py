"""Starts the parts one by one, each in a process of its own with a time limit, and writes what they say.

Nothing here imports MXNet. `check_gpu.json` and `check_gpu.md` are written anew after each part, and hold what a part
had found when it crashed or its time was over.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

from gluon_rnn.check_gpu import page
from gluon_rnn.check_gpu.parts import PARTS, Part, Request
from gluon_rnn.common import processes
from gluon_rnn.common.files import write_atomically
from gluon_rnn.config.run import Precision
from gluon_rnn.machine import libmxnet
from gluon_rnn.machine.environment import process_environment
from gluon_rnn.machine.hardware import Gpu, Machine, default_threads, library_versions
from gluon_rnn.sweeps.checks import LEAST_CAPABILITY

#: A part that has less is not begun. MXNet takes some six seconds to start on a GPU, two without one.
LEAST_SECONDS = 5.0
#: What a part may take, however small its share.
_ALWAYS_SECONDS = 15.0
#: How often the process of a part is looked at.
_LOOK_SECONDS = 0.05
#: After its process died a part continues with the next item, but not for ever.
_MOST_CRASHES = 5
#: What a user of MXNet has not set.
_TUNED = ("OMP_", "OPENBLAS_", "MKL_", "MXNET_", "GLIBC_TUNABLES", "LD_PRELOAD", "GOMP_", "KMP_")


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        device: ``cpu`` or ``gpu:N``.
        minutes: for all parts.
        output: folder of the two files, and of the logs.
        parts: names of those to do.
        torch: a Python that has torch; None: there is none.
        data_dir: folder to search first for corpora.
    """

    device: str
    minutes: float
    output: Path
    parts: Sequence[str] = tuple(PARTS)
    torch: str | None = None
    data_dir: Path | None = None


@dataclass
class Result:
    """What came of a part.

    Attributes:
        state: ``done``, ``out of time``, ``crashed``, ``skipped`` or ``not begun``.
        why: of any state but ``done``.
        seconds: that it took.
        limit: the seconds it had.
        planned: its items.
        items: those that have a result, in their order, with its values.
        crashes: items during which a process died, and how.
    """

    state: str = "not begun"
    why: str = ""
    seconds: float = 0.0
    limit: float = 0.0
    planned: list[str] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    crashes: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """The items that do not hold, and those that a process died of."""
        return [each["item"] for each in self.items if each.get("ok") is False] + list(self.crashes)


def check(
    options: Options,
    *,
    machine: Machine,
    library: libmxnet.Library | None = None,
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = print,
    command: Callable[[Request, Path], list[str]] | None = None,
) -> dict[str, Result]:
    """Do the parts, and write ``check_gpu.json`` and ``check_gpu.md`` after each of them.

    Args:
        options: what is asked for.
        machine: with its GPUs.
        library: MXNet's; default: the installed one.
        environ: of the user.
        say: called with the result of each part, in a line.
        command: of the process of a part, from its request and the file of its results.
    """
    library = library or libmxnet.installed(environ=environ)
    gpu = machine.gpus[int(options.device.partition(":")[2])] if options.device.startswith("gpu") else None
    began, ends = datetime.now(timezone.utc), time.monotonic() + 60 * options.minutes
    results = {name: Result() for name in PARTS if name in options.parts}
    options.output.mkdir(parents=True, exist_ok=True)
    scratch = options.output / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    for name, result in results.items():
        result.why = _lack(name, gpu, library, options)
        if result.why:
            result.state = "skipped"
    _write(options, began, machine, library, results)
    for name, result in results.items():
        if result.state == "skipped":
            continue
        result.limit = _limit(name, results, ends - time.monotonic())
        if result.limit < LEAST_SECONDS:
            result.why = f"only {max(0.0, ends - time.monotonic()):.0f} s were left; give more --minutes"
        else:
            request = Request(
                part=name,
                device="gpu" if gpu else "cpu",
                precision=PARTS[name].precision,
                seconds=result.limit,
                threads=default_threads(machine.cores, 1),
                scratch=str(scratch / name),
                torch=options.torch,
                data_dir=str(options.data_dir) if options.data_dir else None,
            )
            _do(
                request,
                result,
                options.output,
                _environment(PARTS[name], gpu, request.threads, environ),
                command or _command,
            )
        say(page.line(name, result))
        _write(options, began, machine, library, results)
    shutil.rmtree(scratch, ignore_errors=True)
    return results


def _lack(name: str, gpu: Gpu | None, library: libmxnet.Library | None, options: Options) -> str:
    """Why a part cannot be done; empty if it can."""
    if name == "machine":
        return ""
    part = PARTS[name]
    if gpu and not (library and library.code.serves(gpu.compute_capability)):
        return f"MXNet cannot run on {gpu.name}; see the part machine, and docs/gpus.md for builds that can"
    if part.precision not in get_args(Precision):
        return f"this version does not offer precision={part.precision}"
    if name == "fusion" and gpu is None:
        return "MXNet fuses operators on a GPU only"
    if part.precision != "float32" and gpu is None:
        return f"{part.precision} needs a GPU"
    needed = LEAST_CAPABILITY.get(part.precision)
    if needed and gpu and gpu.compute_capability < needed:
        return f"{part.precision} needs compute capability {libmxnet.written(needed)} or newer"
    if name == "pytorch" and options.torch is None:
        return "no Python with torch was found; name one with --torch PYTHON"
    if name == "tests" and (lack := _lack_of_tests()):
        return lack
    return ""


def _lack_of_tests() -> str:
    if not (Path(__file__).parents[2] / "tests" / "networks").is_dir():
        return "the tests are in a checkout only"
    from importlib.util import find_spec

    return "" if find_spec("pytest") else "pytest is not installed; make dev"


def _limit(name: str, results: Mapping[str, Result], left: float) -> float:
    """The seconds that a part gets of those that are `left`: what earlier ones did not need is shared by later ones."""
    names = list(results)
    to_come = [each for each in names[names.index(name) :] if results[each].state != "skipped"]
    share = left * PARTS[name].share / sum(PARTS[each].share for each in to_come)
    return min(left, max(_ALWAYS_SECONDS, share))


def _environment(part: Part, gpu: Gpu | None, threads: int, environ: Mapping[str, str]) -> dict[str, str]:
    device = f"gpu:{gpu.uuid}" if gpu else "cpu"
    extra = {"GLUON_RNN_TEST_DEVICE": "gpu" if gpu else "cpu(1)"}
    if part.environment == "worker":
        return {**process_environment(device, threads, precision=part.precision, environ=environ), **extra}
    plain = {name: value for name, value in environ.items() if not name.startswith(_TUNED)}
    if gpu is None:
        return plain
    # No more than the GPU and the libraries: a sweep adds the rest itself, and others' loops do without.
    untuned = process_environment(device, threads, environ={**plain, "GLUON_RNN_TUNING": "off"})
    names = ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "NVIDIA_TF32_OVERRIDE")
    own = {libmxnet.LIBRARY_VARIABLE: environ[libmxnet.LIBRARY_VARIABLE]} if libmxnet.own_build(environ) else {}
    return {**plain, **{name: untuned[name] for name in names if name in untuned}, **own}


def _command(request: Request, results: Path) -> list[str]:
    return processes.command("gluon_rnn.check_gpu.part", json.dumps(asdict(request)), str(results))


def _do(
    request: Request,
    result: Result,
    output: Path,
    environment: Mapping[str, str],
    command: Callable[[Request, Path], list[str]],
) -> None:
    """Run a part. If its process dies of an item, another process continues with the next one."""
    Path(request.scratch).mkdir(parents=True, exist_ok=True)
    lines, log = Path(request.scratch, "results.jsonl"), output / "logs" / f"{request.part}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    began = time.monotonic()
    while True:
        left = request.seconds - (time.monotonic() - began)
        done = tuple(each["item"] for each in result.items) + tuple(result.crashes)
        told = Request(**{**asdict(request), "done": done})
        status = _run(command(told, lines), environment, log, left)
        begun, progress = _read(lines, result)
        result.seconds = time.monotonic() - began
        if status == 0:
            result.state, result.why = "done", ""
            return
        if status is None:
            result.state = "out of time"
            result.why = f"{len(result.items)} of {len(result.planned)} were done in {result.seconds:.0f} s" + (
                f"; it was at {begun}{f' ({progress})' if progress else ''}" if begun else ""
            )
            return
        died = f"{_ended(status)}{_last_line(log)}"
        if begun is None or len(result.crashes) >= _MOST_CRASHES:
            result.state, result.why = "crashed", died
            return
        result.crashes[begun] = died


def _run(command: Sequence[str], environment: Mapping[str, str], log: Path, seconds: float) -> int | None:
    """Run a process to its end, and end it and all that it has started; None: its time was over."""
    with log.open("ab") as words:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            start_new_session=True,
        )
    ends = time.monotonic() + seconds
    try:
        while process.poll() is None and time.monotonic() < ends:
            time.sleep(_LOOK_SECONDS)
        return process.poll()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(path: Path, result: Result) -> tuple[str | None, str]:
    """Take over what a part has written; returns the item that was begun and not ended, and how far it had got."""
    planned, items, begun, progress = result.planned, [], None, ""
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            said = json.loads(line)
        except ValueError:
            continue  # the process died as it wrote
        planned = said.get("planned", planned)
        begun, progress = said.get("begun", begun), said.get("progress", progress)
        if "item" in said:
            items.append(said)
            begun, progress = None, ""
    result.planned, result.items = planned, items
    return begun if begun not in result.crashes else None, progress


def _ended(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f" ({lines[-1].strip()[:200]})" if lines else ""


def _write(
    options: Options,
    began: datetime,
    machine: Machine,
    library: libmxnet.Library | None,
    results: Mapping[str, Result],
) -> None:
    about = {
        "version": 1,
        "began": began.isoformat(timespec="seconds"),
        "device": options.device,
        "minutes": options.minutes,
        "command": " ".join(["gluon-rnn", *sys.argv[1:]]),
        "machine": asdict(machine) | {"host": None},
        "library": str(library.code) if library and library.code else None,
        "versions": library_versions(),
    }
    parts = {name: asdict(result) | {"failed": result.failed} for name, result in results.items()}
    verdict = page.verdict(results)
    content = {**about, "verdict": verdict, "parts": parts}
    write_atomically(options.output / "check_gpu.json", json.dumps(content, indent=1) + "\n")
    write_atomically(options.output / "check_gpu.md", page.write(about, verdict, results))


def find_torch(candidates: Sequence[str | None], *, gpu: bool = False, timeout_seconds: float = 60) -> str | None:
    """The first of these Pythons that has torch and, with `gpu`, whose torch can use one; None if none has."""
    has = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    uses = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    for python in dict.fromkeys(filter(None, candidates)):
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [python, "-c", uses if gpu else has], capture_output=True, timeout=timeout_seconds, check=False
            )
            if done.returncode == 0:
                return python
    return None
