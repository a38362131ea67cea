"""Renders a document as HTML and Markdown. All text from results is escaped here, and only here."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from itertools import count
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gluon_rnn.reporting.report.content import Document, HeatMap, Plot, Section, Table, shown

#: What GitHub's Markdown reads as more than text inside a line or a table's cell: an underscore within a word is none,
#: a colon is where it makes a link of an address.
_MARKUP = re.compile(r"[\\`*\[\]|~$@]|\b_\B|\B_\b|:(?=//)")


def to_html(document: Document) -> str:
    """One HTML file that loads nothing: style, script and plots are inline, and its policy forbids the rest."""
    from gluon_rnn.reporting.report.plots import to_svg

    numbers = count(1)

    def draw(plot: Plot) -> Markup:
        # Of this suite's own making; its text is escaped by matplotlib.
        return Markup(to_svg(plot, f"p{next(numbers)}"))

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    script = _read("report.js")
    return environment.from_string(_read("report.html")).render(
        document=document,
        sections=_anchored(document.sections),
        is_map=lambda plot: isinstance(plot, HeatMap),
        cell=shown,
        breakable=_breakable,
        raw=_raw,
        draw=draw,
        style=Markup(_read("report.css")),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _anchored(sections: Sequence[Section]) -> list[tuple[str, Section]]:
    """Each of `sections` with an anchor of its own, made of letters, digits and ``-``."""
    seen: Counter[str] = Counter()
    anchored = []
    for section in sections:
        name = "s-" + (_slug(section.heading) or "section")
        seen[name] += 1
        anchored.append((f"{name}-{seen[name]}" if seen[name] > 1 else name, section))
    return anchored


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _breakable(heading: str) -> Markup:
    """`heading` with a possible line break after each underscore, since narrow columns have long names."""
    return Markup("_<wbr>").join(heading.split("_"))


def _raw(value: Any) -> str:
    """The number to sort a cell by; empty where it is none."""
    return "" if isinstance(value, str | bool) or value is None or math.isnan(value) else repr(value)


def to_pictures(document: Document) -> dict[str, str]:
    """Every plot as an SVG file, by file name, in the document's order."""
    from gluon_rnn.reporting.report.plots import to_picture

    plots = [(section, plot) for section in document.sections for plot in section.plots]
    seen: Counter[str] = Counter()
    pictures = {}
    for section, plot in plots:
        # "Tokens/s" is there for each pair of axes.
        words = section.heading if len(section.plots) == 1 else f"{section.heading} {plot.title}"
        name = _slug(words)
        seen[name] += 1
        again = f"-{seen[name]}" * (seen[name] > 1)
        pictures[f"{name}{again}.svg"] = to_picture(plot)
    return pictures


def to_markdown(document: Document, pictures: Sequence[str] = ()) -> str:
    """The document as GitHub's Markdown.

    Args:
        pictures: the addresses of the document's plots, in its order, to be shown; none: they are in the page alone.
    """
    lines = [
        f"# {_escaped(document.title)}",
        "",
        _escaped(document.summary),
        "The same as a page, with tables that sort, is `report.html` beside this file."
        if pictures
        else "Plots are in `report.html` beside this file.",
        "",
    ]
    addresses = iter(pictures)
    for section in document.sections:
        lines += [f"{'#' * section.level} {_escaped(section.heading)}", ""]
        lines += [f"- **{_escaped(title)}:** {_escaped(text)}" for title, text in section.choices]
        lines += [""] * bool(section.choices)
        for note in section.notes:
            lines += [_escaped(note), ""]
        for plot, address in zip(section.plots, addresses, strict=False):
            lines += [f"![{_escaped(plot.title)}]({address})", ""]
        for table in section.tables:
            rows = [*markdown_table(table), ""]
            if section.folded:
                rows = ["<details><summary>Show the table</summary>", "", *rows, "</details>", ""]
            lines += rows
        for title, text in section.logs:
            lines += [
                f"<details><summary>{html.escape(title)}</summary>",
                "",
                f"<pre>{html.escape(text)}</pre>",
                "",
                "</details>",
                "",
            ]
    return "\n".join(lines).rstrip("\n") + "\n"


def markdown_table(table: Table) -> list[str]:
    """The Markdown lines of `table`, with numbers aligned to the right."""

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    return [
        line([_escaped(column.name) for column in table.columns]),
        line(["---" if column.digits is None else "---:" for column in table.columns]),
        *(line([_escaped(shown(v, c)) for v, c in zip(row, table.columns, strict=True)]) for row in table.rows),
    ]


def _escaped(text: str) -> str:
    """`text` escaped for one line of Markdown."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", html.escape(" ".join(text.split()), quote=False))
