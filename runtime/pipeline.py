"""From a question and pictures to answers: the runs of the graph, and what the methods make of its outputs."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.outputs import OUTPUTS, PASSES

from .backends.base import Artifact
from .explanation import Explanation, probabilities, top_predictions
from .finite import check_finite
from .images.geometry import Map, patch_sums, resize
from .images.inputs import BUDGET, Picture, cost
from .images.preprocessing import normalize
from .methods.method import Method
from .targets import class_of

Answer = Explanation | list[Explanation]
Progress = Callable[[int, int], object]
Values = dict[str, NDArray[np.float32]]

BATCH_BYTES = 2**30  # of what a run holds: pictures of many tokens go one by one
CACHE_BYTES = 5 * 2**20  # of a hidden layer on a CPU: beyond, larger batches take longer for each picture, not less
MAX_BATCH = 8
HEAD_WIDTH = 64  # numbers of a token for each head, which all common Vision Transformers have
HIDDEN = 4  # and the width of their hidden layers, in widths of a token


@dataclass(frozen=True)
class Question:
    """What is asked of every picture; `listed` tells a list of targets from a single one.

    `methods` are pairs of a method and its arguments. `progress` is told how many of a picture's runs are done, and how
    many there are, where there are methods that run the graph many times. `top_k`: how many predictions are listed.
    """

    methods: tuple[tuple[Method, dict[str, Any]], ...]
    targets: tuple[int, ...]
    listed: bool
    progress: Progress | None
    top_k: int

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the methods that need one run take from it; all of them share it."""
        names = (name for method, arguments in self.methods if not method.runs for name in method.bind(arguments)[0])
        return tuple(dict.fromkeys(names))

    @property
    def runs(self) -> int:
        """How many runs each picture takes beyond that one."""
        return sum(arguments[method.runs] for method, arguments in self.methods if method.runs)


def pictures_at_once(artifact: Artifact, outputs: Iterable[str], targets: int) -> int:
    """How many pictures one run of the graph takes without holding much more than `BATCH_BYTES`.

    Counted are the outputs asked for and what the graph holds on the way: if it walks back, the attention of all
    layers, and for reciprocam the tokens of the last block once for every patch. On a CPU `CACHE_BYTES` count as well.
    """
    metadata = artifact.metadata
    wanted = [OUTPUTS[name] for name in outputs]
    numbers = sum(math.prod(metadata.shape(item)) * (targets if item.per_target else 1) for item in wanted)
    tokens = metadata.layout.tokens * metadata.heads * HEAD_WIDTH
    hidden = HIDDEN * tokens
    if any(item.per_target for item in wanted):
        numbers += math.prod(metadata.shape(PASSES["attention"]))
        hidden *= max(1, targets)
    if PASSES["reciprocam"] in wanted:
        numbers += math.prod(metadata.patch_grid) * tokens
    fit = BATCH_BYTES // (4 * max(1, numbers))
    if artifact.device == "cpu":
        fit = min(fit, CACHE_BYTES // (4 * hidden))
    return max(1, min(MAX_BATCH, fit))


def answer_all(
    artifact: Artifact, pictures: Iterable[Picture | OnnxplainError], question: Question, size: int
) -> Iterator[dict[str, Answer] | OnnxplainError]:
    """For each picture, by method: an Explanation, or a list of them if targets were listed; or what went wrong.

    Runs the graph on up to `size` pictures at once, fewer where `BUDGET` is full; nothing is taken before it is asked
    for. What is wrong with a picture costs that one only, what is wrong with a run all that were in it.
    """
    for batch in _batches(pictures, size, cost):
        values = iter(_values(artifact, [item for item in batch if isinstance(item, Picture)], question))
        for item in batch:
            outcome = next(values) if isinstance(item, Picture) else item
            yield outcome if isinstance(outcome, OnnxplainError) else _outcome(artifact, item, outcome, question)


def given(outcome: dict[str, Answer] | OnnxplainError) -> dict[str, Answer]:
    """The answer; raises the error if that is what came of the picture."""
    if isinstance(outcome, OnnxplainError):
        try:
            raise outcome
        finally:
            del outcome  # or it and its traceback would hold each other, and with them whoever asked
    return outcome


def _outcome(
    artifact: Artifact, picture: Picture, values: Values, question: Question
) -> dict[str, Answer] | OnnxplainError:
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of it is checked
            return _answer(artifact, picture, values, question)
    except OnnxplainError as error:
        return error


def _values(artifact: Artifact, pictures: list[Picture], question: Question) -> list[Values | OnnxplainError]:
    """What one run gives for each of the pictures, or for each of them why it failed."""
    if not pictures:
        return []
    outputs = artifact.metadata.with_pool(question.outputs)
    try:
        values = artifact.run(np.stack([item.pixels for item in pictures]), question.targets, outputs)
    except OnnxplainError as error:
        return [error] * len(pictures)
    return [{name: value[row] for name, value in values.items()} for row in range(len(pictures))]


def _answer(artifact: Artifact, picture: Picture, values: Values, question: Question) -> dict[str, Answer]:
    """All methods' answers for one picture, from what the one run gave for it and the runs they need beyond."""
    metadata, logits = artifact.metadata, values["logits"]
    check_finite("the logits", logits)
    classes = [class_of(target, logits) for target in question.targets]
    predictions = top_predictions(logits, metadata, question.top_k)
    runs = Runs(artifact, classes, question.runs, question.progress)
    answers: dict[str, Answer] = {}
    for method, arguments in question.methods:
        found = [_both(one, method, metadata) for one in _maps(method, arguments, picture.pixels, values, runs)]
        for (heatmap, tokens), index in zip(found, classes, strict=False):
            what = f"class {index} ({metadata.labels[index]})" if method.per_target else "all classes"
            for part in (tokens, heatmap, np.ptp(heatmap, keepdims=True)):  # the last, as it is interpolated and scaled
                check_finite(f"the values of method {method.name}'s map for {what}", part)
        if not method.per_target:  # one for all, but nobody's result is changed through another's
            found = [(heatmap.copy(), tokens.copy()) for heatmap, tokens in found * len(classes)]
        results = [
            Explanation(
                input_heatmap=heatmap,
                tokens=tokens,
                target=index,
                label=metadata.labels[index],
                score=float(logits[index]),
                predictions=predictions,
                method=method.name,
                image=picture.image,
                placement=picture.placement,
                pixel_level=method.pixel_level,
                relative=method.relative,
                resolution=metadata.resolution.get(method.name),
            )
            for index, (heatmap, tokens) in zip(classes, found, strict=True)
        ]
        answers[method.name] = results if question.listed else results[0]
    return answers


def _maps(
    method: Method, arguments: dict[str, Any], pixels: NDArray[np.float32], values: Values, runs: "Runs"
) -> Iterable[NDArray[np.float64]]:
    """One method's map for each class, or a single one if it is the same for all."""
    names, rest = method.bind(arguments)
    if method.runs:
        maps: NDArray[np.float64] = method.function(pixels, runs, **rest)
        return maps
    columns = range(len(runs.classes) if method.per_target else 1)
    if method.pixel_level:
        return [method.function(*chosen(values, names, column), pixels=pixels, **rest) for column in columns]
    return [token_map(method, runs.metadata, values, column, arguments) for column in columns]


def token_map(
    method: Method, metadata: Metadata, values: Mapping[str, NDArray[Any]], column: int, arguments: Mapping[str, Any]
) -> NDArray[np.float64]:
    """The map of a method that is not of pixels, for one image's ``values`` and the target in that column."""
    names, rest = method.bind(arguments)
    rows = chosen(values, metadata.with_pool(names)[len(names) :], column)
    layout = replace(metadata.layout, row=rows[0]) if rows else metadata.layout
    return method.function(*chosen(values, names, column), layout=layout, **rest)


def chosen(values: Mapping[str, NDArray[Any]], names: Iterable[str], column: int) -> list[NDArray[Any]]:
    """These outputs for one target."""
    return [values[name][column] if OUTPUTS[name].per_target else values[name] for name in names]


def _both(
    one: NDArray[np.float64], method: Method, metadata: Metadata
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A map as values of the input's pixels and of its patches."""
    fine: Map = one if method.pixel_level else resize(one, metadata.preprocessing.size)
    tokens: Map = patch_sums(one, metadata.patch_grid) if method.pixel_level else one
    return fine.astype(np.float32), tokens.astype(np.float32)


@dataclass
class Runs:
    """Many runs of the graph for the classes asked for, in batches: the `Evaluator` of methods/sampling.py."""

    artifact: Artifact
    classes: list[int]
    total: int
    progress: Progress | None
    done: int = field(default=0, init=False)

    @property
    def metadata(self) -> Metadata:
        """What the artifact says about itself."""
        return self.artifact.metadata

    @property
    def black(self) -> NDArray[np.float32]:
        """Black as the model sees it, [3, 1, 1]."""
        return normalize(np.zeros((1, 1, 3), dtype=np.uint8), self.metadata.preprocessing)

    def gradients(self, inputs: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """For each input [3, H, W] d logit / d pixels, [T, 3, H, W]."""
        output = PASSES["pixel_gradient"].output
        for values in self._run(inputs, (output,)):
            yield from values[output]

    def probabilities(self, inputs: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float64]]:
        """For each input [3, H, W] the probabilities of the classes, [T]."""
        for values in self._run(inputs, ()):
            check_finite(f"logits among the {self.total} runs of the picture", values["logits"])
            yield from probabilities(values["logits"], self.metadata)[:, self.classes]

    def _run(self, inputs: Iterable[NDArray[Any]], outputs: tuple[str, ...]) -> Iterator[Values]:
        size = pictures_at_once(self.artifact, outputs, len(self.classes))
        for batch in _batches(inputs, size):
            values = self.artifact.run(np.stack(batch).astype(np.float32), self.classes, outputs)
            self.done += len(batch)
            if self.progress is not None:
                self.progress(self.done, self.total)
            yield values


def only(answers: dict[str, Answer]) -> Answer:
    """The answer of the single method asked."""
    (answer,) = answers.values()
    return answer


def _batches(items: Iterable[Any], size: int, cost: Callable[[Any], int] = lambda item: 0) -> Iterator[list[Any]]:
    """Lists of up to `size`, which end with the item that fills `BUDGET`.

    When an item cannot be had, those before it come first and then the error.
    """
    batch: list[Any] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size or sum(map(cost, batch)) >= BUDGET:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
