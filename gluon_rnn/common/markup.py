"""HTML of this package's objects for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(rows: Iterable[Sequence[object]], *, head: Sequence[str] = (), caption: str = "") -> str:
    """A table of `rows`, all of it text: numbers are formatted before, and nothing in it is read as HTML."""

    def line(cells: Sequence[object], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(str(cell))}</{tag}>' for cell in cells)}</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    # Else it is as narrow as the table.
    title = f'<caption style="white-space: nowrap; text-align: left">{escape(caption)}</caption>' if caption else ""
    return f"<table>{title}{top}<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"
