"""Images prepared for the model: one, or many ahead of the run, in threads."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract.metadata import Metadata

from ..outcome import Outcome
from .geometry import Placement
from .loading import ImageSource, decode, load_image, memory_of, open_image
from .prefetch import prefetch
from .preprocessing import placement_of, preprocess

DECODERS = 2  # threads; the caller then has more to do than they have
MEMORY_BUDGET = 2**28  # bytes of images that are decoded ahead, and of those in one batch, unless a single one has more


@dataclass(frozen=True)
class PreparedImage:
    """An image, ready for the model.

    Attributes:
        image: The image as RGB.
        input: What the graph takes of it: the model's input, float32 [3, H, W], or the image, uint8 [height, width, 3].
        placement: Where the model's input lies in the image.
    """

    image: Image.Image
    input: NDArray[Any]
    placement: Placement


def prepare(source: ImageSource, metadata: Metadata, max_pixels: int) -> PreparedImage:
    """Read and preprocess one image; raises ImageError as `load_image` and `preprocess` do."""
    return _prepared(load_image(source, max_pixels), metadata)


def prepare_ahead(
    sources: Iterable[ImageSource], metadata: Metadata, max_pixels: int, count: int
) -> Iterator[Outcome[PreparedImage]]:
    """Prepare many images, in order; one that cannot be read is an error in its place.

    Up to `count` are prepared ahead, in other threads, but no more than `MEMORY_BUDGET` holds, and one in any case.
    """
    return prepare_opened((Outcome.of(open_source, source, max_pixels) for source in sources), metadata, count)


def prepare_opened(
    images: Iterable["Outcome[Opened]"], metadata: Metadata, count: int
) -> Generator[Outcome[PreparedImage], None, None]:
    """The same for images that `open_source` has opened; an error stays in its place."""
    return prefetch(partial(_prepare, metadata=metadata), images, count, DECODERS, memory, MEMORY_BUDGET)


def memory(item: "Outcome[Opened] | Outcome[PreparedImage]") -> int:
    """The bytes of memory that the image takes when it is decoded; 0 for an error."""
    return 0 if item.error is not None else memory_of(item.value.image)


class Opened(NamedTuple):
    """An image whose size is known. It is decoded later, unless it is its own source."""

    image: Image.Image
    source: ImageSource


def open_source(source: ImageSource, max_pixels: int) -> Opened:
    """Open an image without decoding it; raises ImageError as `load_image` does.

    Runs in the caller's thread, and copies what may hold another image by the time that a worker comes to it.
    """
    if isinstance(source, Image.Image | np.ndarray):
        image = load_image(source, max_pixels)
        return Opened(image, image)
    return Opened(open_image(source, max_pixels), source)


def _prepare(item: Outcome[Opened], metadata: Metadata) -> Outcome[PreparedImage]:
    def prepared(opened: Opened) -> PreparedImage:
        image = opened.image if opened.image is opened.source else decode(*opened)
        return _prepared(image, metadata)

    return item.then(prepared)


def _prepared(image: Image.Image, metadata: Metadata) -> PreparedImage:
    if metadata.input == "image":
        return PreparedImage(
            image, np.asarray(image), placement_of((image.height, image.width), metadata.preprocessing)
        )
    return PreparedImage(image, *preprocess(image, metadata.preprocessing))
