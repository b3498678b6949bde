"""Runs of an artifact for views: what all of them have in common."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Metadata

from ..backends.base import Artifact
from ..batch_size import images_per_run
from ..batches import batches
from ..images.inputs import MEMORY_BUDGET, PreparedImage, memory
from ..outcome import Outcome

Run = tuple[PreparedImage, dict[str, NDArray[Any]]]
"""An image, and what the graph gives for it, by the output's name, without the batch axis."""


def check_full(metadata: Metadata, view: str) -> None:
    """Raise OnnxplainError if an artifact has heatmaps only; `view` is what it cannot show."""
    if metadata.heatmaps:
        raise OnnxplainError(
            f"this artifact has heatmaps only, and so no {view}; export the model without `heatmaps` for that"
        )


def run_batches(
    artifact: Artifact, images: Iterable[Outcome[PreparedImage]], outputs: Sequence[str], size: int | None = None
) -> Iterator[Outcome[Run]]:
    """Run the graph for these outputs, which no class changes: for up to `size` images at once, None to choose.

    An error of an image concerns that image only, an error of a run all images that were in it.
    """
    for batch in batches(images, size or images_per_run(artifact, outputs, 1), memory, MEMORY_BUDGET):
        good = [item.value for item in batch if item.error is None]
        rows = Outcome.of(_run, artifact, good, outputs).then(iter)
        for item in batch:
            yield item.then(partial(_with_row, rows))


def _run(artifact: Artifact, images: list[PreparedImage], outputs: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
    if not images:
        return []
    values = artifact.run(np.stack([image.input for image in images]), [0], outputs)
    return [{name: values[name][row] for name in outputs} for row in range(len(images))]


def _with_row(rows: Outcome[Iterator[dict[str, NDArray[Any]]]], image: PreparedImage) -> Run:
    return image, next(rows.value)
