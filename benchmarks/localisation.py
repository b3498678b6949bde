"""Do the maps point at the class asked for, and what do they cost? On demo scenes of digits that the model never saw.

    python -m benchmarks.localisation [--scenes 500] [--method rollout --method legrad]

A scene shows two or three digits and the box of each is known. For every digit shown and every method: does the map's
maximum lie in the digit's box (pointing game), and what share of the map's positive mass lies there? A map that finds
some digit, but not the one asked for, is right about as often as there are digits: see the last line.

Cost: one explanation of one class, from the image to the heatmap, in runs of the same artifact that give logits only.
One thread, both in turn, medians.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from onnxplain.demo.scenes import scene
from onnxplain.runtime import Explainer, available_methods

FIRST_SEED = 10_000
"""Far from the scenes that training measured itself on."""
REPEATS = 7


def points_at(heatmap: NDArray[np.float32], box: NDArray[np.int64]) -> bool:
    """Whether the maximum of ``heatmap`` [H, W] lies in ``box`` (left, top, right, bottom)."""
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    left, top, right, bottom = box
    return bool(left <= column < right and top <= row < bottom)


def mass_inside(heatmap: NDArray[np.float32], box: NDArray[np.int64]) -> float:
    """The share of the positive part of ``heatmap`` that lies in ``box``; 0 where there is no positive part."""
    positive = np.maximum(heatmap, 0)
    left, top, right, bottom = box
    return float(positive[top:bottom, left:right].sum() / max(positive.sum(), np.finfo(np.float32).tiny))


def measure(explainer: Explainer, method: str, scenes: int) -> tuple[float, float]:
    """The pointing game and the mass inside the box, means over all digits of ``scenes`` scenes."""
    points, mass = [], []
    for seed in track(range(FIRST_SEED, FIRST_SEED + scenes), method, transient=True):
        drawn = scene(seed, "test")
        explanations = explainer.explain(drawn.image, target=list(drawn.labels), method=method)
        for explanation, box in zip(explanations, drawn.boxes, strict=True):
            points.append(points_at(explanation.heatmap, box))
            mass.append(mass_inside(explanation.heatmap, box))
    return float(np.mean(points)), float(np.mean(mass))


def cost(explainer: Explainer, method: str) -> float:
    """How many runs for the logits only one explanation takes."""
    image = scene(FIRST_SEED, "test").image
    explained, plain = [], []
    for _ in range(REPEATS):
        for durations, run in (
            (explained, lambda: explainer.explain(image, target=-1, method=method).heatmap),
            (plain, lambda: explainer.tensors(image, passes=())),
        ):
            started = time.perf_counter()
            run()
            durations.append(time.perf_counter() - started)
    return float(np.median(explained) / np.median(plain))


def chance(scenes: int) -> tuple[float, float]:
    """What a map gets that points at a random digit, and what a constant map has inside a box."""
    drawn = [scene(seed, "test") for seed in range(FIRST_SEED, FIRST_SEED + scenes)]
    areas = [np.prod(one.boxes[:, 2:] - one.boxes[:, :2], axis=1) / one.image[..., 0].size for one in drawn]
    digits = sum(len(one.labels) for one in drawn)
    return len(drawn) / digits, float(np.concatenate(areas).mean())


def main(
    artifact: Annotated[Path, typer.Argument(help="the demo model's artifact")] = Path("artifacts/demo.onnx"),
    scenes: Annotated[int, typer.Option(help="how many scenes")] = 500,
    method: Annotated[list[str] | None, typer.Option(help="only these methods")] = None,
) -> None:
    """Print the table of all methods."""
    explainer = Explainer(artifact, "cpu", threads=1)
    table = Table("method", "pointing game", "mass in box", "cost", title=f"{scenes} scenes of unseen digits")
    for name in method or [item.name for item in available_methods(explainer.metadata)]:
        points, mass = measure(explainer, name, scenes)
        table.add_row(name, f"{points:.3f}", f"{mass:.3f}", f"{cost(explainer, name):.3g}")
    table.add_row("chance (a random digit; a constant map)", *(f"{value:.3f}" for value in chance(scenes)))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
