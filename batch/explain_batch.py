"""The callable class for Ray Data's `map_batches`, in pipelines of one's own."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.formats import FORMATS, format_of
from onnxplain.runtime import Explainer, Explanation, Outcome
from onnxplain.runtime.explanation import TOP_K
from onnxplain.runtime.images.loading import MAX_PIXELS, allow_pixels
from onnxplain.runtime.methods.choice import call_method
from onnxplain.runtime.placed_levels import PlacedLevels
from onnxplain.runtime.targets import Target, resolve_target

Columns = dict[str, NDArray[Any]]
COLUMNS = "image", "bytes", "path"
"""What Ray Data calls columns with images."""
HEATMAP = "input_heatmap"


class ExplainBatch:
    """Explains a batch of images, given and returned as a dictionary of NumPy arrays.

    Ray Data makes one in each of its workers, and with it one Explainer, whose threads are the CPUs of the worker::

        dataset.map_batches(
            ExplainBatch, fn_constructor_kwargs={"artifact": "vit.onnx"}, num_cpus=1, batch_size=32
        )

    A batch of n images gets these columns in addition to its own. Where an image cannot be explained, `error` says why,
    and the others hold what stands behind the semicolon:

    =============== ==================== ================================================================
    `error`         texts [n]            "" where there is none
    `target`        int64 [n]            the class; -1
    `label`         texts [n]            its name; ""
    `score`         float32 [n]          its logit; NaN
    `probability`   float32 [n]          what the activation makes of it; NaN
    `predictions`   int64 [n, k]         the top classes, best first; -1
    `probabilities` float32 [n, k]       theirs; NaN
    `maximum`       int64 [n, 2]         (x, y) of the pixel where the map is highest; -1, also for a constant map
    `upper_fifth`   int64 [n, 4]         [left, top, right, bottom], see `Explanation.to_dict`; -1, likewise
    `tokens`        float32 [n, h, w]    the map over the patches; NaN
    `input_heatmap` float32 [n, H, W]    the map over the model's input, if `maps`; NaN
    =============== ==================== ================================================================
    """

    def __init__(
        self,
        artifact: str | Path,
        method: str | None = None,
        target: Target = -1,
        column: str | None = None,
        device: str = "auto",
        threads: int | None = None,
        top_k: int = TOP_K,
        maps: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Open the artifact.

        Args:
            artifact: The file that export wrote, at a path that every machine has.
            method: A method, with parameters behind its name or without, as in rollout:head_fusion=max; None for the
                artifact's best.
            target: One class: its index, its label, or a rank below 0, of which -1 is the top class.
            column: The column with the images: uint8 arrays, encoded images as bytes, or paths; None for the first of
                image, bytes and path that there is, as Ray Data's `read_images` and `read_binary_files` call them.
            device: As in Explainer.
            threads: Of a run on the CPU; None for the CPUs that Ray has given this worker, outside of Ray all cores.
            top_k: The number k of predictions, or that of the classes if there are fewer.
            maps: Whether to give `input_heatmap` as well.
            max_pixels: Larger images are refused.

        Raises:
            OnnxplainError: If one of them is not valid.
        """
        allow_pixels(max_pixels)
        packed = FORMATS[format_of(Path(artifact))].has_packed
        self._explainer = Explainer(
            artifact, device, _cpus() if threads is None else threads, max_pixels=max_pixels, top_k=top_k, packed=packed
        )
        self._method = call_method(method, {}, self._explainer.metadata).key
        if isinstance(target, list | tuple):
            raise OnnxplainError(f"ExplainBatch explains one class of each image, got {target!r} as `target`")
        self._target = resolve_target(target, self._explainer.metadata.labels)
        self._column, self._maps, self._top_k = column, maps, top_k

    def __call__(self, batch: Columns) -> Columns:
        """Explain the images of a batch.

        Args:
            batch: Arrays of one length by the columns' names.

        Returns:
            The same, and the columns above.

        Raises:
            OnnxplainError: If there is no column with images, or one of the names above is taken.
        """
        if not isinstance(batch, dict):
            raise OnnxplainError(
                f"a batch must be a dictionary of arrays, got {type(batch).__name__}; batch_format='numpy'"
            )
        results = self._explainer.explain_all_many(
            list(batch[self._find(batch)]), [self._target], methods=[self._method]
        )
        found = [outcome.then(_only) for outcome in results.outcomes()]
        columns = {name: column for name, column in self._columns(found).items() if self._maps or name != HEATMAP}
        taken = [name for name in columns if name in batch]
        if taken:
            raise OnnxplainError(f"the batch has a column {taken[0]} already, which ExplainBatch adds; rename it")
        return {**batch, **columns}

    def _find(self, batch: Columns) -> str:
        """The name of the column with the images."""
        names = COLUMNS if self._column is None else (self._column,)
        name = next((name for name in names if name in batch), None)
        if name is None:
            raise OnnxplainError(
                f"the batch has no column {' or '.join(names)} with images, but {', '.join(batch) or 'none at all'}; "
                "say which it is: `column`"
            )
        return name

    def _columns(self, found: Sequence[Outcome[Explanation]]) -> Columns:
        metadata = self._explainer.metadata
        count = min(self._top_k, len(metadata.labels))

        def column(value: Callable[[Explanation], Any], none: Any, *shape: int, dtype: Any) -> NDArray[Any]:
            values = np.full((len(found), *shape), none, dtype)
            for row, outcome in enumerate(found):
                if outcome.error is None:
                    values[row] = value(outcome.value)
            return values

        nan = np.nan
        return {
            "error": np.array(["" if each.error is None else str(each.error) for each in found], object),
            "target": column(lambda item: item.target, -1, dtype=np.int64),
            "label": column(lambda item: item.label, "", dtype=object),
            "score": column(lambda item: item.score, nan, dtype=np.float32),
            "probability": column(lambda item: item.probability, nan, dtype=np.float32),
            "predictions": column(lambda item: [each[0] for each in item.predictions], -1, count, dtype=np.int64),
            "probabilities": column(lambda item: [each[2] for each in item.predictions], nan, count, dtype=np.float32),
            "maximum": column(lambda item: (item.peak() or (-1, -1))[::-1], -1, 2, dtype=np.int64),
            "upper_fifth": column(lambda item: PlacedLevels(item).upper_fifth() or -1, -1, 4, dtype=np.int64),
            "tokens": column(lambda item: item.tokens, nan, *metadata.patch_grid, dtype=np.float32),
            HEATMAP: column(lambda item: item.input_heatmap, nan, *metadata.preprocessing.size, dtype=np.float32),
        }


def _only(results: dict[str, list[Explanation]]) -> Explanation:
    ((explanation,),) = results.values()
    return explanation


def _cpus() -> int | None:
    """The CPUs that Ray has given this worker; None outside of workers, or if it has given it none."""
    ray = sys.modules.get("ray")  # where it is not imported, this is no worker of it
    if ray is None or not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return None
    return int(ray.get_runtime_context().get_assigned_resources().get("CPU", 0)) or None
