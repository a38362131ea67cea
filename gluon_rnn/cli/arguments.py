"""The types of command-line arguments. The error of each becomes argparse's one-line message."""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import expand
from gluon_rnn.common.printable import quoted
from gluon_rnn.config.run import find_setting


def parse_seconds(text: str) -> float:
    """A positive, finite number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def parse_targets(text: str) -> tuple[float, ...]:
    """Perplexities above 1, with commas between them."""
    try:
        targets = tuple(float(part) for part in text.split(","))
    except ValueError:
        targets = ()
    if not targets or not all(1 < target < math.inf for target in targets):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a list of perplexities above 1, such as 150,120")
    return targets


def add_target(parser: argparse._ActionsContainer, text: str) -> None:
    """Add ``--target`` to the arguments of a command; `text` is its help."""
    parser.add_argument("--target", type=parse_targets, default=(), metavar="PPL[,PPL]", help=text)


def parse_words(text: str) -> str:
    """`text`, with the bytes that the locale could not decode read as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode(errors="surrogateescape")
    return text


def parse_path(text: str) -> Path:
    """A path, a leading ``~`` expanded."""
    if not text:
        raise argparse.ArgumentTypeError("'' is not a folder; '.' is the current one")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a path: it contains a null character")
    try:
        return expand(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_data_dir(text: str) -> Path:
    """As `parse_path`; an unknown ``~user`` is refused where data are looked for, like one in GLUON_RNN_DATA."""
    try:
        return parse_path(text)
    except argparse.ArgumentTypeError:
        if text.startswith("~") and "\0" not in text:
            return Path(text)
        raise


def parse_tolerance(text: str) -> float:
    """A share below 1, written as 2% or 0.02."""
    number = text.removesuffix("%")
    try:
        value = float(number) / (100 if number != text else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a tolerance; give one below 100%, such as 2% or 0.02")
    return value


def parse_floor(text: str) -> float:
    """A number of units of perplexity, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of units of perplexity, such as 0.05")
    return value


def parse_pairs(option: str, given: Sequence[str], *, first: str = "a sweep file") -> dict[str, str]:
    """The KEY=VALUE items `given` to an option, by key.

    Args:
        option: its name, for the message.
        given: the items.
        first: what the command takes before its options, for the message.
    """
    values: dict[str, str] = {}
    for place, item in enumerate(given):
        key, equals, value = item.partition("=")
        key, value = key.strip(), value.strip()
        if not equals:
            raise UserError(f"{option} takes KEY=VALUE, not {item!r}; {_pair_hint(option, given, place, first)}")
        if key in values:
            raise UserError(f"{option} gives {key} twice; keep one of them")
        values[key] = value
    return values


def _pair_hint(option: str, given: Sequence[str], place: int, first: str) -> str:
    """A hint on how to write item `place` of `given`, which has no equals sign."""
    item, before, after = given[place], given[:place], given[place + 1 :]
    if find_setting(item) and after[:1] == ["="]:
        return f"write {option} {find_setting(item)}={''.join(after[1:2]) or 'VALUE'}, without spaces"
    if item.endswith((".yaml", ".yml")):
        return f"{first} goes before the options"
    if find_setting(item) and after and "=" not in after[0]:
        return f"write {option} {find_setting(item)}={after[0]}"
    if before and "=" in before[-1]:
        several = [before[-1], *itertools.takewhile(lambda word: "=" not in word, given[place:])]
        comma = ",".join(word.strip(",") for word in several if word.strip(","))
        return f"write --axis {comma}" if option in ("--set", "--axis") else f"write {option} {comma}"
    return f"{first} goes before the options"


def split_values(text: str) -> list[str]:
    """The values of an axis, separated by commas outside parentheses."""
    return re.split(r"\s*,\s*(?![^()]*\))", text) if text else []


#: Of an example and what it does, side by side, in a line of 80 columns.
_EXAMPLE_WIDTH = 80 - len("  gluon-rnn    ")


class HelpFormatter(argparse.HelpFormatter):
    """Wraps the text of a help, but keeps its line breaks and its indented lines."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"max_help_position": 28, **options})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = (
            line if line.startswith(" ") else super(HelpFormatter, self)._fill_text(line, width, indent)
            for line in text.splitlines()
        )
        return "\n".join(lines)


def describe(parser: argparse.ArgumentParser, description: str, examples: Mapping[str, str], more: str = "") -> None:
    """Give `parser` its description and examples.

    Args:
        parser: of a command.
        description: what it does.
        examples: command lines after ``gluon-rnn``, and what each does.
        more: what else there is to say, before the examples.
    """
    parser.description = description
    parser.formatter_class = HelpFormatter
    width = max(map(len, examples))
    beside = max(width + len(what) for words, what in examples.items()) < _EXAMPLE_WIDTH
    lines = []
    for words, what in examples.items():
        lines += [f"  gluon-rnn {words:<{width}}   {what}"] if beside else [f"  gluon-rnn {words}", f"      {what}"]
    parser.epilog = "\n".join([*([more, ""] if more else []), "examples:", *lines])
