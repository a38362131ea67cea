"""``gluon-rnn check-gpu``: what works on a GPU, and how fast."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from gluon_rnn.check_gpu import page, running
from gluon_rnn.check_gpu.parts import PARTS
from gluon_rnn.cli.arguments import describe, parse_data_dir, parse_path
from gluon_rnn.cli.output import say, status_of_output, stopped_by_signals
from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.printable import quoted
from gluon_rnn.machine.hardware import Machine, describe_machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Check what works on a GPU and measure how fast it is: agreement with the CPU, reproducibility, tests, the "
        "time and memory of a training step beside other implementations. Each part runs in its own process; "
        "check_gpu.md and check_gpu.json are written after each.",
        {
            "check-gpu": "the first GPU, in four minutes",
            "check-gpu --device gpu:1 --minutes 20": "the second, more closely",
        },
    )
    parser.add_argument(
        "--minutes", type=_minutes, default=4.0, metavar="N", help="time for all parts (default: 4); more is better"
    )
    parser.add_argument(
        "--output",
        type=parse_path,
        default=Path("results/check_gpu"),
        metavar="DIR",
        help="folder for check_gpu.md, check_gpu.json and logs (default: results/check_gpu)",
    )
    parser.add_argument(
        "--device",
        default="gpu",
        metavar="DEVICE",
        help="gpu (the first), gpu:N, or cpu for what a CPU can do (default: gpu)",
    )
    parser.add_argument(
        "--parts", metavar="P1,P2", help=f"only these (most important first): {', '.join(PARTS)} (default: all)"
    )
    parser.add_argument(
        "--torch",
        metavar="PYTHON",
        help="a Python that has PyTorch, to compare with (default: this one or python3)",
    )
    parser.add_argument(
        "--data-dir",
        type=parse_data_dir,
        metavar="DIR",
        help="folder to search first for WikiText-2 (default: $GLUON_RNN_DATA)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    machine = describe_machine()
    chosen = running.Options(
        device=_device(options.device, machine),
        minutes=options.minutes,
        output=options.output,
        parts=_parts(options.parts),
        torch=_torch(options.torch, options.device != "cpu"),
        data_dir=options.data_dir,
    )
    with stopped_by_signals():
        results = running.check(chosen, machine=machine, say=say)
    verdict = page.verdict(results)
    say(verdict["text"])
    say(f"see {options.output / 'check_gpu.md'}")
    return status_of_output(0 if verdict["ok"] else 1)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return value


def _device(name: str, machine: Machine) -> str:
    if name == "cpu":
        return name
    match = re.fullmatch(r"gpu(?::(\d{1,4}))?", name)
    if match is None:
        raise UserError(f"--device {quoted(name)} is not cpu, gpu or gpu:N")
    number = int(match[1] or 0)
    if not machine.gpus:
        raise UserError("--device gpu: the driver shows no GPU; see gluon-rnn doctor, or use --device cpu")
    if number >= len(machine.gpus):
        raise UserError(f"--device {name} is not there: this machine shows gpu:0 to gpu:{len(machine.gpus) - 1}")
    return f"gpu:{number}"


def _parts(given: str | None) -> tuple[str, ...]:
    if given is None:
        return tuple(PARTS)
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in PARTS:
            hint = did_you_mean(name, PARTS) or f"; there are {', '.join(PARTS)}"
            raise UserError(f"--parts: {quoted(name)} is not a part{hint}")
    return tuple(names)


def _torch(given: str | None, gpu: bool) -> str | None:
    found = running.find_torch([given] if given else [sys.executable, "python3"], gpu=gpu)
    if given and found is None:
        raise UserError(f"--torch {given} is not a Python that has torch" + (" for this GPU" if gpu else ""))
    return found
