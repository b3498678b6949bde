"""The files that benchmarks/cost.py measures, written in a process of its own, which takes its memory with it.

    python -m benchmarks.files '{"model": "vit_base_patch16_224", "size": 224, "folder": "…"}'

The artifacts have random weights and are written as export_model writes them, without the comparison with PyTorch: that
would cost a minute and 7 GB for each ViT-B, and the tests make it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

from onnxplain.contract.formats import format_of
from onnxplain.export import Backbone, load_backbone
from onnxplain.export.artifact import fuse_passes, translate, write
from onnxplain.export.formats.silent import silent
from onnxplain.export.plan import prepare
from onnxplain.lrp_graph import FusedGraph

PLAIN, ONNX, ATTENTION, TORCHSCRIPT = "plain.onnx", "all.onnx", "attention.onnx", "all.pt"
PASSES = ("gradient", "relevance")


def build(model: str, size: int) -> Backbone:
    """timm's model of that name with random weights, for images of ``size`` by ``size``."""
    return load_backbone(f"timm/{model}", random_init=True, num_classes=1000, image_size=size)


def fused(backbone: Backbone, passes: tuple[str, ...]) -> FusedGraph:
    """The fused graph of these passes."""
    return fuse_passes(prepare(backbone, passes=passes))[0]


def write_artifact(backbone: Backbone, passes: tuple[str, ...], path: Path) -> None:
    """The artifact with these passes, in the format of the path's suffix."""
    plan = prepare(backbone, format_of(path), passes)
    graph, _ = fuse_passes(plan)
    write(translate(plan, graph), path)


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
    for name, passes in ((ONNX, PASSES), (TORCHSCRIPT, PASSES), (ATTENTION, ())):
        write_artifact(backbone, passes, place / name)
    write_plain(backbone.model, backbone.preprocessing.size, place / PLAIN)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
