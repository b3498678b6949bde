"""Classification heads: files of their own, and models that one is put on.

The format is a safetensors file: ``weight`` [classes, width] and optionally ``bias`` [classes], ``mean`` and ``std``
[width], by which features are standardised before the weight applies (a batch norm without weights of its own). Its
metadata are texts: ``onnxplain_head`` the version, ``pooling`` one of POOLINGS, ``labels`` a JSON list, ``activation``
"softmax" or "sigmoid".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from onnxplain.contract import OnnxplainError
from onnxplain.contract.errors import one_line
from onnxplain.contract.metadata import ACTIVATIONS

from .checkpoints import State, read_state
from .pooling import POOLINGS, features_width, pooled
from .records import LoadedModel
from .seeding import seeded

VERSION = "1"
TENSORS = ("weight", "bias", "mean", "std")
METADATA = ("onnxplain_head", "pooling", "labels", "activation")


@dataclass(frozen=True)
class Head:
    """A linear classifier of pooled features: logits = weight ((features - mean) / std) + bias.

    Attributes:
        weight: [classes, width], floating-point as the others.
        bias: [classes], None for zeros.
        mean: [width], None for zeros.
        std: [width], positive, None for ones.
        pooling: What the features are, a key of POOLINGS; None if it is not known.
        labels: One for each class; None if they are not known.
        activation: From logits to probabilities, "softmax" or "sigmoid".
    """

    weight: Tensor
    bias: Tensor | None = None
    mean: Tensor | None = None
    std: Tensor | None = None
    pooling: str | None = None
    labels: tuple[str, ...] | None = None
    activation: str = "softmax"

    def linear(self) -> nn.Linear:
        """The head as one layer, float32, with the standardisation folded into its weight and bias."""
        weight = self.weight.double() if self.std is None else self.weight.double() / self.std.double()
        bias = torch.zeros(len(weight), dtype=torch.float64) if self.bias is None else self.bias.double()
        if self.mean is not None:
            bias = bias - weight @ self.mean.double()
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
        return layer


def write_head(path: str | Path, head: Head) -> None:
    """Write a head in the format above.

    Args:
        path: The file, .safetensors; replaced if it exists.
        head: What to write; its tensors are converted to float32.

    Raises:
        OnnxplainError: If the parts of the head do not fit together.
    """
    _check(head, "the head")
    tensors = {name: getattr(head, name) for name in TENSORS if getattr(head, name) is not None}
    metadata = {"onnxplain_head": VERSION, "activation": head.activation}
    if head.pooling is not None:
        metadata["pooling"] = head.pooling
    if head.labels is not None:
        metadata["labels"] = json.dumps(head.labels, ensure_ascii=False)
    save_file({name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}, path, metadata)


def read_head(path: str | Path) -> Head:
    """Read a head in the format above, or ``weight`` and ``bias`` alone from a .pth, as DINOv2's are published.

    Args:
        path: The file; a .pth is read without running pickles.

    Returns:
        The head, its tensors float32.

    Raises:
        OnnxplainError: If it is no such file, or what it holds does not fit together.
    """
    path = Path(path)
    tensors = read_state(path, "head")
    extra = sorted(tensors.keys() - set(TENSORS))
    if extra or "weight" not in tensors:
        wrong = f"{', '.join(extra[:3])} in it" if extra else "no weight in it"
        raise OnnxplainError(f"{path} is not a head: {wrong}; it holds {', '.join(TENSORS)}, of which weight must be")
    description = _read_description(path)
    _check(_make_head(tensors, description), str(path))
    return _make_head({name: tensor.float() for name, tensor in tensors.items()}, description)


def with_head(loaded: LoadedModel, head: Head, pooling: str) -> LoadedModel:
    """A model with a head on it.

    Args:
        loaded: A model that was loaded for its features.
        head: The head.
        pooling: What it reads, a key of POOLINGS.

    Raises:
        OnnxplainError: If the model does not give that, or the head is for features of another width.
    """
    features = pooled(loaded, pooling)
    width = features_width(loaded, pooling)
    if width != head.weight.shape[1]:
        raise OnnxplainError(
            f"the head is for features of width {head.weight.shape[1]}, pooling {pooling} gives {width}; "
            f"`head_pooling` can be {', '.join(POOLINGS)}"
        )
    return replace(
        loaded,
        model=nn.Sequential(features, head.linear()),
        classes=len(head.weight),
        labels=head.labels or loaded.labels,
        activation=head.activation,
    )


def random_head(width: int, classes: int) -> Head:
    """A head of random weights, the same each time."""
    with seeded():
        return Head(torch.randn(classes, width) / width**0.5)


class _Description(TypedDict, total=False):
    """The fields of Head that are in the metadata of a file."""

    pooling: str
    labels: tuple[str, ...]
    activation: str


def _make_head(tensors: State, description: _Description) -> Head:
    return Head(
        weight=tensors["weight"],
        bias=tensors.get("bias"),
        mean=tensors.get("mean"),
        std=tensors.get("std"),
        **description,
    )


def _read_description(path: Path) -> _Description:
    """The fields in the metadata of a safetensors file, none for another."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, "pt") as file:
        metadata: Mapping[str, str] = file.metadata() or {}
    version = metadata.get("onnxplain_head", VERSION)
    unknown = sorted(metadata.keys() - set(METADATA) - {"format"})  # "format" is what libraries write of themselves
    if version != VERSION or ("onnxplain_head" in metadata and unknown):
        what = ", ".join(unknown) if version == VERSION else f"version {version}"
        raise OnnxplainError(f"{path} is a head with {what}, which this version of onnxplain does not know")
    fields: _Description = {}
    if "pooling" in metadata:
        fields["pooling"] = metadata["pooling"]
    if "activation" in metadata:
        fields["activation"] = metadata["activation"]
    if "labels" in metadata:
        try:
            fields["labels"] = tuple(json.loads(metadata["labels"]))
        except (ValueError, TypeError, RecursionError) as error:
            raise OnnxplainError(f"the labels in {path} must be a JSON list: {one_line(error)}") from error
    return fields


def _check(head: Head, name: str) -> None:
    """Raise OnnxplainError unless the parts of a head fit together."""
    if head.weight.dim() != 2 or 0 in head.weight.shape:
        raise OnnxplainError(f"{name}: weight must be [classes, width], got {list(head.weight.shape)}")
    classes, width = head.weight.shape
    for part, length in (("bias", classes), ("mean", width), ("std", width)):
        tensor = getattr(head, part)
        if tensor is not None and tensor.shape != (length,):
            raise OnnxplainError(
                f"{name}: {part} must be [{length}] with a weight of [{classes}, {width}], got {list(tensor.shape)}"
            )
    for part in TENSORS:
        tensor = getattr(head, part)
        if tensor is not None and not (tensor.is_floating_point() and tensor.isfinite().all()):
            raise OnnxplainError(f"{name}: {part} must hold finite floating-point numbers")
    if head.std is not None and not (head.std > 0).all():
        raise OnnxplainError(f"{name}: std must be positive")
    if head.pooling is not None and head.pooling not in POOLINGS:
        raise OnnxplainError(f"{name}: there is no pooling {head.pooling!r}; there are: {', '.join(POOLINGS)}")
    if head.activation not in ACTIVATIONS:
        raise OnnxplainError(f"{name}: there is no activation {head.activation!r}; there are: {', '.join(ACTIVATIONS)}")
    if head.labels is not None and (
        len(head.labels) != classes or not all(isinstance(label, str) for label in head.labels)
    ):
        raise OnnxplainError(f"{name}: labels must be {classes} texts, one for each class, got {len(head.labels)}")
