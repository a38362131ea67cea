"""Command-line interface: ``gluon-rnn COMMAND``, one module a command.

Each of them has `add_arguments`, which describes the command to its parser, and `run`, which does it and returns the
exit status. A command's module is imported when that command is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from gluon_rnn import __version__
from gluon_rnn.cli.output import status_of_output
from gluon_rnn.common import streams
from gluon_rnn.common.errors import UserError, shortage
from gluon_rnn.common.printable import warn

#: Every command, with its line in ``gluon-rnn --help``.
COMMANDS = {
    "sweep": "run a sweep and write tables and a report",
    "status": "show the progress of a sweep",
    "prune": "delete failed, unfinished and superseded runs",
    "check-regression": "compare results with a baseline",
    "compare": "show results side by side",
    "compare-commits": "run a sweep at two commits and compare the results",
    "promote": "make a sweep's results the baseline",
    "report": "write report.html and report.md",
    "evaluate": "score a run's model, plainly, with a neural cache or by dynamic evaluation",
    "generate": "generate text with a run's model",
    "export": "write a run's model as ONNX or for MXNet",
    "doctor": "check whether this machine will work",
    "check-gpu": "check what works on a GPU, and how fast",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; exit status 0, 1 when something it ran has failed, 2 when nothing could be started.

    Where output cannot be written, what a command leaves elsewhere decides its status; see also `status_of_output`.
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
            why = f"{why or ' '.join(str(error).split())}; see gluon-rnn doctor for a fix"
        if why is None:
            raise
        return _failed(why)


def console() -> NoReturn:
    """The ``gluon-rnn`` command."""
    sys.exit(main())


def _failed(why: str) -> int:
    warn(f"error: {why}")
    return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, as everything else that a user can fix."""
        raise UserError(f"{message}; see {self.prog} --help")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End after ``--help`` or ``--version``."""
        super().exit(status_of_output(status), message)


class _CommandParser(_Parser):
    """Imports its command's module, and takes its arguments, when it is given something to parse."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, of the command's arguments."""
        name = self.prog.split()[-1].replace("-", "_")
        command = importlib.import_module(f"gluon_rnn.cli.{name}")
        command.add_arguments(self)
        self.set_defaults(run=command.run)
        return super().parse_known_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gluon-rnn", description="Benchmarks of recurrent language models on MXNet Gluon and GluonNLP."
    )
    parser.add_argument("--version", action="version", version=f"gluon-rnn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, words in COMMANDS.items():
        commands.add_parser(name, help=words)
    return parser
