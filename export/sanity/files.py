"""The files of the test: sanity.csv, and sanity.svg where matplotlib is installed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..atomic_files import atomic_file
from .result import JUDGED, SHIFTED, SanityResult

COLUMNS = ("image", "target", "method", "metric", "value", "step", "draw")
LINES = {"spearman_absolute": "|values|, Spearman", "ssim": "|values|, SSIM"}
ACROSS = 4  # methods side by side


def write_sanity(result: SanityResult, folder: Path) -> list[Path]:
    """Write the files, and replace what is there under their names; the plot is left out without matplotlib.

    Raises:
        OnnxplainError: A file cannot be written.
    """
    table = folder / "sanity.csv"
    with atomic_file(table) as path, path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_rows(result))
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return [table]
    plot = folder / "sanity.svg"
    with atomic_file(plot) as path:
        _draw(result, Figure).savefig(path, format="svg", metadata={"Date": None})
    return [table, plot]


def _rows(result: SanityResult) -> Iterator[tuple[object, ...]]:
    """One row for each image, method or yardstick, metric, step and draw."""
    for (method, metric), values in result.values.items():
        for draw, of_draw in enumerate(values.tolist(), 1):
            for step, of_step in zip(result.steps, of_draw, strict=True):
                for image, target, value in zip(result.images, result.targets, of_step, strict=True):
                    yield image, target, method, metric, value, step, draw


def _draw(result: SanityResult, figure: Any) -> Any:
    """For each method similarity against steps, with its interval, and dotted the yardstick."""
    rows = -(-len(result.methods) // ACROSS)
    page = figure(figsize=(3.2 * ACROSS, 2.4 * rows + 0.8), layout="constrained")
    axes = page.subplots(rows, ACROSS, sharex=True, sharey=True, squeeze=False).ravel()
    places = range(len(result.steps))
    names = [".".join(step.split(".")[-2:]) for step in result.steps]
    for ax, method in zip(axes, result.methods, strict=False):
        for metric, colour in zip(JUDGED, ("C0", "C1"), strict=True):
            found = [result.summary(method, metric, step) for step in places]
            yardstick = [result.summary(SHIFTED + method, metric, step).mean for step in places]
            ax.fill_between(places, [one.low for one in found], [one.high for one in found], color=colour, alpha=0.25)
            ax.plot(places, [one.mean for one in found], color=colour, marker=".", label=LINES[metric])
            ax.plot(places, yardstick, color=colour, linestyle=":", label=f"{LINES[metric]}, shifted")
        ax.set_title(f"{method}: {result.verdict(method)}", fontsize="small")
        ax.set_xticks(places, names, rotation=90, fontsize="x-small")
        ax.tick_params(axis="x", labelbottom=True)
        ax.axhline(0, color="0.7", linewidth=0.5, zorder=0)
    for ax in axes[len(result.methods) :]:
        ax.set_visible(False)
    page.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    page.suptitle(
        f"{result.run['model']}: maps of the trained model and of models whose weights are random down to a step; "
        "does the map depend on what was learnt?",
        fontsize="medium",
    )
    return page
