"""Every isotropic Vision Transformer of timm, two blocks with random weights: are the fused graph's numbers right?

    python -m benchmarks.sweep [--only dinov3] [--onnx] [--part 0/2]

Gradients are compared with autograd's on the unmodified model, in float32 (1e-4 of the maximum) and float64 (1e-9),
with --onnx also those of the exported file (1e-4). All passes must be possible and their outputs finite, and relevance
must be conserved from the logits to what enters the last block, where no constant has taken a share yet.
"""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import onnx_ir as ir
import onnxruntime
import timm
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from onnxplain.export.eager import eager_outputs
from onnxplain.export.onnx_file import onnx_model
from onnxplain.lrp_graph import FusedGraph, fuse
from onnxplain.lrp_graph.relevance import chefer
from onnxplain.lrp_graph.reverse import Walk, reverse

MODULES = (
    *("vision_transformer", "vision_transformer_hybrid", "vitamin", "deit", "eva", "beit"),
    *("vision_transformer_relpos", "naflexvit"),
)
SINGLE, DOUBLE = 1e-4, 1e-9
CONSERVED = 1e-3
"""How far the sum of relevance may be from 1: rules add a small constant to denominators, some of which are small."""
TARGET = torch.tensor([[0, 3], [1, 2]])
SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 64, "num_heads": 4}
SPECIAL: dict[str, dict[str, Any]] = {"vit_giant_patch16_sapiens2": {"num_kv_heads": (4, 2)}}
"""Where a name has one value for each block."""


def build(name: str) -> tuple[nn.Module, tuple[int, int]]:
    """Two blocks, a few patches, narrow, as far as the name allows; and the height and width of pictures."""
    patch = re.search(r"patch(\d+)|_p(\d+)_", name)
    side = 4 * int(patch[1] or patch[2]) if patch else 64
    sizes = {"img_size": side}
    for options in ({**SMALL, **sizes}, SMALL, {"depth": 2, **sizes}, {"depth": 2}):
        try:
            torch.manual_seed(0)
            model = timm.create_model(name, num_classes=5, **options, **SPECIAL.get(name, {})).eval()
        except (TypeError, ValueError, AssertionError, RuntimeError):
            continue
        randomise(model)
        size = (side, side) if "img_size" in options else model.pretrained_cfg["input_size"][1:]
        return model, tuple(size)
    raise ValueError("timm cannot build it small")


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Parameters that are zero or one at first would hide mistakes."""
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def check_gradient(model: nn.Module, graph: FusedGraph, pixels: Tensor, limit: float) -> None:
    names = {"logits", "attention", "attention_gradient", "pixel_gradient", "pool_attention_gradient"}
    names &= set(graph.names)
    expected = eager_outputs(model, pixels, TARGET, graph.layout, names)
    found = graph.compute(pixels, TARGET, names)
    for name in sorted(names):
        error = relative(found[name], expected[name])
        if not error <= limit:
            raise AssertionError(f"{name} in {pixels.dtype} is off by {error:.1g} of its maximum")


def check_relevance(graph: FusedGraph, pixels: Tensor) -> None:
    for name, value in graph(pixels, TARGET).items():
        if not value.isfinite().all():
            raise AssertionError(f"{name} is not finite")
    trace = graph._trace
    values = graph._interpret(pixels)
    seed = nn.functional.one_hot(TARGET.T, 5).to(pixels)
    end = graph._block.features if graph._block is not None else trace.sites[-1]
    (share,) = reverse(trace, values, trace.logits, seed, Walk(chefer()), [end])
    lost = float((share.flatten(2).sum(2) - 1).abs().max())
    if not lost <= CONSERVED:
        raise AssertionError(f"relevance before the last block adds up to 1 but for {lost:.1g}")


def check_file(model: nn.Module, graph: FusedGraph, pixels: Tensor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ir.save(onnx_model(graph, (pixels.shape[2], pixels.shape[3])), path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(["attention_gradient"], {"pixels": pixels.numpy(), "target": TARGET.numpy()})
    (expected,) = eager_outputs(model, pixels, TARGET, graph.layout, ["attention_gradient"]).values()
    error = relative(torch.from_numpy(found), expected)
    if not error <= SINGLE:
        raise AssertionError(f"the file's attention_gradient is off by {error:.1g} of its maximum")


def check(name: str, onnx: bool) -> str:
    """The model's class. Raises whatever is wrong with it."""
    model, size = build(name)
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    graph = fuse(model, pixels[:1], ["gradient"])
    check_gradient(model, graph, pixels, SINGLE)
    if onnx:
        check_file(model, graph, pixels)
    graph = fuse(model.double(), pixels[:1].double())
    if graph.left_out:
        raise AssertionError(f"impossible passes: {graph.left_out}")
    check_gradient(model, graph, pixels.double(), DOUBLE)
    check_relevance(graph, pixels.double())
    return type(model).__name__


def main(
    only: Annotated[str, typer.Option(help="Names that contain this.")] = "",
    onnx: Annotated[bool, typer.Option(help="Export each model and run the file as well.")] = False,
    part: Annotated[str, typer.Option(help="One of several parts, as 0/2: every second name from the first.")] = "0/1",
) -> None:
    """Check every name and print a table."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    start, step = map(int, part.split("/"))
    names = [(module, name) for module in MODULES for name in timm.list_models(module=module) if only in name]
    passed: dict[str, int] = defaultdict(int)
    failed: dict[str, list[str]] = defaultdict(list)
    for module, name in names[start::step]:
        try:
            check(name, onnx)
            passed[module] += 1
        except Exception as error:  # whatever it is, the others are still to be checked
            failed[module].append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
            print(failed[module][-1], flush=True)  # the table comes after many minutes
    table = Table("timm module", "names", "passed", "failed")
    for module in dict.fromkeys(module for module, _ in names[start::step]):
        table.add_row(module, *map(str, (passed[module] + len(failed[module]), passed[module], len(failed[module]))))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
