"""Pictures on their way from what the user has to the model's input."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .ahead import ahead
from .errors import OnnxplainError
from .geometry import Placement
from .metadata import Preprocessing
from .preprocessing import ImageSource, load_image, preprocess

DECODERS = 2  # threads; what is left to the caller then takes longer than they do


@dataclass(frozen=True)
class Picture:
    """An image on its way: the picture, the model's input [3, H, W], and where that lies in the picture."""

    image: Image.Image
    pixels: NDArray[np.float32]
    placement: Placement


def picture(source: ImageSource, preprocessing: Preprocessing) -> Picture:
    """The picture read and preprocessed; raises OnnxplainError as those do."""
    image = load_image(source)
    return Picture(image, *preprocess(image, preprocessing))


def pictures_ahead(
    sources: Iterable[ImageSource], preprocessing: Preprocessing, count: int
) -> Iterator[Picture | OnnxplainError]:
    """Every picture, or what is wrong with it, in order; up to `count` are made ready ahead, in other threads."""
    return ahead(partial(_ready, preprocessing=preprocessing), map(_own, sources), count, DECODERS)


def _own(source: ImageSource) -> ImageSource | OnnxplainError:
    """A copy, in the caller's thread, of what may be another picture by the time that a worker comes to it."""
    if isinstance(source, str | Path | bytes):
        return source
    try:
        return load_image(source)
    except OnnxplainError as error:
        return error


def _ready(source: ImageSource | OnnxplainError, preprocessing: Preprocessing) -> Picture | OnnxplainError:
    if isinstance(source, OnnxplainError):
        return source
    try:
        return picture(source, preprocessing)
    except OnnxplainError as error:
        return error
