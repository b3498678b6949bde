"""The files that the benchmarks measure, written in a process of its own, which takes its memory with it.

    python -m benchmarks.files '{"model": "vit_base_patch16_224", "size": 224, "folder": "…", "ways": ["onnx"]}'

The artifacts have random weights and are written as export_model writes them, without the comparison with PyTorch: that
would cost a minute and 7 GB for each ViT-B, and the tests make it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.formats import format_of
from onnxplain.export import Backbone, load_backbone
from onnxplain.export.artifact import fuse_passes, translate, write
from onnxplain.export.formats.silent import silent
from onnxplain.export.models.seeding import seeded
from onnxplain.export.plan import prepare
from onnxplain.lrp_graph import FusedGraph

from .ways import BACKWARD, WAYS

CLASSES = 1000


def build(model: str, size: int, depth: int | None = None) -> Backbone:
    """timm's model of that name with random weights, for images of ``size`` by ``size``; of another depth if given."""
    backbone = load_backbone(f"timm/{model}", random_init=True, num_classes=CLASSES, image_size=size)
    if depth is None:
        return backbone
    with seeded():
        other = timm.create_model(model, img_size=size, depth=depth, num_classes=CLASSES).eval()
    return replace(backbone, model=other)


def fused(backbone: Backbone) -> FusedGraph:
    """The fused graph with all that is measured."""
    return fuse_passes(prepare(backbone, passes=BACKWARD))[0]


def write_artifact(backbone: Backbone, path: Path, **options: Any) -> None:
    """The artifact that `export_model` writes with these options, in the format of the path's suffix."""
    plan = prepare(backbone, format_of(path), **options)
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


def main(model: str, size: int, folder: str, ways: Sequence[str], depth: int | None = None) -> None:
    """Write to ``folder`` what these ways need."""
    backbone = build(model, size, depth)
    files = {WAYS[way].file: WAYS[way] for way in ways}
    for name, way in files.items():
        if name is not None and way.export:
            write_artifact(backbone, Path(folder, name), **way.export)
        elif name is not None:
            write_plain(backbone.model, backbone.preprocessing.size, Path(folder, name))


if __name__ == "__main__":
    try:
        main(**json.loads(sys.argv[1]))
    except OnnxplainError as error:  # such as a model that is no Vision Transformer
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
