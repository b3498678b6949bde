"""How time and memory grow with tokens, layers, classes and images in a run.

    python -m benchmarks.growth [--model vit_small_patch16_224] [--document docs/performance.md]

One of the four grows, while the others stay as they are in BASE. Every point is a process of its own, those of one axis
run in turn, and medians are told. What is found is added to a file of JSON lines, axis by axis; started again, the
program goes on with the next. With a document, its table and its plots are made anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from .cost import WIDTH, write_files
from .processes import Worker, interleaved, machine, reason
from .refusing import check_models
from .results import Case, Record, Results, Section, around, number, write_between
from .ways import CPU

BEGIN = "<!-- written by benchmarks/growth.py: begin -->"
MODEL, PATCH, DEPTH = "vit_small_patch16_224", 16, 12
RUNS, BUDGET = 7, 15.0
ASKED = (("plain", "logits"), ("onnx", "gradient"), ("onnx", "relevance"))
"""Ways and what they compute."""
MEASURED = {"time": "seconds", "peak memory": "peak"}
"""What is measured, and the field of a record."""


@dataclass(frozen=True)
class Point:
    """A number on an axis, and what is run there."""

    n: int
    case: Case
    depth: int = DEPTH


@dataclass(frozen=True)
class Axis:
    """What grows.

    Attributes:
        name: What it is called.
        values: What the field of a point or its case takes.
        change: From a base point and a value to the point there.
        law: One of LAWS, which is fitted.
    """

    name: str
    values: tuple[int, ...]
    change: Callable[[Point, int], Point]
    law: str


def _of_case(name: str) -> Callable[[Point, int], Point]:
    return lambda base, value: replace(base, n=value, case=base.case.like(**{name: value}))


AXES = (
    Axis(
        "tokens",
        (224, 288, 336, 400, 448, 512, 592),
        lambda base, side: replace(base, n=(side // PATCH) ** 2, case=base.case.like(size=side)),
        "power",
    ),
    Axis("layers", (3, 6, 12, 24), lambda base, depth: replace(base, n=depth, depth=depth), "power"),
    Axis("classes", (1, 2, 5, 10, 20, 50, 100), _of_case("targets"), "line"),
    Axis("images", (1, 2, 4, 8, 16), _of_case("batch"), "line"),
)


@dataclass(frozen=True)
class Fit:
    """A law fitted to points.

    Attributes:
        value: From n to the value.
        text: The law with its constants.
        off: How far the points are from it at most, as a share of it.
    """

    value: Callable[[np.ndarray], np.ndarray]
    text: str
    off: float


def power(n: np.ndarray, values: np.ndarray) -> Fit:
    """values = c n^e, by least squares of the logarithms."""
    exponent, constant = np.polyfit(np.log(n), np.log(values), 1)
    return _fit(lambda at: np.exp(constant) * at**exponent, f"n^{exponent:.2f}", n, values)


def line(n: np.ndarray, values: np.ndarray) -> Fit:
    """values = a + b n, by least squares of the relative errors; a and b are told as shares of a + b, that of n = 1."""
    slope, start = np.polyfit(n, values, 1, w=1 / values)
    each = slope / (start + slope)
    return _fit(lambda at: start + slope * at, f"{1 - each:.2f} + {each:.2f} n", n, values)


def _fit(value: Callable[[np.ndarray], np.ndarray], text: str, n: np.ndarray, values: np.ndarray) -> Fit:
    return Fit(value, text, float(np.abs(values / value(n) - 1).max()))


CONSTANTS = 2
"""Of a law: with no more points than these, nothing is learnt from a fit."""
LAWS: Mapping[str, Callable[[np.ndarray, np.ndarray], Fit]] = {"power": power, "line": line}


@dataclass(frozen=True)
class Curve:
    """What was measured along an axis of one kind of run.

    Attributes:
        axis: Its name.
        way: A name in WAYS.
        what: What is computed.
        n: The numbers along the axis.
        values: By MEASURED the values there.
        fits: By MEASURED the law of the axis.
    """

    axis: str
    way: str
    what: str
    n: np.ndarray
    values: Mapping[str, np.ndarray]
    fits: Mapping[str, Fit]


def curves(records: Sequence[Record]) -> list[Curve]:
    """The records, which are of one machine and model, as curves with their fits."""
    found = []
    for axis in AXES:
        for way, what in ASKED:
            own = [item for item in records if (item["axis"], item["way"], item["what"]) == (axis.name, way, what)]
            own = sorted((item for item in own if "seconds" in item), key=lambda item: item["n"])
            if len(own) <= CONSTANTS:
                continue
            n = np.array([item["n"] for item in own], float)
            values = {name: np.array([item[field] for item in own], float) for name, field in MEASURED.items()}
            fits = {name: LAWS[axis.law](n, each) for name, each in values.items()}
            found.append(Curve(axis.name, way, what, n, values, fits))
    return found


def table(found: Sequence[Curve], title: str) -> Section:
    """A row for each curve."""
    heads = ["n", "from", "to", "computes"]
    for name in MEASURED:
        heads += [f"{name} at the first", "at the last", "grows as", "off by % at most"]
    rows = []
    for curve in found:
        row = [curve.axis, number(curve.n[0]), number(curve.n[-1]), curve.what]
        for name, unit in zip(MEASURED, (_milliseconds, _megabytes), strict=True):
            fit, values = curve.fits[name], curve.values[name]
            row += [unit(values[0]), unit(values[-1]), fit.text, number(100 * fit.off)]
        rows.append(row)
    return Section(title, heads, rows)


def _milliseconds(seconds: float) -> str:
    return f"{number(1000 * seconds)} ms"


def _megabytes(size: float) -> str:
    return f"{number(size / 1e6)} MB"


def measure(axis: Axis, base: Point, folder: Path) -> list[Record]:
    """What runs take at the points of an axis."""
    points = [axis.change(base, value) for value in axis.values]
    # A plain forward pass knows of no classes
    keys = [(point, *asked) for asked in ASKED for point in points if asked[0] != "plain" or point.case.targets == 1]
    with ExitStack() as stack:
        workers: dict[tuple[Point, str], Worker] = {}
        for point, way in dict.fromkeys((point, way) for point, way, _ in keys):
            place = folder / f"{point.case.size}-{point.depth}"
            if not place.exists():
                place.mkdir(parents=True)
                write_files(point.case, list(dict(ASKED)), place, point.depth)
            workers[point, way] = Worker(way, place, point.case)
            stack.callback(workers[point, way].close)
        acts = {(point, way, what): partial(workers[point, way].run, what, point.case) for point, way, what in keys}
        taken = interleaved(acts, RUNS, BUDGET)
    return [
        {"machine": base.case.machine, "model": base.case.model, "axis": axis.name, "n": point.n}
        | {"way": way, "what": what}
        | ({"skipped": reason(record["error"])} if "error" in record else record)
        for (point, way, what), record in taken.items()
    ]


def document(base: Case, found: Sequence[Curve], folder: Path) -> str:
    """The table as Markdown, with the plots, which go into ``folder``."""
    from .growth_plots import draw

    parts = [f"Measured on: {base.machine}.\n", table(found, f"{base.model}, 1 thread").markdown()]
    for axis in dict.fromkeys(curve.axis for curve in found):
        title, name = f"{base.model}: time and memory against {axis}", f"growth-{axis}.svg"
        (folder / name).write_text(draw([curve for curve in found if curve.axis == axis], title))
        parts.append(f"![{title}]({name})\n")
    return "\n".join(parts)


def main(
    model: Annotated[str, typer.Option(help="a model of timm with patches of 16")] = MODEL,
    results: Annotated[Path, typer.Option(help="where the results go")] = Path("artifacts/growth.jsonl"),
    document_: Annotated[Path | None, typer.Option("--document", help="Markdown with a place for the table")] = None,
) -> None:
    """Measure the axes that are not in the file of results, and print the table of all that are."""
    check_models([model])
    if document_ is not None:
        around(document_, BEGIN)
    console, held = Console(width=WIDTH), Results(results)
    base = Point(1, Case(machine(), model, 224, CPU, 1, 1, 1))
    point = {"machine": base.case.machine, "model": model}
    with tempfile.TemporaryDirectory() as folder:
        for axis in AXES:
            wanted = point | {"axis": axis.name}
            if not any(wanted.items() <= item.items() for item in held.records):
                with console.status(axis.name):
                    held.add(measure(axis, base, Path(folder)))
    found = curves([item for item in held.records if point.items() <= item.items()])
    table(found, model).show(console)
    if document_ is not None:
        write_between(document_, BEGIN, document(base.case, found, document_.parent))


if __name__ == "__main__":
    typer.run(main)
