"""The table of verdicts by kind, and each case that went wrong with how to have it again."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.fuzz.cases import BAD, VERDICTS
from tests.fuzz.runner import KINDS

RERUN = "python -m tests.fuzz --seed {seed} --case {kind}:{number} --keep FOLDER"


def bad(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those in the last four columns, in order."""
    return sorted((item for item in results if item["verdict"] in BAD), key=lambda item: (item["kind"], item["number"]))


def table(results: Sequence[dict[str, Any]]) -> Table:
    """How many cases of each kind had each verdict."""
    counts = Counter((item["kind"], item["verdict"]) for item in results)
    made = Table("kind", *VERDICTS, "cases")
    for kind in (kind for kind in KINDS if any(item["kind"] == kind for item in results)):
        row = [counts[kind, name] for name in VERDICTS]
        made.add_row(kind, *map(str, row), str(sum(row)))
    total = [sum(item["verdict"] == name for item in results) for name in VERDICTS]
    made.add_section()
    made.add_row("all", *map(str, total), str(len(results)))
    return made


def describe(item: dict[str, Any], seed: int) -> str:
    """One case: what it was, what came of it, how to have it again."""
    return (
        f"{item['kind']}:{item['number']}  {item['verdict']}: {item['why']}\n"
        f"    {item['about']}  ({' '.join(item['arguments'])}; {item['seconds']} s)\n"
        f"    {RERUN.format(seed=seed, **item)}"
    )


def show(console: Console, results: Sequence[dict[str, Any]], seed: int) -> None:
    """All that went wrong, then the table."""
    for item in bad(results):
        console.print(describe(item, seed), soft_wrap=True, markup=False, highlight=False)
    console.print(table(results))
