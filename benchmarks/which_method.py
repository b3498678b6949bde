"""Which method's maps to believe, on the demo: fills the table of docs/which-method.md.

    python -m benchmarks.which_method [--scenes 500] [--jobs 2]

It is what `onnxplain evaluate artifacts/demo.onnx demo --methods all` measures; what the folder `report` has of that is
not computed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from onnxplain.commands.evaluation_tables import evaluation_tables
from onnxplain.evaluation import METRICS, evaluate, open_data, summarize
from onnxplain.runtime import Explainer, available_methods

DOCUMENT = Path("docs/which-method.md")
BEGIN, END = "<!-- written by benchmarks/which_method.py: begin -->", "<!-- end -->"
WIDE = 10_000
"""Letters on a line: all metrics fit beside each other."""


def markdown(table: Table) -> Iterator[str]:
    """The lines of a table in Markdown, names of methods as code."""
    rows = list(zip(*([str(cell) for cell in column.cells] for column in table.columns), strict=True))
    heads = [str(column.header) for column in table.columns]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for name, *cells in rows:
        yield f"| `{name}` | {' | '.join(' '.join(cell.split()) for cell in cells)} |"


def main(
    artifact: Annotated[Path, typer.Argument(help="the demo model's artifact")] = Path("artifacts/demo.onnx"),
    scenes: Annotated[int, typer.Option(help="how many scenes")] = 500,
    jobs: Annotated[int, typer.Option(help="processes that work side by side")] = 2,
    output: Annotated[Path, typer.Option(help="where results are kept")] = Path("report"),
) -> None:
    """Measure all methods, and write the table into docs/which-method.md."""
    explainer = Explainer(artifact, "cpu", threads=max(1, (os.cpu_count() or 1) // jobs))
    data = open_data("demo", explainer.metadata.labels, scenes)
    names = [method.name for method in available_methods(explainer.metadata)]
    with Progress() as progress:
        task = progress.add_task("evaluating", total=scenes)
        results = evaluate(
            explainer,
            data,
            names,
            jobs=jobs,
            output=output,
            data=data.description,
            progress=lambda done, total, runs: progress.update(task, completed=done, total=total),
        )
    table, *_ = evaluation_tables(summarize(results, METRICS), METRICS, results.costs, WIDE)
    before, rest = DOCUMENT.read_text().split(BEGIN)
    _, after = rest.split(END, 1)
    DOCUMENT.write_text("\n".join([before + BEGIN, "", *markdown(table), "", END + after]))


if __name__ == "__main__":
    typer.run(main)
