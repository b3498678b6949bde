"""What an explanation costs, in units of one plain forward pass, and against eager PyTorch.

    python -m benchmarks.cost [--model vit_base_patch16_224] [--batch 1] [--threads 1] …

F is the time of one logits-only run in onnxruntime of the same model, as torch.onnx.export writes it, with the same
batch and threads. Each way is a process of its own; the ways of one case run in turn, and ratios of medians are told:
absolute times differ between machines, and on a busy machine between minutes. What takes long is run less often; a
run that would take longer than --limit, or more memory than is free, is not made, and the table says so.

What is found is added to a file of JSON lines as it comes. Started again, the program goes on where it was interrupted;
to measure anew, remove the file.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from .results import Case, Record, Results, around, sections, write_document
from .subjects import COMPUTES, FILES, OUTPUTS

GRID = (
    ("vit_tiny_patch16_224", 224),
    ("vit_small_patch16_224", 224),
    ("vit_base_patch16_224", 224),
    ("vit_large_patch16_224", 224),
    ("vit_base_patch16_384", 384),
    ("vit_base_patch14_dinov2", 224),
    ("vit_base_patch14_dinov2", 518),
)
REFERENCES = ("lean", "published")
"""These compute one class after another and share nothing, so the time for one tells that for ten."""
LONG = 60
"""Seconds of a run that is not made a second time; a first run is somewhat slower, as memory is taken."""
WIDTH = 180
"""Characters in a line of the tables."""
DIED = "the process died, for want of memory perhaps"
PASSES = ("logits", *OUTPUTS)
"""From the least to the most memory, as a process is asked what it has held at most."""


class Worker:
    """A process of benchmarks/worker.py. On a GPU, "peak" is what it holds there, if no other process takes any."""

    def __init__(self, way: str, folder: Path, case: Case) -> None:
        self._device, self._before = case.device, _device_bytes(case.device)
        question = {name: value for name, value in asdict(case).items() if name != "machine"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps({"way": way, "folder": str(folder), **question})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.opened = self._answer()

    def run(self, what: str) -> Record:
        """Have it compute ``what`` once: {"seconds", "peak"}, or {"error"}."""
        if self._process.poll() is not None or "error" in self.opened:
            return {"error": self.opened.get("error", DIED)}
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)
        answer = self._answer()
        if self._device != "cpu":
            answer["peak"] = _device_bytes(self._device) - self._before
        return answer

    def _answer(self) -> Record:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: Record = json.loads(line) if line else {"error": DIED}
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def _device_bytes(device: str) -> int:
    """How much memory of the GPU is in use, by anyone."""
    if device == "cpu":
        return 0
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def foreseen(results: Results, case: Case, way: str, what: str, limit: float) -> Record:
    """What cases with fewer images or classes tell without a run.

    Returns:
        Why to skip the run, or how long a reference would take if that is longer than ``limit`` seconds; {} if it is to
        be run.
    """
    times = results.times()
    fewer = [(case.targets, case.like(targets=1)), (case.batch, case.like(batch=1))]
    smaller = [(factor, times[key]) for factor, one in fewer if factor > 1 and (key := (one, way, what)) in times]
    for _, record in smaller:
        if "skipped" in record:
            return {"skipped": record["skipped"]}
    seconds = min((factor * record["seconds"] for factor, record in smaller), default=0)
    if seconds <= limit:
        return {}
    per_class = times.get((case.like(targets=1), way, what))
    if way in REFERENCES and case.targets > 1 and per_class is not None:
        together = case.targets * per_class["seconds"]
        return {"seconds": together, "estimated": True, "runs": 0, "peak": None, "opened": None, "file": None}
    return {"skipped": f"a run would take more than {limit:.0f} s"}


def asked(case: Case) -> Iterator[tuple[str, str]]:
    """Ways and what they compute; attention is the same for every class, so it is asked for with one class only."""
    for what in PASSES:
        for way, passes in COMPUTES.items():
            if what in passes and not (what == "attention" and case.targets > 1):
                yield way, what


def measure(case: Case, results: Results, folder: Path, runs: int, budget: float, limit: float) -> list[Record]:
    """Run all ways of a case in turn, each once and then as often as ``budget`` seconds allow, ``runs`` times at most.

    The first run of each counts only if it takes longer than LONG, so that there is no other: "runs" is 0 then.
    """
    found = {key: guess for key in asked(case) if (guess := foreseen(results, case, *key, limit))}
    wanted = [key for key in asked(case) if key not in found]
    with ExitStack() as stack:
        workers = {way: Worker(way, folder, case) for way in dict.fromkeys(way for way, _ in wanted)}
        for worker in workers.values():
            stack.callback(worker.close)
        first = {(way, what): workers[way].run(what) for way, what in wanted}
        took = {key: answer["seconds"] for key, answer in first.items() if "seconds" in answer}
        often = {key: min(runs, max(int(budget / seconds), seconds <= LONG)) for key, seconds in took.items()}
        times: dict[tuple[str, str], list[float]] = {key: [] for key in often}
        rounds = max(often.values(), default=0)
        for turn in range(rounds):
            for (way, what), count in often.items():
                due = (turn + 1) * count // rounds > turn * count // rounds  # spread over the rounds evenly
                if due and "seconds" in (answer := workers[way].run(what)):
                    times[way, what].append(answer["seconds"])
    for (way, what), answer in first.items():
        if "error" in answer:
            found[way, what] = {"skipped": _reason(answer["error"])}
            continue
        counted = times[way, what] or [answer["seconds"]]
        found[way, what] = {
            "seconds": median(counted),
            "estimated": False,
            "runs": len(times[way, what]),
            "peak": answer["peak"],
            "opened": workers[way].opened["opened"],
            "file": (folder / FILES[way]).stat().st_size if way in FILES else None,
        }
    return [{**asdict(case), "way": way, "what": what, **found[way, what]} for way, what in asked(case)]


def _reason(error: str) -> str:
    """An error as the table tells it: whoever asked for too much memory gets one of many messages."""
    signs = ("memory", "alloc", "create a primitive")  # the last is oneDNN's
    return "not enough memory" if any(sign in error.lower() for sign in signs) else error


def machine() -> str:
    """The processor, and the versions of what the times depend on."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    (memory,) = (int(line.split()[1]) / 2**20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    parts = [names[0] if names else platform.machine(), f"{_cores()} cores", f"{memory:.0f} GiB of memory"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    runtimes = "onnxruntime-gpu" if torch.cuda.is_available() else "onnxruntime"
    return ", ".join([*parts, *(f"{name} {version(name)}" for name in (runtimes, "torch", "timm"))])


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def profiled(folder: Path, case: Case) -> Record:
    """What benchmarks/profile.py says of the ONNX artifact."""
    command = [sys.executable, "-m", "benchmarks.profile", str(folder / FILES["onnx"]), "--json", "--runs", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return asdict(case) | answer


def main(
    model: Annotated[list[str] | None, typer.Option(help="models of timm")] = None,
    size: Annotated[int, typer.Option(help="side of the images for these models")] = 224,
    batch: Annotated[list[int] | None, typer.Option(help="images in one run")] = None,
    targets: Annotated[list[int] | None, typer.Option(help="classes in one run")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="threads for each way")] = None,
    device: Annotated[list[str] | None, typer.Option(help="cpu or cuda")] = None,
    runs: Annotated[int, typer.Option(help="runs of each way at most")] = 7,
    budget: Annotated[float, typer.Option(help="seconds for all runs of one way")] = 10,
    limit: Annotated[float, typer.Option(help="seconds that one run may take")] = 300,
    results: Annotated[Path, typer.Option(help="where the results go")] = Path("artifacts/cost.jsonl"),
    document: Annotated[Path | None, typer.Option(help="Markdown with a place for the tables")] = None,
) -> None:
    """Measure what is not in the file of results, and print the tables of all that is."""
    console, held, here = Console(width=WIDTH), Results(results), machine()
    if document is not None:
        around(document)  # whether there is a place for the tables, before hours are spent
    for name, side in [(one, size) for one in model] if model else GRID:
        cases = [
            Case(here, name, side, place, count, images, classes)
            for place in device or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
            for count in threads or sorted({1, _cores()} if place == "cpu" else {_cores()})
            for images in sorted(batch or [1, 8])
            for classes in sorted(targets or [1, 10])
        ]
        done = {key[0] for key in held.times()}
        missing = [case for case in cases if case not in done]
        if missing:
            console.print(f"{name} at {side}: {len(cases) - len(missing)} of {len(cases)} cases are in {results}")
            with tempfile.TemporaryDirectory() as place:
                measure_model(missing, held, Path(place), runs, budget, limit, console)
    for section in sections(held):
        section.show(console)
    if document is not None:
        write_document(held, document)


def measure_model(
    cases: list[Case], held: Results, folder: Path, runs: int, budget: float, limit: float, console: Console
) -> None:
    """Write the files of a model, and add what its cases give to the results."""
    first = cases[0]
    with console.status("writing the files"):
        question = json.dumps({"model": first.model, "size": first.size, "folder": str(folder)})
        subprocess.run([sys.executable, "-m", "benchmarks.files", question], check=True)
    profile = next((case for case in cases if (case.device, case.threads) == ("cpu", 1)), None)
    if profile is not None and not any(case_is(profile, record) for record in held.profiles()):
        with console.status("profiling the artifact"):
            held.add([profiled(folder, profile.like(batch=1, targets=1))])
    for case in cases:
        told = f"{case.device}, threads {case.threads}, batch {case.batch}, classes {case.targets}"
        start = time.perf_counter()
        with console.status(told):
            held.add(measure(case, held, folder, runs, budget, limit))
        console.print(f"  {told}: {time.perf_counter() - start:.0f} s")


def case_is(case: Case, record: Record) -> bool:
    """Whether a profile is of this model on this machine."""
    return all(record[name] == getattr(case, name) for name in ("machine", "model", "size"))


if __name__ == "__main__":
    typer.run(main)
