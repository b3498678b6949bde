"""The export gate: is the file that was written the model that was given?

Every output is compared with eager PyTorch in float64. float32 itself has an error, and in relevance a large one: its
rules divide by sums that can be near zero, so that in an untrained network a pixel changed by its last bit can change a
map beyond recognition. So the file may be off by what eager float32 is off in the worst image and class, times a small
factor, and for relevance the median over images and classes is what counts: which of them is ill-conditioned is chance.

The file runs all images as one batch, PyTorch takes them one by one: an image that felt its neighbours would show, and
tensors in float64 are held for one image at a time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..lrp_graph import FusedGraph
from ..runtime import METHODS, REDUCTIONS, Metadata
from ..runtime.artifact import Artifact
from ..runtime.formats import open_artifact
from ..runtime.outputs import MATRICES, OUTPUTS, Output
from .eager import eager_outputs
from .report import Check, Report

METHOD = METHODS["transformer_attribution"]
"""The one whose heatmaps are compared."""
FLOOR = 1e-5
"""Relative error that is always allowed: float32 rounding through a deep model."""
HEATMAP_FACTOR = 5.0
"""How many times eager float32's own 1 - cosine of heatmaps the file may have where that is more than COSINE."""
COSINE = 1e-4
"""1 - cosine of a heatmap with the one computed in float64, always allowed."""

IMAGES = 2
TARGETS = 2
LARGE = 2**28
"""Bytes of a raw tensor of one image and class above which it is not taken out of the graph, only its reductions."""

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Tolerance:
    """How many times eager float32's own error the file may have, and which of its errors counts."""

    factor: float
    of_all: Callable[[Sequence[float]], Any]


PLAIN = Tolerance(5.0, max)
DIVIDING = Tolerance(20.0, np.median)
"""onnxruntime adds in another order than PyTorch, which is felt most where a rule divides by sums near zero."""
TOLERANCES = {"relevance": DIVIDING, "pixel_relevance": DIVIDING}
"""By pass, where it is not PLAIN."""


@dataclass(frozen=True)
class _Portions:
    """Which classes and which outputs, beside the logits, are computed at once: all, unless memory forbids it."""

    targets: Sequence[Tensor]
    names: Sequence[Sequence[str]]

    def collect(self, run: Callable[[Tensor, Sequence[str]], Tensors]) -> dict[str, NDArray[Any]]:
        """What ``run(targets, names)`` gives for each of them, put together: [batch, (targets,) …].

        All of it copied: an array from onnxruntime would keep the memory of the whole run.
        """
        columns: list[dict[str, NDArray[Any]]] = []
        for targets in self.targets:
            columns.append({})
            for names in self.names:
                columns[-1] |= run(targets, names)
        return {
            name: np.concatenate([column[name] for column in columns], 1) if _per_target(name) else tensor.copy()
            for name, tensor in columns[0].items()
        }


@dataclass
class _Samples:
    """One output, sample by sample: a sample is an image or, where there is a target axis, an image and a class.

    errors: of the file against float64. single: those of eager float32. changes: by kind, "image" or "class", how much
    neighbouring samples differ in the file and in float64.
    """

    errors: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    changes: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def compare(path: Path, model: nn.Module, graph: FusedGraph) -> Report:
    """Run the artifact at ``path`` on random images and classes and compare all it gives.

    What autograd on ``model`` itself can tell is compared with that, the rest with ``graph``.
    """
    artifact = open_artifact(path, "cpu", None)
    metadata = artifact.metadata
    large = [item for item in metadata.outputs if item.axes == MATRICES and _bytes(metadata, item) > LARGE]
    outputs = [item for item in metadata.outputs if item not in large]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(IMAGES, 3, *metadata.preprocessing.size, generator=generator)
    targets = torch.randperm(len(metadata.labels), generator=generator)[:TARGETS]
    if large:
        portions = _Portions(targets.split(1), _by_passes(outputs))
    else:
        portions = _Portions([targets], [[item.output for item in outputs]])
    ours = _from_file(artifact, pixels, portions)
    del artifact  # with the memory that onnxruntime keeps for its next run
    shapes = {item.output: (IMAGES, *[len(targets)] * item.per_target, *metadata.shape(item)) for item in outputs}
    shapes["logits"] = (IMAGES, len(metadata.labels))
    broken = [name for name, tensor in ours.items() if tensor.shape != shapes[name] or not np.isfinite(tensor).all()]
    rows = [Check(name, "finite and of the right shape", float("inf"), 0.0, False) for name in broken]
    if not broken:
        watched = [name for name in ours if large or name not in REDUCTIONS]
        rows = _compared(ours, pixels, model, graph, portions, watched, metadata)
    return Report(tuple(rows), _notes(metadata, large))


def _from_file(artifact: Artifact, pixels: Tensor, portions: _Portions) -> dict[str, NDArray[Any]]:
    return portions.collect(lambda targets, names: artifact.run(pixels.numpy(), targets.tolist(), names))


def _bytes(metadata: Metadata, item: Output) -> int:
    return 4 * math.prod(metadata.shape(item))


def _by_passes(outputs: Sequence[Output]) -> list[list[str]]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for item in outputs:
        groups.setdefault(item.passes, []).append(item.output)
    return list(groups.values())


def _notes(metadata: Metadata, large: Sequence[Output]) -> tuple[str, ...]:
    if not large:
        return ()
    names, size = ", ".join(item.output for item in large), _bytes(metadata, large[0]) / 2**20
    return (f"{names}: too large to compare, {size:.0f} MiB for each image and class; their reductions were compared",)


def _compared(
    ours: Tensors, pixels: Tensor, model: nn.Module, graph: FusedGraph, portions: _Portions, watched: Sequence[str],
    metadata: Metadata,
) -> list[Check]:  # fmt: skip
    """Every output against float64; ``watched`` are those that must change with image and class."""
    exact_model = copy.deepcopy(model).double()
    exact_graph = _over(graph, exact_model)
    samples = {name: _Samples() for name in ours}
    distances: list[tuple[float, float]] = []
    before: list[Tensors] = []
    for number, image in enumerate(pixels.split(1)):
        given = {name: tensor[number] for name, tensor in ours.items()}
        single = _reference(model, graph, image, portions)
        exact = _reference(exact_model, exact_graph, image.double(), portions)
        for name, sample in samples.items():
            sample.errors += _errors(name, given[name], exact[name])
            sample.single += _errors(name, single[name], exact[name])
        for name in watched:
            if before:
                pair = [_relative(old[name], new[name]) for old, new in zip(before, (given, exact), strict=True)]
                samples[name].changes.setdefault("image", []).append((pair[0], pair[1]))
            if _per_target(name) and len(exact[name]) > 1:
                pair = [_relative(new[name][0], new[name][1]) for new in (given, exact)]
                samples[name].changes.setdefault("class", []).append((pair[0], pair[1]))
        distances += _distances(metadata, given, single, exact)
        before = [given, {name: exact[name] for name in watched}]
    rows = [_equality(name, sample) for name, sample in samples.items()]
    rows += [row for name in watched for row in _dependences(name, samples[name])]
    return rows + _heatmaps(distances)


def _over(graph: FusedGraph, model: nn.Module) -> FusedGraph:
    """The same graph in float64, over the weights of ``model``."""
    twin = copy.copy(graph)
    twin._modules = {"model": model}
    twin._buffers = {name: buffer.clone() if buffer is not None else None for name, buffer in graph._buffers.items()}
    return twin.double()


def _reference(model: nn.Module, graph: FusedGraph, image: Tensor, portions: _Portions) -> dict[str, NDArray[Any]]:
    """The outputs for one image [1, 3, H, W], without the axis of the batch."""

    @torch.no_grad()
    def run(targets: Tensor, names: Sequence[str]) -> Tensors:
        target = targets.unsqueeze(0)
        outputs = eager_outputs(model, image, target, graph.layout, {"logits", *names})
        rest = set(names) - outputs.keys()
        if rest:
            outputs |= graph.compute(image, target, rest)
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return {name: tensor[0] for name, tensor in portions.collect(run).items()}


def _per_target(name: str) -> bool:
    return name in OUTPUTS and OUTPUTS[name].per_target


def _relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The greatest difference as a share of the greatest value of ``b``."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(np.float32).tiny))


def _errors(name: str, tensor: NDArray[Any], exact: NDArray[Any]) -> list[float]:
    """The relative error of an image or, where there is a target axis, of each class."""
    if not _per_target(name):
        return [_relative(tensor, exact)]
    return [_relative(a, b) for a, b in zip(tensor, exact, strict=True)]


def _equality(name: str, samples: _Samples) -> Check:
    passes = OUTPUTS[name].passes if name in OUTPUTS else ()
    tolerance = next((TOLERANCES[item] for item in passes if item in TOLERANCES), PLAIN)
    error = float(tolerance.of_all(samples.errors))
    limit = max(FLOOR, tolerance.factor * max(samples.single))
    return Check(name, "error against eager PyTorch", error, limit, error <= limit)


def _dependences(name: str, samples: _Samples) -> list[Check]:
    """A gradient that an exporter has baked in as a constant is right for one image only: look for a change.

    The least must be at least a tenth of the least in float64.
    """
    rows = []
    for kind, pairs in samples.changes.items():
        change, expected = (min(values) for values in zip(*pairs, strict=True))
        rows.append(Check(name, f"change with the {kind}", change, expected / 10, change > expected / 10))
    return rows


def _distances(metadata: Metadata, given: Tensors, single: Tensors, exact: Tensors) -> list[tuple[float, float]]:
    """How far maps from the file, and those from float32, point away from maps from float64: 1 - cosine, by class."""
    names, arguments = METHOD.bind(METHOD.arguments({}, metadata.layers))
    if not set(names) <= exact.keys():
        return []

    def distance(tensors: Tensors, column: int) -> float:
        maps = [
            METHOD.function(*(each[name][column] for name in names), layout=metadata.layout, **arguments).ravel()
            for each in (tensors, exact)
        ]
        return float(1 - maps[0] @ maps[1] / (np.linalg.norm(maps[0]) * np.linalg.norm(maps[1])))

    return [(distance(given, column), distance(single, column)) for column in range(len(exact[names[0]]))]


def _heatmaps(distances: Sequence[tuple[float, float]]) -> list[Check]:
    if not distances:
        return []
    value, single = (float(np.median(column)) for column in zip(*distances, strict=True))
    limit = max(COSINE, HEATMAP_FACTOR * single)
    return [Check(METHOD.name, "1 - cosine of heatmaps", value, limit, value <= limit)]
