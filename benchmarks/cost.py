"""What an explanation costs, in units of one plain forward pass, and against eager PyTorch.

    python -m benchmarks.cost [--model vit_base_patch16_224] [--batch 1] [--threads 1] …

F is the time of one logits-only run in onnxruntime of the same model, as torch.onnx.export writes it, with the same
batch and threads. Each way is a process of its own; the ways of one case run in turn, and ratios of medians are told:
absolute times differ between machines, and on a busy machine between minutes. On a GPU, whose memory does not hold all
of them, one way follows the other. What takes long is run less often; a run that would take longer than --limit, or
more memory than is free, is not made, and the table says so.

What is found is added to a file of JSON lines as it comes. Started again, the program goes on where it was interrupted;
to measure anew, remove the file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from .processes import LONG, Get, Worker, cores, interleaved, machine, reason, workers
from .refusing import check_models, refuse
from .results import COST, Case, Record, Results, around, case_of, document, sections, write_between
from .ways import CPU, CUDA, PASSES, REFERENCES, WAYS

DEAR = ("torchscript", "fused", "published")
GRID: tuple[tuple[str, int, Collection[str]], ...] = (
    ("vit_tiny_patch16_224", 224, ()),
    ("vit_small_patch16_224", 224, ()),
    ("vit_base_patch16_224", 224, ()),
    ("vit_large_patch16_224", 224, DEAR),
    ("vit_base_patch16_384", 384, DEAR),
    ("vit_base_patch14_dinov2", 224, ()),
    ("vit_base_patch14_dinov2", 518, DEAR),
)
"""Models, sizes of images, and the ways that are left out, as they would take hours more."""
LOADS = ((1, 1), (1, 10), (8, 1))
"""Numbers of images and classes in one run, where neither is asked for."""
WIDTH = 180
"""Characters in a line of the tables."""

Question = tuple[Case, str]
"""A way in a case."""


def asked(case: Case, way: str) -> list[str]:
    """What a way computes in a case; attention is the same for every class, so it is asked for with one class only."""
    row = WAYS[way]
    if case.device not in row.devices or (row.single and (case.batch, case.targets) != (1, 1)):
        return []
    return [what for what in PASSES if what in row.computes and not (what == "attention" and case.targets > 1)]


def foreseen(results: Results, case: Case, way: str, what: str, limit: float) -> Record:
    """What cases with fewer images or classes tell without a run.

    Returns:
        Why to skip the run, or how long a reference would take if that is longer than ``limit`` seconds or LONG; {} if
        it is to be run.
    """
    times = results.times()
    fewer = [(case.targets, case.like(targets=1)), (case.batch, case.like(batch=1))]
    smaller = [(factor, times[key]) for factor, one in fewer if factor > 1 and (key := (one, way, what)) in times]
    for _, record in smaller:
        if "skipped" in record:
            return {"skipped": record["skipped"]}
    per_class = times.get((case.like(targets=1), way, what))
    if way in REFERENCES and case.targets > 1 and per_class is not None:
        together = case.targets * per_class["seconds"]
        if together > min(LONG, limit):
            return {"seconds": together, "estimated": True, "runs": 0, "peak": None, "opened": None, "file": None}
    seconds = min((factor * record["seconds"] for factor, record in smaller), default=0)
    return {} if seconds <= limit else {"skipped": f"a run would take more than {limit:.0f} s"}


def measure(
    case: Case, ways: Sequence[str], results: Results, folder: Path, get: Get, runs: int, budget: float, limit: float
) -> list[Record]:
    """What these ways take in a case, run in turn by the workers that ``get`` gives; see `interleaved`."""
    keys = [(way, what) for what in PASSES for way in ways if what in asked(case, way)]
    found = {key: guess for key in keys if (guess := foreseen(results, case, *key, limit))}
    running: dict[str, Worker] = {way: get(way, folder, case) for way, what in keys if (way, what) not in found}
    acts = {(way, what): partial(running[way].run, what, case) for way, what in keys if (way, what) not in found}
    for (way, what), taken in interleaved(acts, runs, budget).items():
        if "error" in taken:
            found[way, what] = {"skipped": reason(taken["error"])}
            continue
        file = WAYS[way].file
        size = (folder / file).stat().st_size if file else None
        opened = running[way].opened["opened"]
        found[way, what] = {**taken, "estimated": False, "opened": opened, "file": size}
    return [{**asdict(case), "way": way, "what": what, **found[way, what]} for way, what in keys]


def groups(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """What is measured together: on the CPU all ways of a case, on a GPU a way in one case after the other."""
    kinds: dict[Any, list[Question]] = {}
    for case, way in questions:
        kinds.setdefault(case if case.device == CPU else (case.device, case.threads, way), []).append((case, way))
    yield from kinds.values()


def main(
    model: Annotated[list[str] | None, typer.Option(help="models of timm")] = None,
    size: Annotated[int, typer.Option(help="side of the images for these models")] = 224,
    leave_out: Annotated[
        list[str] | None, typer.Option(help=f"ways that these models are measured without, of {', '.join(WAYS)}")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(help="images in one run")] = None,
    targets: Annotated[list[int] | None, typer.Option(help="classes in one run")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="threads for each way")] = None,
    device: Annotated[list[str] | None, typer.Option(help="cpu or cuda")] = None,
    runs: Annotated[int, typer.Option(help="runs of each way at most")] = 5,
    budget: Annotated[float, typer.Option(help="seconds for all runs of one way")] = 5,
    limit: Annotated[float, typer.Option(help="seconds that one run may take")] = 100,
    results: Annotated[Path, typer.Option(help="where the results go")] = Path("artifacts/cost.jsonl"),
    document_: Annotated[Path | None, typer.Option("--document", help="Markdown with a place for the tables")] = None,
) -> None:
    """Measure what is not in the file of results, and print the tables of all that is."""
    unknown = set(leave_out or ()) - WAYS.keys()
    if unknown:
        refuse(f"there is no way {', '.join(unknown)}; there are {', '.join(WAYS)}")
    check_models(model or [])
    for name, counts in {
        "size": [size],
        "runs": [runs],
        "batch": batch,
        "targets": targets,
        "threads": threads,
    }.items():
        if min(counts or [1]) < 1:
            refuse(f"--{name} must be at least 1")
    for place in device or []:
        if place not in (CPU, CUDA):
            refuse(f"--device must be {CPU} or {CUDA}, got {place!r}")
        if place == CUDA and not torch.cuda.is_available():
            refuse("there is no CUDA device that PyTorch can use")
    if document_ is not None:
        around(document_, COST)  # whether there is a place for the tables, before hours are spent
    console, held, here = Console(width=WIDTH), Results(results), machine()
    loads = sorted(product(batch or [1], targets or [1])) if batch or targets else LOADS
    for name, side, without in [(one, size, leave_out or ()) for one in model] if model else GRID:
        cases = [
            Case(here, name, side, place, count, images, classes)
            for place in device or [CPU]
            for count in threads or sorted({1, cores()} if place == CPU else {cores()})
            for images, classes in loads
        ]
        measure_model(cases, [way for way in WAYS if way not in without], held, runs, budget, limit, console)
    for section in sections(held):
        section.show(console)
    if document_ is not None:
        write_between(document_, COST, document(held))


def measure_model(
    cases: Sequence[Case], ways: Sequence[str], held: Results, runs: int, budget: float, limit: float, console: Console
) -> None:
    """Write the files of a model, and add to the results what is not there of these ways in these cases."""
    first, done = cases[0], held.times()
    questions = [(case, way) for case in cases for way in ways if asked(case, way)]
    missing = [(case, way) for case, way in questions if (case, way, asked(case, way)[0]) not in done]
    if not missing:
        return
    there = len(questions) - len(missing)
    console.print(f"{first.model} at {first.size}: {there} of {len(questions)} are in {held.path}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with console.status("writing the files"):
            write_files(first, [way for _, way in missing], folder)
        add_facts(missing, held, folder, console)
        for group in groups(missing):
            with workers() as get:
                for case in dict.fromkeys(case for case, _ in group):
                    own = [way for other, way in group if other == case]
                    told = f"{case.device}, threads {case.threads}, batch {case.batch}, classes {case.targets}"
                    start = time.perf_counter()
                    with console.status(told):
                        held.add(measure(case, own, held, folder, get, runs, budget, limit))
                    names = "" if case.device == CPU else f"{WAYS[own[0]].label}: "
                    console.print(f"  {names}{told}: {time.perf_counter() - start:.0f} s")


def write_files(case: Case, ways: Sequence[str], folder: Path, depth: int | None = None) -> None:
    """Write what these ways need of the case's model, in a process of its own."""
    question = {"model": case.model, "size": case.size, "folder": str(folder), "ways": ways, "depth": depth}
    done = subprocess.run([sys.executable, "-m", "benchmarks.files", json.dumps(question)])
    if done.returncode:  # which has said why
        raise typer.Exit(done.returncode)


def add_facts(missing: Sequence[Question], held: Results, folder: Path, console: Console) -> None:
    """Add what onnxruntime's profile says of the files: on the CPU where the time goes, on a GPU copies to the host."""
    cases = {case.device: case.like(batch=1, targets=1, threads=1) for case, _ in missing}
    known = [case_of(fact) for fact in (*held.profiles(), *held.copies())]
    with console.status("profiling the artifact"):
        if CPU in cases and cases[CPU] not in known:
            held.add([asdict(cases[CPU]) | asked_of("profile", folder, "onnx", "--json", "--runs", "3")[0]])
        if CUDA in cases and cases[CUDA] not in known:
            ways = [way for way in ("onnx", "onnx_float16") if any(way == other for _, other in missing)]
            facts = [fact | {"of": way} for way in ways for fact in asked_of("copies", folder, way)]
            held.add([asdict(cases[CUDA]) | fact for fact in facts])


def asked_of(program: str, folder: Path, way: str, *options: str) -> list[Record]:
    """What one of the programs beside this one prints about the file of a way."""
    file = WAYS[way].file
    assert file is not None
    command = [sys.executable, "-m", f"benchmarks.{program}", str(folder / file), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    typer.run(main)
