"""The plots of benchmarks/growth.py: time and memory side by side, points and the law that was fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from onnxplain.evaluation.report.plots import LOOK
from onnxplain.evaluation.report.style import COLOURS, MARKERS
from onnxplain.evaluation.report.svg import as_svg

from .growth import AXES, MEASURED, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#767676"
"""Of text and lines: it has the same contrast, 4.5 to 1, with white and with black, and nothing is behind the plots."""
GREYS = {name: GREY for name in LOOK if name.endswith("color") and "face" not in name} | {"grid.alpha": 0.3}
WIDTH, HEIGHT = 8.4, 3.1
UNITS = {"time": (1000, "ms"), "peak memory": (1e-6, "MB")}
"""By MEASURED, the factor and the name of the unit of the plots."""


def draw(curves: Sequence[Curve], title: str) -> str:
    """The curves of one axis as an SVG document, which is readable on white and on black."""
    with style.context(["default", LOOK, GREYS]):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(MEASURED)), MEASURED, strict=True):
            _panel(axes, name, curves)
        return as_svg(figure, title)


def _panel(axes: Axes, name: str, curves: Sequence[Curve]) -> None:
    factor, unit = UNITS[name]
    axis = next(axis for axis in AXES if axis.name == curves[0].axis)
    for curve, colour, marker in zip(curves, COLOURS, MARKERS, strict=False):
        fit, ends = curve.fits[name], curve.n[[0, -1]]  # each law is straight on its axes
        label = f"{curve.what}: {fit.text}"
        axes.plot(curve.n, factor * curve.values[name], marker, color=colour, markersize=4.5, label=label)
        axes.plot(ends, factor * fit.value(ends), color=colour, linewidth=1)
    if axis.law == "power":
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(curves[0].n, [f"{n:g}" for n in curves[0].n])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
    else:
        axes.set_ylim(bottom=0)
    axes.grid()
    axes.set_xlabel(axis.name)
    axes.set_ylabel(f"{name}, {unit}")
    axes.legend(frameon=False, loc="best")
