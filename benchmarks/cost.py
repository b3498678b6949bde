"""What an explanation costs, in units of one plain forward pass, and against eager PyTorch.

    PYTHONPATH=tests python -m benchmarks.cost [--model vit_base_patch16_224] [--threads 1] [--runs 9]

All runs happen in one process, in turn, and ratios of medians are printed: absolute times differ between machines, and
on a busy machine between minutes. The plain forward pass is the same model exported by torch.onnx.export; the eager
one is the reference implementation of the tests, which follows the published algorithm (autograd for the gradients,
then relevance layer by layer).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import torch
import typer
from reference.chefer import transformer_attribution
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from onnxplain.export import export_model, load_backbone
from onnxplain.runtime import Explainer
from onnxplain.runtime.session import OnnxArtifact

Run = Callable[[], Any]


def plain_forward(model: nn.Module, pixels: np.ndarray, folder: Path, threads: int) -> Run:
    """Logits only: the model as PyTorch's exporter writes it."""
    path = folder / "plain.onnx"
    example = torch.from_numpy(pixels)
    torch.onnx.export(model, (example,), path, dynamo=True, verbose=False, external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    return lambda: session.run(None, {name: pixels})


def runs_of(model_name: str, threads: int, folder: Path) -> dict[str, Run]:
    """The things to time, by name."""
    backbone = load_backbone(f"timm/{model_name}", random_init=True)
    path = folder / "fused.onnx"
    export_model(backbone, path)
    pixels = np.random.default_rng(0).normal(size=(1, 3, *backbone.preprocessing.size)).astype(np.float32)
    artifact = OnnxArtifact(path, "cpu", threads)
    explainer = Explainer(path, "cpu", threads)
    eager_pixels, eager_target = torch.from_numpy(pixels), torch.tensor([1])
    everything = ("attention", "attention_gradient", "relevance")
    return {
        "plain forward, logits only": plain_forward(backbone.model, pixels, folder, threads),
        "attention": lambda: artifact.run(pixels, [1], ["attention"]),
        "attention, gradient": lambda: artifact.run(pixels, [1], ["attention", "attention_gradient"]),
        "attention, gradient, relevance": lambda: artifact.run(pixels, [1], everything),
        "the same for 4 classes": lambda: artifact.run(pixels, [1, 2, 3, 4], everything),
        "transformer_attribution, artifact": lambda: explainer.explain_pixels(
            pixels, target=1, method="transformer_attribution"
        ),
        "transformer_attribution, eager": lambda: transformer_attribution(backbone.model, eager_pixels, eager_target),
    }


def medians(runs: dict[str, Run], count: int) -> dict[str, float]:
    """Seconds for each, all run in turn ``count`` times after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in track(range(count + 1), "timing", transient=True):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def main(
    model: Annotated[str, typer.Option(help="a timm model")] = "vit_base_patch16_224",
    threads: Annotated[int, typer.Option(help="threads for each side")] = 1,
    runs: Annotated[int, typer.Option(help="rounds")] = 9,
) -> None:
    """Print the table."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        seconds = medians(runs_of(model, threads, Path(folder)), runs)
    forward = seconds["plain forward, logits only"]
    eager = seconds["transformer_attribution, eager"]
    table = Table("run", "ms", "plain forwards", "eager / this", title=f"{model}, batch 1, {threads} thread(s)")
    for name, value in seconds.items():
        table.add_row(name, f"{1000 * value:.0f}", f"{value / forward:.2f}", f"{eager / value:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
