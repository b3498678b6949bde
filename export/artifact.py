"""From a model to an artifact that was proved equal to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onnxplain.contract import Metadata, OnnxplainError, Preprocessing
from onnxplain.contract.errors import one_line
from onnxplain.contract.metadata import ACTIVATIONS, RULES
from onnxplain.contract.names import no_such
from onnxplain.contract.outputs import OF_OUTPUTS
from onnxplain.lrp_graph import ALL, FusedGraph, GraphError, MissingRuleError, fuse
from onnxplain.runtime.backends.formats import check_format

from .formats.onnx_file import OPSET, OPSETS, onnx_model, save_onnx, written_whole
from .formats.torchscript_file import save_torchscript, torchscript_model
from .models.backbones import Backbone
from .models.labels import HOW_TO_GET_CLASSES, checked_labels
from .models.weights import check_model
from .verify.parity import LARGE, compare
from .verify.report import GateError, Report

COPYING = "reciprocam"
"""The pass that copies an image's features for each patch."""


def export_model(
    model: Backbone | nn.Module,
    path: str | Path,
    format: str = "onnx",
    passes: Sequence[str] | None = None,
    opset: int = OPSET,
    alpha: float = RULES["alpha"],
    beta: float | None = None,
    gamma: float = RULES["gamma"],
    labels: Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | Preprocessing | None = None,
    activation: str = "softmax",
    progress: Callable[[str], None] = lambda stage: None,
) -> Report:
    """Write a self-contained artifact and return the report of its comparison with the model.

    model: from load_backbone, or any image classifier [batch, 3, H, W] -> [batch, classes]; then ``preprocessing`` is
        needed, dict(size=(H, W), mean=…, std=…) and optionally crop_pct, crop_mode and interpolation as timm means
        them, and crop_rounding="floor" where crops start as in transformers; ``labels`` are numbers unless given, and
        ``activation`` is "softmax" or "sigmoid".
    path: replaced only if the artifact passes; its folder is made.
    format: "onnx", or "torchscript", which PyTorch calls deprecated, for a path that ends with .pt.
    passes: what the artifact can compute beside logits and attention, names in PASSES. By default all, but reciprocam
        only where the image has so few patches that the copies it makes of them fit in memory; the report tells. None
        where the model's outputs are features and not classes.
    alpha, beta: of Chefer's rule for linear layers, in relevance and pixel_relevance: alpha of what speaks for an
        output less beta of what speaks against it; at least 1, and beta is alpha - 1, which need not be given.
    gamma: of AttnLRP's rule for linear layers and convolutions, in pixel_attnlrp and pixel_cp_lrp: how much what agrees
        with an output is favoured, from 0.
    progress: called with a description of each stage as it begins.
    Raises GateError if the file's outputs differ from the model's, OnnxplainError if the model cannot be explained, a
    weight of it is NaN, infinite or no floating-point number, or an argument is not valid. Nothing is written then. A
    pass that nobody named is left out where its outputs alone differ, and the report tells.
    """
    check_format(format, path)
    if isinstance(passes, str):
        raise OnnxplainError(f"passes must be a list of names, got the text {passes!r}; write [{passes!r}]")
    if passes is not None:
        passes = [name for name in passes if name != "attention"]  # which is always there
    if isinstance(model, Backbone) and not model.has_classes:
        if passes:
            raise OnnxplainError(
                f"{model.name} has no classes to explain, its file can show attention only: leave out --passes, or "
                f"give it classes with {HOW_TO_GET_CLASSES}"
            )
        passes = ()
    wanted = ALL if passes is None else tuple(passes)
    unknown = [str(name) for name in wanted if name not in ALL]
    if unknown:
        raise OnnxplainError(no_such("pass", unknown[0], ALL, OF_OUTPUTS))
    rules = _checked_rules(alpha, alpha - 1 if beta is None else beta, gamma)
    if opset not in OPSETS:
        raise OnnxplainError(f"opset must be from {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    if activation not in ACTIVATIONS:
        raise OnnxplainError(no_such("activation", activation, ACTIVATIONS))
    if isinstance(model, Backbone) and (labels is not None or preprocessing is not None):
        raise OnnxplainError("a backbone has its labels and preprocessing; give them to load_backbone")
    if isinstance(model, Backbone):
        check_model(f"{model.name} ({model.source})", model.model)
    else:
        check_model(type(model).__name__, model)
    backbone = model if isinstance(model, Backbone) else _custom(model, labels, preprocessing, activation)
    size = backbone.preprocessing.size
    notes: tuple[str, ...] = ()
    with written_whole(Path(path)) as temporary:
        progress("tracing the model")
        graph = _fused(backbone, None if passes is None else wanted, rules)
        if passes is None:
            notes = tuple(f"{name}: left out, {reason}" for name, reason in graph.left_out.items())
            if graph.masked_bytes > LARGE:
                notes = (*notes, _note(graph))
                graph = _fused(backbone, [name for name in graph.passes if name != COPYING], rules)
        while True:
            progress(f"translating the fused graph to {format}")
            save = _saver(graph, size, format, opset)
            metadata = described(backbone, graph, rules)
            save(metadata.to_json(), temporary)
            progress("comparing the file with the model")
            report = compare(temporary, metadata, backbone.model, graph)
            report = replace(report, notes=report.notes + notes)
            wrong = report.wrong_passes
            if report.passed:
                break
            if passes is not None or not wrong <= set(graph.passes):
                raise GateError(report)
            notes = (*notes, *(f"{name}: left out, {report.failures(name)}" for name in graph.passes if name in wrong))
            graph = _fused(backbone, [name for name in graph.passes if name not in wrong], rules)
        progress("writing the artifact")
        save(replace(metadata, parity=report.to_dict(), resolution=report.resolution).to_json(), temporary)
    return report


def described(backbone: Backbone, graph: FusedGraph, rules: Mapping[str, float]) -> Metadata:
    """What the artifact says about itself, before it is compared with the model."""
    return Metadata(
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
        passes=("attention", *graph.passes),
        pool_heads=graph.pool_heads,
        rules=rules,
    )


def _fused(backbone: Backbone, passes: Sequence[str] | None, rules: Mapping[str, float]) -> FusedGraph:
    example = torch.zeros(1, 3, *backbone.preprocessing.size)
    try:
        ordered = None if passes is None else [name for name in ALL if name in passes]
        return fuse(backbone.model, example, ordered, **rules)
    except (GraphError, MissingRuleError) as error:
        raise OnnxplainError(f"{backbone.name} cannot be explained: {error}") from error


def _saver(graph: FusedGraph, size: tuple[int, int], format: str, opset: int) -> Callable[[str, Path], None]:
    """What writes the artifact, given its metadata and a path; the translation is done once."""
    if format == "torchscript":
        return partial(save_torchscript, torchscript_model(graph, size))
    return partial(save_onnx, onnx_model(graph, size, opset))


def _note(graph: FusedGraph) -> str:
    return (
        f"{COPYING}: left out, since it would need several times {graph.masked_bytes / 2**20:.0f} MiB for each image; "
        "name it among the passes to have it all the same"
    )


def _checked_rules(alpha: float, beta: float, gamma: float) -> dict[str, float]:
    """The parameters of LRP, as numbers; raises OnnxplainError unless the rules keep the sum of relevance with them."""
    given = {"alpha": alpha, "beta": beta, "gamma": gamma}
    for name, value in given.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise OnnxplainError(f"{name} must be a number, got {value!r}")
    if alpha < 1 or not math.isclose(alpha - beta, 1, abs_tol=1e-9):
        raise OnnxplainError(
            f"alpha must be at least 1 and beta one less than alpha, got alpha {alpha:g} and beta {beta:g}"
        )
    if gamma < 0:
        raise OnnxplainError(f"gamma must be at least 0, got {gamma:g}")
    return {name: float(value) for name, value in given.items()}


def _custom(
    model: nn.Module, labels: Sequence[str] | None, preprocessing: Mapping[str, Any] | Preprocessing | None,
    activation: str,
) -> Backbone:  # fmt: skip
    """What load_backbone would have known of a model of the user's own."""
    if preprocessing is None:
        raise OnnxplainError("a model of your own needs preprocessing=dict(size=(H, W), mean=[r, g, b], std=[r, g, b])")
    if not isinstance(preprocessing, Preprocessing):
        try:
            preprocessing = Preprocessing(**preprocessing)
        except TypeError as error:
            raise OnnxplainError(f"preprocessing: {error}") from error
    model = model.eval()
    shape = [1, 3, *preprocessing.size]
    try:
        with torch.no_grad():
            logits = model(torch.zeros(shape))
    except Exception as error:  # the model's code may raise anything
        raise OnnxplainError(f"the model fails on a float32 image {shape} on the CPU: {one_line(error)}") from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        given = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise OnnxplainError(f"the model must return one tensor [batch, classes], it returns {given}; wrap it")
    classes = logits.shape[1]
    if classes == 1 and activation == "softmax":
        raise OnnxplainError("the softmax of one class is always 1; give activation='sigmoid'")
    if labels is None:
        labels = [str(index) for index in range(classes)]
    names = checked_labels(labels, classes)
    return Backbone(type(model).__name__, model, preprocessing, names, activation, "in memory", None)
