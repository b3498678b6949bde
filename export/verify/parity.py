"""The export gate: is the file that was written the model that was given? And what can float32 resolve of it?

The first question is judged in float64. The file is read back and run op by op in float64, and each output compared
with PyTorch's in float64: two programs of the same function agree to many digits there, and what is
wrong shows. float32 could not tell: relevance divides by sums that can be near zero, so that a pixel changed by its
last bit can change a map beyond recognition, in a right file as in eager PyTorch.

The second is measured and no reason to refuse a file: how far maps from float32 are off those from float64.

float64 takes long, so the file runs in it for one image and class. In float32 it runs for all images and classes as one
batch, and what it gives for another image and another class is compared with PyTorch's in float32: an image that felt
its neighbours would show, and a gradient that an exporter has baked in as a constant. Where the two differ by more than
float32 commonly does, float64 decides there as well.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onnxplain.contract import Metadata, OnnxplainError
from onnxplain.contract.errors import one_line
from onnxplain.contract.outputs import ALWAYS, HEATMAP, Output, output_of
from onnxplain.contract.precisions import INT8
from onnxplain.lrp_graph import FusedGraph
from onnxplain.lrp_graph.in_double import in_double
from onnxplain.runtime.backends.base import Artifact, rows_of
from onnxplain.runtime.backends.memory import give_memory_back
from onnxplain.runtime.images.geometry import resize
from onnxplain.runtime.methods.choice import MethodCall
from onnxplain.runtime.methods.table import METHODS
from onnxplain.runtime.pipeline import map_of

from ..formats.arithmetic import ARITHMETIC
from ..formats.table import open_frugally, open_in_double
from .autograd_reference import BY_AUTOGRAD, OF_FORWARD, eager_outputs
from .limits import (
    COMMON,
    EXACT,
    FLOAT32,
    IN_BOTH,
    SOUND,
    Errors,
    check_of_ranks,
    checks,
    limit_in_double,
    limit_of_int8,
    relative_error,
    relative_norm,
)
from .part import open_part
from .portions import IMAGES, TARGETS, Batch, Portion, size_in_bytes, too_large
from .portions import portions as portions_of
from .report import Check, Report
from .resolution import Resolution

Tensors = Mapping[str, NDArray[Any]]
Singles = dict[tuple[int, int], dict[str, NDArray[Any]]]
"""By image and class, outputs of the file in float32."""


def compare(
    path: Path, metadata: Metadata, model: nn.Module, graph: FusedGraph, original: FusedGraph | None = None
) -> Report:
    """Run the artifact on random images and classes, and compare all it gives with PyTorch.

    What autograd on ``model`` itself can tell is compared with that, the rest with ``graph``.

    Args:
        path: Of the file.
        metadata: What the file says about itself.
        model: Of which the fused graph is.
        graph: Of which the file is.
        original: Of the model as it was given, where ``model`` has rounded weights.

    Returns:
        The report, a line for each output and kind of comparison.

    Raises:
        OnnxplainError: The file, the model or the graph cannot be run.
    """
    gate = _Gate(path, metadata, model, graph, original)
    for portions in portions_of(metadata, gate.targets, gate.asked, graph.masked_bytes):
        gate.take(portions)
    return Report(tuple(gate.rows()), _notes(metadata, too_large(metadata)), gate.resolution.worst())


class _Gate:
    """The comparison. ``asked``: by image the class for which PyTorch is run."""

    def __init__(
        self, path: Path, metadata: Metadata, model: nn.Module, graph: FusedGraph, original: FusedGraph | None
    ) -> None:
        self.path, self.metadata, self.model, self.graph = path, metadata, model, graph
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(IMAGES, 3, *metadata.preprocessing.size, generator=generator)
        self.targets = tuple(torch.randperm(len(metadata.labels), generator=generator)[:TARGETS].tolist())
        # In another order than the images: where the two axes are mixed up, it shows.
        self.asked = {image: self.targets[-1 - image % len(self.targets)] for image in range(IMAGES)}
        with _one_line("the file that was written cannot be computed in float64"):
            self.file_in_double = open_in_double(path)
        int8 = metadata.precision == INT8  # then PyTorch's gradients are not those of the file
        self.exact = graph.exact() if int8 else original
        self.in_double = ARITHMETIC[metadata.precision].in_double  # the file as it is run; its numbers are not rounded
        self.by_autograd = OF_FORWARD if int8 else BY_AUTOGRAD
        self.errors: dict[str, Errors] = defaultdict(Errors)
        self.broken: dict[str, None] = {}
        self.wrong_ranks: int | None = None
        self.heatmaps = {
            HEATMAP + name: MethodCall(METHODS[name], dict(given)) for name, given in metadata.heatmaps.items()
        }
        self.resolution = Resolution(metadata)

    def take(self, portions: Sequence[Portion]) -> None:
        """Compare this much; a function, so that nothing of it is held in the next."""
        left = self._compare_in_float32([portion for portion in portions if not portion.op_by_op])
        left |= self._compare_in_float32([portion for portion in portions if portion.op_by_op])
        while left:
            give_memory_back()
            part, batch = next(iter(left))
            self._compare_in_double(batch, left.pop((part, batch)))

    def rows(self) -> Iterator[Check]:
        """What came of it."""
        yield check_of_ranks(self.wrong_ranks or 0)
        for name in self.broken:
            yield Check(name, SOUND, math.inf, 0.0, False)
        for name in ("logits", *(item.output for item in self.metadata.outputs)):
            if name in self.errors:
                yield from checks(name, self.errors[name], self.in_double)

    def _compare_in_float32(self, portions: Sequence[Portion]) -> dict[tuple[str, Batch], Singles]:
        """Run the file in float32, and compare with PyTorch what is not compared in float64 in any case.

        Returns:
            What is to be compared in float64: by part and batch, what the file gives in float32.
        """
        left: dict[tuple[str, Batch], Singles] = defaultdict(lambda: defaultdict(dict))
        artifact = open_frugally(self.path) if any(not portion.op_by_op for portion in portions) else None
        if self.wrong_ranks is None and artifact is not None:
            self.wrong_ranks = self._count_wrong_ranks(artifact)
        for portion in portions:
            singles = self._singles(artifact, portion)
            differ: set[str] = set()
            for pair, single in singles.items():
                if pair[0] not in portion.double.images:
                    differ |= self._differ(*pair, single, portion.op_by_op)
            again = Batch(portion.single.images, tuple(dict.fromkeys(portion.single.targets)))
            for pair, single in singles.items():
                for name, tensor in single.items():
                    if name in differ or pair[0] in portion.double.images:
                        left[portion.part, again if name in differ else portion.double][pair][name] = tensor
            give_memory_back()
        return left

    def _singles(self, artifact: Artifact | None, portion: Portion) -> Singles:
        """What the file gives in float32 for each image and its class, or the first class if that is not there."""
        given = self._in_float32(artifact, portion)
        names = [name for name in portion.names if name not in self.broken]
        singles = {}
        for row, image in enumerate(portion.single.images):
            asked, targets = self.asked[image], portion.single.targets
            column = targets.index(asked) if asked in targets else 0
            sample = _sample(given, names, row, column)
            singles[image, targets[column]] = {name: tensor.copy() for name, tensor in sample.items()}
        return singles

    def _count_wrong_ranks(self, artifact: Artifact) -> int:
        """Compare ``class_index`` of every rank and of a class, for all images, with the order of the file's logits."""
        classes = len(self.metadata.labels)
        targets = [*range(-1, -classes - 1, -1), 0]
        if self.metadata.flags == "none":  # the heatmaps would be computed for all of the ranks
            part = open_part(self.path, ("pixels", "target"), tuple(ALWAYS))
            feeds = {"pixels": self.pixels.numpy(), "target": rows_of(targets, IMAGES)}
            given = dict(zip(ALWAYS, part.run(list(ALWAYS), feeds), strict=True))
        else:
            given = artifact.run(self.pixels.numpy(), targets, ())
        order = np.argsort(-given["logits"], axis=1, kind="stable")  # of equal logits the lower index leads
        return int((given["class_index"] != np.pad(order, [(0, 0), (0, 1)])).sum())

    def _differ(self, image: int, target: int, single: Tensors, op_by_op: bool) -> set[str]:
        """Which outputs differ from PyTorch's by more than is common, and what methods read with these."""
        pixels, classes = self._as_run(self.pixels[image : image + 1]), torch.tensor([[target]])
        eager = self._pytorch(pixels, classes, single)
        errors = {name: relative_error(single[name], eager[name]) for name in single}
        if op_by_op:  # programs of the same ops make the same errors
            eager = self._pytorch(_last_bit(pixels), classes, single)
        maps = Resolution(self.metadata)
        maps.add(single, eager, pixels[0].numpy())
        above = {name for name, error in errors.items() if not error <= (EXACT if self.in_double else COMMON)}
        differ = self.resolution.read_with(above | maps.doubtful)
        alike = [name for name in single if name not in differ]
        for name in alike:
            self.errors[name].single.append(errors[name])
        given, same = ({name: each[name] for name in alike} for each in (single, eager))
        self.resolution.add(given, same, pixels[0].numpy())
        return differ

    def _compare_in_double(self, batch: Batch, singles: Singles) -> None:
        """Run the file in float64, and compare what it gives with PyTorch."""
        names = list(dict.fromkeys(name for single in singles.values() for name in single))
        pixels = self.pixels[list(batch.images)].double()
        double = self._op_by_op(pixels, batch.targets, names)
        names = [name for name in names if name not in self.broken]
        for (image, target), single in singles.items():
            exact: Tensors = _sample(double, names, batch.images.index(image), batch.targets.index(target))
            if self.exact is not None:
                exact = self._without_rounding(image, target, exact)
            self.resolution.add(single, exact, self.pixels[image].numpy())
        for row, image in enumerate(batch.images):
            exact = _sample(double, names, row, batch.targets.index(self.asked[image]))
            wanted = {(image, self.asked[image])} if self.in_double else {pair for pair in singles if pair[0] == image}
            single = {name: one for pair in wanted & singles.keys() for name, one in singles[pair].items()}
            for by_autograd in (True, False):  # one after the other, as each holds a forward pass
                part = {name: tensor for name, tensor in exact.items() if (name in self.by_autograd) == by_autograd}
                self._judge(image, part, single)

    def _judge(self, image: int, double: Tensors, single: Tensors) -> None:
        """Compare outputs for an image and its class in float64; logits and attention in float32 as well."""
        pixels, target = self.pixels[image : image + 1].double(), torch.tensor([[self.asked[image]]])
        right = self._pytorch(pixels, target, double) if double else {}
        for name in double:
            self.errors[name].double.append(relative_error(double[name], right[name]))
        for name in double.keys() & (single.keys() if self.in_double else IN_BOTH):
            self.errors[name].single.append(relative_error(single[name], right[name]))
        unsure = {name for name in double if self.errors[name].double[-1] > limit_in_double(name, self.in_double)}
        if self.in_double:
            unsure |= {name for name in double.keys() & single.keys() if self.errors[name].single[-1] > EXACT}
        if unsure:
            again = self._pytorch(_last_bit(pixels), target, double)
            for name in double:
                self.errors[name].noise.append(relative_error(again[name], right[name]))
        if self.in_double:
            return
        doubtful = {name for name in IN_BOTH & double.keys() if self.errors[name].single[-1] > FLOAT32}
        doubtful |= self.resolution.doubtful & double.keys()
        if doubtful:
            eager = self._pytorch(_last_bit(pixels.float()), target, doubtful)
            for name in IN_BOTH & eager.keys():
                self.errors[name].eager.append(relative_error(eager[name], right[name]))
            if self.exact is None:
                self.resolution.add(eager, double, pixels[0].numpy())

    def _without_rounding(self, image: int, target: int, rounded: Tensors) -> Tensors:
        """These outputs from the weights as given, and products that are exact; and note how far off they are."""
        pixels, classes = self.pixels[image : image + 1].double(), torch.tensor([[target]])
        right = self._pytorch(pixels, classes, rounded, exact=True)
        if self.metadata.precision != INT8:
            for name in IN_BOTH & rounded.keys():
                self.errors[name].float16.append(relative_error(rounded[name], right[name]))
            return right
        names = [name for name in rounded if name not in OF_FORWARD]
        errors = {name: relative_norm(rounded[name], right[name]) for name in names}
        for name, error in errors.items():
            self.errors[name].int8.append(error)
        large = [name for name, error in errors.items() if error > limit_of_int8(name)]
        single = self._pytorch(pixels.float(), classes, large, exact=True) if large else {}
        for name, tensor in single.items():
            self.errors[name].float32.append(relative_norm(tensor, right[name]))
        return right

    def _in_float32(self, artifact: Artifact | None, portion: Portion) -> Tensors:
        """What the file gives in float32."""
        images, targets = self.pixels[list(portion.single.images)], portion.single.targets
        if artifact is None:
            return self._op_by_op(self._as_run(images), targets, portion.names)
        given = artifact.run(images.numpy(), targets, [name for name in portion.names if name != "logits"])
        self._look_at(given, portion.names, len(images), len(targets))
        return given

    def _as_run(self, images: Tensor) -> Tensor:
        """Images in the dtype that the file computes in."""
        return images.double() if self.in_double else images

    def _op_by_op(self, images: Tensor, targets: Sequence[int], names: Sequence[str]) -> Tensors:
        """What the file gives in the dtype of the images, computed op by op."""
        with _one_line("the file that was written cannot be computed in float64"):
            tensors = self.file_in_double.run(images, torch.tensor([targets]).expand(len(images), -1), names)
            given = {name: tensor.numpy() for name, tensor in tensors.items()}
        self._look_at(given, names, len(images), len(targets))
        return given

    def _look_at(self, given: Tensors, names: Collection[str], images: int, targets: int) -> None:
        """Note which outputs are not finite or not of the shape that their images and classes ask for."""
        for name in names:
            shape = self.metadata.full_shape(name, images, targets)
            if given[name].shape != shape or not np.isfinite(given[name]).all():
                self.broken[name] = None

    def _pytorch(
        self, image: Tensor, target: Tensor, names: Collection[str], exact: bool = False
    ) -> dict[str, NDArray[Any]]:
        """What PyTorch gives in the dtype of the image, by autograd where it can; ``exact``: without rounding."""
        graph = self.exact if exact and self.exact is not None else self.graph
        arithmetic = in_double(self.in_double) if image.dtype == torch.float64 else nullcontext()
        with _one_line("the model cannot be run in PyTorch to compare with"), arithmetic:
            calls = self.heatmaps
            wanted = set(names) - calls.keys()
            wanted |= {need for name in names if name in calls for need in self.metadata.with_pool(calls[name].outputs)}
            outputs = eager_outputs(
                graph.model if exact else self.model,
                image,
                target,
                graph.layout,
                wanted & (BY_AUTOGRAD if exact else self.by_autograd),
            )
            if wanted - outputs.keys():
                with torch.no_grad():
                    outputs |= graph.compute(image, target, wanted - outputs.keys())
            given = {name: tensor[0].numpy() for name, tensor in outputs.items()}
            for name in calls.keys() & set(names):
                given[name] = self._heatmap(calls[name], given, image[0].numpy())[None]
            return {name: given[name] for name in names}

    def _heatmap(self, call: MethodCall, outputs: Tensors, pixels: NDArray[Any]) -> NDArray[np.float64]:
        """The map as the runtime computes it of a full artifact's outputs, [H, W]."""
        found = map_of(call, replace(self.metadata, heatmaps={}), outputs, 0, pixels)
        return found if call.method.pixel_level else np.asarray(resize(found, self.metadata.preprocessing.size))


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Whatever goes wrong, said in one line: the code of models may raise anything."""
    try:
        yield
    except OnnxplainError:
        raise
    except Exception as error:
        raise OnnxplainError(f"{what}: {one_line(error)}") from error


def _notes(metadata: Metadata, large: Sequence[Output]) -> tuple[str, ...]:
    if not large:
        return ()
    names, size = ", ".join(item.output for item in large), size_in_bytes(metadata, large[0]) / 2**20
    return (
        f"{names}: too large to compare, {size:.0f} MiB for each image and class; their reductions were compared, the "
        "file run for one image at a time",
    )


def _sample(tensors: Tensors, names: Collection[str], row: int, column: int) -> dict[str, NDArray[Any]]:
    """These outputs for one image and class, with an axis of classes where they have one."""
    return {
        name: tensors[name][row, column : column + 1] if _per_target(name) else tensors[name][row] for name in names
    }


def _per_target(name: str) -> bool:
    return name not in ALWAYS and output_of(name).per_target


def _last_bit(pixels: Tensor) -> Tensor:
    """Every number changed to one beside it."""
    signs = torch.randint(2, pixels.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return pixels.nextafter(signs * torch.full_like(pixels, torch.inf))
