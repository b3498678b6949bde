"""Pictures on their way from what the user has to the model's input."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Preprocessing

from .geometry import Placement
from .loading import ImageSource, decode, load_image, memory_of, open_image
from .prefetch import ahead
from .preprocessing import preprocess

DECODERS = 2  # threads; what is left to the caller then takes longer than they do
BUDGET = 2**28  # bytes of pictures that are decoded ahead, and of those that one batch holds, unless it is a single one


@dataclass(frozen=True)
class Picture:
    """An image on its way: the picture, the model's input [3, H, W], and where that lies in the picture."""

    image: Image.Image
    pixels: NDArray[np.float32]
    placement: Placement


def picture(source: ImageSource, preprocessing: Preprocessing, max_pixels: int) -> Picture:
    """The picture read and preprocessed; raises OnnxplainError as those do."""
    image = load_image(source, max_pixels)
    return Picture(image, *preprocess(image, preprocessing))


def pictures_ahead(
    sources: Iterable[ImageSource], preprocessing: Preprocessing, max_pixels: int, count: int
) -> Iterator[Picture | OnnxplainError]:
    """Every picture, or what is wrong with it, in order.

    Up to `count` are made ready ahead, in other threads, but no more than `BUDGET` holds, and one in any case.
    """
    opened = (_opened(source, max_pixels) for source in sources)
    return ahead(partial(_ready, preprocessing=preprocessing), opened, count, DECODERS, cost, BUDGET)


def cost(item: "Picture | Opened | OnnxplainError") -> int:
    """The bytes of memory that the image takes, decoded."""
    return 0 if isinstance(item, OnnxplainError) else memory_of(item.image)


class Opened(NamedTuple):
    """An image of which the size is known; it is decoded later, unless it is its own source."""

    image: Image.Image
    source: ImageSource


def _opened(source: ImageSource, max_pixels: int) -> Opened | OnnxplainError:
    """In the caller's thread; a copy of what may be another picture by the time that a worker comes to it."""
    try:
        if isinstance(source, Image.Image | np.ndarray):
            image = load_image(source, max_pixels)
            return Opened(image, image)
        return Opened(open_image(source, max_pixels), source)
    except OnnxplainError as error:
        return error


def _ready(item: Opened | OnnxplainError, preprocessing: Preprocessing) -> Picture | OnnxplainError:
    if isinstance(item, OnnxplainError):
        return item
    try:
        image = item.image if item.image is item.source else decode(*item)
        return Picture(image, *preprocess(image, preprocessing))
    except OnnxplainError as error:
        return error
