"""Classification heads in files of their own, and how one is put on a model that has none.

The format is a safetensors file: ``weight`` [classes, width] and optionally ``bias`` [classes], ``mean`` and ``std``
[width], by which features are standardised before the weight applies (a batch norm without weights of its own). Its
metadata are texts: ``onnxplain_head`` the version, ``pooling`` one of POOLINGS, ``labels`` a JSON list, ``activation``
"softmax" or "sigmoid".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

VERSION = "1"
TENSORS = ("weight", "bias", "mean", "std")
METADATA = ("onnxplain_head", "pooling", "labels", "activation")

Pool = Callable[[Tensor, int], Tensor]
POOLINGS: dict[str, Pool] = {
    "cls": lambda tokens, prefix: tokens[:, 0],
    "mean": lambda tokens, prefix: tokens[:, prefix:].mean(1),
    "cls+mean": lambda tokens, prefix: torch.cat([tokens[:, 0], tokens[:, prefix:].mean(1)], 1),
    "own": lambda features, prefix: features,
}
"""What a head reads of the last layer's normalised tokens [batch, tokens, width]: the class token, the mean of the
patches, both one after the other; or what the model itself makes of them (CLIP's embedding, SigLIP's pool)."""


@dataclass(frozen=True)
class Head:
    """A linear classifier over pooled features; labels and pooling are None where the file does not tell."""

    weight: Tensor
    bias: Tensor | None = None
    mean: Tensor | None = None
    std: Tensor | None = None
    pooling: str | None = None
    labels: tuple[str, ...] | None = None
    activation: str = "softmax"

    def linear(self) -> nn.Linear:
        """The head as one layer: the standardisation is part of its weight and bias."""
        weight = self.weight.double() if self.std is None else self.weight.double() / self.std.double()
        bias = torch.zeros(len(weight), dtype=torch.float64) if self.bias is None else self.bias.double()
        if self.mean is not None:
            bias = bias - weight @ self.mean.double()
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
        return layer


class Pooled(nn.Module):
    """What a head reads: [batch, 3, H, W] -> [batch, width]. ``prefix``: how many tokens stand before the patches."""

    def __init__(self, features: nn.Module, pooling: str, prefix: int) -> None:
        super().__init__()
        self.features, self.pooling, self.prefix = features, pooling, prefix

    def forward(self, pixels: Tensor) -> Tensor:
        """The features."""
        return POOLINGS[self.pooling](self.features(pixels), self.prefix)


def write_head(path: str | Path, head: Head) -> None:
    """Write a head in the format above. Raises OnnxplainError, as read_head would, if it is not valid."""
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

    Raises OnnxplainError if it is no such file, or what it holds does not fit together.
    """
    path = Path(path)
    tensors = read_state(path, "head")
    extra = sorted(tensors.keys() - set(TENSORS))
    if extra or "weight" not in tensors:
        wrong = f"{', '.join(extra[:3])} in it" if extra else "no weight in it"
        raise OnnxplainError(f"{path} is not a head: {wrong}; it holds {', '.join(TENSORS)}, of which weight must be")
    description = _described(path)
    _check(_head(tensors, description), str(path))
    return _head({name: tensor.float() for name, tensor in tensors.items()}, description)


class _Description(TypedDict, total=False):
    """The fields of Head that the metadata of a file tell."""

    pooling: str
    labels: tuple[str, ...]
    activation: str


def _head(tensors: State, description: _Description) -> Head:
    return Head(
        weight=tensors["weight"],
        bias=tensors.get("bias"),
        mean=tensors.get("mean"),
        std=tensors.get("std"),
        **description,
    )


def _described(path: Path) -> _Description:
    """What the metadata of a safetensors file tell."""
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
