"""From a model to an artifact that was proved equal to it: prepare, fuse, translate, write, verify, publish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onnxplain.contract import Metadata, OnnxplainError, Preprocessing
from onnxplain.contract.formats import DEFAULT, check_format
from onnxplain.contract.lrp_rules import RULES
from onnxplain.contract.outputs import HEATMAP
from onnxplain.contract.precisions import FLOAT32, INT8
from onnxplain.lrp_graph import FusedGraph, GraphError, MissingRuleError, fuse
from onnxplain.runtime.methods.choice import Methods, call_methods
from onnxplain.runtime.methods.table import METHODS

from .atomic_files import atomic_file
from .collector import collector_paused
from .formats.arithmetic import ARITHMETIC
from .formats.onnx_file import OPSET, take_image_input
from .formats.table import WRITERS
from .heatmaps import with_heatmaps
from .models.backbones import Backbone
from .plan import Plan, prepare
from .verify.image_samples import ImageSamples
from .verify.parity import compare
from .verify.report import GateError, Report

COPYING = "reciprocam"
"""The pass that copies an image's features for each patch."""
MAX_COPIES = 2**28
"""Bytes of these copies of one image above which the pass is left out unless it is named."""


def export_model(
    model: Backbone | nn.Module,
    path: str | Path,
    format: str = DEFAULT,
    passes: Sequence[str] | None = None,
    opset: int = OPSET,
    alpha: float = RULES["alpha"],
    beta: float | None = None,
    gamma: float | None = None,
    gamma_conv: float | None = None,
    gamma_linear: float | None = None,
    gamma_attention: float | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | Preprocessing | None = None,
    activation: str = "softmax",
    heatmaps: Methods | None = None,
    flags: str | None = None,
    input: str = "pixels",
    precision: str = FLOAT32,
    progress: Callable[[str], None] = lambda stage: None,
) -> Report:
    """Write a self-contained artifact, compared with the model.

    Args:
        model: From load_backbone, or any image classifier [batch, 3, H, W] -> [batch, classes]; then `preprocessing`
            is needed.
        path: Replaced only if the artifact passes; its folder is made.
        format: "onnx", or another row of contract.formats.FORMATS for a path with its suffix, such as "torchscript",
            which PyTorch calls deprecated, and .pt.
        passes: What the artifact can compute beside logits and attention, names in PASSES. By default all, but
            reciprocam only where the image has so few patches that the copies it makes of them fit in memory; the
            report tells. Features alone where the model's outputs are features and not classes.
        opset: Of ONNX, 18 to 23.
        alpha: Of Chefer's rule for linear layers, in relevance and pixel_relevance: the weight of what speaks for an
            output, at least 1.
        beta: The weight of what speaks against it: alpha - 1, which need not be given.
        gamma: Of AttnLRP's gamma rule, in pixel_attnlrp and pixel_cp_lrp: how much what agrees with a layer's output is
            favoured, from 0. It is each of the following three, in place of them.
        gamma_conv: Of the gamma rule for convolutions, as that of the patch embedding; 0 unless given. Published for
            ViTs: 0.25.
        gamma_linear: Of the gamma rule for linear layers, but those of attention; 0 unless given. Published for ViTs:
            0.05.
        gamma_attention: Of the gamma rule for the linear layers of attention, which give queries, keys and values and
            read its output; 0 unless given, as published.
        labels: Of the classes; numbers unless given.
        preprocessing: dict(size=(H, W), mean=…, std=…) and optionally crop_pct, crop_mode and interpolation as timm
            means them, and crop_rounding="floor" where crops start as in transformers.
        activation: "softmax" or "sigmoid".
        heatmaps: Names in METHODS, or a mapping of names to each method's parameters: write a plain artifact, whose
            outputs beside the logits are the heatmaps of these methods, and which has nothing that these do not need.
        flags: Whether a plain artifact of several heatmaps has a flag for each, so that it computes only what is asked
            for: "required" inputs, which is the default, "optional" ones, which not every runtime can feed, or "none".
        input: "pixels", or of a plain artifact "image": it takes images uint8 [batch, height, width, 3] of any size,
            prepares them in the graph as Pillow does, and its heatmaps are [batch, targets, height, width].
        precision: One of PRECISIONS, see there; of TorchScript "float32" alone.
        progress: Called with a description of each stage as it begins.

    Returns:
        The report of the comparison. A pass that nobody named is left out where its outputs alone differ from the
        model's, and the report tells.

    Raises:
        GateError: The file's outputs differ from the model's. Nothing is written, as with the errors below.
        OnnxplainError: The model cannot be explained, a weight of it is NaN, infinite or no floating-point number, an
            argument is not valid, or the file cannot be written.
    """
    check_format(format, path)
    plan = prepare(
        model,
        format,
        passes,
        opset,
        alpha,
        beta,
        gamma,
        gamma_conv,
        gamma_linear,
        gamma_attention,
        labels,
        preprocessing,
        activation,
        heatmaps,
        flags,
        input,
        precision,
    )
    with atomic_file(Path(path)) as file:
        progress("tracing the model")
        graph, notes = fuse_passes(plan)
        while True:
            progress(f"translating the fused graph to {format}")
            artifact = translate(plan, graph)
            write(artifact, file)
            progress("comparing the file with the model")
            report = verify(file, artifact, plan, graph, notes)
            if report.passed:
                break
            graph, left_out = fuse_without_failed(plan, graph, report)
            notes += left_out
        if plan.input == "image":
            progress("comparing the file on images")
            artifact, report = take_images(artifact, report, file)
        progress("writing the artifact")
        publish(artifact, report, file)
    return report


@dataclass(frozen=True)
class Translated:
    """A fused graph in the format of its file.

    Attributes:
        format: The format's name.
        model: What the format's `save` writes.
        metadata: What the file says about itself, without the results of the comparison.
    """

    format: str
    model: Any
    metadata: Metadata


@collector_paused()
def fuse_passes(plan: Plan) -> tuple[FusedGraph, tuple[str, ...]]:
    """Fuse the model with the passes that are asked for, or all that are possible.

    Returns:
        The fused graph, and notes of the passes that were left out.

    Raises:
        OnnxplainError: The model cannot be explained, or not with a pass that is asked for.
    """
    graph = _fused(plan, plan.passes)
    if plan.heatmaps:
        return with_heatmaps(graph, describe(plan, graph)), ()
    if plan.passes is not None:
        return graph, ()
    notes = tuple(f"{name}: left out, {reason}" for name, reason in graph.left_out.items())
    if graph.masked_bytes > MAX_COPIES:
        notes += (
            f"{COPYING}: left out, since it would need several times {graph.masked_bytes / 2**20:.0f} MiB for each "
            "image; name it among the passes to have it all the same",
        )
        graph = _fused(plan, [name for name in graph.passes if name != COPYING])
    return graph, notes


@collector_paused()
def translate(plan: Plan, graph: FusedGraph) -> Translated:
    """Translate the fused graph to the plan's format, and describe it."""
    size = plan.backbone.preprocessing.size
    model = WRITERS[plan.format].translate(graph, size, plan.opset, plan.flags, plan.precision)
    return Translated(plan.format, model, describe(plan, graph))


def write(artifact: Translated, path: Path) -> None:
    """Write the file as it stands, which may not have been compared with the model."""
    WRITERS[artifact.format].save(artifact.model, artifact.metadata.to_json(), path)


def verify(path: Path, artifact: Translated, plan: Plan, graph: FusedGraph, notes: tuple[str, ...]) -> Report:
    """Compare the file with the model; the report has these notes after its own."""
    original = None
    if plan.original is not None:
        original = _fused(replace(plan, backbone=replace(plan.backbone, model=plan.original)), graph.passes)
    report = compare(path, artifact.metadata, plan.backbone.model, graph, original)
    return replace(report, notes=report.notes + notes)


def fuse_without_failed(plan: Plan, graph: FusedGraph, report: Report) -> tuple[FusedGraph, tuple[str, ...]]:
    """Fuse the model again, without the passes whose outputs differ from the model's.

    Returns:
        As of `fuse_passes`.

    Raises:
        GateError: The passes were named, or logits or attention differ.
    """
    wrong = report.wrong_passes
    if plan.passes is not None or not wrong <= set(graph.passes):
        raise GateError(report)
    notes = tuple(f"{name}: left out, {report.failures(name)}" for name in graph.passes if name in wrong)
    return _fused(plan, [name for name in graph.passes if name not in wrong]), notes


def take_images(artifact: Translated, report: Report, path: Path) -> tuple[Translated, Report]:
    """Have a plain artifact, which is at `path`, take images as they are, and compare that with what it did.

    Returns:
        The artifact as it is now at `path`, and the report with the further comparison.

    Raises:
        GateError: They differ.
    """
    before = artifact.metadata
    samples = ImageSamples(path, before)
    relative = {HEATMAP + name: METHODS[name].relative for name in before.heatmaps}
    prepared = take_image_input(artifact.model, before.preprocessing, relative)
    changed = replace(artifact, metadata=replace(before, input="image"))
    write(changed, path)
    report = replace(report, rows=(*report.rows, *samples.compare(path, prepared)))
    if not report.passed:
        raise GateError(report)
    return changed, report


def publish(artifact: Translated, report: Report, path: Path) -> None:
    """Write the file with the report of its comparison."""
    metadata = replace(artifact.metadata, parity=report.to_dict(), resolution=report.resolution)
    write(replace(artifact, metadata=metadata), path)


def describe(plan: Plan, graph: FusedGraph) -> Metadata:
    """What the artifact says about itself, before it is compared with the model."""
    backbone = plan.backbone
    metadata = Metadata(
        model=backbone.name,
        checkpoint={"source": backbone.source, "sha256": backbone.sha256},
        preprocessing=backbone.preprocessing,
        labels=backbone.labels,
        activation=backbone.activation,
        patch_grid=graph.layout.patch_grid,
        prefix_tokens=graph.layout.prefix_tokens,
        readout=graph.layout.readout,
        layers=graph.layers,
        heads=graph.heads,
        token_width=graph.token_width,
        hidden_width=graph.hidden_width,
        passes=("attention", *graph.passes),
        pool_heads=graph.pool_heads,
        rules=plan.rules,
        flags=plan.flags,
        precision=plan.precision,
    )
    if not plan.heatmaps:
        return metadata
    calls = call_methods(plan.heatmaps, metadata)
    return replace(metadata, heatmaps={call.method.name: call.arguments for call in calls})


def _fused(plan: Plan, passes: Sequence[str] | None) -> FusedGraph:
    model = plan.backbone.model
    example = torch.zeros(1, 3, *plan.backbone.preprocessing.size).to(next(model.parameters()))
    try:
        in_double = ARITHMETIC[plan.precision].in_double
        return fuse(model, example, passes, **plan.rules, int8=plan.precision == INT8, exact_constants=in_double)
    except (GraphError, MissingRuleError) as error:
        raise OnnxplainError(f"{plan.backbone.name} cannot be explained: {error}") from error
