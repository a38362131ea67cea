"""Ranges of numbers in sweep files and in ``--axis``: ``0..4``, ``linear(0, 0.5, 6)`` and ``log(1, 40, 5)``."""

from __future__ import annotations

import math
import re
from typing import Any

from gluon_rnn.common.errors import UserError, did_you_mean
from gluon_rnn.common.printable import quoted
from gluon_rnn.config.run import number_type

#: How a range is written, for messages.
FORMS = "FIRST..LAST, linear(FIRST, LAST, COUNT) or log(FIRST, LAST, COUNT)"
#: Of the numbers between the ends of a range: enough to tell them apart, few enough to be read in a table.
_SIGNIFICANT_DIGITS = 4

_COUNTED = re.compile(r"(.*?)\.\.+(.*)")
_SPACED = re.compile(r"([A-Za-z]\w*)\((.*?)(\)?)")


def expand(name: str, item: Any, *, most: int) -> list[Any]:
    """The values that `item` stands for on the axis `name`: the numbers of a range, or `item` itself.

    ``FIRST..LAST`` counts whole numbers, both ends included. ``linear`` and ``log`` space COUNT numbers evenly, or
    evenly in their logarithms, both ends included; the numbers between are rounded to four significant digits, and to
    whole numbers where the setting takes no others.

    Args:
        name: a setting. One that is text has no ranges.
        item: from a sweep file or the command line.
        most: numbers that a range may have.

    Raises:
        UserError: it looks like a range but is not one.
    """
    if not is_range(name, item):
        return [item]
    text = item.strip()
    try:
        if found := _COUNTED.fullmatch(text):
            return list(_counted(text, *found.groups(), most=most))
        function, arguments, closed = _SPACED.fullmatch(text).groups()  # type: ignore[union-attr]
        if not closed:
            raise UserError(f"{quoted(text)} has no closing parenthesis; put a range in quotes inside [ ] or {{ }}")
        return _spaced(text, function, arguments.split(","), whole=number_type(name) is int, most=most)
    except UserError as error:
        raise UserError(f"axis {name}: {error}") from None


def is_range(name: str, item: Any) -> bool:
    """Whether `item` looks like a range of numbers, and `name` is a setting that takes numbers."""
    if not isinstance(item, str) or number_type(name) is None:
        return False
    return any(form.fullmatch(item.strip()) for form in (_COUNTED, _SPACED))


def _counted(text: str, first: str, last: str, *, most: int) -> range:
    try:
        numbers = range(int(first), int(last) + 1)
    except ValueError:
        raise UserError(
            f"{quoted(text)} is not a range of whole numbers such as 0..4; for others use linear(FIRST, LAST, COUNT)"
        ) from None
    if not numbers:
        raise UserError(f"{quoted(text)} is empty; write {quoted(f'{last.strip()}..{first.strip()}')}")
    if numbers[-1] - numbers[0] >= most:
        raise UserError(f"{quoted(text)} has more than {most:,} values; shorten it")
    return numbers


def _spaced(text: str, function: str, arguments: list[str], *, whole: bool, most: int) -> list[Any]:
    if function not in ("linear", "log"):
        raise UserError(f"unknown range {quoted(text)}{did_you_mean(function, ('linear', 'log'))}; write {FORMS}")
    try:
        first, last, count = float(arguments[0]), float(arguments[1]), int(arguments[2])
        if len(arguments) > 3 or not (math.isfinite(first) and math.isfinite(last)):
            raise ValueError
    except (ValueError, IndexError):
        raise UserError(f"{quoted(text)} is not {function}(FIRST, LAST, COUNT), such as {function}(1, 40, 5)") from None
    if not 2 <= count <= most:
        raise UserError(f"{quoted(text)} needs a COUNT from 2 to {most:,}")
    if function == "log" and min(first, last) <= 0:
        raise UserError(f"{quoted(text)} needs numbers above 0; use linear(FIRST, LAST, COUNT) for others")
    shares = [place / (count - 1) for place in range(1, count - 1)]
    # Weighted means, since a difference or a quotient of the ends may be too large for a float.
    if function == "log":
        between = [math.exp(math.log(first) * (1 - share) + math.log(last) * share) for share in shares]
    else:
        between = [first * (1 - share) + last * share for share in shares]
    rounded = [float(round(value) if whole else f"{value:.{_SIGNIFICANT_DIGITS}g}") for value in between]
    values = [first, *rounded, last]
    if len(set(values)) < count:
        raise UserError(f"{quoted(text)} has only {len(set(values))} different values; lower COUNT or widen it")
    return values
