"""Command-line interface: ``gluon-rnn COMMAND``, one module a command.

Each of them has `add_arguments`, which describes the command to its parser, and `run`, which does it and returns the
exit status. A command's module is imported when that command is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from gluon_rnn import __version__
from gluon_rnn.cli import completion
from gluon_rnn.cli.arguments import describe
from gluon_rnn.cli.hints import unknown_argument
from gluon_rnn.cli.output import status_of_output
from gluon_rnn.cli.sweep_names import is_sweep
from gluon_rnn.common import streams
from gluon_rnn.common.errors import UserError, did_you_mean, shortage
from gluon_rnn.common.printable import quoted, warn

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

#: What others call our commands, for hints.
_OTHER_COMMANDS = {
    **dict.fromkeys(("run", "train", "fit", "grid", "start", "resume", "run-sweep"), "sweep"),
    **dict.fromkeys(("ls", "list", "show", "progress", "watch", "ps"), "status"),
    **dict.fromkeys(("clean", "remove", "rm", "delete"), "prune"),
    **dict.fromkeys(("check", "gate", "regression", "diff"), "check-regression"),
    **dict.fromkeys(("baseline", "promote-baseline"), "promote"),
    **dict.fromkeys(("plot", "html", "table"), "report"),
    **dict.fromkeys(("eval", "score", "test", "perplexity"), "evaluate"),
    **dict.fromkeys(("sample", "text", "gen"), "generate"),
    **dict.fromkeys(("info", "env", "diagnose"), "doctor"),
    **dict.fromkeys(("settings", "config", "options", "list-settings", "show-settings"), "sweep --list-settings"),
    **dict.fromkeys(("completion", "completions", "complete"), "--print-completion bash"),
    **{"help": "--help", "version": "--version"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; exit status 0, 1 when something it ran has failed, 2 when nothing could be started.

    Where output cannot be written, what a command leaves elsewhere decides its status; see also `status_of_output`.
    """
    completion.answer_shell(lambda: _parser(_Parser))
    streams.guard()
    words = sys.argv[1:] if arguments is None else [*arguments]
    try:
        if not words:
            _parser().print_help()
            return status_of_output()
        _check_command(words[0])
        options = _parser().parse_args(words)
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
        """Report an error in one line, like every other error that the user can fix."""
        raise UserError(f"{message}; see {self.prog} --help")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End after ``--help`` or ``--version``."""
        super().exit(status_of_output(status), message)


class _CommandParser(_Parser):
    """Imports its command's module and adds its arguments once there is something to parse."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, of the command's arguments; it refuses those that it does not know."""
        _add_command(self)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            raise UserError(unknown_argument(self, unknown, args))
        return found, unknown


def _add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command that `parser` is for."""
    command = importlib.import_module(f"gluon_rnn.cli.{parser.prog.split()[-1].replace('-', '_')}")
    command.add_arguments(parser)
    parser.set_defaults(run=command.run)


def _check_command(word: str) -> None:
    """Refuse a first word that is neither a command nor an option, and suggest a similar command."""
    if word in COMMANDS or word.startswith(("-h", "--h", "--v", "--p")):
        return
    if word in ("-v", "-V"):
        raise UserError(f"unknown option {quoted(word)}; did you mean --version?")
    if word.startswith("-"):
        raise UserError(f"a command goes before {quoted(word)}, such as gluon-rnn sweep; see gluon-rnn --help")
    plain = Path(word).stem.replace("_", "-").lower() if word.endswith(".py") else word.replace("_", "-").lower()
    found = plain if plain in COMMANDS else _OTHER_COMMANDS.get(plain)
    if found is None and is_sweep(Path(word)):
        found = f"sweep {word}"
    hint = f"; did you mean gluon-rnn {found}?" if found else did_you_mean(plain, COMMANDS)
    raise UserError(f"unknown command {quoted(word)}{hint or '; choose from ' + ', '.join(COMMANDS)}")


def _parser(parser_class: type[_Parser] = _CommandParser) -> argparse.ArgumentParser:
    """The parser of command lines.

    Args:
        parser_class: of commands. A plain `_Parser` knows its command's arguments before it parses any.
    """
    parser = _Parser(prog="gluon-rnn")
    examples = {
        "sweep": "a first look, in a few minutes: benchmarks/quick.yaml",
        "sweep mine.yaml --jobs 2": "a sweep of your own",
        "status --watch": "how far the sweeps in results/ are",
        "report results/quick": "its tables and plots as a page",
        "sweep --help": "more about a command",
    }
    describe(parser, "Benchmarks of recurrent language models on MXNet Gluon and GluonNLP.", examples)
    parser.add_argument("--version", action="version", version=f"gluon-rnn {__version__}")
    completion.add_argument(parser)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=parser_class)
    for name, words in COMMANDS.items():
        command = commands.add_parser(name, help=words)
        if parser_class is _Parser:
            _add_command(command)
    return parser
