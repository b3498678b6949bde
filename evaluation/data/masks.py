"""Masks in image files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import ImageError, OnnxplainError, one_line
from onnxplain.runtime.images.loading import MAX_PIXELS, open_image

from ..samples import IGNORED, OBJECT

IMAGENET_S_IGNORED = 1000
"""The class ID of pixels that count for nothing."""


@dataclass(frozen=True)
class MaskFile:
    """A mask of one channel: 0 is background, 255 ignored, all else the object. Palettes count by their indices.

    Attributes:
        path: Of the file, a PNG.
    """

    path: Path

    def mask(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """See `Region.mask`."""
        values = _read(self.path, size)
        if values.ndim != 2:
            raise OnnxplainError(f"{self.path} is a mask of {values.shape[2]} channels; it must have one")
        if IGNORED in values and not ((values != 0) & (values != IGNORED)).any():
            raise OnnxplainError(
                f"{self.path} has no pixels of an object, only 0 and 255, which is ignored; write 1 where the object is"
            )
        return np.where(values == IGNORED, IGNORED, np.where(values == 0, 0, OBJECT)).astype(np.uint8)


@dataclass(frozen=True)
class ImageNetSMask:
    """A mask of ImageNet-S: an RGB image with R + 256 G the class's ID, from 1 on, 0 for others and 1000 ignored.

    Attributes:
        path: Of the file, a PNG.
        class_id: Of the object.
    """

    path: Path
    class_id: int

    def mask(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """See `Region.mask`."""
        values = _read(self.path, size)
        if values.shape[2:] != (3,):
            raise OnnxplainError(f"{self.path} is no mask of ImageNet-S, which are RGB images")
        ids = values[..., 0] + 256 * values[..., 1].astype(int)
        return np.where(ids == IMAGENET_S_IGNORED, IGNORED, np.where(ids == self.class_id, OBJECT, 0)).astype(np.uint8)


def _read(path: Path, size: tuple[int, int]) -> NDArray[Any]:
    """The file's values, [height, width] or [height, width, channels]; raises OnnxplainError if it is damaged."""
    with open_image(path, MAX_PIXELS) as image:
        check_size(str(path), (image.height, image.width), size)
        try:
            return np.asarray(image)
        except Exception as error:  # a damaged file can raise nearly anything from inside one of Pillow's decoders
            raise ImageError(f"{path} cannot be read as a mask, it may be damaged: {one_line(error)}") from None


def check_size(what: str, made_for: tuple[int, int], size: tuple[int, int]) -> None:
    """Raise OnnxplainError unless a mask is made for an image of this size, (height, width)."""
    if made_for != size:
        (height, width), (image_height, image_width) = made_for, size
        raise OnnxplainError(
            f"the mask {what} is for {width} x {height} pixels, and the image has {image_width} x {image_height}; "
            "make both of one size"
        )
