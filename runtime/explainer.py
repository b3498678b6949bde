"""The runtime's front door: an artifact and images in, explanations out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import OnnxplainError
from .geometry import Placement, resize
from .metadata import PASSES, Metadata
from .methods import Method, comparable_methods, find_method
from .preprocessing import IMAGE_TYPES, ImageSource, denormalize, load_image, preprocess
from .result import Explanation, top_predictions
from .session import Artifact
from .targets import Target, class_of, resolve_target

Targets = list[Target] | list[int] | list[str] | tuple[Target, ...]
Answer = Explanation | list[Explanation]
Images = list[Any] | tuple[ImageSource, ...] | Iterator[ImageSource]


@dataclass(frozen=True)
class _Picture:
    """An image on its way: the picture, the model's input [3, H, W], and where that lies in the picture."""

    image: Image.Image
    pixels: NDArray[np.float32]
    placement: Placement


@dataclass(frozen=True)
class _Question:
    """What is asked of every image; `listed` tells a list of targets from a single one.

    `methods` are pairs of a method and its arguments; all of them share one run of the graph.
    """

    methods: tuple[tuple[Method, dict[str, Any]], ...]
    targets: tuple[int, ...]
    listed: bool

    @property
    def passes(self) -> frozenset[str]:
        return frozenset(name for method, _ in self.methods for name in method.passes)


class Explainer:
    """An artifact, loaded once; explain images with it as often as needed, from several threads too.

    `path`: the ONNX file that export wrote. `device`: "auto" (CUDA if onnxruntime offers it), "cpu" or "cuda".
    `threads`: how many onnxruntime uses for one run; None for all cores.

    Raises OnnxplainError if the file is missing, broken or not an onnxplain artifact, or if there is no such device.
    """

    def __init__(self, path: str | Path, device: str = "auto", threads: int | None = None) -> None:
        self._artifact = Artifact(path, device, threads)

    @property
    def metadata(self) -> Metadata:
        """What the artifact says about itself."""
        return self._artifact.metadata

    @property
    def device(self) -> str:
        """Where the artifact runs: "cuda" or "cpu"."""
        return self._artifact.device

    @overload
    def explain(
        self,
        image: ImageSource,
        target: Target = -1,
        method: str | None = None,
        batch_size: int = 8,
        **parameters: Any,
    ) -> Explanation: ...

    @overload
    def explain(
        self, image: ImageSource, target: Targets, method: str | None = None, batch_size: int = 8, **parameters: Any
    ) -> list[Explanation]: ...

    @overload
    def explain(
        self, image: Images, target: Target = -1, method: str | None = None, batch_size: int = 8, **parameters: Any
    ) -> Iterator[Explanation]: ...

    @overload
    def explain(
        self, image: Images, target: Targets, method: str | None = None, batch_size: int = 8, **parameters: Any
    ) -> Iterator[list[Explanation]]: ...

    def explain(
        self,
        image: ImageSource | Images,
        target: Target | Targets = -1,
        method: str | None = None,
        batch_size: int = 8,
        **parameters: Any,
    ) -> Answer | Iterator[Answer]:
        """Where the model sees the target in the image.

        `image`: a path, bytes, PIL image or uint8 array [height, width, 3]. A list or generator of those is explained
        in batches of `batch_size`, as the returned generator is consumed; it yields, in order, what a call with each
        single image would return. `target`: a class index, a label, or a rank (-1 the top-1 class, -2 the runner-up,
        …); a list of those gives a list of results from one run of the graph. `method`: a name in METHODS; None for
        the best one this artifact has the passes for. `parameters`: the method's.

        Raises OnnxplainError if an image, target, method or parameter is not valid.
        """
        question = self._question(target, method, parameters)
        if isinstance(image, IMAGE_TYPES) or not isinstance(image, Iterable):
            return next(map(_only, self._answer([self._picture(image)], question)))
        return map(_only, self._answers(map(self._picture, image), question, _valid_batch_size(batch_size)))

    @overload
    def explain_all(self, image: ImageSource, target: Target | Targets = -1, batch_size: int = 8) -> dict[str, Any]: ...

    @overload
    def explain_all(
        self, image: Images, target: Target | Targets = -1, batch_size: int = 8
    ) -> Iterator[dict[str, Any]]: ...

    def explain_all(
        self, image: ImageSource | Images, target: Target | Targets = -1, batch_size: int = 8
    ) -> dict[str, Answer] | Iterator[dict[str, Answer]]:
        """As `explain`, for every method at once, with its defaults: {method's name: what explain would return}.

        All methods and targets of an image share one run of the graph; a list or generator of images yields one such
        dictionary for each. Left out are methods whose dependency is not installed, and attention_flow where there
        are so many tokens that it takes much longer than all the others; see `comparable_methods`.
        """
        metadata = self.metadata
        methods, _ = comparable_methods(metadata.passes, metadata.layout.tokens)
        questions = tuple((method, method.arguments({}, metadata.layers)) for method in methods)
        question = _Question(questions, *self._resolve(target))
        if isinstance(image, IMAGE_TYPES) or not isinstance(image, Iterable):
            return next(self._answer([self._picture(image)], question))
        return self._answers(map(self._picture, image), question, _valid_batch_size(batch_size))

    def explain_pixels(
        self,
        pixels: NDArray[np.float32],
        target: Target | Targets = -1,
        method: str | None = None,
        batch_size: int = 8,
        **parameters: Any,
    ) -> list[Any]:
        """As `explain`, for pixels that are already preprocessed: float32 [batch, 3, H, W], one result per image
        (an Explanation, or a list of them if a list of targets is given).

        The heatmaps have the model input's size, [H, W]. Raises OnnxplainError if the pixels are of another shape or
        type or not finite.
        """
        question = self._question(target, method, parameters)
        preprocessing = self.metadata.preprocessing
        size = preprocessing.size
        self._check_pixels(pixels)
        pictures = (
            _Picture(denormalize(one, preprocessing), one, Placement(size, size, (0, 0), size)) for one in pixels
        )
        return list(map(_only, self._answers(pictures, question, _valid_batch_size(batch_size))))

    def tensors(
        self, image: ImageSource, target: Target | Targets = -1, passes: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """The graph's raw outputs for one image, with its batch axis: `logits`, and those of `passes` (None: of all).

        Shapes: logits [1, classes], attention [1, L, heads, N, N], attention_gradient and relevance
        [1, targets, L, heads, N, N]. Raises OnnxplainError if the image, a target or a pass is not valid.
        """
        present = self.metadata.passes
        wanted = present if passes is None else tuple(passes)
        unknown = [name for name in wanted if name not in present]
        if unknown:
            raise OnnxplainError(f"this artifact has no pass {', '.join(unknown)}; it has: {', '.join(present)}")
        targets, _ = self._resolve(target)
        return self._artifact.run(self._picture(image).pixels[None], targets, wanted)

    def _question(self, target: Target | Targets, method: str | None, parameters: dict[str, Any]) -> _Question:
        chosen = find_method(method, self.metadata.passes)
        asked = (chosen, chosen.arguments(parameters, self.metadata.layers))
        return _Question((asked,), *self._resolve(target))

    def _resolve(self, target: Target | Targets) -> tuple[tuple[int, ...], bool]:
        several = target if isinstance(target, list | tuple) else None
        if several is not None and not several:
            raise OnnxplainError("the list of targets is empty; give at least one class, label or rank")
        items = [target] if several is None else several
        return tuple(resolve_target(item, self.metadata.labels) for item in items), several is not None

    def _picture(self, source: ImageSource) -> _Picture:
        image = load_image(source)
        return _Picture(image, *preprocess(image, self.metadata.preprocessing))

    def _check_pixels(self, pixels: NDArray[np.float32]) -> None:
        shape = [3, *self.metadata.preprocessing.size]
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.float32 or list(pixels.shape[1:]) != shape:
            given = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise OnnxplainError(f"pixels must be a float32 array [batch, {', '.join(map(str, shape))}], got {given}")
        if not np.isfinite(pixels).all():
            raise OnnxplainError("pixels must be finite, got NaN or infinity")

    def _answers(
        self, pictures: Iterator[_Picture], question: _Question, batch_size: int
    ) -> Iterator[dict[str, Answer]]:
        """The answers for all pictures, batch by batch; nothing is loaded before it is asked for."""
        for batch in _batches(pictures, batch_size):
            yield from self._answer(batch, question)

    def _answer(self, pictures: list[_Picture], question: _Question) -> Iterator[dict[str, Answer]]:
        """For each picture of one batch, by method: an Explanation, or a list of them if targets were listed."""
        outputs = self._artifact.run(np.stack([item.pixels for item in pictures]), question.targets, question.passes)
        for row, picture in enumerate(pictures):
            raw = {name: values[row] for name, values in outputs.items()}
            answers: dict[str, Answer] = {}
            for method, arguments in question.methods:
                results = self._explanations(picture, raw, method, arguments, question.targets)
                answers[method.name] = results if question.listed else results[0]
            yield answers

    def _explanations(
        self,
        picture: _Picture,
        outputs: dict[str, NDArray[np.float32]],
        method: Method,
        arguments: dict[str, Any],
        targets: tuple[int, ...],
    ) -> list[Explanation]:
        """One method's explanation of every target, from the graph's outputs for one picture."""
        logits, labels = outputs["logits"], self.metadata.labels
        predictions = top_predictions(logits, self.metadata)
        results = []
        for column, target in enumerate(targets):
            if column == 0 or method.per_target:
                tensors = {
                    name: outputs[PASSES[name].output][column]
                    if PASSES[name].per_target
                    else outputs[PASSES[name].output]
                    for name in method.passes
                }
                tokens = method.function(**tensors, layout=self.metadata.layout, **arguments)
            heatmap = picture.placement.place(resize(tokens, self.metadata.preprocessing.size).astype(np.float32))
            index = class_of(target, logits)
            results.append(
                Explanation(
                    heatmap=heatmap,
                    tokens=tokens.astype(np.float32),
                    target=index,
                    label=labels[index],
                    score=float(logits[index]),
                    predictions=predictions,
                    method=method.name,
                    image=picture.image,
                )
            )
        return results


def _only(answers: dict[str, Answer]) -> Answer:
    """The answer of the single method asked."""
    (answer,) = answers.values()
    return answer


def _batches(pictures: Iterator[_Picture], size: int) -> Iterator[list[_Picture]]:
    """Lists of up to `size`; when a picture cannot be had, those before it come first and then the error."""
    batch: list[_Picture] = []
    try:
        for picture in pictures:
            batch.append(picture)
            if len(batch) == size:
                yield batch
                batch = []
    except OnnxplainError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _valid_batch_size(batch_size: int) -> int:
    if batch_size < 1:
        raise OnnxplainError(f"batch_size must be at least 1, got {batch_size}")
    return batch_size
