"""Plots as inline SVG: vector shapes and real text that takes the page's colour, the same bytes for the same data."""

from __future__ import annotations

import html
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from gluon_rnn.reporting.report.imported import matplotlib

# isort: split
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from gluon_rnn.reporting.report.content import Bars, Curves, HeatMap, Plot, Scatter

#: Drawn where the page's text colour belongs; no other part of a plot has it.
_INK = "#010203"
#: Okabe and Ito's colours (Color Universal Design, 2008) that stand out from white and from black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", "-.", ":")
_HATCHES = ("", "////", "xxxx")
_FAINT = "#888888"
_SETTINGS = {
    "svg.hashsalt": "gluon_rnn",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it: plots are measured with it everywhere
    "font.size": 10,
    "hatch.linewidth": 0.6,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}
_LABEL_CHARACTERS = 60
#: Points beside the Pareto front whose numbers can still be told apart.
_NUMBERED = 12


def to_svg(plot: Plot, prefix: str) -> str:
    """`plot` as an ``<svg>`` element, whose ids begin with `prefix` so that several fit one page."""
    drawn: dict[type[Plot], Callable[[Any], Figure]]
    drawn = {HeatMap: _heat_map, Scatter: _scatter, Curves: _curves, Bars: _bars}
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A name may hold characters that matplotlib's fonts lack; the reader's have them.
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the bytes
        matplotlib.rcParams.update(_SETTINGS)
        text = io.StringIO()
        blank = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawn[type(plot)](plot).savefig(
            text, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.05, metadata=blank
        )
    svg = text.getvalue()
    svg = re.sub(r"<[^>]*>", lambda tag: _adapt(tag[0], prefix), svg[svg.index("<svg") :])
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(plot.title)}" ', 1)


def to_picture(plot: Plot) -> str:
    """`plot` as an SVG file of its own, black on white: a page that shows it as an image lends it no colours."""
    return to_svg(plot, "p").replace("<svg ", '<svg style="color: #000; background: #fff" ', 1)


def _adapt(tag: str, prefix: str) -> str:
    tag = tag.replace(_INK, "currentColor")
    return re.sub(r"""(\bid="|url\(#|href="#)""", rf"\g<1>{prefix}-", tag)


def _new(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _heat_map(plot: HeatMap) -> Figure:
    columns, rows = len(plot.column_values), len(plot.row_values)
    figure, axes = _new(0.85 * columns, 0.42 * rows)
    known = [value for value, _ in plot.cells.values() if value is not None and value < float("inf")]
    low, high = min(known, default=0.0), max(known, default=0.0)
    by_ratio = Normalize(low, high) if low <= 0 else LogNorm(low, high)
    colours = matplotlib.colormaps["Blues"]
    for row in range(rows):
        for column in range(columns):
            value, text = plot.cells.get((row, column), (None, "-"))
            box: dict[str, Any] = {"facecolor": "none", "edgecolor": _FAINT, "linewidth": 0.5}
            ink = _INK
            if value is not None:
                share = float(by_ratio(min(value, high))) if high > low else 0.5
                darkness = 1 - share if plot.lower_is_better else share
                box["facecolor"] = colours(0.1 + 0.8 * darkness)
                ink = "white" if darkness > 0.5 else "black"
            axes.add_patch(Rectangle((column, row), 1, 1, **box))
            # Two lines of words: "worse than unigram".
            text = textwrap.fill(_short(text, 26), 14)
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=9)
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.set_xticks([n + 0.5 for n in range(columns)], [_short(value, 16) for value in plot.column_values])
    axes.set_yticks([n + 0.5 for n in range(rows)], [_short(value, 24) for value in plot.row_values])
    if max(map(len, plot.column_values)) > 9:
        axes.tick_params("x", labelrotation=30)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(plot.column_name)
    axes.set_ylabel(plot.row_name)
    axes.set_title(plot.title, fontsize=10)
    return figure


def _scatter(plot: Scatter) -> Figure:
    figure, axes = _new(5.0, 3.2)
    front = {number for _, _, number, _ in (*plot.front, *plot.undecided)}
    others = [point for point in plot.points if point[2] not in front]
    spots = [(speed, loss) for speed, loss, _ in others]
    if spots:
        axes.plot(*zip(*spots, strict=True), "o", color=_FAINT, markerfacecolor="none", linestyle="none")
    for speed, loss, number in others if len(others) <= _NUMBERED else ():
        axes.annotate(str(number), (speed, loss), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.plot(
        [speed for speed, *_ in plot.front], [loss for _, loss, *_ in plot.front], "D-", color=_COLOURS[1], markersize=7
    )
    axes.plot(
        *([spot[axis] for spot in plot.undecided] for axis in (0, 1)),
        "D",
        color=_COLOURS[1],
        markerfacecolor="none",
        markersize=7,
    )
    _bars_of_ranges(axes, plot)
    for speed, loss, number, _ in (*plot.front, *plot.undecided):
        axes.annotate(str(number), (speed, loss), (6, -12), textcoords="offset points", fontweight="bold")
    _scale(axes.yaxis, [loss for _, loss, _ in plot.points])
    _scale(axes.xaxis, [speed for speed, *_ in plot.points])
    axes.margins(0.08, 0.1)
    axes.set_xlabel("training tokens/s")
    axes.set_ylabel(plot.loss)
    axes.set_title(plot.title, fontsize=10)
    named = [("Pareto front:", plot.front), ("On the front or undecided (open):", plot.undecided)]
    lines = [line for title, spots in named if spots for line in (title, *_names(spots))]
    axes.annotate("\n".join(lines), (0, 0), (0, -42), "axes fraction", "offset points", va="top", fontsize=9)
    return figure


def _bars_of_ranges(axes: Any, plot: Scatter) -> None:
    """A cross over the range of each point's seeds; one artist, however many they are."""
    crosses = []
    for speed, loss, number in plot.points:
        if number in plot.ranges:
            slowest, fastest, lowest, highest = plot.ranges[number]
            crosses += [[(slowest, loss), (fastest, loss)], [(speed, lowest), (speed, highest)]]
    axes.add_collection(LineCollection(crosses, colors=_FAINT, linewidths=0.8, zorder=1))


def _names(spots: Sequence[tuple[float, float, int, str]]) -> list[str]:
    """A line for each of the first few."""
    lines = [f"{number}  {_short(name)}" for _, _, number, name in spots[:_NUMBERED]]
    return lines + [f"and {len(spots) - _NUMBERED} more"] * (len(spots) > _NUMBERED)


def _curves(plot: Curves) -> Figure:
    figure, axes = _new(5.0, 3.3)
    handles = []
    every = [point for _, curves in plot.lines for curve in curves for point in curve]
    for number, (name, curves) in enumerate(plot.lines):
        style: dict[str, Any] = {"color": _FAINT, "linewidth": 0.7, "alpha": 0.5, "zorder": 1}
        if name:
            style = {
                "color": _COLOURS[number % len(_COLOURS)],
                "marker": _MARKERS[number % len(_MARKERS)],
                "linestyle": _DASHES[number % len(_DASHES)],
                "markersize": 4,
                "linewidth": 1.2,
            }
            handles.append(Line2D([], [], label=_short(name), **style))
        for curve in curves:
            axes.plot(*zip(*curve, strict=True), **style)
    _scale(axes.yaxis, [loss for _, loss in every])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(plot.loss)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.14), frameon=False, fontsize=9, handlelength=4)
    return figure


def _bars(plot: Bars) -> Figure:
    figure, axes = _new(5.0, 0.6 + 0.22 * len(plot.bars))
    for place, (_, seconds) in enumerate(plot.bars):
        left = 0.0
        for part, width in enumerate(seconds):
            axes.barh(
                place, width, 0.7, left, color=_COLOURS[part * 2], hatch=_HATCHES[part], edgecolor=_INK, linewidth=0.5
            )
            left += width
    axes.set_yticks(range(len(plot.bars)), [name for name, _ in plot.bars], fontsize=8)
    axes.set_ylim(len(plot.bars) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("seconds")
    axes.set_title(plot.title, fontsize=10, pad=20)
    handles = [
        Rectangle((0, 0), 1, 1, facecolor=_COLOURS[n * 2], hatch=_HATCHES[n], edgecolor=_INK, linewidth=0.5, label=part)
        for n, part in enumerate(plot.parts)
    ]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
    return figure


def _scale(axis: Any, values: list[float]) -> None:
    """Plain figures on `axis`; a logarithm where they range widely, as after a divergence."""
    if max(values) > 5 * min(values) > 0:
        axis._set_axes_scale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _short(text: str, characters: int = _LABEL_CHARACTERS) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
