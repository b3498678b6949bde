"""The files that benchmarks/cost.py measures, written in a process of its own, which takes its memory with it.

    python -m benchmarks.files '{"model": "vit_base_patch16_224", "size": 224, "folder": "…"}'

The artifacts have random weights and are those of export_model, but for its comparison with PyTorch, which would cost
a minute and 7 GB for each ViT-B: a benchmark explains nothing to anyone, and the tests make the comparison.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

from onnxplain.contract.metadata import RULES
from onnxplain.export import Backbone, load_backbone
from onnxplain.export.artifact import described
from onnxplain.export.formats.onnx_file import onnx_model, save_onnx, silent
from onnxplain.export.formats.torchscript_file import save_torchscript, torchscript_model
from onnxplain.lrp_graph import FusedGraph, fuse

PLAIN, ONNX, ATTENTION, TORCHSCRIPT = "plain.onnx", "all.onnx", "attention.onnx", "all.pt"
PASSES = ("gradient", "relevance")


def build(model: str, size: int) -> Backbone:
    """timm's model of that name with random weights, for pictures of ``size`` by ``size``."""
    return load_backbone(f"timm/{model}", random_init=True, num_classes=1000, image_size=size)


def fused(backbone: Backbone, passes: tuple[str, ...]) -> FusedGraph:
    """The fused graph of these passes."""
    return fuse(backbone.model, torch.zeros(1, 3, *backbone.preprocessing.size), passes)


def write_plain(model: nn.Module, size: tuple[int, int], path: Path) -> None:
    """Logits only: the model as PyTorch's exporter writes it, batch left open."""
    batch = torch.export.Dim("batch")
    with silent():
        torch.onnx.export(
            model, (torch.zeros(2, 3, *size),), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False,
            external_data=False,
        )  # fmt: skip


def main(model: str, size: int, folder: str) -> None:
    """Write all of them to ``folder``."""
    backbone, place = build(model, size), Path(folder)
    sides = backbone.preprocessing.size
    graph = fused(backbone, PASSES)
    save_onnx(onnx_model(graph, sides), described(backbone, graph, RULES).to_json(), place / ONNX)
    save_torchscript(torchscript_model(graph, sides), described(backbone, graph, RULES).to_json(), place / TORCHSCRIPT)
    graph = fused(backbone, ())
    save_onnx(onnx_model(graph, sides), described(backbone, graph, RULES).to_json(), place / ATTENTION)
    write_plain(backbone.model, sides, place / PLAIN)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
