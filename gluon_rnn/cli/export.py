"""``gluon-rnn export``: write a run's model as ONNX or for MXNet."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from gluon_rnn.cli.arguments import describe, parse_path
from gluon_rnn.cli.output import say, status_of_output, stopped_by_signals
from gluon_rnn.machine.mxnet_process import ask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of the command to its `parser`."""
    describe(
        parser,
        "Write the model of a run, with the parameters of its best epoch, so that other programs can load it, and "
        "check that it computes the same. Only the run's directory is needed. ONNX needs the packages of "
        "gluon_rnn[export].",
        {
            "export results/quick/runs/RUN_ID": "model.onnx, in the folder export of the run",
            "export results/quick/runs/RUN_ID --format mxnet --output model": "for SymbolBlock.imports",
        },
    )
    parser.add_argument(
        "directory", type=parse_path, metavar="RUN", help="a run's directory, such as results/quick/runs/RUN_ID"
    )
    parser.add_argument(
        "--format",
        choices=("onnx", "mxnet"),
        default="onnx",
        help="onnx: model.onnx; mxnet: model-symbol.json and model-0000.params for SymbolBlock.imports (default: onnx)",
    )
    parser.add_argument("--output", type=parse_path, metavar="DIR", help="folder for the files (default: RUN/export)")


@stopped_by_signals()
def run(options: argparse.Namespace, *, ask: Callable[..., dict[str, Any]] = ask) -> int:
    """Run the command; returns the exit status.

    Args:
        options: the command line.
        ask: has MXNet's process answer a request.
    """
    request = {"run": str(options.directory), "format": options.format}
    if options.output:
        request["output"] = str(options.output)
    answer = ask("gluon_rnn.trained.export", request, subject=options.directory, threads=1)
    for path in answer["files"]:
        say(path)
    say(f"inputs: {', '.join(answer['inputs'])}")
    say(f"outputs: {', '.join(answer['outputs'])}")
    say(f"largest difference from the run's own outputs: {answer['difference']:.2g}")
    return status_of_output()
