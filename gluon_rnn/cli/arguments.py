"""The types of command-line arguments; each refuses what it cannot read in words that argparse puts into its line."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.files import expand


def parse_seconds(text: str) -> float:
    """A positive, finite number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


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
    """As `parse_path`; the home of no user is refused where data are looked for, as one in GLUON_RNN_DATA is."""
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
        first: what the command takes before its options, for the message.
    """
    values: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"{option} takes KEY=VALUE, not {item!r}; {first} goes before the options")
        if key in values:
            raise UserError(f"{option} gives {key} twice; keep one of them")
        values[key] = value
    return values


def split_values(text: str) -> list[str]:
    """The values of an axis, separated by commas; those within parentheses separate none."""
    return re.split(r",(?![^()]*\))", text) if text else []
