"""What an explanation costs, in units of one plain forward pass, and against eager PyTorch.

    PYTHONPATH=tests python -m benchmarks.cost [--model vit_base_patch16_224] [--batch 1 --batch 8] [--threads 1] …

F is the time of one logits-only run in onnxruntime of the same model, as torch.onnx.export writes it, with the same
batch and threads. All runs of a table happen in one process, in turn, and ratios of medians are printed: absolute times
differ between machines, and on a busy machine between minutes. The eager reference is that of the tests, which follows
the published algorithm (autograd for the gradients, then relevance layer by layer, one class after another); the
speed-up is against it. Memory is that of a process which does nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from onnxplain.export import export_model
from onnxplain.export.backbones import load_backbone

from . import subjects
from .subjects import FILES, WAYS, Run

Case = tuple[str, str]
"""Way and what it computes; the plain forward is ("plain", "logits")."""
PLAIN: Case = ("plain", "logits")


def all_runs(model: str, size: int | None, folder: Path, device: str, threads: int) -> tuple[dict[Case, Run], int]:
    """Everything to be timed, and the side of the pictures; writes the artifacts into ``folder``."""
    backbone = load_backbone(f"timm/{model}", random_init=True, num_classes=1000, image_size=size)
    height, width = backbone.preprocessing.size
    for kind, suffix in FILES.items():
        export_model(backbone, folder / f"all{suffix}", format=kind, passes=["gradient", "relevance"])
    export_model(backbone, folder / "attention.onnx", passes=[])
    runs: dict[Case, Run] = {PLAIN: subjects.plain(backbone.model, (height, width), folder, device, threads)}
    ways = {way: subjects.of_file(folder / f"all{suffix}", device, threads) for way, suffix in FILES.items()}
    ways[WAYS[2]] = subjects.of_fused_graph(backbone.model, (height, width), device)
    ways[WAYS[3]] = subjects.of_reference(backbone.model, device)
    return runs | {(way, what): run for way, group in ways.items() for what, run in group.items()}, height


def medians(runs: dict[Case, Run], pixels: np.ndarray, targets: list[int], count: int) -> dict[Case, float]:
    """Seconds for each, all run in turn ``count`` times after one round that is not counted."""
    times: dict[Case, list[float]] = {case: [] for case in runs}
    for turn in track(range(count + 1), f"{len(pixels)} pictures, {len(targets)} classes", transient=True):
        for case, run in runs.items():
            start = time.perf_counter()
            run(pixels, targets)
            if turn:
                times[case].append(time.perf_counter() - start)
    return {case: float(np.median(values)) for case, values in times.items()}


def memory(way: str, folder: Path, **question: str | int) -> dict[str, float]:
    """What benchmarks/memory.py prints; of attention alone in a file that has no more."""
    path = folder / f"all{FILES[way]}" if way in FILES else ""
    if (way, question["what"]) == ("onnx", "attention"):
        path = folder / "attention.onnx"
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps({"way": way, "path": str(path), **question})]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main(
    model: Annotated[list[str] | None, typer.Option(help="models of timm")] = None,
    size: Annotated[int | None, typer.Option(help="side of the pictures, if not the model's own")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="pictures in one run")] = None,
    targets: Annotated[list[int] | None, typer.Option(help="classes in one run")] = None,
    threads: Annotated[int, typer.Option(help="threads for each side")] = 1,
    runs: Annotated[int, typer.Option(help="rounds")] = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Print a table for each model, batch and number of classes."""
    torch.set_num_threads(threads)
    for name in model or ["vit_base_patch16_224"]:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            cases, side = all_runs(name, size, folder, device, threads)
            for images in batch or [1]:
                pixels = np.random.default_rng(0).normal(size=(images, 3, side, side)).astype(np.float32)
                for classes in targets or [1, 10]:
                    seconds = medians(cases, pixels, list(range(classes)), runs)
                    table(name, folder, seconds, images, classes, side, threads, device)


def table(
    name: str, folder: Path, seconds: dict[Case, float], images: int, classes: int, side: int, threads: int, device: str
) -> None:
    """Print what was measured for one batch and number of classes."""
    title = f"{name} at {side}, {images} picture(s), {classes} class(es), {threads} thread(s), {device}"
    rows = Table("computes", "way", "ms", "F", "speed-up", "peak MB", "opens in s", "MB", title=title)
    for (way, what), value in seconds.items():
        times = [f"{1000 * value:.0f}", f"{value / seconds[PLAIN]:.2f}"]
        if way == PLAIN[0]:
            rows.add_row(what, way, *times)
            continue
        question = {"model": name, "size": side, "what": what, "batch": images, "targets": classes, "threads": threads}
        held = memory(way, folder, **question)
        suffix = FILES.get(way)
        rows.add_row(
            what, way, *times, f"{seconds[WAYS[3], what] / value:.2f}", f"{held['peak'] / 1e6:.0f}",
            f"{held['opened']:.1f}", f"{(folder / f'all{suffix}').stat().st_size / 1e6:.0f}" if suffix else "",
        )  # fmt: skip
    Console().print(rows)


if __name__ == "__main__":
    typer.run(main)
