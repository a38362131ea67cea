"""The outputs of a comparison: a table, JSON, JUnit XML, Markdown, a failed assertion."""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from rich import box
from rich.table import Table

from gluon_rnn.common.errors import UserError
from gluon_rnn.common.printable import counted, printable
from gluon_rnn.reporting.regression.changes import SLOWER, Change, Judgement, Limits, Quantity, amount, percent
from gluon_rnn.reporting.regression.comparison import Comparison, Point, compare
from gluon_rnn.reporting.regression.significance import ALPHA, POWER
from gluon_rnn.reporting.terminal.console import Fitting
from gluon_rnn.runs.metrics import written

if TYPE_CHECKING:
    import pandas as pd

#: Of `as_json`; raised when a field is taken away or comes to mean something else.
SCHEMA_VERSION = 1

#: The exit status that a verdict is.
EXIT_STATUS = {"held": 0, "regressed": 1, "not compared": 2}

_COLUMNS = ("point", "quantity", "pairs", "baseline", "candidate", "change", "threshold", "detectable", "verdict")
_TEXT_COLUMNS = ("point", "quantity", "verdict")
#: What a narrow terminal has no room for, in the order in which it goes.
_LEAST_WANTED = ("pairs", "detectable", "threshold")
#: Of what is printed to a terminal, and of a failed assertion.
NARROW = 100
#: Of a log, which is scrolled.
_WIDE = 250
#: Characters that XML 1.0 cannot represent.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def assert_no_regression(
    baseline: Path | str | pd.DataFrame,
    candidate: Path | str | pd.DataFrame,
    *,
    perplexity: float = Limits.perplexity,
    throughput: float | None = Limits.throughput,
    floor: float = Limits.floor,
    two_sided: bool = Limits.two_sided,
    speeds: bool = Limits.speeds,
) -> None:
    """`compare` as an assertion for tests.

    Raises:
        AssertionError: the candidate regressed; its text is the table.
        UserError: nothing could be compared.
    """
    __tracebackhide__ = True
    comparison = compare(
        baseline,
        candidate,
        perplexity=perplexity,
        throughput=throughput,
        floor=floor,
        two_sided=two_sided,
        speeds=speeds,
    )
    if comparison.verdict == "not compared":
        raise UserError(comparison.reason)
    if comparison.verdict == "regressed":
        # Of an assertion pytest's summary shows the first line.
        raise AssertionError(as_text(comparison, width=NARROW))


def as_text(comparison: Comparison, *, width: int = _WIDE) -> str:
    """The verdict and what regressed, then a table of the points, those that regressed first, then notes.

    Args:
        comparison: what is shown.
        width: of a line, in columns; a log is scrolled.
    """
    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False, markup=False, emoji=False)
    first, *others = _summary(comparison)
    # Alone in its line, however long, since programs and people look for it there.
    console.print(printable(first), soft_wrap=True)
    for line in others:
        console.print(printable(f"  {line}"))
    if comparison.points:
        console.print(Fitting(_tables(comparison)))
    for note in [*_notes(comparison), *_remarks_on_points(comparison)]:
        console.print(printable(note))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _summary(comparison: Comparison) -> list[str]:
    """The verdict, then what regressed, a line each: of one thing, the line itself."""
    regressed = [
        f"{point.label}: {', '.join(point.reasons)}" for point in comparison.points if point.verdict == "regressed"
    ]
    if comparison.verdict != "regressed" or len(regressed) < 2:
        return [comparison.reason]
    return [comparison.reason.removesuffix("; ".join(["", *regressed])), *regressed]


def _tables(comparison: Comparison) -> Iterator[Table]:
    """The table of the points, narrower and narrower."""
    rows = list(_rows(comparison))
    for gone, label in ((0, 80), (0, 40), (1, 32), (2, 28), (3, 24)):
        dropped = _LEAST_WANTED[:gone]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in _COLUMNS:
            if name not in dropped:
                text = name in _TEXT_COLUMNS
                table.add_column(
                    name,
                    justify="left" if text else "right",
                    no_wrap=name != "point",
                    max_width=label if name == "point" else None,
                    overflow="fold",
                )
        for row in rows:
            cells = zip(_COLUMNS, map(printable, row), strict=True)
            table.add_row(*(cell for name, cell in cells if name not in dropped))
        yield table


def as_json(comparison: Comparison) -> str:
    """The comparison for programs; everything is there, a number that is infinite or not known as null.

    ``schema_version``; ``verdict`` and its ``reason``; ``limits``; ``alpha`` and ``power`` of the statistics;
    ``points``, a list of ``label``, ``settings`` (field to value), ``verdict``, ``reasons``, ``changes``,
    ``test_perplexity`` and ``test_accuracy`` (null, or baseline's and candidate's); ``new``, a list of labels;
    ``overall``, null or a change; ``remarks``, lines that put the comparison in doubt. A change has the attributes of
    `Change`. The verdict of a change says what was shown, those of points and of the whole what the gate makes of it. A
    ``throughput`` limit of null decides nothing.
    """
    content = {"schema_version": SCHEMA_VERSION, "alpha": ALPHA, "power": POWER, **asdict(comparison)}
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def as_junit(comparison: Comparison) -> str:
    """JUnit XML: a test case for each point; regressed ones fail, those that were not compared are skipped.

    A comparison that could not be made is an error, since a CI counts what is skipped as well.
    """
    cases: list[tuple[str, str, str]] = [
        (point.label, point.verdict, "; ".join(point.reasons)) for point in comparison.points
    ]
    if comparison.overall:
        overall = comparison.overall
        cases.append(("all points together", overall.verdict, amount(overall.quantity, overall.change)))
    if comparison.verdict == "not compared":
        cases.append(("comparison", "error", comparison.reason))
    tags = {"regressed": "failure", "not compared": "skipped", "error": "error"}
    counts = {
        name: str(sum(tags.get(verdict) == tag for _, verdict, _ in cases))
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "gluon_rnn", "tests": str(len(cases)), **counts})
    for label, verdict, reason in cases:
        case = ElementTree.SubElement(
            suite, "testcase", classname="gluon_rnn.regression", name=_NOT_XML.sub("?", label)
        )
        if verdict in tags:
            ElementTree.SubElement(case, tags[verdict], message=_NOT_XML.sub("?", reason))
    ElementTree.SubElement(suite, "system-out").text = _NOT_XML.sub("?", as_text(comparison))
    ElementTree.indent(suites)
    content: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return content.decode() + "\n"


def as_markdown(comparison: Comparison) -> str:
    """A Markdown table for a job's summary page."""
    lines = [f"**{escaped(comparison.reason)}**", ""]
    if comparison.points:
        lines += [markdown_row(_COLUMNS), markdown_row("---" if name in _TEXT_COLUMNS else "---:" for name in _COLUMNS)]
        lines += [markdown_row(map(escaped, row)) for row in _rows(comparison, reasons=True)] + [""]
    return "\n".join(lines + [escaped(note) for note in _notes(comparison)]).rstrip() + "\n"


def _rows(comparison: Comparison, *, reasons: bool = False) -> Iterator[tuple[str, ...]]:
    """The rows of a table: a verdict stands in the row of its quantity, and points that regressed come first.

    Args:
        comparison: what is shown.
        reasons: whether a point's reasons stand behind its verdict.
    """
    order = {"regressed": 0, "not compared": 1}
    for point in sorted(comparison.points, key=lambda point: order.get(point.verdict, 2)):
        rows = [(*_figures(change, comparison), _word(change)) for change in point.changes]
        # Of what failed, or was nowhere measured, there are no figures.
        if point.verdict not in ("held", *(row[-1] for row in rows)):
            rows.insert(0, ("runs", *[""] * 6, point.verdict))
        rows += [(*row, "") for row in _test_figures(point)]
        rows = rows or [("runs", *[""] * 6, point.verdict)]
        if reasons and point.reasons:
            place = next((place for place, row in enumerate(rows) if row[-1] == point.verdict), 0)
            *figures, word = rows[place]
            rows[place] = (*figures, f"{word}: {', '.join(point.reasons)}")
        for place, row in enumerate(rows):
            yield "" if place else point.label, *row
    if comparison.overall:
        yield ("all points together", *_figures(comparison.overall, comparison), _word(comparison.overall))


#: The verdicts of changes that people read as another word.
_SPOKEN = {"undecided": "inconclusive"}


def _word(change: Change) -> str:
    """The verdict in words. A point without evidence passes the gate, but is not called a success."""
    if change.improved:
        return "improved"
    return _SPOKEN.get(change.verdict, change.verdict)


def _remarks_on_points(comparison: Comparison) -> Iterator[str]:
    """Remarks on points that did not regress, one per line."""
    shared: dict[str, list[str]] = {}
    for point in comparison.points:
        if point.verdict != "regressed" and point.reasons:
            shared.setdefault(", ".join(point.reasons), []).append(point.label)
    for remark, labels in shared.items():
        yield f"{labels[0]}: {remark}" if len(labels) == 1 else f"{counted(len(labels), 'point')}: {remark}"


#: What a quantity is called in a table, and its digits after the point.
_SHOWN: dict[Quantity, tuple[str, int]] = {
    "valid_perplexity": ("valid ppl", 2),
    "valid_loss": ("valid loss", 4),
    "tokens_per_second": ("tokens/s", 0),
}


def _figures(change: Change, comparison: Comparison) -> tuple[str, ...]:
    name, digits = _SHOWN[change.quantity]
    threshold = amount(change.quantity, change.threshold)
    both_sides = comparison.limits.two_sided and change.quantity != "tokens_per_second"
    return (
        name,
        str(change.pairs),
        written(change.baseline, digits),
        written(change.candidate, digits),
        amount(change.quantity, change.change),
        threshold.replace("+", "±") if both_sides else threshold,
        amount(change.quantity, change.smallest),
    )


def _test_figures(point: Point) -> Iterator[tuple[str, ...]]:
    if point.test_perplexity and not point.test_accuracy:
        before, after = point.test_perplexity
        yield "test ppl", "", written(before, 2), written(after, 2), percent(after / before - 1), "", ""
    elif point.test_perplexity and point.test_accuracy:
        before, after = map(math.log, point.test_perplexity)
        change = f"{written(after - before, 4, sign='+')} nats"
        yield "test loss", "", written(before, 4), written(after, 4), change, "", ""
        before, after = (100 * share for share in point.test_accuracy)
        yield "test accuracy", "", f"{before:.2f} %", f"{after:.2f} %", f"{after - before:+.2f} points", "", ""


def _notes(comparison: Comparison) -> list[str]:
    notes = [*comparison.remarks, *(f"new: {label}" for label in comparison.new)]
    changes = [change for point in comparison.points for change in point.changes]
    overall = [comparison.overall] if comparison.overall else []
    timed = [
        change for change in changes if change.quantity == "tokens_per_second" and change.verdict != "not compared"
    ]
    if timed and comparison.limits.throughput is None:
        counts = Counter(change.verdict for change in timed)
        words: tuple[Judgement, ...] = ("slower", "undecided", "held")
        verdicts = ", ".join(f"{_SPOKEN.get(word, word)} at {counts[word]}" for word in words if counts[word])
        notes.append(
            f"tokens/s decides nothing unless --throughput says what it may lose; by {SLOWER:.0%}: {verdicts}."
        )
    if any(change.quantity == "tokens_per_second" and min(change.sittings or (2,)) < 2 for change in changes):
        notes.append(
            "Speeds of one session cannot tell slower code from a machine that was slow for that hour; measure seeds "
            "in two sessions or more on each side, an hour apart."
        )
    if any(change.verdict == "undecided" and not change.reason for change in (*changes, *overall)):
        notes.append(
            "Inconclusive: the repeats show neither that a change is within its threshold nor that it is beyond it. A "
            "detectable change is found 9 times in 10; more seeds make it smaller."
        )
    if any(change.p_value is None and not change.reason for change in changes):
        notes.append(
            "A single pair has no spread, so the threshold alone decides; several seeds (--axis seed=0,1,2,3,4) tell a "
            "change from chance."
        )
    return notes


def markdown_row(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """`text` as it is, in a cell of a Markdown table."""
    return re.sub(r"([\\|<>*_`\[\]])", r"\\\1", printable(" ".join(text.split())))


def finite(content: Any) -> Any:
    """`content` as JSON can have it: a number that is not finite is None."""
    if isinstance(content, dict):
        return {name: finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
