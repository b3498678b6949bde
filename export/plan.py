"""What is to be exported and how: the arguments of export_model, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from onnxplain.contract import OnnxplainError, Preprocessing
from onnxplain.contract.errors import one_line
from onnxplain.contract.formats import DEFAULT, find_format
from onnxplain.contract.lrp_rules import RULES, checked_rules
from onnxplain.contract.metadata import ACTIVATIONS
from onnxplain.contract.names import no_such
from onnxplain.contract.outputs import CLASS_FREE, OF_OUTPUTS, PASSES
from onnxplain.contract.precisions import FLOAT32, INT8, check_precision
from onnxplain.lrp_graph import ALL, FORWARD_ONLY
from onnxplain.runtime.methods.choice import Methods
from onnxplain.runtime.methods.heatmaps import checked_heatmaps
from onnxplain.runtime.methods.table import METHODS

from .formats.arithmetic import ARITHMETIC
from .formats.onnx_file import OPSET, OPSETS
from .formats.rounding import rounded_copy
from .models.backbones import Backbone
from .models.labels import HOW_TO_GET_CLASSES, checked_labels
from .models.weights import check_model


@dataclass(frozen=True)
class Plan:
    """One export, with valid arguments.

    Attributes:
        backbone: The model, with its labels and preprocessing; its weights are rounded where they are stored so.
        format: The name of the file's format.
        opset: Of ONNX; other formats ignore it.
        passes: What the file can compute beside logits and attention, in the order of PASSES; None for all that can be.
        rules: The constants of LRP, by the names in RULES.
        heatmaps: Of a plain artifact, by the methods whose maps are its outputs, the parameters given; else empty.
        flags: One of FLAGS.
        input: One of INPUTS.
        precision: One of PRECISIONS.
        original: The model that was given, where the backbone's has rounded weights in its place.
    """

    backbone: Backbone
    format: str
    opset: int
    passes: tuple[str, ...] | None
    rules: Mapping[str, float]
    heatmaps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    flags: str = "optional"
    input: str = "pixels"
    precision: str = FLOAT32
    original: nn.Module | None = None


def prepare(
    model: Backbone | nn.Module,
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
) -> Plan:
    """Check the arguments of export_model, which describes them.

    Raises:
        OnnxplainError: One of them is not valid, or a weight is not finite or no floating-point number.
    """
    find_format(format)
    check_precision(precision, format)
    methods, flags = checked_heatmaps(heatmaps, format, passes, flags, input)
    wanted = _checked_passes(model, _passes_of(methods) if methods else passes)
    if precision == INT8 and wanted is not None and FORWARD_ONLY.issuperset(wanted):
        backward = ", ".join(name for name in PASSES if name not in FORWARD_ONLY)
        raise OnnxplainError(
            f"`precision` {INT8} is for passes that go back from the logits ({backward}), of which this has none; "
            "leave it out"
        )
    rules = checked_rules(alpha, beta, gamma, gamma_conv, gamma_linear, gamma_attention)
    if opset not in OPSETS:
        raise OnnxplainError(f"`opset` must be from {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    if activation not in ACTIVATIONS:
        raise OnnxplainError(no_such("activation", activation, ACTIVATIONS))
    module_of(model)
    if isinstance(model, Backbone):
        if labels is not None or preprocessing is not None:
            raise OnnxplainError("a backbone has its labels and preprocessing; give them to load_backbone")
        check_model(f"{model.name} ({model.source})", model.model)
        backbone = model
    else:
        check_model(type(model).__name__, model)
        backbone = _backbone_of(model, labels, preprocessing, activation)
    plan = Plan(backbone, format, opset, wanted, rules, methods, flags, input, precision)
    stored = ARITHMETIC[precision].stored
    if stored == torch.float32:
        return plan
    rounded = replace(backbone, model=rounded_copy(backbone.model, stored))
    return replace(plan, backbone=rounded, original=backbone.model)


def module_of(model: Backbone | nn.Module) -> nn.Module:
    """What is to be traced; raises OnnxplainError if it is no model."""
    module = model.model if isinstance(model, Backbone) else model
    if not isinstance(module, nn.Module):
        raise OnnxplainError(f"a model must be an nn.Module or what load_backbone gives, got {type(model).__name__}")
    return module


def _passes_of(methods: Iterable[str]) -> list[str]:
    """The passes that these methods need."""
    return [name for name in PASSES if any(name in METHODS[method].passes for method in methods)]


def _checked_passes(model: Backbone | nn.Module, passes: Sequence[str] | None) -> tuple[str, ...] | None:
    """The reverse passes asked for, in order; None if none is named and the model has classes."""
    if isinstance(passes, str):
        raise OnnxplainError(f"`passes` must be a list of names, got the text {passes!r}; write [{passes!r}]")
    wanted = None if passes is None else [name for name in passes if name != "attention"]  # which is always there
    if isinstance(model, Backbone) and not model.has_classes:
        if wanted is not None and not set(CLASS_FREE).issuperset(wanted):
            raise OnnxplainError(
                f"{model.name} has no classes to explain, its file can have {' and '.join(CLASS_FREE)} only: leave out "
                f"`passes`, or give it classes with {HOW_TO_GET_CLASSES}"
            )
        wanted = list(CLASS_FREE[1:]) if wanted is None else wanted
    if wanted is None:
        return None
    unknown = [str(name) for name in wanted if name not in ALL]
    if unknown:
        raise OnnxplainError(no_such("pass", unknown[0], ALL, OF_OUTPUTS))
    return tuple(name for name in ALL if name in wanted)


def _backbone_of(
    model: nn.Module, labels: Sequence[str] | None, preprocessing: Mapping[str, Any] | Preprocessing | None,
    activation: str,
) -> Backbone:  # fmt: skip
    """What load_backbone would have known of a model of the user's own."""
    if preprocessing is None:
        raise OnnxplainError(
            "a model of your own needs `preprocessing=dict(size=(H, W), mean=[r, g, b], std=[r, g, b])`"
        )
    if not isinstance(preprocessing, Preprocessing):
        try:
            preprocessing = Preprocessing(**preprocessing)
        except TypeError as error:
            raise OnnxplainError(f"`preprocessing`: {error}") from error
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
        raise OnnxplainError("the softmax of one class is always 1; give `activation='sigmoid'`")
    if labels is None:
        labels = [str(index) for index in range(classes)]
    names = checked_labels(labels, classes)
    return Backbone(type(model).__name__, model, preprocessing, names, activation, "in memory", None)
