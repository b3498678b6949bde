"""The class that users begin with: an artifact and images in, explanations out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import ArtifactError, ImageError, OnnxplainError, TargetError
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.validation import is_count

from .backends.base import Artifact
from .backends.formats import open_artifact
from .backends.providers import Provider
from .batch_size import MAX_BATCH
from .evaluator import Progress
from .explanation import TOP_K, Explanation
from .finite import check_finite
from .images.geometry import Placement
from .images.inputs import PreparedImage, prepare, prepare_ahead
from .images.loading import MAX_PIXELS, ImageSource, is_source
from .images.preprocessing import denormalize
from .methods.calls import MethodCall
from .methods.choice import Methods, call_method, call_methods, find_outputs
from .outcome import Explanations, Outcome
from .pipeline import ByMethod, Request, explain_batches, explain_image
from .target_parts import run_in_parts
from .targets import Target, Targets, are_several, resolve_target
from .views.features import Features, patch_features, principal_colours
from .views.heads import Heads, heads_of


class Explainer:
    """An exported model that explains images: open it once, use it as often as needed, from several threads too.

    Example::

        explainer = Explainer("vit.onnx")
        explanation = explainer.explain("cat.jpg", target="tabby")
        explanation.overlay().save("tabby.png")

    An Explainer can be pickled, and so be given to other processes: they open the file at the same path themselves.

    Attributes:
        path: The artifact's file; None if there is none, as of `over`.
        artifact: What runs the graph, as `backends/base.py` describes it.
        metadata: What the artifact says about itself: its labels, preprocessing, passes and more.
        device: Where it runs: "cpu", "cuda", or the name of another of onnxruntime's providers.
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
        providers: Sequence[Provider] | None = None,
        packed: bool = False,
    ) -> None:
        """Open an artifact.

        Args:
            path: The file that export wrote. A .pt file is opened with PyTorch, which has to be installed then, all
                others with onnxruntime. On the CPU that reads the weights where they lie in the file, so do not write
                into it while it is open: answers change, or the process ends where it is cut short. Rename another file
                to its name instead, as export does; what is open keeps the old one.
            device: "cpu", "cuda", or "auto": the first device that onnxruntime offers, CUDA before the CPU.
            threads: How many threads a run uses on the CPU; None for all cores.
            cache: Keep the graph as onnxruntime has optimized it, in the folder `path`.cache, as large as the file. The
                next time it opens sooner from there, on the CPU. Who can write that folder decides the results.
            trust: Open a .pt file, which is a program that can read and overwrite files.
            max_pixels: Larger images are refused, see `load_image`.
            top_k: How many predictions an explanation lists.
            providers: onnxruntime's execution providers, first choice first, in place of `device`: names that
                `onnxruntime.get_available_providers()` gives, or pairs of a name and a dict of its options. Those of
                CUDA have `{"use_tf32": "0"}` unless they are given here, as TF32 is too coarse for relevance.
            packed: On the CPU, keep the weights of an ONNX file once more for each kind of product, in the order in
                which that reads them: a run takes a tenth less time, opening twice as long. It pays for many images.
                Weights of int8 artifacts, which are small, are packed in any case. Other devices do without it, as
                without the cache.

        Raises:
            ArtifactError: If the file is missing, not an artifact, changed since export, as its digest tells, or a .pt
                file without `trust`.
            OnnxplainError: If there is no such device or provider, or another argument is not valid, as `cache` and
                `packed` are not for a .pt file.

        Warns:
            CacheWarning: If the cache cannot be written; all else works.
        """
        if not isinstance(path, str | Path):
            raise ArtifactError(f"an artifact is given by its path, got {type(path).__name__}")
        for name, switch in (("cache", cache), ("trust", trust), ("packed", packed)):
            if not isinstance(switch, bool):
                raise OnnxplainError(f"`{name}` must be True or False, got {switch!r}")
        _check_counts(max_pixels, top_k)
        self._artifact = open_artifact(path, device, threads, cache, trust, providers, packed)
        self._max_pixels, self._top_k = max_pixels, top_k
        file = Path(path).absolute()
        self._arguments: tuple[Any, ...] | None = (
            *(file, device, threads, cache, trust, max_pixels, top_k, providers, packed),
        )

    @classmethod
    def over(cls, artifact: Artifact, max_pixels: int = MAX_PIXELS, top_k: int = TOP_K) -> Self:
        """An Explainer over what is open already, such as a model in PyTorch; it cannot be pickled.

        Args:
            artifact: What runs the graph.
            max_pixels: As for the class itself.
            top_k: As for the class itself.

        Raises:
            OnnxplainError: If an argument is not valid.
        """
        _check_counts(max_pixels, top_k)
        explainer = cls.__new__(cls)
        explainer._artifact, explainer._arguments = artifact, None
        explainer._max_pixels, explainer._top_k = max_pixels, top_k
        return explainer

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its arguments: another process opens the file anew, which has to be there under the same path."""
        if self._arguments is None:
            raise OnnxplainError(
                f"{self!r} cannot be pickled, as no file holds its model; export the model, and open that file"
            )
        return type(self), self._arguments

    def __repr__(self) -> str:
        """Model, file and device, in one line."""
        metadata, place = self.metadata, repr(str(self._arguments[0])) if self._arguments else "in memory"
        return f"<Explainer of {metadata.model!r}, {len(metadata.labels)} classes, {place} on {self.device}>"

    @property
    def path(self) -> Path | None:
        """The artifact's file; None if there is none, as of `over`."""
        return self._arguments[0] if self._arguments else None

    @property
    def artifact(self) -> Artifact:
        """What runs the graph."""
        return self._artifact

    @property
    def metadata(self) -> Metadata:
        """What the artifact says about itself: its labels, preprocessing, passes and more."""
        return self._artifact.metadata

    @property
    def device(self) -> str:
        """Where the artifact runs: "cpu", "cuda", or the name of another of onnxruntime's providers."""
        return self._artifact.device

    @overload
    def explain(
        self,
        image: ImageSource,
        target: Target = -1,
        method: str | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Explanation: ...

    @overload
    def explain(
        self,
        image: ImageSource,
        target: Targets,
        method: str | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> list[Explanation]: ...

    def explain(
        self,
        image: ImageSource,
        target: Target | Targets = -1,
        method: str | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Explanation | list[Explanation]:
        """Explain one image: where does the model see the target in it?

        Args:
            image: A path; an encoded image as bytes or as a file open for reading bytes; a PIL image; or a uint8 array
                [height, width], [height, width, 3] or [height, width, 4]. See `load_image`.
            target: The class: its index, its label, or a rank (-1 the top-1 class, -2 the runner-up, …). A list or
                tuple of these, a range, or an integer array of one axis gives a list of explanations, from one run of
                the graph, or from several where there are many.
            method: A name in `METHODS`; None for the best method that this artifact has the passes for.
            progress: Called as progress(done, total) by methods that run the graph many times.
            **parameters: The method's own, such as head_fusion="max"; see `METHODS`.

        Returns:
            An Explanation; or for a list of targets one for each, in the same order.

        Raises:
            ImageError: If the image cannot be read, or is larger than `max_pixels`.
            TargetError: If there is no such class.
            MethodError: If there is no such method, or a parameter is not valid.
            RunError: If the run fails, or the logits or the map hold NaN or infinity.
        """
        _check_single(image, "explain", "explain_many")
        request = self._request([call_method(method, parameters, self.metadata)], target, progress)
        explained: Explanation | list[Explanation] = _per_target(target)(_only(self._explain(image, request)))
        return explained

    @overload
    def explain_many(
        self,
        images: Iterable[ImageSource],
        target: Target = -1,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Explanations[Explanation]: ...

    @overload
    def explain_many(
        self,
        images: Iterable[ImageSource],
        target: Targets,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Explanations[list[Explanation]]: ...

    def explain_many(
        self,
        images: Iterable[ImageSource],
        target: Target | Targets = -1,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> Explanations[Any]:
        """Explain many images, in batches, while the next batch is read and preprocessed in other threads.

        Args:
            images: Any iterable of what `explain` takes. It is consumed as results are asked for, one batch ahead.
            target: As in `explain`.
            method: As in `explain`.
            batch_size: How many images one run takes; None for up to 8, fewer if there are many tokens or targets, or
                on a CPU if the model is wide. Large images go in smaller batches in any case.
            progress: As in `explain`, for each image.
            **parameters: As in `explain`.

        Returns:
            An iterator over what `explain` would return for each image. Where `explain` would raise, so does `next()`,
            and the iterator goes on with the next image; see `Explanations`.

        Raises:
            TargetError: If there is no such class; at once, as the following.
            MethodError: If there is no such method, or a parameter is not valid.
            OnnxplainError: If `images` is a single image, or `batch_size` is not valid.
        """
        _check_several(images, "explain_many", "explain")
        request = self._request([call_method(method, parameters, self.metadata)], target, progress)
        pick = _per_target(target)
        return self._explain_many(images, request, batch_size, lambda results: pick(_only(results)))

    @overload
    def explain_all(
        self,
        image: ImageSource,
        target: Target = -1,
        progress: Progress | None = None,
        methods: Methods | None = None,
    ) -> dict[str, Explanation]: ...

    @overload
    def explain_all(
        self,
        image: ImageSource,
        target: Targets,
        progress: Progress | None = None,
        methods: Methods | None = None,
    ) -> dict[str, list[Explanation]]: ...

    def explain_all(
        self,
        image: ImageSource,
        target: Target | Targets = -1,
        progress: Progress | None = None,
        methods: Methods | None = None,
    ) -> Mapping[str, Explanation | list[Explanation]]:
        """Explain one image by several methods.

        All methods and targets share one run of the graph, beside the many that `integrated_gradients`, `smoothgrad`
        and `rise` need.

        Args:
            image: As in `explain`.
            target: As in `explain`.
            progress: As in `explain`; it counts the runs of all methods together.
            methods: Names in `METHODS`; or a mapping of names to each method's parameters; None for all methods but
                those whose dependency is not installed and those that take long for the model's number of tokens, see
                `comparable_methods`.

        Returns:
            {method's name: what `explain` would return}, in the order of `methods`.

        Raises:
            OnnxplainError: As `explain` does; and MethodError if a method is given twice, or there is none. A map that
                holds NaN or infinity is an error that names its method; the other methods can be had without it.
        """
        _check_single(image, "explain_all", "explain_all_many")
        request = self._request(call_methods(methods, self.metadata), target, progress)
        return _for_each(_per_target(target), self._explain(image, request))

    @overload
    def explain_all_many(
        self,
        images: Iterable[ImageSource],
        target: Target = -1,
        batch_size: int | None = None,
        progress: Progress | None = None,
        methods: Methods | None = None,
    ) -> Explanations[dict[str, Explanation]]: ...

    @overload
    def explain_all_many(
        self,
        images: Iterable[ImageSource],
        target: Targets,
        batch_size: int | None = None,
        progress: Progress | None = None,
        methods: Methods | None = None,
    ) -> Explanations[dict[str, list[Explanation]]]: ...

    def explain_all_many(
        self,
        images: Iterable[ImageSource],
        target: Target | Targets = -1,
        batch_size: int | None = None,
        progress: Progress | None = None,
        methods: Methods | None = None,
    ) -> Explanations[Any]:
        """Explain many images by several methods.

        Args:
            images: As in `explain_many`.
            target: As in `explain`.
            batch_size: As in `explain_many`.
            progress: As in `explain_all`, for each image.
            methods: As in `explain_all`.

        Returns:
            An iterator over what `explain_all` would return for each image; see `explain_many` and `Explanations`.

        Raises:
            OnnxplainError: At once, for all arguments but the images, as in `explain_many` and `explain_all`.
        """
        _check_several(images, "explain_all_many", "explain_all")
        request = self._request(call_methods(methods, self.metadata), target, progress)
        pick = _per_target(target)
        return self._explain_many(images, request, batch_size, lambda results: _for_each(pick, results))

    @overload
    def explain_pixels(
        self,
        pixels: NDArray[np.float32],
        target: Target = -1,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> list[Explanation]: ...

    @overload
    def explain_pixels(
        self,
        pixels: NDArray[np.float32],
        target: Targets,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> list[list[Explanation]]: ...

    def explain_pixels(
        self,
        pixels: NDArray[np.float32],
        target: Target | Targets = -1,
        method: str | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **parameters: Any,
    ) -> list[Any]:
        """Explain images that are already preprocessed.

        Args:
            pixels: float32 [batch, 3, H, W], as the model takes them; see `preprocess` and `metadata.preprocessing`.
            target: As in `explain`.
            method: As in `explain`.
            batch_size: As in `explain_many`.
            progress: As in `explain`, for each image.
            **parameters: As in `explain`.

        Returns:
            What `explain` would return, for each image. The heatmaps have the size of the input, [H, W], and `image` is
            what the pixels show.

        Raises:
            ImageError: If the pixels have another shape or type, or are not finite.
            OnnxplainError: As `explain` does.
        """
        if self.metadata.input != "pixels":
            raise OnnxplainError(f"this artifact takes an {self.metadata.input} and no pixels; use explain")
        request = self._request([call_method(method, parameters, self.metadata)], target, progress)
        self._check_pixels(pixels)
        preprocessing = self.metadata.preprocessing
        whole = Placement(preprocessing.size, preprocessing.size, (0, 0), preprocessing.size)
        images = (Outcome(PreparedImage(denormalize(one, preprocessing), one, whole)) for one in pixels)
        outcomes = explain_batches(self._artifact, images, request, self._batch_size(request, batch_size))
        pick = _per_target(target)
        return [pick(_only(outcome.value)) for outcome in outcomes]

    def heads(self, image: ImageSource, layer: int = -1) -> Heads:
        """What each head of one layer attends to, seen from the token that the model reads; no class is asked for.

        The mean over heads is the map of the method `raw_attention`, but of an attention pool, which that method reads
        the layers through. The run holds the attention of all layers: 22 MB for twelve of 197 tokens and twelve heads,
        1.1 GB for 1370 tokens.

        Args:
            image: As in `explain`.
            layer: From 0, or from the end as -1, -2, …. An attention pool counts as one more layer, the last.

        Returns:
            The maps, float32 [heads, h, w]; `Heads` describes them, and draws them on a sheet.

        Raises:
            ImageError: If the image cannot be read.
            OnnxplainError: If there is no such layer, or the artifact has heatmaps only.
            RunError: If the run fails, or the attention holds NaN or infinity.
        """
        _check_single(image, "heads", "a loop")
        prepared = (Outcome.of(self._prepare, source) for source in [image])
        return next(heads_of(self._artifact, prepared, layer)).value

    def features(self, images: ImageSource | Iterable[ImageSource], batch_size: int | None = None) -> Features:
        """The features of patches as colours, as DINOv2's paper shows them; no class is asked for.

        The images are taken together: patches of like features have like colours in all of them. What belongs together
        is best seen in a few images of one kind of object.

        Args:
            images: One image as in `explain`, or several.
            batch_size: As in `explain_many`.

        Returns:
            Features, foreground and colours of each image's patches; `Features` describes them, and draws them.

        Raises:
            ImageError: If an image cannot be read, or there is none.
            OnnxplainError: If the artifact has no features, or `batch_size` is not valid.
            RunError: If a run fails, or features are NaN or infinite.
        """
        sources: Any = [images] if is_source(images) else images
        if not isinstance(sources, Iterable):
            raise ImageError(f"features takes an image or an iterable of images, got {type(images).__name__}")
        size = _checked_batch_size(batch_size)
        prepared = prepare_ahead(sources, self.metadata, self._max_pixels, size or MAX_BATCH)
        found = [outcome.value for outcome in patch_features(self._artifact, prepared, size)]
        if not found:
            raise ImageError("the list of images is empty; give at least one")
        return principal_colours(found, self.metadata.model)

    def tensors(
        self, image: ImageSource, target: Target | Targets = -1, passes: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """The graph's outputs for one image, as they are.

        Args:
            image: As in `explain`.
            target: As in `explain`.
            passes: Names of passes, each of which stands for its raw output, or of outputs, reductions among them; None
                for all passes.

        Returns:
            `logits`, `class_index` and these outputs, by name, each with a batch axis of length 1: logits [1, classes];
            class_index [1, targets], int64, the class that each target stands for; attention [1, L, heads, N, N];
            attention_gradient, relevance and layer_gradient [1, targets, L, heads, N, N]; pixel_gradient
            [1, targets, 3, H, W]; pixel_relevance, pixel_attnlrp and pixel_cp_lrp [1, targets, H, W]; reciprocam
            [1, targets, h, w]; features [1, N, width].

        Raises:
            OnnxplainError: If the artifact has no such pass or output.
            ImageError: If the image cannot be read.
            TargetError: If there is no such class.
            RunError: If the run fails, or an output holds NaN or infinity.
        """
        outputs, targets = find_outputs(passes, self.metadata), self._targets(target)
        values = run_in_parts(self._artifact, self._prepare(image).input[None], targets, outputs)
        for name, tensor in values.items():
            check_finite(f"the values of {name}", tensor)
        return values

    def _explain(self, image: ImageSource, request: Request) -> ByMethod:
        return explain_image(self._artifact, self._prepare(image), request)

    def _explain_many(
        self,
        images: Iterable[ImageSource],
        request: Request,
        batch_size: int | None,
        pick: Callable[[ByMethod], Any],
    ) -> Explanations[Any]:
        size = self._batch_size(request, batch_size)
        prepared = prepare_ahead(images, self.metadata, self._max_pixels, size)
        outcomes = explain_batches(self._artifact, prepared, request, size)
        return Explanations(map(lambda outcome: outcome.then(pick), outcomes))  # a generator would hold the last one

    def _request(self, calls: Iterable[MethodCall], target: Target | Targets, progress: Progress | None) -> Request:
        return Request(tuple(calls), self._targets(target), progress, self._top_k)

    def _targets(self, target: Target | Targets) -> tuple[int, ...]:
        targets = list(target) if are_several(target) else [target]
        if not targets:
            raise TargetError("the list of targets is empty; give at least one class, label or rank")
        return tuple(resolve_target(item, self.metadata.labels) for item in targets)

    def _prepare(self, image: ImageSource) -> PreparedImage:
        return prepare(image, self.metadata, self._max_pixels)

    def _batch_size(self, request: Request, given: int | None) -> int:
        return _checked_batch_size(given) or request.images_per_run(self._artifact)

    def _check_pixels(self, pixels: NDArray[np.float32]) -> None:
        shape = [3, *self.metadata.preprocessing.size]
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.float32 or list(pixels.shape[1:]) != shape:
            given = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise ImageError(f"pixels must be a float32 array [batch, {', '.join(map(str, shape))}], got {given}")
        if not np.isfinite(pixels).all():
            raise ImageError("pixels must be finite, got NaN or infinity")


def _checked_batch_size(given: int | None) -> int | None:
    if given is not None and not is_count(given):
        raise OnnxplainError(f"`batch_size` must be at least 1, or None to choose it, got {given!r}")
    return given


def _check_counts(max_pixels: int, top_k: int) -> None:
    for name, value in (("max_pixels", max_pixels), ("top_k", top_k)):
        if not is_count(value):
            raise OnnxplainError(f"`{name}` must be a whole number of at least 1, got {value!r}")


def _check_single(image: object, name: str, other: str) -> None:
    if isinstance(image, Iterable) and not is_source(image):
        raise ImageError(f"{name} takes one image, got {type(image).__name__}; for several images use {other}")


def _check_several(images: object, name: str, other: str) -> None:
    if is_source(images) or not isinstance(images, Iterable):
        raise ImageError(
            f"{name} takes an iterable of images, got {type(images).__name__}; for a single image use {other}"
        )


def _only(results: ByMethod) -> list[Explanation]:
    """Those of the only method."""
    (explanations,) = results.values()
    return explanations


def _per_target(target: Target | Targets) -> Callable[[list[Explanation]], Any]:
    """What a caller gets of the explanations of an image: the list of them for a list of targets, else the only one."""
    return list if are_several(target) else lambda explanations: explanations[0]


def _for_each(pick: Callable[[list[Explanation]], Any], results: ByMethod) -> dict[str, Any]:
    return {name: pick(explanations) for name, explanations in results.items()}
