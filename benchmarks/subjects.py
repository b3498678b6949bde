"""The ways to get an explanation that benchmarks/cost.py compares, each opened and run by benchmarks/worker.py.

What a way computes is named after what its methods need: ``attention`` (rollout), ``gradient`` (grad_rollout) and
``relevance`` (transformer_attribution, which needs both of the others).

A way that needs a file imports no more than a user of that file would.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[np.float32], list[int], str], Any]
"""(pixels [batch, 3, H, W], classes, what) -> whatever it computes."""
Opened = tuple[Run, float | None]
"""And the seconds that it took to open; None where that would be the making of random weights."""

OUTPUTS = {
    "attention": "attention_mean",
    "gradient": "gradient_attention_mean",
    "relevance": "gradient_relevance_positive",
}
"""What is computed, and the output of the fused graph that it is."""
FILES = {"plain": "plain.onnx", "onnx": "all.onnx", "onnx_attention": "attention.onnx", "torchscript": "all.pt"}
"""The ways that need a file only, and its name."""
COMPUTES = {
    "plain": ("logits",),
    "onnx": tuple(OUTPUTS),
    "onnx_attention": ("attention",),
    "torchscript": tuple(OUTPUTS),
    "fused": tuple(OUTPUTS),
    "lean": tuple(OUTPUTS),
    "published": ("gradient", "relevance"),
}
"""All ways, and what they can compute. Attention as published is that of the lean reference."""


def open_way(way: str, folder: Path, model: str, size: int, device: str, threads: int) -> Opened:
    """Open a way by its name; the seconds are those of what a program does once, imports left out."""
    if way == "plain":
        return _plain(folder / FILES[way], device, threads)
    if way in FILES:
        return _artifact(folder / FILES[way], device, threads)
    import torch

    torch.set_num_threads(threads)
    return _fused(model, size, device) if way == "fused" else _reference(way, model, size, device)


def _plain(path: Path, device: str, threads: int) -> Opened:
    import onnxruntime

    from onnxplain.runtime.backends.providers import providers_of_device

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = providers_of_device(device)
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    opened = time.perf_counter() - start
    (name,) = (value.name for value in session.get_inputs())
    return lambda pixels, targets, what: session.run(None, {name: pixels}), opened


def _artifact(path: Path, device: str, threads: int) -> Opened:
    from onnxplain.runtime.backends.formats import open_artifact

    if path.suffix == ".pt":
        import torch  # noqa: F401  # as an import, not as a part of opening
    start = time.perf_counter()
    artifact = open_artifact(path, device, threads, trust=True)
    opened = time.perf_counter() - start
    return lambda pixels, targets, what: artifact.run(pixels, targets, [OUTPUTS[what]]), opened


def _fused(model: str, size: int, device: str) -> Opened:
    """The fused graph, run by PyTorch op by op; it is opened by tracing the model."""
    import torch

    from . import files

    backbone = files.build(model, size)
    start = time.perf_counter()
    graph = files.fused(backbone, files.PASSES).to(device)
    opened = time.perf_counter() - start

    def run(pixels: NDArray[np.float32], targets: list[int], what: str) -> Any:
        with torch.inference_mode():
            chosen = torch.tensor([targets] * len(pixels), device=device)
            outputs = graph.compute(torch.from_numpy(pixels).to(device), chosen, ["logits", OUTPUTS[what]])
            return [value.cpu() for value in outputs.values()]

    return run, opened


def _reference(way: str, model: str, size: int, device: str) -> Opened:
    """The published algorithms on the model itself with hooks and autograd, for one class after another."""
    import torch

    from tests.reference import chefer, eager, published

    from . import files

    network = files.build(model, size).model.to(device)

    def attention(pixels: torch.Tensor) -> Any:
        with torch.no_grad(), eager.explicit_attention() as recorded:
            network(pixels)
        return [matrix.mean(1) for matrix in recorded]

    def gradient(pixels: torch.Tensor, target: torch.Tensor) -> Any:
        _, matrices, gradients = eager.attention_layers(network, pixels, target)
        return [(matrix * slope).mean(1) for matrix, slope in zip(matrices, gradients, strict=True)]

    def published_gradient(pixels: torch.Tensor, target: torch.Tensor) -> Any:
        matrices, gradients = published.attention_layers(network, pixels, target)
        return [(matrix * slope).mean(1) for matrix, slope in zip(matrices, gradients, strict=True)]

    per_class = {
        ("lean", "gradient"): gradient,
        ("lean", "relevance"): lambda *given: [chefer.transformer_attribution(network, *given)],
        ("published", "gradient"): published_gradient,
        ("published", "relevance"): lambda *given: [published.transformer_attribution(network, *given)],
    }

    def run(pixels: NDArray[np.float32], targets: list[int], what: str) -> Any:
        given = torch.from_numpy(pixels).to(device)
        if what == "attention":
            return [value.cpu() for value in attention(given)]
        function = per_class[way, what]
        classes = [torch.full((len(given),), target, device=device) for target in targets]
        return [[value.cpu() for value in function(given, target)] for target in classes]

    return run, None
