"""The console for all output, and tables that fit it."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table


def make_console() -> Console:
    """A console on standard output that prints brackets and colons literally and folds lines only on a terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=250)


class Fitting:
    """The first of several tables that fits the console, or the last if none does.

    Args:
        tables: what is to be shown, the fullest first.
    """

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = tuple(tables)  # a display may draw them again

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See rich."""
        unbounded = options.update(max_width=10_000)
        for table in self._tables:
            chosen = table
            if console.measure(table, options=unbounded).maximum <= options.max_width:
                break
        yield chosen


def make_table(words: Iterable[str], numbers: Iterable[str], *, breaks: bool = False) -> Table:
    """A table with columns of `words`, which may fold, before columns of `numbers`, which never fold.

    Args:
        words: the headings of the first columns.
        numbers: the headings of the others.
        breaks: whether headings go over two lines.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in words:
        table.add_column(title.replace("_", "_\n", 1) if breaks else title, overflow="fold")
    for title in numbers:
        table.add_column(title.replace(" ", "\n", 1) if breaks else title, justify="right", no_wrap=True)
    return table
