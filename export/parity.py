"""The export gate: is the file that was written the model that was given?

Every output is compared with eager PyTorch in float64. float32 itself has an error, and in relevance a large one: its
rules divide by sums that can be near zero, so that in an untrained network a pixel changed by its last bit can change a
map beyond recognition. So the file may be off by what eager float32 is off in the worst image and class, times a small
factor, and for relevance the median over images and classes is what counts: which of them is ill-conditioned is chance.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..lrp_graph import FusedGraph
from ..runtime import METHODS, PASSES, Metadata, OnnxplainError
from ..runtime.session import Artifact
from .eager import eager_tensors

FLOOR = 1e-5
"""Relative error that is always allowed: float32 rounding through a deep model."""
FACTOR = {"logits": 5.0, "attention": 5.0, "attention_gradient": 5.0, "relevance": 20.0}
"""How many times eager float32's own error the file may have where that is more.

onnxruntime adds in another order than PyTorch, which relevance feels most: it divides by sums near zero.
"""
HEATMAP_FACTOR = 5.0
"""The same for 1 - cosine of heatmaps."""
COSINE = 1e-4
"""1 - cosine of a heatmap with the one computed in float64, always allowed."""

IMAGES = 3
TARGETS = 2

AGGREGATE = {"logits": np.max, "attention": np.max, "attention_gradient": np.max, "relevance": np.median}
"""What stands for all samples in the report."""

PER_TARGET = {item.output for item in PASSES.values() if item.per_target}
"""The outputs that have a target axis."""

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Check:
    """One line of the report: ``value`` was measured, ``limit`` is what was asked."""

    output: str
    check: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class Report:
    """What the gate found. error is relative to the output's greatest absolute value."""

    rows: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether the file may be kept."""
        return all(row.passed for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the artifact's metadata."""
        return {"passed": self.passed, "checks": [asdict(row) for row in self.rows]}


class GateError(OnnxplainError):
    """The file written does not do what the model does; ``report`` says in what."""

    def __init__(self, report: Report) -> None:
        failed = "; ".join(
            f"{row.output} {row.check}: {row.value:.2g} against {row.limit:.2g}"
            for row in report.rows
            if not row.passed
        )
        super().__init__(f"the exported graph does not equal the model, nothing was written ({failed})")
        self.report = report


def compare(path: Path, model: nn.Module, graph: FusedGraph) -> Report:
    """Run the artifact at ``path`` on random images and classes and compare all it gives.

    Logits, attention and its gradient are compared with ``model`` itself and autograd, relevance with ``graph``.
    """
    artifact = Artifact(path, "cpu", None)
    metadata = artifact.metadata
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(IMAGES, 3, *metadata.preprocessing.size, generator=generator)
    targets = torch.randperm(len(metadata.labels), generator=generator)[:TARGETS]
    ours: Tensors = dict(artifact.run(pixels.numpy(), targets.tolist(), metadata.passes))
    target = targets.expand(IMAGES, -1)
    single = _reference(model, graph, pixels, target)
    exact_model = copy.deepcopy(model).double()
    exact = _reference(exact_model, _over(graph, exact_model), pixels.double(), target)
    rows = [_equality(name, ours[name], single[name], exact[name]) for name in ours]
    rows += _dependences(ours, exact)
    if {"gradient", "relevance"} <= set(metadata.passes):
        rows.append(_heatmaps(metadata, ours, single, exact))
    return Report(tuple(rows))


def _over(graph: FusedGraph, model: nn.Module) -> FusedGraph:
    """The same graph in float64, over the weights of ``model``."""
    twin = copy.copy(graph)
    twin._modules = {"model": model}
    twin._buffers = {name: buffer.clone() if buffer is not None else None for name, buffer in graph._buffers.items()}
    return twin.double()


def _reference(model: nn.Module, graph: FusedGraph, pixels: Tensor, target: Tensor) -> Tensors:
    with torch.no_grad():
        fused = graph(pixels, target)
    return {name: tensor.numpy() for name, tensor in (fused | eager_tensors(model, pixels, target)).items()}


def _relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The greatest difference as a share of the greatest value of ``b``."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(np.float32).tiny))


def _errors(name: str, tensor: NDArray[Any], exact: NDArray[Any]) -> list[float]:
    """The relative error of each sample: of an image or, where there is a target axis, of an image and class."""
    axes = 2 if name in PER_TARGET else 1
    samples = zip(tensor.reshape(-1, *tensor.shape[axes:]), exact.reshape(-1, *exact.shape[axes:]), strict=True)
    return [_relative(a, b) for a, b in samples]


def _equality(name: str, ours: NDArray[Any], single: NDArray[Any], exact: NDArray[Any]) -> Check:
    if ours.shape != exact.shape or not np.isfinite(ours).all():
        return Check(name, "finite and of the right shape", float("inf"), 0.0, False)
    error = float(AGGREGATE[name](_errors(name, ours, exact)))
    limit = max(FLOOR, FACTOR[name] * max(_errors(name, single, exact)))
    return Check(name, "error against eager PyTorch", error, limit, error <= limit)


def _dependences(ours: Tensors, exact: Tensors) -> list[Check]:
    """A gradient that an exporter has baked in as a constant is right for one image only: look for a change.

    It must be at least a tenth of the change in float64.
    """
    rows = []
    for name, tensor in ours.items():
        kinds = ["image", "class"] if name in PER_TARGET else ["image"]
        for kind in kinds:
            change, expected = _change(tensor, kind), _change(exact[name], kind)
            rows.append(Check(name, f"change with the {kind}", change, expected / 10, change > expected / 10))
    return rows


def _change(tensor: NDArray[Any], kind: str) -> float:
    """The least relative difference between two images, or between two classes of an image."""
    pairs = tensor[:-1], tensor[1:]
    if kind == "class":
        pairs = tensor[:, 0], tensor[:, 1]
    return min(_relative(a, b) for a, b in zip(*pairs, strict=True))


def _heatmaps(metadata: Metadata, ours: Tensors, single: Tensors, exact: Tensors) -> Check:
    """How far maps out of the file point away from maps out of float64."""
    method = METHODS["transformer_attribution"]
    arguments = method.arguments({}, metadata.layers)

    def maps(tensors: Tensors) -> NDArray[np.float64]:
        """[images * targets, patches]"""
        gradient, relevance = (
            t.reshape(-1, *t.shape[2:]) for t in (tensors["attention_gradient"], tensors["relevance"])
        )
        pairs = zip(gradient, relevance, strict=True)
        return np.stack(
            [method.function(gradient=g, relevance=r, layout=metadata.layout, **arguments).ravel() for g, r in pairs]
        )

    def distance(tensors: Tensors) -> float:
        a, b = maps(tensors), maps(exact)
        return float(np.median(1 - (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))))

    value, limit = distance(ours), max(COSINE, HEATMAP_FACTOR * distance(single))
    return Check(method.name, "1 - cosine of heatmaps", value, limit, value <= limit)
