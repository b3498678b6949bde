"""The runtime's front door: an artifact and images in, explanations out."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Metadata, is_int

from .backends.formats import open_artifact
from .explanation import TOP_K, Explanation
from .finite import check_finite
from .images.geometry import Placement
from .images.inputs import Picture, picture, pictures_ahead
from .images.loading import MAX_PIXELS, ImageSource, is_source
from .images.preprocessing import denormalize
from .methods.choice import Methods, chosen_methods, chosen_outputs, find_method
from .pipeline import Answer, Progress, Question, answer_all, given, only, pictures_at_once
from .targets import Target, resolve_target

Targets = list[Target] | list[int] | list[str] | tuple[Target, ...]
Images = list[Any] | tuple[ImageSource, ...] | Iterator[ImageSource]


class Explainer:
    """An artifact, loaded once; explain images with it as often as needed, from several threads too.

    `path`: the file that export wrote; .pt is opened with PyTorch, which has to be installed then, all else with
    onnxruntime. `device`: "auto" (CUDA if that offers it), "cpu" or "cuda". `threads`: how many one run uses; None for
    all cores. `cache`: keep the graph as onnxruntime has simplified it, in the folder `path`.cache, as large as the
    file, from which it opens sooner on the CPU the next time; a CacheWarning if that cannot be written. Who can write
    that folder decides the answers. `trust`: open a .pt file, which is a program and can read and overwrite files.
    `max_pixels`: of the pictures that are read, see `load_image`. `top_k`: how many predictions an explanation lists.

    It can be pickled, and so be given to other processes: they open the file at the same path themselves.

    Raises OnnxplainError if the file is missing, not an onnxplain artifact or not as export wrote it, which its digest
    tells; if it is a .pt file without `trust`; or if there is no such device.
    """

    def __init__(
        self,
        path: str | Path,
        device: str = "auto",
        threads: int | None = None,
        cache: bool = False,
        trust: bool = False,
        max_pixels: int = MAX_PIXELS,
        top_k: int = TOP_K,
    ) -> None:
        if not isinstance(path, str | Path):
            raise OnnxplainError(f"an artifact is given by its path, got {type(path).__name__}")
        for name, value in (("max_pixels", max_pixels), ("top_k", top_k)):
            if not is_int(value, 1, math.inf):
                raise OnnxplainError(f"{name} must be a whole number of at least 1, got {value!r}")
        self._artifact = open_artifact(path, device, threads, cache, trust)
        self._max_pixels, self._top_k = max_pixels, top_k
        self._arguments = Path(path).absolute(), device, threads, cache, trust, max_pixels, top_k

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its arguments: another process opens the file anew, which has to be there under the same path."""
        return type(self), self._arguments

    def __repr__(self) -> str:
        """Model, file and device, in one line."""
        metadata, path = self.metadata, str(self._arguments[0])
        return f"<Explainer of {metadata.model!r}, {len(metadata.labels)} classes, {path!r} on {self.device}>"

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
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Explanation: ...

    @overload
    def explain(
        self,
        image: ImageSource,
        target: Targets,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> list[Explanation]: ...

    @overload
    def explain(
        self,
        image: Images,
        target: Target = -1,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Iterator[Explanation]: ...

    @overload
    def explain(
        self,
        image: Images,
        target: Targets,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Iterator[list[Explanation]]: ...

    def explain(
        self,
        image: ImageSource | Images,
        target: Target | Targets = -1,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Answer | Iterator[Answer]:
        """Where the model sees the target in the image.

        `image`: whatever `load_image` takes: a path, bytes, a file open for reading bytes, a PIL image or a uint8
        array. A list or generator of those is explained in batches, as the returned iterator is consumed; it yields, in
        order, what a call with each single image would return. It takes one batch more than the one at hand, which is
        made ready in other threads during the run. Where a single call would raise it raises too, and goes on with the
        next image if it is asked on.

        `target`: a class index, a label, or a rank (-1 the top-1 class, -2 the runner-up, …); a list of those gives a
        list of results from one run of the graph. `method`: a name in METHODS; None for the best one this artifact has
        the passes for. `batch_size`: None for up to 8 images, fewer if they have many tokens, or on a CPU if the model
        is wide. `progress`: called as progress(done, total) with the runs done for the image at hand, by methods that
        need many of them. `parameters`: the method's.

        Raises OnnxplainError if an image, target, method or parameter is not valid, or if the logits or the map hold
        NaN or infinity.
        """
        question = self._question(target, method, parameters, progress)
        if is_source(image) or not isinstance(image, Iterable):
            return only(next(self._answers([self._picture(image)], question, 1)))
        return map(only, self._explained(image, question, batch_size))

    @overload
    def explain_all(
        self,
        image: ImageSource,
        target: Target | Targets = -1,
        batch_size: int | None = None,
        progress: Progress | None = None,
        methods: Methods | None = None,
    ) -> dict[str, Any]: ...

    @overload
    def explain_all(
        self,
        image: Images,
        target: Target | Targets = -1,
        batch_size: int | None = None,
        progress: Progress | None = None,
        methods: Methods | None = None,
    ) -> Iterator[dict[str, Any]]: ...

    def explain_all(
        self,
        image: ImageSource | Images,
        target: Target | Targets = -1,
        batch_size: int | None = None,
        progress: Progress | None = None,
        methods: Methods | None = None,
    ) -> dict[str, Answer] | Iterator[dict[str, Answer]]:
        """As `explain`, for several methods at once: {method's name: what explain would return}.

        `methods`: names in METHODS, which come with their defaults and in this order; or a mapping of such names to
        each one's parameters; None for all, but those whose dependency is not installed, and those that take much
        longer than all the others where there are many tokens, see `comparable_methods`.

        All methods and targets of an image share one run of the graph, beside the many that some methods need
        (`integrated_gradients`, `smoothgrad` and `rise`), which the targets share; `progress` counts those of all
        methods together. A list or generator of images yields one such dictionary for each. A map that holds NaN or
        infinity is an error that names its method; the others can be had without it.

        Raises OnnxplainError as `explain` does, and if a method is given twice or there is none.
        """
        question = Question(chosen_methods(methods, self.metadata), *self._resolve(target), progress, self._top_k)
        if is_source(image) or not isinstance(image, Iterable):
            return next(self._answers([self._picture(image)], question, 1))
        return self._explained(image, question, batch_size)

    def explain_pixels(
        self,
        pixels: NDArray[np.float32],
        target: Target | Targets = -1,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> list[Any]:
        """As `explain`, for pixels that are already preprocessed: float32 [batch, 3, H, W], one result per image
        (an Explanation, or a list of them if a list of targets is given).

        The heatmaps have the model input's size, [H, W]. Raises OnnxplainError if the pixels are of another shape or
        type or not finite.
        """
        question = self._question(target, method, parameters, progress)
        preprocessing = self.metadata.preprocessing
        size = preprocessing.size
        self._check_pixels(pixels)
        pictures = (
            Picture(denormalize(one, preprocessing), one, Placement(size, size, (0, 0), size)) for one in pixels
        )
        return list(map(only, self._answers(pictures, question, self._batch_size(question, batch_size))))

    def tensors(
        self, image: ImageSource, target: Target | Targets = -1, passes: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """The graph's outputs for one image, with its batch axis: `logits`, and those of `passes` (None: of all).

        `passes`: names of passes, each of which stands for its raw output, or of outputs, reductions among them.

        Shapes: logits [1, classes], attention [1, L, heads, N, N]; attention_gradient, relevance and layer_gradient
        [1, targets, L, heads, N, N]; pixel_gradient [1, targets, 3, H, W], pixel_relevance, pixel_attnlrp and
        pixel_cp_lrp [1, targets, H, W]; reciprocam [1, targets, h, w]. Raises OnnxplainError if the image, a target or
        a pass is not valid, or if an output holds NaN or infinity.
        """
        outputs = chosen_outputs(passes, self.metadata)
        targets, _ = self._resolve(target)
        values = self._artifact.run(self._picture(image).pixels[None], targets, outputs)
        for name, tensor in values.items():
            check_finite(f"the values of {name}", tensor)
        return values

    def _explained(
        self, images: Iterable[Any], question: Question, batch_size: int | None
    ) -> Iterator[dict[str, Answer]]:
        size = self._batch_size(question, batch_size)
        pictures = pictures_ahead(images, self.metadata.preprocessing, self._max_pixels, size)
        return self._answers(pictures, question, size)

    def _answers(
        self, pictures: Iterable[Picture | OnnxplainError], question: Question, size: int
    ) -> Iterator[dict[str, Answer]]:
        return map(given, answer_all(self._artifact, pictures, question, size))

    def _batch_size(self, question: Question, asked: int | None) -> int:
        if asked is not None and asked < 1:
            raise OnnxplainError(f"batch_size must be at least 1, got {asked}")
        outputs = self.metadata.with_pool(question.outputs)
        return asked or pictures_at_once(self._artifact, outputs, len(question.targets))

    def _question(
        self, target: Target | Targets, method: str | None, parameters: dict[str, Any], progress: Progress | None
    ) -> Question:
        chosen = find_method(method, self.metadata.passes)
        asked = (chosen, chosen.arguments(parameters, self.metadata.layers))
        return Question((asked,), *self._resolve(target), progress, self._top_k)

    def _resolve(self, target: Target | Targets) -> tuple[tuple[int, ...], bool]:
        several = target if isinstance(target, list | tuple) else None
        if several is not None and not several:
            raise OnnxplainError("the list of targets is empty; give at least one class, label or rank")
        items = [target] if several is None else several
        return tuple(resolve_target(item, self.metadata.labels) for item in items), several is not None

    def _picture(self, source: Any) -> Picture:
        return picture(source, self.metadata.preprocessing, self._max_pixels)

    def _check_pixels(self, pixels: NDArray[np.float32]) -> None:
        shape = [3, *self.metadata.preprocessing.size]
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.float32 or list(pixels.shape[1:]) != shape:
            given = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise OnnxplainError(f"pixels must be a float32 array [batch, {', '.join(map(str, shape))}], got {given}")
        if not np.isfinite(pixels).all():
            raise OnnxplainError("pixels must be finite, got NaN or infinity")
