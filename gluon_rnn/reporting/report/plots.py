"""Plots as inline SVG: vector shapes and real text in the page's colour; equal data give equal bytes."""

from __future__ import annotations

import html
import io
import math
import re
import statistics
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

from gluon_rnn.reporting.report.content import (
    Bars,
    Curves,
    HeatMap,
    Line,
    Lines,
    Plot,
    Scatter,
    Shares,
    Trials,
)
from gluon_rnn.runs.metrics import written

#: Drawn where the page's text colour belongs, and where that of its paper does; no other part of a plot has them.
_INK = "#010203"
_PAPER = "#fdfcfb"
#: Okabe and Ito's colours (Color Universal Design, 2008) that stand out from white and from black; their black is ink.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", _INK)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (8, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 4)), (0, (3, 5)))
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
_TITLE_CHARACTERS = 70
#: Of a plot, in inches: two stand side by side on a wide page, and one fits a phone's.
_SIZE = (5.4, 3.6)
#: Values of a setting that fit an axis.
_TICKS = 12
#: Points that can be named in a plot.
_NAMED = 14
#: How a point is drawn by its place on the Pareto front: filled, ringed or small.
_STANDING: dict[str, dict[str, Any]] = {
    "yes": {"markersize": 8},
    "undecided": {"markersize": 8, "markerfacecolor": "none", "markeredgewidth": 1.5},
    "no": {"markersize": 4, "alpha": 0.7},
}
#: Pixels by which a name may stick out on the right, where nothing is.
_BESIDE = 40
#: Marks on a curve.
_MARKS = 12
#: Entries of a legend.
_LEGEND = 16
#: Where the name of a point may stand, in points from it, nearest first, with its alignment.
_AROUND = [
    *((8, -3, "left"), (-8, -3, "right"), (0, 8, "center"), (0, -15, "center"), (8, 8, "left"), (8, -15, "left")),
    *((-8, 8, "right"), (-8, -15, "right"), (0, 20, "center"), (0, -27, "center"), (14, 20, "left"), (14, -27, "left")),
    *((-14, 20, "right"), (-14, -27, "right"), (24, 32, "left"), (24, -39, "left"), (-24, 32, "right")),
]


def to_svg(plot: Plot, prefix: str) -> str:
    """`plot` as an ``<svg>`` element; the `prefix` of its ids allows several plots on one page."""
    drawn: dict[type[Plot], Callable[[Any], Figure]]
    drawn = {
        HeatMap: _heat_map,
        Scatter: _scatter,
        Lines: _lines,
        Curves: _curves,
        Bars: _bars,
        Trials: _trials,
        Shares: _shares,
    }
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
    """`plot` as an SVG file, black on white, because an image does not inherit a page's colours."""
    return to_svg(plot, "p").replace("<svg ", '<svg style="color: #000; background: #fff" ', 1)


def _adapt(tag: str, prefix: str) -> str:
    tag = tag.replace(_INK, "currentColor").replace(_PAPER, "var(--paper, #fff)")
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
    low, high = min(known, default=0.0), min(max(known, default=0.0), _highest(known))
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


def _looks(kinds: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The colour and the marker of each of `kinds`, the same in all plots of these kinds."""
    names = sorted(set(kinds))
    return {
        name: (_COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]) for place, name in enumerate(names)
    }


def _scatter(plot: Scatter) -> Figure:
    figure, axes = _new(*_SIZE)
    looks = _looks([spot.kind for spot in plot.spots])
    front = plot.having("yes")
    axes.plot([spot.speed for spot in front], [spot.loss for spot in front], "-", color=_INK, linewidth=1, zorder=2)
    highest = _scale(axes.yaxis, [spot.loss for spot in plot.spots])
    _bars_of_ranges(axes, plot)
    for spot in plot.spots:
        colour, mark = looks[spot.kind]
        style = _STANDING[spot.front]
        axes.plot([spot.speed], [min(spot.loss, highest)], mark, color=colour, zorder=3, **style)
    _scale(axes.xaxis, [spot.speed for spot in plot.spots])
    axes.margins(0.14, 0.12)
    axes.set_xlabel("training tokens/s")
    axes.set_ylabel(plot.loss)
    axes.set_title(plot.title, fontsize=10)
    handles = [
        Line2D([], [], label=_short(kind, 30), color=colour, marker=mark, linestyle="none")
        for kind, (colour, mark) in looks.items()
    ]
    handles += [Line2D([], [], label="Pareto-optimal", color=_INK, marker="o", linestyle="-")] * bool(front)
    if plot.having("undecided"):
        ring: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "linestyle": "none"}
        handles.append(Line2D([], [], label="undecided", color=_INK, **ring))
    _legend(axes, handles, 0.18, title=f"Names: {_short(plot.key)}" * bool(plot.key))
    best = [*front, *plot.having("undecided")]
    named = [*best, *(plot.having("no") if len(plot.spots) <= _NAMED else [])][:_NAMED]
    texts = [_short(" ".join(filter(None, (spot.kind, spot.name))), 36) for spot in named]
    places = [(spot.speed, min(spot.loss, highest), spot.front == "yes") for spot in named]
    marks = [(spot.speed, min(spot.loss, highest)) for spot in plot.spots]
    _place_names(figure, axes, [(text, *place) for text, place in zip(texts, places, strict=True)], marks)
    return figure


def _place_names(
    figure: Figure, axes: Any, names: Sequence[tuple[str, float, float, bool]], marks: Sequence[tuple[float, float]]
) -> None:
    """Write each of `names` (text, x, y, whether bold) next to its point without covering other elements.

    A name for which there is no room is left out.
    """
    figure.draw_without_rendering()  # settles the scales
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    taken = [axes.transData.transform(mark) for mark in marks]
    room = axes.get_window_extent(renderer)
    boxes: list[Any] = []
    for text, x, y, bold in dict.fromkeys(names):
        for right, up, align in _AROUND:
            written_there = axes.annotate(
                text,
                (x, y),
                (right, up),
                textcoords="offset points",
                ha=align,
                fontsize=8,
                fontweight="bold" if bold else "normal",
                bbox={"facecolor": _PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
            )
            box = written_there.get_window_extent(renderer)
            covers = any(box.x0 < a < box.x1 and box.y0 < b < box.y1 for a, b in taken)
            covers = covers or box.x0 < room.x0 or box.y0 < room.y0 or box.x1 > room.x1 + _BESIDE
            if not covers and not any(box.overlaps(other) for other in boxes):
                boxes.append(box)
                break
            written_there.remove()


def _bars_of_ranges(axes: Any, plot: Scatter) -> None:
    """A cross over the range of each point's seeds; one artist for all points."""
    crosses = []
    for spot in plot.spots:
        if spot.ranges:
            slowest, fastest, lowest, highest = spot.ranges
            crosses += [[(slowest, spot.loss), (fastest, spot.loss)], [(spot.speed, lowest), (spot.speed, highest)]]
    axes.add_collection(LineCollection(crosses, colors=_FAINT, linewidths=0.8, zorder=1))


def _lines(plot: Lines) -> Figure:
    figure, axes = _new(*_SIZE)
    all_lines = (plot.whole or plot).lines
    looks = _looks([line.kind for line in all_lines])
    named = [line for line in plot.lines if line.kind]
    dashes = {name: _DASHES[n % len(_DASHES)] for n, name in enumerate(sorted({line.name for line in named}))}
    values = [value for line in all_lines for _, value, *_ in line.points]
    highest = _scale(axes.yaxis, values)
    top = math.inf if highest == max(values) else highest * 1.4
    for line in plot.lines:
        dash = dashes.get(line.name, "-") if plot.joined else "none"
        _draw_line(axes, line, looks.get(line.kind, (_FAINT, "")), dash, top, joined=plot.joined)
    _scale_of_settings(axes, sorted({x for line in all_lines for x, *_ in line.points}), plot)
    axes.margins(0.08, 0.1)
    ends = [end for line in all_lines for *_, low, high in line.points for end in (low, high) if end <= top]
    axes.update_datalim([(axes.dataLim.x0, end) for end in (min(ends), max(ends))])
    axes.autoscale_view()
    if highest < max(values):
        axes.set_ylim(top=top)
    axes.set_xlabel(plot.axis)
    axes.set_ylabel(plot.measure)
    axes.set_title(textwrap.fill(plot.title, _TITLE_CHARACTERS), fontsize=10)
    kinds = {line.kind for line in named}
    handles = [
        Line2D([], [], label=_short(kind, 30), color=colour, marker=mark, linestyle="-" if plot.joined else "none")
        for kind, (colour, mark) in looks.items()
        if kind in kinds
    ]
    if len(dashes) > 1:
        handles += [
            Line2D([], [], label=_short(name, 40), color=_INK, linestyle=dash, linewidth=1)
            for name, dash in dashes.items()
        ]
    _legend(axes, handles, 0.18)
    best = [(line, *line.points[line.best][:2]) for line in plot.lines if line.best is not None]
    names = [(_brief(y), x, y, True) for _, x, y in best if y <= highest]
    marks = [(x, y) for line in plot.lines for x, y, *_ in line.points if y <= highest]
    _place_names(figure, axes, names, marks)
    return figure


def _brief(value: float) -> str:
    return written(value, 0 if value >= 1000 else 1) if value >= 100 else f"{value:.3g}"


def _draw_line(axes: Any, line: Line, look: tuple[str, str], dash: Any, top: float, *, joined: bool) -> None:
    """Draw a line with its band, or its points; what exceeds `top` is marked there, for a line with its value."""
    colour, mark = look
    x, y, low, high = zip(*line.points, strict=True)
    faint = {} if line.kind else {"alpha": 0.5, "zorder": 1}
    marked = [place for place, value in enumerate(y) if value <= top]
    shown = [min(value, top) for value in y]
    axes.plot(
        x, shown, marker=mark, markevery=marked, linestyle=dash, color=colour, markersize=5, linewidth=1.2, **faint
    )
    if joined and line.kind and any(a < b for a, b in zip(low, high, strict=True)):
        ends = [[min(value, top) for value in values] for values in (low, high)]
        axes.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
    for place, value in enumerate(y):
        if value > top:
            axes.annotate(
                f"▲ {written(value, 0)}" if joined else "▲",
                (x[place], top),
                (4, -8),
                textcoords="offset points",
                fontsize=8,
            )
    if line.best is not None and y[line.best] <= top:
        at = (x[line.best], y[line.best])
        axes.plot(*([value] for value in at), "o", color=colour, markersize=11, markerfacecolor="none")


def _scale_of_settings(axes: Any, values: Sequence[float], plot: Lines) -> None:
    """Ticks at the values of a setting where they are few; logarithmic where each is a multiple of the last."""
    few = len(values) <= (_TICKS if plot.joined else _TICKS // 2)  # those of dots lie anywhere
    by_ratio = values[-1] >= 4 * values[0] if plot.logarithmic is None else plot.logarithmic
    if values[0] > 0 and by_ratio:
        _scale_by_ratio(axes.xaxis, values[0], values[-1])
    if few:
        axes.set_xticks(values, [f"{value:,.6g}" for value in values], fontsize=9)
    if few and len(values) > _TICKS // 2:
        axes.tick_params("x", labelrotation=30)


def _scale_by_ratio(axis: Any, low: float, high: float) -> None:
    """A logarithmic scale on `axis` from `low` to `high`, with plain numbers as labels."""
    axis._set_axes_scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_plainly))


def _plainly(value: float, _: int) -> str:
    return f"{value:,.6g}"


def _legend(axes: Any, handles: Sequence[Any], below: float, *, title: str = "") -> None:
    """A legend below the plot, with as many entries as remain readable."""
    axes.legend(
        handles=handles[:_LEGEND],
        loc="upper left",
        bbox_to_anchor=(0, -below),
        ncols=2 if len(handles) > 4 else 1,
        frameon=False,
        fontsize=9,
        handlelength=3,
        title=title or None,
        title_fontsize=9,
        alignment="left",
    )


def _curves(plot: Curves) -> Figure:
    figure, axes = _new(*_SIZE)
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
            style["markevery"] = max(1, max(map(len, curves)) // _MARKS)
            handles.append(Line2D([], [], label=_short(name), **style))
        for curve in curves:
            axes.plot(*zip(*curve, strict=True), **style)
    highest = _scale(axes.yaxis, [loss for _, loss in every])
    if highest < max(loss for _, loss in every):
        axes.set_ylim(top=highest * 1.1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(plot.loss)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, -0.14), frameon=False, fontsize=9, handlelength=4)
    return figure


def _bars(plot: Bars) -> Figure:
    figure, axes = _new(_SIZE[0], 0.6 + 0.22 * len(plot.bars))
    parts = [n for n in range(len(plot.parts)) if any(seconds[n] for _, seconds in plot.bars)]
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
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlabel("seconds")
    axes.set_title(plot.title, fontsize=10, pad=26)
    looks: list[dict[str, Any]] = [{"facecolor": _COLOURS[n * 2], "hatch": _HATCHES[n]} for n in range(3)]
    handles = [Rectangle((0, 0), 1, 1, edgecolor=_INK, linewidth=0.5, label=plot.parts[n], **looks[n]) for n in parts]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
    return figure


def _trials(plot: Trials) -> Figure:
    figure, axes = _new(*_SIZE)
    highest = _scale(axes.yaxis, [loss for _, loss in (*plot.complete, *plot.pruned)])
    kinds: dict[str, tuple[Sequence[tuple[int, float]], dict[str, Any]]] = {
        "complete": (plot.complete, {"marker": "o", "color": _COLOURS[0]}),
        "pruned": (plot.pruned, {"marker": "o", "color": _FAINT, "markerfacecolor": "none"}),
    }
    handles = []
    for name, (spots, style) in kinds.items():
        if spots:
            style |= {"linestyle": "none", "markersize": 5, "label": name}
            axes.plot([trial for trial, _ in spots], [min(loss, highest) for _, loss in spots], **style)
            handles.append(Line2D([], [], **style))
    if plot.best:
        style = {"color": _COLOURS[1], "linewidth": 1.5, "label": "best so far"}
        axes.plot(*zip(*plot.best, strict=True), drawstyle="steps-post", **style)
        handles.append(Line2D([], [], **style))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel(plot.loss)
    axes.set_title(plot.title, fontsize=10)
    _legend(axes, handles, 0.18)
    return figure


def _shares(plot: Shares) -> Figure:
    figure, axes = _new(_SIZE[0] * 0.7, 0.8 + 0.32 * len(plot.bars))
    for place, (_, share, chance) in enumerate(plot.bars):
        axes.barh(place, 100 * share, 0.6, color=_COLOURS[0] if share > chance else _FAINT, linewidth=0)
        axes.plot([100 * chance] * 2, [place - 0.42, place + 0.42], color=_INK, linewidth=1.5)
    axes.set_yticks(range(len(plot.bars)), [_short(name, 40) for name, *_ in plot.bars], fontsize=9)
    axes.set_ylim(len(plot.bars) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(plot.axis)
    axes.set_title(plot.title, fontsize=10)
    return figure


def _scale(axis: Any, values: Sequence[float]) -> float:
    """Plain numbers on `axis`, logarithmic where they range widely; returns the highest value shown.

    What is far above the rest, as after a divergence, would leave nothing to be seen of the rest.
    """
    highest = _highest(values)
    low, high = min(values), min(max(values), highest)
    if high > 5 * low > 0:
        _scale_by_ratio(axis, low, high)
    else:
        axis.set_major_locator(MaxNLocator(6))
        axis.set_major_formatter(FuncFormatter(_plainly))
    return highest


#: Larger numbers overflow when an axis leaves a margin.
_UNDRAWABLE = 1e30


def _highest(values: Sequence[float]) -> float:
    """The largest of `values` that belongs to them: an outlier is more than three times the range of the quartiles, and
    a factor of 10, above the upper quartile, as logarithms (Tukey, Exploratory Data Analysis, 1977: "far out").
    """
    values = [value for value in values if value < _UNDRAWABLE] or [*values[:1]]
    if len(values) < 4 or min(values) <= 0:
        return max(values, default=math.inf)
    first, _, third = statistics.quantiles(map(math.log10, values), n=4, method="inclusive")
    bound = third + max(3 * (third - first), 1.0)
    return max(value for value in values if math.log10(value) <= bound)


def _short(text: str, characters: int = _LABEL_CHARACTERS) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
