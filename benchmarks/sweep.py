"""Every isotropic Vision Transformer of timm, two blocks with random weights: are the fused graph's numbers right?

    python -m benchmarks.sweep [--only dinov3] [--onnx] [--jobs 2]

Gradients are compared with autograd's on the unmodified model, in float32 (1e-4 of the maximum) and float64 (1e-9),
with --onnx also those of the exported file (1e-4). All passes must be possible and their outputs finite in both types,
and relevance must be conserved from the logits to what enters the first block; before that, constants take a share.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
import tempfile
import warnings
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
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

from onnxplain.export.formats.onnx_file import onnx_model
from onnxplain.export.verify.autograd_reference import eager_outputs
from onnxplain.lrp_graph import FusedGraph, fuse
from onnxplain.lrp_graph.outputs.streams import stream_before
from onnxplain.lrp_graph.reverse import Propagator, reverse
from onnxplain.lrp_graph.rules.chefer import chefer

from .refusing import refuse

MODULES = (
    *("vision_transformer", "vision_transformer_hybrid", "vitamin", "deit", "eva", "beit"),
    *("vision_transformer_relpos", "naflexvit"),
)
SINGLE, DOUBLE = 1e-4, 1e-9
CONSERVED = 1e-5
"""How far the sum of relevance may be from 1: rules add 1e-9 to denominators, some of which are small."""
TARGET = torch.tensor([[0, 3], [1, 2]])
SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 128, "num_heads": 4}
"""Wide enough that each output of a linear layer has a positive product: one without loses its relevance."""

KV_HEADS: dict[str, Any] = {"num_kv_heads": (4, 2)}
"""What sapiens2 models have one of for each block."""


def build(name: str) -> tuple[nn.Module, tuple[int, int]]:
    """Two blocks, a few patches, narrow, as far as the name allows; and the height and width of images."""
    patch = re.search(r"patch(\d+)|_p(\d+)_", name)
    side = 4 * int(patch[1] or patch[2]) if patch else 64
    sizes = {"img_size": side} | (KV_HEADS if name.endswith("_sapiens2") else {})
    for options in ({**SMALL, **sizes}, SMALL, {"depth": 2, **sizes}, {"depth": 2}):
        try:
            torch.manual_seed(0)
            model = timm.create_model(name, num_classes=5, **options).eval()
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
    """The greatest error, relative to the greatest value."""
    return float((found - expected).abs().max() / expected.abs().max())


def check_outputs(model: nn.Module, graph: FusedGraph, pixels: Tensor, limit: float) -> None:
    """Raise AssertionError unless all outputs are finite and those that autograd gives are right within the limit."""
    if graph.left_out:
        raise AssertionError(f"impossible passes: {graph.left_out}")
    found = graph(pixels, TARGET)
    for name, value in found.items():
        if not value.isfinite().all():
            raise AssertionError(f"{name} in {pixels.dtype} is not finite")
    names = {"logits", "attention", "attention_gradient", "pixel_gradient", "pool_attention_gradient"}
    for name, value in eager_outputs(model, pixels, TARGET, graph.layout, names & set(graph.names)).items():
        error = relative(found[name], value)
        if not error <= limit:
            raise AssertionError(f"{name} in {pixels.dtype} is off by {error:.1g} of its maximum")


def check_conservation(graph: FusedGraph, pixels: Tensor) -> None:
    """Raise AssertionError unless relevance before the first block adds up to that of the logits."""
    trace = graph._trace
    values = graph._interpret(pixels)
    seed = nn.functional.one_hot(TARGET.T, 5).to(pixels)
    stream = stream_before(trace, trace.layer_attention[0])
    if stream is None:
        raise AssertionError("no one token stream enters the first block")
    (relevance,) = reverse(trace, values, trace.logits, seed, Propagator(chefer()), [stream])
    lost = float((relevance.flatten(2).sum(2) - 1).abs().max())
    if not lost <= CONSERVED:
        raise AssertionError(f"relevance before the first block adds up to 1 but for {lost:.1g}")


def check_file(model: nn.Module, pixels: Tensor) -> None:
    """Raise AssertionError unless the exported file gives the gradients that autograd gives."""
    graph = fuse(model, pixels[:1], ["gradient"])
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


def check(name: str, onnx: bool) -> tuple[str, str]:
    """The model's class, and what is wrong with it, if anything."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    kind = "unknown"
    try:
        model, size = build(name)
        kind = type(model).__name__
        pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        check_outputs(model, fuse(model, pixels[:1]), pixels, SINGLE)
        if onnx:
            check_file(model, pixels)
        model, pixels = model.double(), pixels.double()
        graph = fuse(model, pixels[:1])
        check_outputs(model, graph, pixels, DOUBLE)
        check_conservation(graph, pixels)
    except Exception as error:  # whatever it is, the others are still to be checked
        return kind, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return kind, ""


def main(
    only: Annotated[str, typer.Option(help="Names that contain this.")] = "",
    onnx: Annotated[bool, typer.Option(help="Export each model and run the file as well.")] = False,
    jobs: Annotated[int, typer.Option(help="Processes that share the names.")] = 1,
) -> None:
    """Check every name, say what came of it, and print a table of the models' classes and all failures again."""
    names = [name for module in MODULES for name in timm.list_models(module=module) if only in name]
    if not names:
        refuse(f"no name of a model contains {only!r}")
    passed: dict[str, int] = defaultdict(int)
    failed: dict[str, list[str]] = defaultdict(list)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        results = pool.map(partial(check, onnx=onnx), names)
        for number, (name, (kind, failure)) in enumerate(zip(names, results, strict=True), 1):
            print(f"[{number}/{len(names)}] {name}: {failure or 'passed'}", flush=True)
            if failure:
                failed[kind].append(f"{name}: {failure}")
            else:
                passed[kind] += 1
    table = Table("class", "names", "passed", "failed")
    for kind in dict.fromkeys([*passed, *failed]):
        table.add_row(kind, *map(str, (passed[kind] + len(failed[kind]), passed[kind], len(failed[kind]))))
    failures = [failure for kind in failed.values() for failure in kind]
    table.add_section()
    table.add_row("all", *map(str, (len(names), len(names) - len(failures), len(failures))))
    Console().print(table)
    print(*failures, sep="\n")
    if failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
