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
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..lrp_graph import FusedGraph
from ..runtime import METHODS, REDUCTIONS, Metadata
from ..runtime.answers import token_map
from ..runtime.formats import open_artifact
from ..runtime.outputs import MATRICES, OUTPUTS, Output
from .eager import eager_outputs
from .report import Check, Report

METHOD = METHODS["transformer_attribution"]
"""The one whose heatmaps are compared."""
FLOOR = 1e-5
"""Relative error that is always allowed: float32 rounding through a deep model."""
HEATMAP_FACTOR = 5.0
"""How many times eager float32's own 1 - cosine of heatmaps in its worst sample the file may have in its median."""
COSINE = 1e-4
"""1 - cosine of a heatmap with the one computed in float64, always allowed."""

IMAGES = 2
TARGETS = 2
LARGE = 2**28
"""Bytes of a raw tensor of one image and class above which it is not taken out of the graph, only its reductions."""

KEPT = 2**18
"""How many values of a sample are kept to look for changes, about."""

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
class _Portion:
    """What is computed at once: these classes and outputs, the file for so many ``images``."""

    first_class: int
    targets: Tensor
    names: Sequence[str]
    images: int


@dataclass
class _Samples:
    """One output, sample by sample: a sample is an image or, where there is a target axis, an image and a class.

    errors: of the file against float64. single: those of eager float32, for images in which the file is off by more
    than is always allowed. values: by image and class, some of the values from the file, and the same from float64.
    """

    errors: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    values: dict[tuple[int, int], tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)


def compare(path: Path, metadata: Metadata, model: nn.Module, graph: FusedGraph) -> Report:
    """Run the artifact at ``path``, which ``metadata`` describe, on random images and classes and compare all it gives.

    What autograd on ``model`` itself can tell is compared with that, the rest with ``graph``.
    """
    large = [item for item in metadata.outputs if item.axes == MATRICES and _bytes(metadata, item) > LARGE]
    outputs = [item for item in metadata.outputs if item not in large]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(IMAGES, 3, *metadata.preprocessing.size, generator=generator)
    targets = torch.randperm(len(metadata.labels), generator=generator)[:TARGETS]
    if large:
        portions = _small_portions(targets, outputs)
    else:
        portions = [_Portion(0, targets, ["logits", *(item.output for item in outputs)], IMAGES)]
    exact_model = copy.deepcopy(model).double()
    exact_graph = _over(graph, exact_model)
    samples: dict[str, _Samples] = defaultdict(_Samples)
    heatmaps = _Samples()
    broken: list[str] = []

    def take(portion: _Portion) -> None:
        """A function, so that nothing of one portion is held in the next."""
        ours = _from_file(path, pixels, portion)
        broken.extend(name for name, tensor in ours.items() if not _is_sound(name, tensor, metadata, portion))
        if broken:
            return
        for number, image in enumerate(pixels.split(1)):
            given = {name: tensor[number] for name, tensor in ours.items()}
            exact = _reference(exact_model, exact_graph, image.double(), portion.targets, portion.names)
            for name in ours:
                _take(samples[name], (number, portion.first_class), _classes(name, given), _classes(name, exact))
            distances = _distances(metadata, given, exact)
            off = {name for name in ours if max(samples[name].errors[-len(_classes(name, given)) :]) > FLOOR}
            if max(distances, default=0) > COSINE:
                off.update(_heatmap_inputs(metadata))
            single = _reference(model, graph, image, portion.targets, off)
            for name in single:
                samples[name].single += _errors(_classes(name, single), _classes(name, exact))
            heatmaps.errors += distances
            heatmaps.single += _distances(metadata, single, exact)
            del single, exact

    for portion in portions:
        take(portion)
    rows = [Check(name, "finite and of the right shape", float("inf"), 0.0, False) for name in broken]
    if not broken:
        rows = [_equality(name, sample) for name, sample in samples.items()]
        watched = [name for name in samples if large or name not in REDUCTIONS]
        rows += [row for name in watched for row in _dependences(name, samples[name])]
        rows += _heatmaps(heatmaps)
    return Report(tuple(rows), _notes(metadata, large))


def _bytes(metadata: Metadata, item: Output) -> int:
    return 4 * math.prod(metadata.shape(item))


def _small_portions(targets: Tensor, outputs: Sequence[Output]) -> list[_Portion]:
    """One image, one class, and the outputs of the same passes at a time."""
    groups: dict[tuple[str, ...], list[Output]] = {}
    for item in outputs:
        groups.setdefault(item.passes, []).append(item)
    portions = [_Portion(0, targets[:1], ["logits"], 1)]
    for items in groups.values():
        classes = targets.split(1) if items[0].per_target else [targets[:1]]
        portions += [_Portion(place, one, [item.output for item in items], 1) for place, one in enumerate(classes)]
    return portions


def _notes(metadata: Metadata, large: Sequence[Output]) -> tuple[str, ...]:
    if not large:
        return ()
    names, size = ", ".join(item.output for item in large), _bytes(metadata, large[0]) / 2**20
    return (
        f"{names}: too large to compare, {size:.0f} MiB for each image and class; their reductions were compared, the "
        "file run for one image at a time",
    )


def _from_file(path: Path, pixels: Tensor, portion: _Portion) -> dict[str, NDArray[Any]]:
    """What the file gives; copied, as an array from onnxruntime would keep the memory of the whole run."""
    artifact = open_artifact(path, "cpu", None, trust=True)
    wanted = [name for name in portion.names if name != "logits"]
    runs = [
        {name: tensor.copy() for name, tensor in artifact.run(some.numpy(), portion.targets.tolist(), wanted).items()}
        for some in pixels.split(portion.images)
    ]
    return {name: np.concatenate([run[name] for run in runs]) for name in portion.names}


def _is_sound(name: str, tensor: NDArray[Any], metadata: Metadata, portion: _Portion) -> bool:
    """Whether it is finite and of the right shape."""
    tail = metadata.shape(OUTPUTS[name]) if name in OUTPUTS else (len(metadata.labels),)
    classes = (len(portion.targets),) if _per_target(name) else ()
    return tensor.shape == (IMAGES, *classes, *tail) and bool(np.isfinite(tensor).all())


def _classes(name: str, tensors: Tensors) -> NDArray[Any]:
    """An image's output with an axis of classes, of length 1 where it has none."""
    return tensors[name] if _per_target(name) else tensors[name][None]


def _errors(given: NDArray[Any], exact: NDArray[Any]) -> list[float]:
    """Class by class."""
    return [_relative(one, right) for one, right in zip(given, exact, strict=True)]


def _take(samples: _Samples, place: tuple[int, int], given: NDArray[Any], exact: NDArray[Any]) -> None:
    """Add an image; ``place`` is its number and that of the first class."""
    samples.errors += _errors(given, exact)
    for column, (one, right) in enumerate(zip(given, exact, strict=True)):
        step = right.size // KEPT | 1  # odd, so that it meets all columns of a matrix
        samples.values[place[0], place[1] + column] = one.ravel()[::step].copy(), right.ravel()[::step].copy()


def _over(graph: FusedGraph, model: nn.Module) -> FusedGraph:
    """The same graph in float64, over the weights of ``model``."""
    twin = copy.copy(graph)
    twin._modules = {"model": model}
    twin._buffers = {name: buffer.clone() if buffer is not None else None for name, buffer in graph._buffers.items()}
    return twin.double()


@torch.no_grad()
def _reference(model: nn.Module, graph: FusedGraph, image: Tensor, targets: Tensor, names: Collection[str]) -> Tensors:
    """These outputs for one image [1, 3, H, W], without the axis of the batch."""
    target = targets.unsqueeze(0)
    outputs = eager_outputs(model, image, target, graph.layout, names)
    rest = set(names) - outputs.keys()
    if rest:
        outputs |= graph.compute(image, target, rest)
    return {name: tensor[0].numpy() for name, tensor in outputs.items()}


def _per_target(name: str) -> bool:
    return name in OUTPUTS and OUTPUTS[name].per_target


def _relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The greatest difference as a share of the greatest value of ``b``."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(np.float32).tiny))


def _equality(name: str, samples: _Samples) -> Check:
    passes = OUTPUTS[name].passes if name in OUTPUTS else ()
    tolerance = next((TOLERANCES[item] for item in passes if item in TOLERANCES), PLAIN)
    error = float(tolerance.of_all(samples.errors))
    limit = max(FLOOR, tolerance.factor * max(samples.single, default=0))
    return Check(name, "error against eager PyTorch", error, limit, error <= limit)


def _dependences(name: str, samples: _Samples) -> list[Check]:
    """A gradient that an exporter has baked in as a constant is right for one image only: look for a change.

    The least must be at least a tenth of the least in float64.
    """
    rows = []
    for kind, step in (("image", (1, 0)), ("class", (0, 1))):
        places = [(place, (place[0] + step[0], place[1] + step[1])) for place in samples.values]
        pairs = [(samples.values[a], samples.values[b]) for a, b in places if b in samples.values]
        if pairs:
            change, expected = (min(_relative(a[which], b[which]) for a, b in pairs) for which in (0, 1))
            rows.append(Check(name, f"change with the {kind}", change, expected / 10, change > expected / 10))
    return rows


def _heatmap_inputs(metadata: Metadata) -> tuple[str, ...]:
    """The outputs that METHOD reads."""
    return metadata.with_pool(METHOD.bind(METHOD.arguments({}, metadata.layers))[0])


def _distances(metadata: Metadata, given: Tensors, exact: Tensors) -> list[float]:
    """How far maps point away from maps from float64: 1 - cosine, by class; none where METHOD's inputs are missing."""
    names = _heatmap_inputs(metadata)
    if not set(names) <= given.keys() & exact.keys():
        return []
    arguments = METHOD.arguments({}, metadata.layers)

    def distance(column: int) -> float:
        maps = [token_map(METHOD, metadata, each, column, arguments).ravel() for each in (given, exact)]
        return float(1 - maps[0] @ maps[1] / (np.linalg.norm(maps[0]) * np.linalg.norm(maps[1])))

    return [distance(column) for column in range(len(exact[names[0]]))]


def _heatmaps(samples: _Samples) -> list[Check]:
    if not samples.errors:
        return []
    value, limit = float(np.median(samples.errors)), max(COSINE, HEATMAP_FACTOR * max(samples.single, default=0))
    return [Check(METHOD.name, "1 - cosine of heatmaps", value, limit, value <= limit)]
