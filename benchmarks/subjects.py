"""The ways to get an explanation that benchmarks/cost.py compares, each a function of pixels and targets.

What a way computes is named after what its methods need: ``attention`` (rollout), ``gradient`` (grad_rollout) and
``relevance`` (transformer_attribution, which needs both of the others).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from reference import chefer, eager
from torch import nn

from onnxplain.export import load_backbone
from onnxplain.lrp_graph import fuse
from onnxplain.runtime.formats import open_artifact

Run = Callable[[NDArray[np.float32], list[int]], Any]
"""(pixels [batch, 3, H, W], classes) -> whatever it computes."""

OUTPUTS = {
    "attention": "attention_mean",
    "gradient": "gradient_attention_mean",
    "relevance": "gradient_relevance_positive",
}
"""What is computed, and the output of the fused graph that it is."""
FILES = {"onnx": ".onnx", "torchscript": ".pt"}
"""The ways that need a file only."""
WAYS = (*FILES, "fused graph, eager", "reference, eager")


def build(model: str, size: int | None) -> nn.Module:
    """timm's model of that name with random weights."""
    return load_backbone(f"timm/{model}", random_init=True, num_classes=1000, image_size=size).model


def of_file(path: Path, device: str, threads: int) -> dict[str, Run]:
    """An artifact: one run for each thing computed."""
    artifact = open_artifact(path, device, threads)
    return {what: (lambda p, t, output=output: artifact.run(p, t, [output])) for what, output in OUTPUTS.items()}


def of_fused_graph(model: nn.Module, size: tuple[int, int], device: str) -> dict[str, Run]:
    """The fused graph, run by PyTorch op by op."""
    graph = fuse(model, torch.zeros(1, 3, *size), ["gradient", "relevance"]).to(device)

    def run(pixels: NDArray[np.float32], targets: list[int], output: str) -> Any:
        with torch.inference_mode():
            chosen = torch.tensor([targets] * len(pixels), device=device)
            return graph.compute(torch.from_numpy(pixels).to(device), chosen, ["logits", output])

    return {what: (lambda p, t, output=output: run(p, t, output)) for what, output in OUTPUTS.items()}


def of_reference(model: nn.Module, device: str) -> dict[str, Run]:
    """The published algorithms on the model itself with hooks and autograd, for one class after another."""
    model = model.to(device)

    def attention(pixels: NDArray[np.float32], targets: list[int]) -> Any:
        with torch.no_grad(), eager.explicit_attention() as recorded:
            model(torch.from_numpy(pixels).to(device))
        return [matrix.mean(1) for matrix in recorded]

    def per_class(function: Callable[..., Any]) -> Run:
        def run(pixels: NDArray[np.float32], targets: list[int]) -> Any:
            given = torch.from_numpy(pixels).to(device)
            return [function(model, given, torch.full((len(given),), target, device=device)) for target in targets]

        return run

    return {
        "attention": attention,
        "gradient": per_class(eager.attention_layers),
        "relevance": per_class(chefer.transformer_attribution),
    }


def plain(model: nn.Module, size: tuple[int, int], folder: Path, device: str, threads: int) -> Run:
    """Logits only: the model as PyTorch's exporter writes it, in onnxruntime."""
    path = folder / "plain.onnx"
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        model, (torch.zeros(2, 3, *size),), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False,
        external_data=False,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    session = onnxruntime.InferenceSession(path, options, providers=[provider])
    (name,) = (value.name for value in session.get_inputs())
    return lambda pixels, targets: session.run(None, {name: pixels})
