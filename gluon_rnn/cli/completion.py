"""Completion of command lines in bash, zsh and fish, by argcomplete.

A shell asks ``gluon-rnn`` itself what may follow, by running it with the variable ``_ARGCOMPLETE``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gluon_rnn.cli.sweep_names import sweep_names
from gluon_rnn.config.run import CUSTOM_CELLS, FUSED_CELLS, MODELS, RunConfig

SHELLS = ("bash", "zsh", "fish")


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--print-completion``, whose output a shell reads when it starts."""
    parser.add_argument(
        "--print-completion",
        action=_Print,
        choices=SHELLS,
        metavar="SHELL",
        help=f"print the completion for a shell ({', '.join(SHELLS)}); see the page on commands",
    )


class _Print(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: Any, option: Any = None) -> None:
        """Print the completion script and exit."""
        from argcomplete.shell_integration import shellcode

        print(shellcode(["gluon-rnn"], shell=values))
        parser.exit()


def answer_shell(make_parser: Callable[[], argparse.ArgumentParser]) -> None:
    """If a shell asks for completions, print them and end this process; otherwise do nothing."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    parser = make_parser()
    for action in _actions(parser):
        if action.metavar == "SWEEP.yaml":
            action.completer = _complete_sweep  # type: ignore[attr-defined]
        elif "--set" in action.option_strings or "--axis" in action.option_strings:
            action.completer = complete_setting  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from command._actions


def complete_setting(prefix: str, **_: object) -> list[str]:
    """Completions for ``--set`` and ``--axis``: the name of a setting, or one of its values.

    Args:
        prefix: what has been typed, such as ``ce`` or ``cell=lstm,g``.
    """
    name, equals, typed = prefix.partition("=")
    if not equals:
        return [f"{name}=" for name in RunConfig.model_fields]
    before = typed.rpartition(",")[0]
    return [f"{name}={before + ',' if before else ''}{value}" for value in _values(name)]


def _values(name: str) -> Sequence[str]:
    """The values of a setting, if they are few."""
    known = {"cell": (*FUSED_CELLS, *CUSTOM_CELLS), "model": tuple(MODELS), "device": ("auto", "cpu", "gpu")}
    field = RunConfig.model_json_schema()["properties"].get(name, {})
    return known.get(name) or field.get("enum") or (("true", "false") if field.get("type") == "boolean" else ())


def _complete_sweep(prefix: str, **_: object) -> list[str]:
    from argcomplete.completers import FilesCompleter

    return [*sweep_names(), *FilesCompleter(("yaml", "yml"))(prefix)]
