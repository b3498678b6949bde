"""What an evaluation asks of a model: logits of many inputs, and the maps of all methods."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxplain.runtime.backends.base import Artifact
from onnxplain.runtime.batch_size import images_per_run
from onnxplain.runtime.batches import batches
from onnxplain.runtime.explanation import Explanation
from onnxplain.runtime.images.geometry import Placement
from onnxplain.runtime.images.inputs import PreparedImage
from onnxplain.runtime.images.prefetch import prefetch
from onnxplain.runtime.methods.calls import MethodCall
from onnxplain.runtime.outcome import Outcome
from onnxplain.runtime.pipeline import ByMethod, Request, explain_batches

from .metrics.metric import Pixels


class Model:
    """An open artifact, with a count of what was asked of it.

    Attributes:
        artifact: What runs the graph.
        metadata: The artifact's.
        runs: For how many inputs the logits alone were computed.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.metadata, self.runs = artifact, artifact.metadata, 0

    def logits(self, inputs: Iterable[Pixels]) -> Iterator[NDArray[np.float32]]:
        """The logits [classes] of each input. The next inputs are made while the graph runs, in a thread of its own."""
        size = images_per_run(self.artifact, (), 1)
        for values in prefetch(self._run, batches(inputs, size), 1):
            self.runs += len(values)
            yield from values

    def explain(
        self, images: Iterable[PreparedImage], calls: Sequence[MethodCall], classes: Sequence[int]
    ) -> Iterator[ByMethod]:
        """For each image the explanations of these classes by each method; raises RunError where one fails."""
        request = Request(tuple(calls), tuple(classes), None, 1)
        outcomes = explain_batches(
            self.artifact, (Outcome(image) for image in images), request, request.images_per_run(self.artifact)
        )
        return (outcome.value for outcome in outcomes)

    def explain_pixels(
        self, pixels: Iterable[Pixels], calls: Sequence[MethodCall], classes: Sequence[int]
    ) -> Iterator[dict[str, list[Explanation]]]:
        """As `explain`, of inputs that no image file belongs to; only the maps over the input have a meaning."""
        size = self.metadata.preprocessing.size
        whole, nothing = Placement(size, size, (0, 0), size), Image.new("RGB", (size[1], size[0]))
        return self.explain((PreparedImage(nothing, one, whole) for one in pixels), calls, classes)

    def _run(self, inputs: list[Pixels]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self.artifact.run(np.stack(inputs), [0], ())["logits"]
        return logits
