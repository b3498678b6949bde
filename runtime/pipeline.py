"""From prepared images to explanations: one run of the graph, and each method's map from its outputs.

`explain_image` explains one image and `explain_batches` many; `explanations` is what both make of the run's outputs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import RunError
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.outputs import output_of

from .backends.base import Artifact
from .batch_size import images_per_run
from .batches import batches
from .evaluator import GraphEvaluator, Progress
from .explanation import Explanation, probabilities, top_predictions
from .finite import check_finite
from .images.geometry import Map, patch_sums, resize
from .images.inputs import MEMORY_BUDGET, PreparedImage, memory
from .methods.calls import MethodCall
from .methods.choice import fixed_parameters
from .methods.method import Method
from .outcome import Outcome
from .target_parts import run_in_parts

IN_GRAPH, IN_MAP = 8, 2
"""How many times an image's own memory a graph that takes images as they are needs to prepare it, and for each map."""

ByMethod = dict[str, list[Explanation]]
"""The explanations of one image: by the key of the call one for each target, in the order of the targets."""
Outputs = dict[str, NDArray[Any]]
"""What the graph gives for one image, by the output's name, without the batch axis."""


@dataclass(frozen=True)
class Request:
    """What is to be explained of every image.

    Attributes:
        calls: The methods, each with its arguments.
        targets: Class indices, or ranks below 0.
        progress: Told how many of an image's runs are done, for methods that run the graph many times.
        top_k: How many predictions an explanation lists.
    """

    calls: tuple[MethodCall, ...]
    targets: tuple[int, ...]
    progress: Progress | None
    top_k: int

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that the methods need of the run that they share."""
        return tuple(dict.fromkeys(name for call in self.calls for name in call.outputs))

    @property
    def extra_runs(self) -> int:
        """How many runs each image takes beyond the one that the methods share."""
        return sum(call.runs for call in self.calls)

    def images_per_run(self, artifact: Artifact) -> int:
        """How many images the artifact takes at once."""
        return images_per_run(artifact, artifact.metadata.with_pool(self.outputs), len(self.targets))


def explain_image(artifact: Artifact, image: PreparedImage, request: Request) -> ByMethod:
    """Explain one image.

    Raises:
        RunError: If the run fails, or the logits or a map hold NaN or infinity.
    """
    (outputs,) = _run(artifact, [image], request)
    return explanations(artifact, image, outputs, request)


def explain_batches(
    artifact: Artifact, images: Iterable[Outcome[PreparedImage]], request: Request, size: int
) -> Iterator[Outcome[ByMethod]]:
    """Explain many images, up to `size` of them in one run, fewer where they fill `MEMORY_BUDGET`.

    An image is taken when it is needed. An error of an image concerns that image only, an error of a run all images
    that were in it. An artifact that takes images as they are takes those of one size, one after the other, in one run.
    """
    whole = artifact.metadata.input == "image"
    factor = IN_GRAPH + IN_MAP * len(request.targets) * len(request.calls) if whole else 1
    for batch in batches(images, size, lambda item: factor * memory(item), MEMORY_BUDGET):
        for alike in _of_one_size(batch):
            yield from _explain_batch(artifact, alike, request)


def _of_one_size(batch: list[Outcome[PreparedImage]]) -> Iterator[list[Outcome[PreparedImage]]]:
    """The batch in parts, in each of which the graph takes images of one size."""
    part: list[Outcome[PreparedImage]] = []
    size = None
    for item in batch:
        if item.error is None:
            if size not in (None, item.value.input.shape):
                yield part
                part = []
            size = item.value.input.shape
        part.append(item)
    yield part


def _explain_batch(
    artifact: Artifact, batch: list[Outcome[PreparedImage]], request: Request
) -> Iterator[Outcome[ByMethod]]:
    run = Outcome.of(_run, artifact, [item.value for item in batch if item.error is None], request)
    rows = run.then(iter)
    for item in batch:
        yield item.then(lambda image: explanations(artifact, image, next(rows.value), request))


def _run(artifact: Artifact, images: list[PreparedImage], request: Request) -> list[Outputs]:
    """What the outputs of the request are for each of the images."""
    if not images:
        return []
    outputs = artifact.metadata.with_pool(request.outputs)
    values = run_in_parts(artifact, np.stack([image.input for image in images]), request.targets, outputs)
    return [{name: value[row] for name, value in values.items()} for row in range(len(images))]


def explanations(artifact: Artifact, image: PreparedImage, outputs: Outputs, request: Request) -> ByMethod:
    """The explanations by all methods, from the outputs of the shared run and the runs that methods need beyond."""
    metadata, logits = artifact.metadata, outputs["logits"]
    check_finite("the logits", logits)
    classes = _classes(outputs, metadata)
    shares = probabilities(logits, metadata)
    predictions = top_predictions(logits, metadata, request.top_k)
    evaluator = GraphEvaluator(artifact, classes, request.extra_runs, request.progress)
    result: ByMethod = {}
    for call in request.calls:
        method = call.method
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the maps are checked
            maps = [
                _input_and_tokens(one, method, metadata) for one in _maps(call, image, outputs, metadata, evaluator)
            ]
            _check_maps(maps, call.method, classes, metadata)
        placed = outputs[call.outputs[0]] if metadata.input == "image" else [None] * len(classes)
        parameters = fixed_parameters(method.name, metadata) if method.name in metadata.heatmaps else call.arguments
        if not method.per_target:  # the same map for every class, in arrays of their own
            maps = [(heatmap.copy(), tokens.copy()) for heatmap, tokens in maps * len(classes)]
        result[call.key] = [
            Explanation(
                input_heatmap=heatmap,
                tokens=tokens,
                target=index,
                label=metadata.labels[index],
                score=float(logits[index]),
                probability=float(shares[index]),
                predictions=predictions,
                model=metadata.model,
                method=method.name,
                parameters=parameters,
                image=image.image,
                placement=image.placement,
                pixel_level=method.pixel_level,
                signed=method.signed,
                relative=method.relative,
                resolution=metadata.resolution.get(method.name),
                precision=metadata.precision,
                placed=None if whole is None else whole.copy(),  # a view would keep what the whole run gave
            )
            for index, (heatmap, tokens), whole in zip(classes, maps, placed, strict=True)
        ]
    return result


def _classes(outputs: Outputs, metadata: Metadata) -> list[int]:
    """The class that each target stands for; the graph has resolved the ranks by its logits."""
    classes: list[int] = outputs["class_index"].tolist()
    if not all(0 <= index < len(metadata.labels) for index in classes):
        raise RunError(f"the artifact gave the classes {classes}, and has 0 to {len(metadata.labels) - 1}")
    return classes


def _maps(
    call: MethodCall, image: PreparedImage, outputs: Outputs, metadata: Metadata, evaluator: GraphEvaluator
) -> Iterable[NDArray[np.float64]]:
    """One method's map for each class, or a single one if it is the same for all."""
    method = call.method
    if metadata.input == "image":
        placed, place = outputs[call.outputs[0]], image.placement
        if placed.shape[1:] != place.original:
            raise RunError(f"the artifact gave a map {list(placed.shape[1:])} for an image {list(place.original)}")
        grid = metadata.preprocessing.size if method.pixel_level else metadata.patch_grid
        return [place.recover(one, grid).astype(np.float64) for one in placed]
    if method.runs:
        maps: NDArray[np.float64] = method.function(image.input, evaluator, **call.arguments)
        return maps
    columns = range(len(evaluator.classes) if method.per_target else 1)
    return [map_of(call, metadata, outputs, column, image.input) for column in columns]


def map_of(
    call: MethodCall, metadata: Metadata, outputs: Mapping[str, NDArray[Any]], column: int, pixels: NDArray[Any]
) -> NDArray[np.float64]:
    """The map of a method that needs no runs of its own.

    Args:
        call: The method, with its full set of arguments.
        metadata: The artifact's.
        outputs: What the graph gave for one image, without the batch axis.
        column: Which of the targets.
        pixels: The model's input, [3, H, W].

    Returns:
        float64 [h, w], the patch grid, or for `pixel_level` methods [H, W].
    """
    given = {
        name: outputs[name][column] if output_of(name).per_target else outputs[name]
        for name in metadata.with_pool(call.outputs)
    }
    result: NDArray[np.float64] = call.map(given, pixels.astype(np.float64), metadata.layout.readout_row(), metadata)
    return result


def _input_and_tokens(
    one: NDArray[np.float64], method: Method, metadata: Metadata
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A method's map over the input's pixels, [H, W], and over its patches, [h, w]."""
    fine: Map = one if method.pixel_level else resize(one, metadata.preprocessing.size)
    tokens: Map = patch_sums(one, metadata.patch_grid) if method.pixel_level else one
    return fine.astype(np.float32), tokens.astype(np.float32)


def _check_maps(
    maps: list[tuple[NDArray[np.float32], NDArray[np.float32]]], method: Method, classes: list[int], metadata: Metadata
) -> None:
    for (heatmap, tokens), index in zip(maps, classes, strict=False):  # there may be one map for all classes
        what = f"class {index} ({metadata.labels[index]})" if method.per_target else "all classes"
        for part in (tokens, heatmap, np.ptp(heatmap, keepdims=True)):  # the range too, as maps are resized and scaled
            check_finite(f"the values of method {method.name}'s map for {what}", part)


def each_class_once(results: ByMethod) -> ByMethod:
    """Without the second explanation of a class that two targets stand for, such as its label and its rank."""
    once: ByMethod = {}
    for method, items in results.items():
        first = {item.target: item for item in reversed(items)}  # of several, the first stays
        once[method] = [item for item in items if item is first[item.target]]
    return once
