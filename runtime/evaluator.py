"""Runs of the graph on many inputs, for the methods that sample: the `Evaluator` of methods/sampling.py."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.outputs import PASSES

from .backends.base import Artifact
from .batch_size import images_per_run
from .batches import batches
from .explanation import probabilities
from .finite import check_finite
from .images.preprocessing import normalize
from .target_parts import run_in_parts

Progress = Callable[[int, int], object]
"""Called as progress(done, total) with how many of an image's runs are done, and how many there are."""


@dataclass
class GraphEvaluator:
    """Runs the graph for an image's classes, in batches.

    Attributes:
        artifact: What is run.
        classes: The class indices.
        total: How many inputs there will be, of all methods together.
        progress: Told after each batch how many of them are done.
    """

    artifact: Artifact
    classes: list[int]
    total: int
    progress: Progress | None
    done: int = field(default=0, init=False)

    @property
    def black(self) -> NDArray[np.float32]:
        """Black as the model sees it, float32 [3, 1, 1]."""
        return normalize(np.zeros((1, 1, 3), dtype=np.uint8), self.artifact.metadata.preprocessing)

    def gradients(self, inputs: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """For each input [3, H, W] d logit / d pixels, float32 [targets, 3, H, W]."""
        output = PASSES["pixel_gradient"].output
        for values in self._run(inputs, (output,)):
            yield from values[output]

    def probabilities(self, inputs: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float64]]:
        """For each input [3, H, W] the probabilities of the classes, float64 [targets]."""
        for values in self._run(inputs, ()):
            check_finite(f"logits among the {self.total} runs of the image", values["logits"])
            yield from probabilities(values["logits"], self.artifact.metadata)[:, self.classes]

    def _run(self, inputs: Iterable[NDArray[Any]], outputs: tuple[str, ...]) -> Iterator[dict[str, NDArray[Any]]]:
        for batch in batches(inputs, images_per_run(self.artifact, outputs, len(self.classes))):
            values = run_in_parts(self.artifact, np.stack(batch).astype(np.float32), self.classes, outputs)
            self.done += len(batch)
            if self.progress is not None:
                self.progress(self.done, self.total)
            yield values
