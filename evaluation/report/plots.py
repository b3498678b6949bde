"""The plots of an evaluation: bars with intervals, curves, and what a method costs against what it achieves."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnxplain.evaluation.metrics.metric import Metric
from onnxplain.evaluation.results import OTHER_CLASS, YARDSTICKS
from onnxplain.evaluation.statistics import Score, Statistics

from .labels import place_labels, spread
from .style import INK, LINE, SOFT, Style, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 5.6  # of a figure, in inches
FONT = 9  # in points
LOOK: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "onnxplain",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
}
DECADES = 50  # times the least value the greatest is, where an axis is logarithmic


class Plot(NamedTuple):
    """One plot.

    Attributes:
        kind: "bars", "curve" or "cost".
        metric: The metric's name.
        title: What it shows, in one line.
        svg: The document.
    """

    kind: str
    metric: str
    title: str
    svg: str


def plots(found: Statistics, metrics: Mapping[str, Metric], costs: Mapping[str, float]) -> list[Plot]:
    """Draw what was found on all images.

    Args:
        found: The statistics.
        metrics: The metrics by name.
        costs: By method, what a map costs.

    Returns:
        For each metric bars; its curve, if it has one; and its values against the costs, if it tells how faithful maps
        are.

    Raises:
        ImportError: If there is no matplotlib.
    """
    from matplotlib import style

    looks = styles(found.methods)
    with style.context(["default", LOOK]):
        return [plot for name in found.metrics for plot in _of_metric(metrics[name], found, costs, looks)]


def _of_metric(
    metric: Metric, found: Statistics, costs: Mapping[str, float], looks: Mapping[str, Style]
) -> Iterator[Plot]:
    from .svg import as_svg

    scores = {key[2]: score for key, score in found.scores.items() if key[:2] == ("all", metric.name)}
    scores = {name: score for name, score in scores.items() if np.isfinite(score.value)}
    if not scores:
        return
    title = f"{metric.name} by method, with 95 % intervals"
    yield Plot("bars", metric.name, title, as_svg(_bars(metric, scores, looks), title))
    if metric.curve:
        title = f"{metric.name}: the mean curve of each method"
        yield Plot("curve", metric.name, title, as_svg(_curve(metric, scores, looks), title))
    if is_faithfulness(metric) and set(scores) & set(costs):
        title = f"{metric.name} against what a map costs"
        yield Plot("cost", metric.name, title, as_svg(_cost(metric, scores, costs, looks), title))


def is_faithfulness(metric: Metric) -> bool:
    """Whether the metric tells of maps, by what the model says of changed inputs, whether they say what matters."""
    return metric.copies is not None and metric.better != "neither"


def _axes(height: float, margins: tuple[float, float, float, float]) -> "tuple[Figure, Axes]":
    """A figure of that height with one plot; margins left, right, bottom, top, all in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    left, right, bottom, top = margins
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)  # which can measure text
    axes = figure.add_axes(
        (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - bottom - top) / height)
    )
    return figure, axes


def _label(metric: Metric) -> str:
    which = f" ({metric.better} is better)" if metric.better in ("higher", "lower") else ""
    return f"{metric.name}{which}"


def _is_wide(scores: Sequence[Score]) -> bool:
    """Whether an axis is to be logarithmic; never where it could not show all values and intervals."""
    shown = [value for score in scores for value in (score.low, score.value, score.high) if np.isfinite(value)]
    values = [score.value for score in scores]
    return min(shown) > 0 and max(values) > DECADES * min(values)


def _bars(metric: Metric, scores: Mapping[str, Score], looks: Mapping[str, Style]) -> "Figure":
    """The best method on top, the yardsticks at the bottom; a method's own map of another class as a diamond."""
    sign = -1 if metric.better == "lower" else 1
    methods = sorted(
        (name for name in looks if name not in YARDSTICKS and name in scores),
        key=lambda name: -sign * scores[name].value,
    )
    rows = [*methods, *(name for name in YARDSTICKS if name in scores)]
    gap = 0.5 if 0 < len(methods) < len(rows) else 0
    places = [-number - (gap if number >= len(methods) else 0) for number in range(len(rows))]
    figure, axes = _axes(0.21 * (len(rows) + 1) + 0.75, (1.85, 0.15, 0.45, 0.3))
    wide = _is_wide([scores[name] for name in rows])
    if wide:
        axes.set_xscale("log")
    for name, place in zip(rows, places, strict=True):
        score, look = scores[name], looks[name]
        if not wide:
            axes.barh(place, score.value, 0.62, color=look.colour, alpha=0.35, linewidth=0)
        if np.isfinite(score.low):
            axes.plot((score.low, score.high), (place, place), color=look.colour, linewidth=1.8)
        axes.plot(score.value, place, look.marker, color=look.colour, markersize=4.5)
        own = scores.get(OTHER_CLASS + name)
        if own is not None:
            axes.plot(own.value, place, "D", markersize=4.5, color=SOFT, fillstyle="none", markeredgewidth=0.9)
    if any(name.startswith(OTHER_CLASS) for name in scores):
        axes.plot((), (), "D", markersize=4.5, color=SOFT, fillstyle="none", label="its map for another class")
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, borderpad=0.2)
    axes.set_yticks(places, rows)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(min(places) - 0.7, 0.7)
    axes.grid(axis="x")
    axes.set_xlabel(_label(metric))
    return figure


def _curve(metric: Metric, scores: Mapping[str, Score], looks: Mapping[str, Style]) -> "Figure":
    """A line for each method, with its name at its end."""
    names = [name for name in looks if name in scores]
    height = max(3.2, 0.155 * len(names) + 0.8)
    figure, axes = _axes(height, (0.55, 2.2, 0.45, 0.12))
    ends = []
    for name in names:
        look, values = looks[name], scores[name].means
        axes.plot(metric.curve, values, color=look.colour, linewidth=1.3, linestyle=_line(look))
        ends.append(values[-1])
    axes.set_xlim(min(metric.curve), max(metric.curve))
    low, high = axes.get_ylim()
    step = (high - low) * FONT * 1.15 / 72 / (height - 0.57)
    for name, end, place in zip(names, ends, spread(ends, step, low, high), strict=True):
        look, right = looks[name], axes.get_yaxis_transform()
        axes.plot((1, 1.05), (end, place), color=look.colour, linewidth=0.6, transform=right, clip_on=False)
        axes.plot((1.06, 1.17), (place,) * 2, color=look.colour, transform=right, clip_on=False, linestyle=_line(look))
        axes.text(1.19, place, name, transform=right, verticalalignment="center_baseline")
    axes.set_ylim(low, high)
    axes.grid()
    axes.set_xlabel(metric.axis)
    axes.set_ylabel(metric.name)
    return figure


def _cost(
    metric: Metric, scores: Mapping[str, Score], costs: Mapping[str, float], looks: Mapping[str, Style]
) -> "Figure":
    """A point for each method, with its interval and its name; the yardsticks as lines across."""
    names = [name for name in looks if name in scores and name in costs]
    figure, axes = _axes(4.4, (0.6, 0.8, 0.45, 0.12))
    axes.set_xscale("log")
    if _is_wide([scores[name] for name in (*names, *YARDSTICKS) if name in scores]):
        axes.set_yscale("log")
    for name in names:
        score, look = scores[name], looks[name]
        if np.isfinite(score.low):
            axes.plot((costs[name],) * 2, (score.low, score.high), color=look.colour, linewidth=1, alpha=0.5)
        axes.plot(costs[name], score.value, look.marker, color=look.colour, markersize=5.5)
    least, most = min(costs[name] for name in names), max(costs[name] for name in names)
    axes.set_xlim(least / 1.4, most * 3)
    yardsticks = [name for name in YARDSTICKS if name in scores]
    for name in yardsticks:
        axes.axhline(scores[name].value, color=SOFT, linewidth=0.9, linestyle=_line(looks[name]))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    axes.grid()
    axes.set_xlabel("cost of a map, in runs for logits only")
    axes.set_ylabel(_label(metric))
    axes.minorticks_off()
    axes.set_xticks(_ticks(*axes.get_xlim()))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _name_lines(axes, yardsticks, [scores[name].value for name in yardsticks])
    _name_points(axes, names, [(costs[name], scores[name].value) for name in names], looks)
    return figure


def _ticks(low: float, high: float) -> list[float]:
    """Where a logarithmic axis has numbers: 1, 2, 5, 10, …, or of these the powers of ten if that is enough."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    steps = (1, 2, 5) if len(decades) <= 2 else (1,)
    ticks = [step * 10.0**decade for decade in (*decades, decades.stop) for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def _line(look: Style) -> Any:
    """The dashes, as matplotlib takes them."""
    return (0, look.dashes) if look.dashes else "-"


def _name_lines(axes: "Axes", names: list[str], values: list[float]) -> None:
    """Names of lines across, behind their right end."""
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform((axes.get_xlim()[0], value))[1]) for value in values]
    for name, place in zip(names, spread(heights, 0.045, 0, 1), strict=True):
        axes.text(1.02, place, name, color=SOFT, transform=axes.transAxes, verticalalignment="center_baseline")


def _name_points(axes: "Axes", names: list[str], points: list[tuple[float, float]], looks: Mapping[str, Style]) -> None:
    """Names beside points, with a line to those that had to move away."""
    places = axes.transData.transform(points)
    sizes = []
    for name in names:
        text = axes.text(0, 0, name)
        extent = text.get_window_extent()
        sizes.append((extent.width, extent.height))
        text.remove()
    frame = np.array(axes.get_window_extent().extents)
    back = axes.transData.inverted()
    for name, (x, y), box in zip(names, places, place_labels(places, np.array(sizes), frame), strict=True):
        left, low, right, high = box
        end = (min(max(x, left), right), (low + high) / 2)
        if np.hypot(end[0] - x, end[1] - y) > high - low:
            axes.plot(*back.transform([(x, y), end]).T, color=looks[name].colour, linewidth=0.5)
        at_x, at_y = back.transform((left, (low + high) / 2))
        axes.text(at_x, at_y, name, verticalalignment="center_baseline")
