"""What an evaluation found, as tables for the terminal."""

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from statistics import mean
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from onnxplain.commands.display import table
from onnxplain.evaluation.report.numbers import ARROWS, NONE, SIGNS, cost_text, formatter, half_width
from onnxplain.evaluation.results import OTHER_CLASS

if TYPE_CHECKING:
    from onnxplain.evaluation.metrics.metric import Metric
    from onnxplain.evaluation.statistics import Statistics, Subset

TITLES: dict["Subset", str] = {"all": "all images", "right": "rightly classified images"}
TOP = "*"
OTHER = "other_class, mean"  # the row of all methods' maps of another class
GAP = 2  # letters between columns
NOTE = (
    "±: half of the 95 % interval, by bootstrap over images. cost: of a map, in runs for logits only.\n"
    f"{TOP}: the best method, or one that cannot be told from it. {SIGNS['cannot be told']}: cannot be told from, "
    f"{SIGNS['worse']}: worse than a random map (r), a constant map (c), a centred Gaussian (g), its own map for "
    "another class (o).\nMethods are compared on the same images; two can be told apart if the 95 % interval of their "
    "difference does not hold 0."
)
REASONS = {
    "mask": "no image has a mask or box of its class",
    "other": "no map of these methods depends on the class",
    "maps": "these methods run the model many times for each map",
}
"""Why a metric has no values, by what it needs."""


def evaluation_tables(
    found: "Statistics", metrics: Mapping[str, "Metric"], costs: Mapping[str, float], width: int
) -> Iterator[Table | Text]:
    """For each subset of the images a table, or several where not all metrics fit beside each other.

    Args:
        found: The statistics.
        metrics: The metrics by name.
        costs: By method, what a map costs, in runs for logits only.
        width: How many letters fit on a line.

    Yields:
        Tables with methods and then yardsticks as rows, metrics as columns; a title alone for a subset without images;
        and what the marks mean.
    """
    if not found.metrics:
        return
    names = _rows(found)
    costs_shown = [cost_text(costs.get(name)) for name in names]
    room = width - _width("method", names) - _width("cost", costs_shown)
    for subset, images in found.images.items():
        title = Text(f"\n{TITLES[subset]} ({images})", "bold", justify="left")
        if not images:
            yield title
            continue
        columns = {name: _column(found, subset, name) for name in found.metrics}
        heads = {name: f"{name} {ARROWS[metrics[name].better]}".rstrip() for name in columns}
        widths = {name: _width(heads[name], (cell.plain for cell in cells)) for name, cells in columns.items()}
        for group in _groups(widths, room):
            result = table("method", "cost", *(heads[name] for name in group), right=("cost",), whole=("method",))
            result.title = title
            for number, (name, cost) in enumerate(zip(names, costs_shown, strict=True), 1):
                style = "" if name in found.methods else "dim"
                result.add_row(name, cost, *(columns[metric][number - 1] for metric in group), style=style)
                if number == len(found.methods):
                    result.add_section()
            yield result
    yield Text(NOTE, "dim")


def not_measured(found: "Statistics", asked: Iterable[str], metrics: Mapping[str, "Metric"]) -> Iterator[str]:
    """For the metrics that were asked for and have no values, the names and why, one line for each reason."""
    lines: dict[str, list[str]] = {}
    for name in asked:
        if name not in found.metrics:
            row = metrics[name]
            only = f"for {', '.join(row.only)} alone" if row.only else "they do not apply to these images"
            lines.setdefault(next((REASONS[need] for need in REASONS if need in row.needs), only), []).append(name)
    for reason, names in lines.items():
        yield f"not measured: {', '.join(names)} ({reason})"


def _rows(found: "Statistics") -> list[str]:
    """The methods, the yardsticks, and one for all maps of another class."""
    own = [OTHER] if any(name.startswith(OTHER_CLASS) for name in found.yardsticks) else []
    return [*found.methods, *(name for name in found.yardsticks if not name.startswith(OTHER_CLASS)), *own]


def _column(found: "Statistics", subset: "Subset", metric: str) -> list[Text]:
    """A metric's values of all rows, with their marks."""
    of_metric = {name: score for (*place, name), score in found.scores.items() if place == [subset, metric]}
    write = formatter(of_metric.values())
    others = [score.value for name, score in of_metric.items() if name.startswith(OTHER_CLASS)]
    values = {name: write(score.value) for name, score in of_metric.items()}
    values[OTHER] = write(mean(others)) if others else NONE
    longest = max(map(len, values.values()))
    cells = []
    for name in _rows(found):
        score = of_metric.get(name)
        top = score is not None and name in found.methods and found.is_top(subset, metric, name)
        half = f" ±{write(half_width(score))}" if score and isfinite(half_width(score)) else ""
        value = values.get(name, NONE).rjust(longest)
        cell = Text.assemble((value, "bold" if top else ""), (half, "dim"), TOP if top else "")
        verdicts = found.verdicts(subset, metric, name)
        for verdict, mark in SIGNS.items():
            letters = "".join(yardstick[0] for yardstick, told in verdicts.items() if told == verdict)
            cell.append(f" {mark}{letters}" if letters else "", "yellow")
        cells.append(cell)
    return cells


def _groups(widths: Mapping[str, int], room: int) -> list[list[str]]:
    """The columns in order, as many together as fit; at least one."""
    groups: list[list[str]] = []
    for name, width in widths.items():
        if not groups or sum(widths[other] for other in groups[-1]) + width > room:
            groups.append([])
        groups[-1].append(name)
    return groups


def _width(head: str, cells: Iterable[str]) -> int:
    return max(map(len, (*head.splitlines(), *cells))) + GAP
