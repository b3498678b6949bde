"""The export gate: is the file that was written the model that was given? And what can float32 resolve of it?

The first question is judged in float64. The file is read back and run op by op in float64, and each output compared
with PyTorch's in float64: two programs of the same function agree to many digits there, and what is
wrong shows. float32 could not tell: relevance divides by sums that can be near zero, so that a pixel changed by its
last bit can change a map beyond recognition, in a right file as in eager PyTorch.

The second is measured and no reason to refuse a file: how far maps from float32 are off those from float64.

float64 takes long, so the file runs in it for one image and class. In float32 it runs for all images and classes as one
batch, and what it gives there for each image, with another class each, is compared with PyTorch's in float32: an image
that felt its neighbours or took what is theirs would show, and a gradient that an exporter has baked in as a constant.
Where the two differ by more than float32 commonly does, float64 decides there as well.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from onnxplain.contract import Metadata
from onnxplain.contract.precisions import INT8
from onnxplain.lrp_graph import FusedGraph
from onnxplain.runtime.backends.base import Artifact
from onnxplain.runtime.backends.memory import give_memory_back

from ..formats.arithmetic import ARITHMETIC
from .autograd_reference import OF_FORWARD
from .limits import (
    COMMON,
    FLOAT32,
    IN_BOTH,
    LIMIT_AS_IT_IS,
    SOUND,
    Errors,
    check_of_ranks,
    checks,
    checks_of_products,
    limit_in_double,
    limit_of_int8,
    relative_error,
    relative_norm,
)
from .portions import Batch, Portion, notes
from .portions import portions as portions_of
from .reference import Reference
from .report import Check, Report
from .resolution import Resolution
from .samples import Samples, Tensors, last_bit, sample
from .written_file import WrittenFile

Singles = dict[tuple[int, int], dict[str, NDArray[Any]]]
"""By image and class, outputs of the file."""


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
    gate = _Gate(WrittenFile(path, metadata), metadata, Reference(metadata, model, graph, original))
    for portions in portions_of(metadata, gate.samples.targets, gate.samples.asked, graph.masked_bytes):
        gate.take(portions)
    return Report(tuple(gate.rows()), notes(metadata), gate.resolution.worst())


class _Gate:
    """The comparison."""

    def __init__(self, file: WrittenFile, metadata: Metadata, pytorch: Reference) -> None:
        self.file, self.metadata, self.pytorch = file, metadata, pytorch
        self.samples = Samples(metadata)
        self.of_float64 = ARITHMETIC[metadata.precision].in_double  # the file as it is run; its numbers are not rounded
        self.errors: dict[str, Errors] = defaultdict(Errors)
        self.wrong_ranks: int | None = None
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
        assert self.wrong_ranks is not None  # nothing was counted
        yield check_of_ranks(self.wrong_ranks)
        for name in self.file.broken:
            yield Check(name, SOUND, math.inf, 0.0, False)
        for name in ("logits", *(item.output for item in self.metadata.outputs)):
            if name in self.errors:
                yield from checks(name, self.errors[name], self.pytorch.asks_autograd(name), self.of_float64)
        yield from checks_of_products(self.pytorch.products)

    def _compare_in_float32(self, portions: Sequence[Portion]) -> dict[tuple[str, Batch], Singles]:
        """Run the file in float32, and compare with PyTorch what is not compared in float64 in any case.

        Returns:
            What is to be compared in float64: by part and batch, what the file gives in float32.
        """
        left: dict[tuple[str, Batch], Singles] = defaultdict(lambda: defaultdict(dict))
        artifact = self.file.open() if any(not portion.op_by_op for portion in portions) else None
        if self.wrong_ranks is None and artifact is not None:
            self.wrong_ranks = self.file.count_wrong_ranks(artifact, self.samples.pixels)
        for portion in portions:
            if artifact is not None and len(portion.double.images) > 1:  # for its shapes: it is never alone elsewhere
                self.file.run(artifact, self.samples.pixels[:1], portion.single.targets, portion.names)
            singles = self._singles(artifact, portion)
            differ: set[str] = set()
            for pair, single in singles.items():
                if self._only_in_float32(pair[0], portion):
                    differ |= self._differ(*pair, single, portion.op_by_op)
            again = Batch(portion.single.images, tuple(dict.fromkeys(portion.single.targets)))
            for pair, single in singles.items():
                for name, tensor in single.items():
                    if name in differ or pair[0] in portion.double.images:
                        left[portion.part, again if name in differ else portion.double][pair][name] = tensor
            give_memory_back()
        return left

    def _only_in_float32(self, image: int, portion: Portion) -> bool:
        """Whether only float32 shows what the file gives for this image in this batch of images and classes.

        An image that is alone in float64 cannot show there that it takes another's values, or another class's.
        """
        if image not in portion.double.images:
            return True
        return portion.double.size < portion.single.size and not self.of_float64  # such files are compared as they run

    def _singles(self, artifact: Artifact | None, portion: Portion) -> Singles:
        """What the file gives in float32 for each image and its class, or the first class if that is not there."""
        images, targets = self.samples.pixels[list(portion.single.images)], portion.single.targets
        if artifact is None:
            given = self.file.op_by_op(self._as_run(images), targets, portion.names)
        else:
            given = self.file.run(artifact, images, targets, portion.names)
        names = [name for name in portion.names if name not in self.file.broken]
        singles: Singles = {}
        for row, image in enumerate(portion.single.images):
            asked = self.samples.asked[image]
            column = targets.index(asked) if asked in targets else 0
            singles[image, targets[column]] = sample(given, names, row, column)
        return singles

    def _as_run(self, images: Tensor) -> Tensor:
        """Images in the dtype that the file computes in."""
        return images.double() if self.of_float64 else images

    def _differ(self, image: int, target: int, single: Tensors, op_by_op: bool) -> set[str]:
        """Which outputs differ from PyTorch's by more than is common, and what methods read with these."""
        pixels, classes = self.samples.one(image, target)
        pixels = self._as_run(pixels)
        # Programs of the same ops make the same errors, but not where the pixels change by their last bit
        eager = self.pytorch.outputs(last_bit(pixels) if op_by_op else pixels, classes, single)
        errors = {name: relative_error(single[name], eager[name]) for name in single}
        above = self._above(errors)
        if op_by_op and above:
            same = self.pytorch.outputs(pixels, classes, above)
            errors |= {name: relative_error(single[name], same[name]) for name in above}
            above = self._above(errors)
        maps = Resolution(self.metadata)
        maps.add(single, eager, pixels[0].numpy())
        differ = self.resolution.read_with(above | maps.doubtful)
        alike = [name for name in single if name not in differ]
        for name in alike:
            self.errors[name].single.append(errors[name])
        given, same = ({name: each[name] for name in alike} for each in (single, eager))
        self.resolution.add(given, same, pixels[0].numpy())
        return differ

    def _above(self, errors: Mapping[str, float]) -> set[str]:
        """The outputs whose errors are more than is common."""
        return {name for name, error in errors.items() if not error <= (LIMIT_AS_IT_IS if self.of_float64 else COMMON)}

    def _compare_in_double(self, batch: Batch, singles: Singles) -> None:
        """Run the file in float64, and compare what it gives with PyTorch."""
        names = list(dict.fromkeys(name for single in singles.values() for name in single))
        asked = {image: self.samples.asked[image] for image in batch.images}
        double = self._given_in_double(batch, {*singles, *asked.items()}, names)
        give_memory_back()
        for (image, target), single in singles.items():
            in_float64: Tensors = double[image, target]
            if self.pytorch.unrounded is not None:
                in_float64 = self._without_rounding(image, target, in_float64)
            self.resolution.add(single, in_float64, self.samples.pixels[image].numpy())
        for image, target in asked.items():
            wanted = {(image, target)} if self.of_float64 else {pair for pair in singles if pair[0] == image}
            single = {name: one for pair in wanted & singles.keys() for name, one in singles[pair].items()}
            given = double.pop((image, target))
            for by_autograd in (True, False):  # one after the other, as each holds a forward pass
                part = {name: one for name, one in given.items() if (name in self.pytorch.by_autograd) == by_autograd}
                self._judge(image, part, single)

    def _given_in_double(self, batch: Batch, pairs: set[tuple[int, int]], names: Sequence[str]) -> Singles:
        """What the file gives in float64 for these of the batch's images and classes."""
        given = self.file.op_by_op(self.samples.pixels[list(batch.images)].double(), batch.targets, names)
        names = [name for name in names if name not in self.file.broken]
        return {
            (image, target): sample(given, names, batch.images.index(image), batch.targets.index(target))
            for image, target in pairs
        }

    def _judge(self, image: int, double: Tensors, single: Tensors) -> None:
        """Compare outputs for an image and its class in float64; logits and attention in float32 as well."""
        pixels, target = self.samples.one(image, self.samples.asked[image])
        right = self.pytorch.outputs(pixels.double(), target, double) if double else {}
        for name in double:
            self.errors[name].double.append(relative_error(double[name], right[name]))
        for name in double.keys() & (single.keys() if self.of_float64 else IN_BOTH):
            self.errors[name].single.append(relative_error(single[name], right[name]))
        limits = {name: limit_in_double(self.pytorch.asks_autograd(name), self.of_float64) for name in double}
        unsure = {name for name, limit in limits.items() if self.errors[name].double[-1] > limit}
        if self.of_float64:
            unsure |= {name for name in double.keys() & single.keys() if self.errors[name].single[-1] > LIMIT_AS_IT_IS}
        if unsure:
            again = self.pytorch.outputs(last_bit(pixels.double()), target, double)
            for name in double:
                self.errors[name].noise.append(relative_error(again[name], right[name]))
        if self.of_float64:
            return
        doubtful = {name for name in IN_BOTH & double.keys() if self.errors[name].single[-1] > FLOAT32}
        doubtful |= self.resolution.doubtful & double.keys()
        if doubtful:
            eager = self.pytorch.outputs(last_bit(pixels), target, doubtful)
            for name in IN_BOTH & eager.keys():
                self.errors[name].eager.append(relative_error(eager[name], right[name]))
            in_float64, several = double, [eager]
            if self.pytorch.unrounded is not None:  # what rounds more than float32 is not said to resolve more
                in_float64 = self.pytorch.outputs(pixels.double(), target, doubtful, unrounded=True)
                several.append(self.pytorch.outputs(last_bit(pixels), target, doubtful, unrounded=True))
            for one in several:
                self.resolution.add(one, in_float64, pixels[0].numpy())

    def _without_rounding(self, image: int, target: int, rounded: Tensors) -> Tensors:
        """These outputs from the weights as given, and products that are exact; and note how far off they are."""
        pixels, classes = self.samples.one(image, target)
        right = self.pytorch.outputs(pixels.double(), classes, rounded, unrounded=True)
        if self.metadata.precision != INT8:
            for name in IN_BOTH & rounded.keys():
                self.errors[name].float16.append(relative_error(rounded[name], right[name]))
            return right
        names = [name for name in rounded if name not in OF_FORWARD]
        errors = {name: relative_norm(rounded[name], right[name]) for name in names}
        for name, error in errors.items():
            self.errors[name].int8.append(error)
        large = [name for name, error in errors.items() if error > limit_of_int8(name)]
        single = self.pytorch.outputs(pixels, classes, large, unrounded=True) if large else {}
        for name, tensor in single.items():
            self.errors[name].float32.append(relative_norm(tensor, right[name]))
        return right
