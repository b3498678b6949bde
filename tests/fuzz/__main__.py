"""`python -m tests.fuzz`: see the package."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from tests.fuzz import report, runner


def main(
    cases: Annotated[int, typer.Option(help="How many, of all kinds together.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    kind: Annotated[str, typer.Option(help="Which kinds, separated by commas.")] = ",".join(runner.KINDS),
    jobs: Annotated[int, typer.Option(help="Servers side by side.")] = os.cpu_count() or 1,
    case: Annotated[str, typer.Option(help="KIND:NUMBER, that one alone.")] = "",
    keep: Annotated[Path | None, typer.Option(help="A new folder for the files of that one.")] = None,
) -> None:
    """Run seeded cases against the command line, and count what came of them."""
    console = Console()
    if case:
        name, _, number = case.partition(":")
        with runner.servers(1, seed, [name]) as (server,):
            results = [server.run(name, int(number), keep)]
        console.print(report.describe(results[0], seed), soft_wrap=True, markup=False, highlight=False)
    else:
        numbered = runner.numbered(kind.split(","), cases)
        results = list(track(runner.run(numbered, seed, jobs), total=len(numbered), console=console))
        report.show(console, results, seed)
    sys.exit(bool(report.bad(results)))


if __name__ == "__main__":
    typer.run(main)
