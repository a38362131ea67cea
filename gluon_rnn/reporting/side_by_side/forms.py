"""The forms of a comparison: a table for 80 columns, Markdown, JSON."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict

from gluon_rnn.common.printable import printable
from gluon_rnn.reporting.regression.changes import NAMES, Quantity, amount
from gluon_rnn.reporting.regression.verdicts import escaped, finite, markdown_row
from gluon_rnn.reporting.side_by_side.comparing import Against, Contrast, Difference, Point, Verdict
from gluon_rnn.runs.metrics import written

#: Of `as_json`; raised when a field is taken away or comes to mean something else.
SCHEMA_VERSION = 1

#: Columns of a terminal.
_WIDTH = 80
_VERDICTS: tuple[Verdict, ...] = ("better", "worse", "unchanged", "undecided")
_DIGITS: dict[Quantity, int] = {"valid_perplexity": 2, "valid_loss": 4, "tokens_per_second": 0}


def as_text(contrast: Contrast, width: int = _WIDTH) -> str:
    """Readable tables.

    Args:
        contrast: what is shown.
        width: columns; settings are folded, numbers never.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False, markup=False, emoji=False)
    for line in _folders(contrast):
        console.print(printable(line))
    for against in contrast.against:
        for title, rows in _tables(contrast, against):
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="")
            table.add_column("point", overflow="fold")
            for name in (contrast.folders[0].name, against.folder, "change"):
                table.add_column(name, justify="right", no_wrap=True)
            table.add_column("", no_wrap=True)
            for row in rows:
                table.add_row(*map(printable, row))
            console.print(table)
        for line in _notes(against):
            console.print(printable(line))
    for line in [*contrast.remarks, *_summaries(contrast)]:
        console.print(printable(line))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def as_markdown(contrast: Contrast) -> str:
    """Tables for a pull request or a page."""
    lines = [f"- {escaped(line)}" for line in _folders(contrast)] + [""]
    for against in contrast.against:
        for title, rows in _tables(contrast, against):
            head = ("point", contrast.folders[0].name, against.folder, "change", "verdict")
            lines += [f"**{escaped(title)}**", "", markdown_row(head), markdown_row(("---", *["---:"] * 3, "---"))]
            lines += [*(markdown_row(map(escaped, row)) for row in rows), ""]
        if notes := [f"- {escaped(line)}" for line in _notes(against)]:
            lines += [*notes, ""]
    return "\n".join([*lines, *(f"- {escaped(line)}" for line in (*contrast.remarks, *_summaries(contrast)))]) + "\n"


def as_json(contrast: Contrast) -> str:
    """The whole comparison for programs; infinite and unknown numbers are null.

    ``schema_version``; ``folders``, each with its ``name``, ``path``, number of ``runs``, ``commits`` and the values of
    ``ignored`` fields; ``ignored``; ``limits``; ``against``, for each further folder its ``points``, those ``missing``
    and ``new``, and mean ``changes`` by quantity; ``remarks``; ``summaries``, a line for each further folder. Points
    and differences have the attributes of `Point` and `Difference`.
    """
    content = {"schema_version": SCHEMA_VERSION, **asdict(contrast), "summaries": _summaries(contrast)}
    return json.dumps(finite(content), indent=1, allow_nan=False, default=str) + "\n"


FORMS: dict[str, Callable[[Contrast], str]] = {"text": as_text, "markdown": as_markdown, "json": as_json}


def _folders(contrast: Contrast) -> Iterator[str]:
    for folder in contrast.folders:
        made = [f"commit {', '.join(commit[:7] for commit in folder.commits)}"] * bool(folder.commits)
        ignored = [f"{name}={','.join(map(str, values))}" for name, values in folder.ignored.items()]
        runs = f"{folder.runs} run{'s' * (folder.runs != 1)}"
        yield f"{folder.name}: {folder.path} ({', '.join([runs, *made, *ignored])})"


def _tables(contrast: Contrast, against: Against) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """The title and the rows of the table for each quantity."""
    for quantity, name in NAMES.items():
        slot = "speed" if quantity == "tokens_per_second" else "loss"
        found = [(point, getattr(point, slot)) for point in against.points]
        rows: list[tuple[str, ...]] = [
            (point.label, *_figures(difference), _verdict(point, difference))
            for point, difference in found
            if difference and difference.quantity == quantity
        ]
        better = "higher" if quantity == "tokens_per_second" else "lower"
        if rows:
            yield f"{against.folder} against {contrast.folders[0].name}: {name} ({better} is better)", rows
    bare = [point for point in against.points if not point.loss and not point.speed]
    unmeasured: list[tuple[str, ...]] = [(point.label, "", "", "", point.verdict) for point in bare]
    if unmeasured:
        yield f"{against.folder} against {contrast.folders[0].name}: not measured in both", unmeasured


def _verdict(point: Point, difference: Difference) -> str:
    """The verdict on a point, shown with its loss, because only a loss can diverge."""
    return point.verdict if difference is point.loss else difference.verdict


def _figures(difference: Difference) -> tuple[str, str, str]:
    digits = _DIGITS[difference.quantity]
    return written(difference.before, digits), written(difference.after, digits), _change(difference)


def _change(difference: Difference) -> str:
    """A change such as ``-3.14 % ±0.80``, with half the width of its interval."""
    shown = amount(difference.quantity, difference.change)
    if difference.low is None or difference.high is None:
        return shown
    half = (difference.high - difference.low) / 2
    if difference.quantity == "valid_loss":
        return f"{shown} ±{written(half, 4)}"
    return f"{shown} ±{written(100 * half, 2) if half < 10 else 'over 1,000'}"


def _notes(against: Against) -> Iterator[str]:
    labels: dict[tuple[str, ...], list[str]] = {}
    for point in against.points:
        labels.setdefault(point.remarks, []).append(point.label)
    for remarks, named in labels.items():
        if remarks:
            every = len(named) == len(against.points) > 1
            yield f"{'all points' if every else '; '.join(named)}: {'; '.join(remarks)}"
    for words, others in (("not in", against.missing), ("only in", against.new)):
        if others:
            yield f"{words} {against.folder}: {'; '.join(others)}"


def _summaries(contrast: Contrast) -> list[str]:
    """One line on how each folder compares with the first."""
    lines = []
    for against in contrast.against:
        verdicts = Counter(point.verdict for point in against.points)
        counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in _VERDICTS if verdicts[verdict])
        means = [f"{NAMES[quantity]} {amount(quantity, change)}" for quantity, change in against.changes.items()]
        average = f"; on average {', '.join(means)}" if means else ""
        lines.append(f"{against.folder} against {contrast.folders[0].name}: {counts}{average}")
    return lines
