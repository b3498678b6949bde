"""What benchmarks/cost.py found out: lines of JSON that are added as they come, and the tables made from them.

A line is one way, and what it computed, in one Case, with "seconds" (the median of "runs"), "peak", "opened" and
"file", or with "skipped", the reason why not; or it is what benchmarks/profile.py or copies.py says of one file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .ways import CPU, EXPORTED, WAYS

Record = dict[str, Any]
Seconds = Callable[["Case", str, str], float | None]
"""The time of a way in a case, if there is one."""

COST = "<!-- written by benchmarks/cost.py: begin -->"
END = "<!-- end -->"


@dataclass(frozen=True)
class Case:
    """What all ways of one group of interleaved runs have in common."""

    machine: str
    model: str
    size: int
    device: str
    threads: int
    batch: int
    targets: int

    def like(self, **changes: int) -> Case:
        """The same case but for these changes."""
        return Case(**(asdict(self) | changes))


def case_of(record: Record) -> Case:
    """The case that a line is of."""
    return Case(**{name: record[name] for name in Case.__dataclass_fields__})


class Results:
    """All records of a file; what is added stands in the file at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        if path.exists():
            self.records = [json.loads(line) for line in path.read_text().splitlines()]

    def add(self, records: Iterable[Record]) -> None:
        """Add lines to those of the file."""
        new = list(records)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in new)
        self.records += new

    def times(self) -> dict[tuple[Case, str, str], Record]:
        """By case, way and what it computes."""
        found = [record for record in self.records if "way" in record]
        return {(case_of(record), record["way"], record["what"]): record for record in found}

    def profiles(self) -> list[Record]:
        """The lines that benchmarks/profile.py wrote."""
        return [record for record in self.records if "share" in record]

    def copies(self) -> list[Record]:
        """The lines that benchmarks/copies.py wrote."""
        return [record for record in self.records if "copies" in record]


@dataclass(frozen=True)
class Section:
    """One table: a title, the heads of the columns, and rows of text."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in Markdown, under its title."""
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        return "\n".join([f"### {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table(*self.heads, title=self.title)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)


def number(value: float | None) -> str:
    """Three digits that count, no exponent; nothing for no value."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio(above: float | None, below: float | None) -> float | None:
    """None unless both are there and neither is 0."""
    return above / below if above and below else None


HEADS = (
    "computes", "batch", "classes", "way", "ms", "F", "published / this", "lean / this", "single runs / this",
    "1 thread / this", "peak MB", "file MB", "opens in s", "runs",
)  # fmt: skip


def sections(results: Results) -> list[Section]:
    """A summary, the profiles, and a table for each machine, model, size, device and number of threads."""
    times = results.times()

    def seconds(case: Case, way: str, what: str) -> float | None:
        found = times.get((case, way, what))
        return found.get("seconds") if found else None

    groups: dict[tuple[Any, ...], list[tuple[Case, str, str]]] = {}
    for key in times:
        case = key[0]
        groups.setdefault((case.machine, case.model, case.size, case.device, case.threads), []).append(key)
    tables = []
    for (_, model, size, device, threads), keys in groups.items():
        keys.sort(key=_order)
        rows = [_row(times[key], *key, seconds) for key in keys]
        tables.append(Section(f"{model} at {size}, {device}, {threads} thread{'s' * (threads > 1)}", HEADS, rows))
    facts = [_profiles(results.profiles())] if results.profiles() else []
    facts += [_copies(results.copies())] if results.copies() else []
    return [_summary(times, seconds), *facts, *tables]


def _summary(times: dict[tuple[Case, str, str], Record], seconds: Seconds) -> Section:
    """Of the ONNX files, one image and class on one thread (CUDA: all), and what more of each do."""
    heads = (
        "model", "device", "computes", "file", "F", "published / this", "lean / this", "10 classes: F",
        "published / this", "a further class: F", "8 single runs / batch of 8", "1 thread / all threads", "peak MB",
        "file MB", "opens in s",
    )  # fmt: skip
    threads = max((case.threads for case, _, _ in times), default=1)
    rows = []
    for case, way, what in sorted(times, key=lambda key: (*_group(key[0]), *_order(key))):
        record = times[case, way, what]
        if way not in ("plain", *EXPORTED) or "skipped" in record or case.batch > 1 or case.targets > 1:
            continue
        if case.device == CPU and case.threads > 1:
            continue
        ten, reference = case.like(targets=10), _published(what)
        this = record["seconds"]
        # A plain forward pass knows of no classes: of one with ten, there would be the same once more
        more = None if way == "plain" else seconds(ten, way, what)
        one, all_ten = ratio(this, seconds(case, "plain", "logits")), ratio(more, seconds(ten, "plain", "logits"))
        numbers = [
            one,
            ratio(seconds(case, reference, what), this),
            ratio(seconds(case, "lean", what), this),
            all_ten,
            ratio(seconds(ten, reference, what), more),
            (all_ten - one) / (ten.targets - 1) if one and all_ten else None,
            ratio(8 * this, seconds(case.like(batch=8), way, what)),
            ratio(this, seconds(case.like(threads=threads), way, what)) if threads > case.threads else None,
            record["peak"] / 1e6,
            record["file"] / 1e6,
            record["opened"],
        ]
        rows.append([f"{case.model} at {case.size}", case.device, what, WAYS[way].label, *map(number, numbers)])
    return Section("The files, one image, one class, one thread", heads, rows)


def _group(case: Case) -> tuple[str, int, str, int]:
    return case.model, case.size, case.device, case.threads


def _published(what: str) -> str:
    """The reference that counts as published: the lean one for attention, where nothing is spent on a backward pass."""
    return "lean" if what == "attention" else "published"


def _order(key: tuple[Case, str, str]) -> tuple[int | bool | str, ...]:
    case, way, what = key
    return case.batch, case.targets, what != "logits", what, list(WAYS).index(way)


def _row(record: Record, case: Case, way: str, what: str, seconds: Seconds) -> list[str]:
    """One line of HEADS. What is no measurement says so: '~' before what follows from another, the reason in words."""
    head = [what, str(case.batch), str(case.targets), WAYS[way].label]
    if "skipped" in record:
        return [*head, f"not run: {record['skipped']}", *[""] * (len(HEADS) - len(head) - 1)]
    this = record["seconds"]
    compared = [
        ratio(this, seconds(case, "plain", "logits")),
        ratio(seconds(case, _published(what), what), this),
        ratio(seconds(case, "lean", what), this),
        ratio(case.batch * (seconds(case.like(batch=1), way, what) or 0), this) if case.batch > 1 else None,
        ratio(seconds(case.like(threads=1), way, what), this) if case.threads > 1 else None,
    ]
    mark = "~" if record["estimated"] else ""
    megabytes = [value and value / 1e6 for value in (record["peak"], record["file"])]
    return [
        *head, mark + number(1000 * this), *map(number, compared), *map(number, megabytes), number(record["opened"]),
        str(record["runs"] or ("" if record["estimated"] else "the first")),
    ]  # fmt: skip


def _profiles(records: Sequence[Record]) -> Section:
    heads = (
        "model", "batch", "classes", "products, % of the time", "GFLOP", "GFLOP/s", "peak GFLOP/s", "% of peak",
        "the rest, % of the time",
    )  # fmt: skip
    rows = []
    for record in records:
        rest = ", ".join(f"{name} {100 * share:.1f}" for name, share in record["rest"].items())
        rows.append(
            [
                f"{record['model']} at {record['size']}", str(record["batch"]), str(record["targets"]),
                number(100 * record["share"]), number(record["flops"] / 1e9), number(record["rate"] / 1e9),
                number(record["peak_rate"] / 1e9), number(100 * record["rate"] / record["peak_rate"]), rest,
            ]
        )  # fmt: skip
    return Section("Where the time goes: relevance, ONNX artifact, 1 thread", heads, rows)


def _copies(records: Sequence[Record]) -> Section:
    heads = ("model", "file", "computes", "copies in a run", "nodes", "of these on the CPU")
    rows = []
    for record in records:
        on_cpu = ", ".join(f"{count} {name}" for name, count in record["on_cpu"].items())
        name = f"{record['model']} at {record['size']}"
        rows.append(
            [name, WAYS[record["of"]].label, record["what"], str(record["copies"]), str(record["nodes"]), on_cpu]
        )
    return Section("Copies between the GPU and the host within a run", heads, rows)


def document(results: Results) -> str:
    """All tables as Markdown, under the machines that they were measured on."""
    machines = dict.fromkeys(record["machine"] for record in results.records)
    parts = []
    for machine in machines:
        alone = Results(results.path)
        alone.records = [record for record in results.records if record["machine"] == machine]
        parts += [f"Measured on: {machine}.\n", *(table.markdown() for table in sections(alone))]
    return "\n".join(parts)


def around(path: Path, begin: str) -> tuple[str, str]:
    """What stands in ``path`` before and after the place that ``begin`` marks; raises ValueError if there is none."""
    before, found, rest = path.read_text().partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"{path} has no place for the tables, between {begin!r} and {END!r}")
    return before, after


def write_between(path: Path, begin: str, text: str) -> None:
    """Put the text in the place that ``begin`` marks in ``path``."""
    before, after = around(path, begin)
    path.write_text(f"{before}{begin}\n\n{text}\n{END}{after}")
