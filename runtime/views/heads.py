"""What each head of a layer attends to, seen from where the model reads its result: for no class."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from numbers import Integral

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.outputs import PASSES, POOL

from ..backends.base import Artifact
from ..finite import check_finite
from ..images.geometry import Placement
from ..images.inputs import PreparedImage
from ..outcome import Outcome
from .artifacts import check_full, run_batches

ATTENTION = PASSES["attention"].output


@dataclass(frozen=True, eq=False)
class Heads:
    """The attention of each head of one layer.

    Attributes:
        maps: float32 [heads, h, w], unscaled, over the patch grid: how much of its attention the token that the model
            reads gives to each patch; the rest of it goes to prefix tokens. Of several tokens that are read, the mean.
        layer: From 0; the attention pool is the one after the last.
        pool: Whether it is the attention pool.
        model: The model's name.
        image: The image as RGB.
        placement: Where the model's input lies in the image.
    """

    maps: NDArray[np.float32]
    layer: int
    pool: bool
    model: str
    image: Image.Image
    placement: Placement

    def __repr__(self) -> str:
        """Layer and sizes, in one line."""
        (height, width), (count, rows, columns) = self.placement.original, self.maps.shape
        return (
            f"<Heads of {'the attention pool' if self.pool else f'layer {self.layer}'}: {count} heads, "
            f"an image of {width} x {height} pixels, {rows} x {columns} patches>"
        )

    def figure(self) -> Image.Image:
        """A sheet: the image, then each head's map over it, by number from 0, each in colours of its own scale.

        Returns:
            RGB.
        """
        from ..figures.formats import to_image
        from ..figures.views import heads_figure

        return to_image(heads_figure(self))


def find_layer(layer: int, metadata: Metadata) -> int:
    """The number from 0 of a layer that may be counted from the end; that of an attention pool is the last.

    Raises:
        OnnxplainError: If there is no such layer.
    """
    count = metadata.layers + (metadata.pool_heads > 0)
    if not isinstance(layer, Integral) or isinstance(layer, bool) or not -count <= layer < count:
        pool = f", {count - 1} is its attention pool" if metadata.pool_heads else ""
        raise OnnxplainError(
            "`layer` must be a layer number counted from 0, or from the end as -1, -2, … "
            f"(this model has layers 0 to {count - 1}{pool}), got {layer!r}"
        )
    return int(layer) % count


def heads_of(artifact: Artifact, images: Iterable[Outcome[PreparedImage]], layer: int) -> Iterator[Outcome[Heads]]:
    """The heads of a layer for each image.

    Args:
        artifact: What runs the graph.
        images: What it takes.
        layer: From 0, or from the end.

    Raises:
        OnnxplainError: If there is no such layer, or the artifact has heatmaps only; at once.
    """
    metadata = artifact.metadata
    check_full(metadata, "heads")
    number = find_layer(layer, metadata)
    of_pool = number == metadata.layers
    names = [POOL + ATTENTION] if of_pool else list(metadata.with_pool([ATTENTION]))
    runs = run_batches(artifact, images, names)
    return (outcome.then(partial(_heads, number=number, metadata=metadata)) for outcome in runs)


def _heads(run: tuple[PreparedImage, dict[str, NDArray[np.float32]]], number: int, metadata: Metadata) -> Heads:
    image, outputs = run
    of_pool, layout = number == metadata.layers, metadata.layout
    if of_pool:
        rows = outputs[POOL + ATTENTION][:, 0]  # [heads, 1, tokens]
    else:
        readout = layout.readout_row()
        if metadata.pool_heads:  # it reads the tokens by its own attention, the mean of its heads
            readout = outputs[POOL + ATTENTION][:, 0].astype(np.float64).mean(0)
        rows = np.einsum("n,hnm->hm", readout, outputs[ATTENTION][number].astype(np.float64))
    maps = layout.patches(rows).astype(np.float32)
    check_finite("the values of attention", maps)
    return Heads(maps, number, of_pool, metadata.model, image.image, image.placement)
