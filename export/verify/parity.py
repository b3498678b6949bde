"""The export gate: is the file that was written the model that was given? And what can float32 resolve of it?

The first question is judged in float64. The file is read back and run op by op in float64, and each output compared
with PyTorch's in float64: two programs of the same function agree to many digits there, and what is
wrong shows. float32 could not tell: relevance divides by sums that can be near zero, so that a pixel changed by its
last bit can change a map beyond recognition, in a right file as in eager PyTorch.

The second is measured and no reason to refuse a file: how far maps from float32 are off those from float64.

The file runs all images as one batch, PyTorch takes them one by one, each for another class: an image that felt its
neighbours would show, and a gradient that an exporter has baked in as a constant is wrong for one of them. In float32
it also runs for one image and all classes, and for all images and one class: exporters trace with sizes of some kind,
which a file must not be bound to.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onnxplain.contract import Metadata, OnnxplainError
from onnxplain.contract.errors import one_line
from onnxplain.contract.outputs import ALWAYS, HEATMAP, MATRICES, PASSES, Output, output_of
from onnxplain.lrp_graph import FusedGraph
from onnxplain.lrp_graph.in_double import in_double
from onnxplain.runtime.backends.base import Artifact, rows_of
from onnxplain.runtime.backends.formats import open_artifact
from onnxplain.runtime.images.geometry import resize
from onnxplain.runtime.methods.choice import MethodCall
from onnxplain.runtime.methods.table import METHODS
from onnxplain.runtime.pipeline import map_of

from ..formats.arithmetic import ARITHMETIC
from ..formats.table import open_in_double
from .autograd_reference import eager_outputs
from .limits import EXACT, FLOAT32, IN_BOTH, SOUND, Errors, check_of_ranks, checks, limit_in_double, relative_error
from .part import open_part
from .report import Check, Report
from .resolution import Resolution

IMAGES = 2
TARGETS = 2
MAX_RAW = 2**28
"""Bytes of a raw tensor of one image and class above which it is not taken out of the graph, only its reductions."""
MAX_COPIES = 2**22
"""Bytes of an image's copies, in float32, above which reciprocam is compared for one image only."""

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class _Portion:
    """What is computed at once: these outputs, for these images all of these classes."""

    images: range
    targets: Tensor
    names: Sequence[str]


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
        original: Of the model that was given, where ``model`` has rounded weights in its place: what that changes is
            compared, and maps are to be those of the original.

    Returns:
        The report, a line for each output and kind of comparison.

    Raises:
        OnnxplainError: The file, the model or the graph cannot be run.
    """
    gate = _Gate(path, metadata, model, graph, original)
    gate.compare_ranks()
    raw = [PASSES[name] for name in metadata.passes]
    large = [item for item in raw if item.axes == MATRICES and _bytes(metadata, item) > MAX_RAW]
    for portions in gate.portions([item for item in metadata.outputs if item not in large], bool(large)):
        gate.take(portions)
    return Report(tuple(gate.rows()), _notes(metadata, large), gate.resolution.worst())


class _Gate:
    """The comparison. ``asked``: the class by image for which PyTorch is run."""

    def __init__(
        self, path: Path, metadata: Metadata, model: nn.Module, graph: FusedGraph, original: FusedGraph | None
    ) -> None:
        self.path, self.metadata, self.graph = path, metadata, graph
        self.exact = ARITHMETIC[metadata.precision].in_double
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(IMAGES, 3, *metadata.preprocessing.size, generator=generator)
        self.targets = torch.randperm(len(metadata.labels), generator=generator)[:TARGETS]
        # In another order than the images: where the two axes are mixed up, it shows.
        self.asked = [int(self.targets[-1 - image % len(self.targets)]) for image in range(IMAGES)]
        with _one_line("the file that was written cannot be computed in float64"):
            self.file_in_double = open_in_double(path)
        with _one_line("the model cannot be copied to compare with"):
            self.model_in_double = copy.deepcopy(model).double()
            self.graph_in_double = _over(graph, self.model_in_double)
            self.original = None if original is None else _over(original, copy.deepcopy(original.model).double())
        self.errors: dict[str, Errors] = defaultdict(Errors)
        self.broken: dict[str, None] = {}
        self.wrong_ranks = 0
        self.heatmaps = {
            HEATMAP + name: MethodCall(METHODS[name], dict(given)) for name, given in metadata.heatmaps.items()
        }
        self.resolution = Resolution(metadata)

    def portions(self, outputs: Sequence[Output], large: bool) -> list[list[_Portion]]:
        """Everything at once or, where tensors are large, one image, its class and the outputs of the same passes.

        In lists: the file is opened once for each.
        """
        if not large:
            names = ["logits", *(item.output for item in outputs)]
            copies = {"reciprocam", f"{HEATMAP}vit_reciprocam"} if self.graph.masked_bytes > MAX_COPIES else set()
            alone = [name for name in names if name in copies]
            together = _Portion(range(IMAGES), self.targets, [name for name in names if name not in alone])
            return [[together, *(_Portion(range(1), self.targets, [name]) for name in alone)]]
        groups: dict[tuple[str, ...], list[str]] = {(): ["logits"]}
        for item in outputs:
            call = self.heatmaps.get(item.output)
            groups.setdefault(call.method.passes if call else item.passes, []).append(item.output)
        return [
            [_Portion(range(image, image + 1), torch.tensor([self.asked[image]]), names) for image in range(IMAGES)]
            for names in groups.values()
        ]

    def compare_ranks(self) -> None:
        """Compare ``class_index`` of every rank and of a class, for all images, with the order of the file's logits."""
        classes = len(self.metadata.labels)
        targets = [*range(-1, -classes - 1, -1), 0]
        if self.metadata.flags == "none":  # the heatmaps would be computed for all of the ranks
            part = open_part(self.path, ("pixels", "target"), tuple(ALWAYS))
            feeds = {"pixels": self.pixels.numpy(), "target": rows_of(targets, IMAGES)}
            single = dict(zip(ALWAYS, part.run(list(ALWAYS), feeds), strict=True))
        else:
            single = open_artifact(self.path, "cpu", None, trust=True).run(self.pixels.numpy(), targets, ())
        with _one_line("the file that was written cannot be computed in float64"):
            rows = torch.tensor([targets]).expand(IMAGES, -1)
            double = self.file_in_double.run(self.pixels.double(), rows, list(ALWAYS))
        for given in (single, {name: tensor.numpy() for name, tensor in double.items()}):
            order = np.argsort(-given["logits"], axis=1, kind="stable")  # of equal logits the lower index leads
            self.wrong_ranks += int((given["class_index"] != np.pad(order, [(0, 0), (0, 1)])).sum())

    def take(self, portions: Sequence[_Portion]) -> None:
        """Compare this much; a function, so that nothing of it is held in the next."""
        artifact = open_artifact(self.path, "cpu", None, trust=True)
        together = portions[0]
        if len(together.images) > 1:
            self._run(artifact, replace(together, images=range(1)))  # for its shapes only
        given = [self._run(artifact, replace(portion, targets=portion.targets[:1])) for portion in portions]
        del artifact  # and with it the memory that onnxruntime keeps
        for portion, ours in zip(portions, given, strict=True):
            self._compare(portion, ours)

    def _compare(self, portion: _Portion, ours: Tensors) -> None:
        """ours: what the file gave in float32 for the first class."""
        exact = self._in_double(portion)
        names = [name for name in portion.names if name not in self.broken]
        for row, number in enumerate(portion.images):
            single, right = (_sample(given, names, row, 0) for given in (ours, exact))
            if self.original is not None:
                right = self._of_original(number, portion.targets[:1], right)
            self.resolution.add(single, right, self.pixels[number].numpy())
            column = portion.targets.tolist().index(self.asked[number])
            self._judge(portion, row, column, single, _sample(exact, names, row, column))

    def _of_original(self, number: int, target: Tensor, double: Tensors) -> Tensors:
        """What the model gives whose weights are not rounded, in float64, and what that changes in ``double``."""
        assert self.original is not None
        image = self.pixels[number : number + 1].double()
        right = self._pytorch_in_double(image, target[None], double, self.original)
        for name in IN_BOTH & double.keys():
            self.errors[name].rounding.append(relative_error(double[name], right[name]))
        return right

    def rows(self) -> Iterator[Check]:
        """What came of it."""
        yield check_of_ranks(self.wrong_ranks)
        for name in self.broken:
            yield Check(name, SOUND, math.inf, 0.0, False)
        for name, errors in self.errors.items():
            yield from checks(name, errors, self.exact)

    def _judge(self, portion: _Portion, row: int, column: int, single: Tensors, double: Tensors) -> None:
        """Compare the file's outputs for one image and class with those of PyTorch."""
        image = self.pixels[portion.images[row]].unsqueeze(0)
        target = portion.targets[column].reshape(1, 1)
        right = self._pytorch_in_double(image.double(), target, double, self.graph_in_double)
        for name in double:
            self.errors[name].double.append(relative_error(double[name], right[name]))
        for name in IN_BOTH & double.keys() if not self.exact else double if column == 0 else ():
            errors = self.errors[name]
            (errors.as_it_is if self.exact else errors.single).append(relative_error(single[name], right[name]))
        sharp = all(self.errors[name].double[-1] <= limit_in_double(name, self.exact) for name in double)
        if not sharp or any(max(self.errors[name].as_it_is, default=0) > EXACT for name in double):
            again = self._pytorch_in_double(_last_bit(image.double()), target, double, self.graph_in_double)
            for name in double:
                self.errors[name].noise.append(relative_error(again[name], right[name]))
        if self.exact:
            return
        doubtful = {name for name in IN_BOTH & double.keys() if self.errors[name].single[-1] > FLOAT32}
        doubtful |= self.resolution.doubtful & double.keys()
        if doubtful:
            eager = self._pytorch_in_float32(_last_bit(image), target, doubtful)
            for name in IN_BOTH & eager.keys():
                self.errors[name].eager.append(relative_error(eager[name], right[name]))
            self.resolution.add(eager, double, image[0].numpy())

    def _run(self, artifact: Artifact, portion: _Portion) -> Tensors:
        """What the file gives in float32; copied, as an array from onnxruntime keeps the memory of the whole run."""
        wanted = [name for name in portion.names if name != "logits"]
        given = artifact.run(self._images(portion).numpy(), portion.targets.tolist(), wanted)
        self._look_at(portion, given)
        return {name: tensor.copy() for name, tensor in given.items()}

    def _in_double(self, portion: _Portion) -> Tensors:
        """What the file gives in float64."""
        images = self._images(portion).double()
        with _one_line("the file that was written cannot be computed in float64"):
            tensors = self.file_in_double.run(images, portion.targets.expand(len(images), -1), portion.names)
            given = {name: tensor.numpy() for name, tensor in tensors.items()}
        self._look_at(portion, given)
        return given

    def _images(self, portion: _Portion) -> Tensor:
        return self.pixels[portion.images.start : portion.images.stop]

    def _look_at(self, portion: _Portion, given: Tensors) -> None:
        """Note which outputs are not finite or not of the shape that their images and classes ask for."""
        for name in portion.names:
            shape = self.metadata.full_shape(name, len(portion.images), len(portion.targets))
            if given[name].shape != shape or not np.isfinite(given[name]).all():
                self.broken[name] = None

    def _pytorch_in_double(self, image: Tensor, target: Tensor, names: Collection[str], graph: FusedGraph) -> Tensors:
        """What PyTorch gives in float64, by autograd where it can; ``graph``: in float64."""
        with _one_line("the model cannot be run in PyTorch to compare with"), in_double(self.exact):
            calls = self.heatmaps
            wanted = {name for name in names if name not in calls}
            wanted |= {need for name in names if name in calls for need in self.metadata.with_pool(calls[name].outputs)}
            outputs = eager_outputs(graph.model, image, target, graph.layout, wanted)
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

    @torch.no_grad()
    def _pytorch_in_float32(self, image: Tensor, target: Tensor, names: Collection[str]) -> Tensors:
        return {name: tensor[0].numpy() for name, tensor in self.graph.compute(image, target, names).items()}


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Whatever goes wrong, said in one line: the code of models may raise anything."""
    try:
        yield
    except OnnxplainError:
        raise
    except Exception as error:
        raise OnnxplainError(f"{what}: {one_line(error)}") from error


def _bytes(metadata: Metadata, item: Output) -> int:
    return 4 * math.prod(metadata.shape(item))


def _notes(metadata: Metadata, large: Sequence[Output]) -> tuple[str, ...]:
    if not large:
        return ()
    names, size = ", ".join(item.output for item in large), _bytes(metadata, large[0]) / 2**20
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


def _over(graph: FusedGraph, model: nn.Module) -> FusedGraph:
    """The same graph in float64, over the weights of ``model``."""
    double = copy.copy(graph)
    double._modules = {"model": model}
    double._buffers = {name: buffer.clone() if buffer is not None else None for name, buffer in graph._buffers.items()}
    return double.double()


def _last_bit(pixels: Tensor) -> Tensor:
    """Every number changed to one beside it."""
    signs = torch.randint(2, pixels.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return pixels.nextafter(signs * torch.full_like(pixels, torch.inf))
