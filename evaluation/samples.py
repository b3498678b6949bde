"""What is evaluated on: images with their classes and, where these are known, the places of the objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from onnxplain.runtime.images.geometry import Placement
from onnxplain.runtime.images.loading import ImageSource

OBJECT, IGNORED = 1, 255
"""Values of a mask beside 0, the background: pixels of the object, and pixels that count for neither."""


class Region(Protocol):
    """Where the objects of one class are in an image. It can be pickled, and reads files only when it is asked."""

    def mask(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The mask over an image of this size, (height, width): uint8 [height, width] of 0, `OBJECT` and `IGNORED`.

        Raises:
            OnnxplainError: If the file cannot be read, or is made for an image of another size.
        """


@dataclass(frozen=True)
class Sample:
    """One image to evaluate on.

    Attributes:
        name: By which results name it; no other sample of the data has it. Of a file the path from the data's folder,
            with slashes.
        image: What `Explainer.explain` takes: a path, an array, …
        labels: The indices of the classes that it shows; none if they are not known.
        regions: By class index, where its objects are; of those classes for which that is known.
    """

    name: str
    image: ImageSource
    labels: tuple[int, ...] = ()
    regions: Mapping[int, Region] = field(default_factory=dict)


@dataclass(frozen=True)
class Boxes:
    """A region of boxes.

    Attributes:
        boxes: (left, top, right, bottom) in pixels, right and bottom exclusive; fractions cover the pixels whose centre
            they hold.
    """

    boxes: tuple[tuple[float, float, float, float], ...]

    def mask(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """See `Region.mask`."""
        inside = np.zeros(size, np.uint8)
        y, x = (np.arange(length) + 0.5 for length in size)
        for left, top, right, bottom in self.boxes:
            inside[np.ix_((top <= y) & (y < bottom), (left <= x) & (x < right))] = OBJECT
        return inside


def to_input(mask: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """A mask over the image, [height, width], as the model's input [H, W] sees it; padding is background.

    Each pixel of the input has the value of the image's pixel at its centre.
    """
    shown = np.zeros(placement.crop, np.uint8)
    rows, columns = (
        np.floor((np.arange(crop) + offset + 0.5) * original / resized).astype(int)
        for crop, offset, original, resized in zip(
            placement.crop, placement.offset, placement.original, placement.resized, strict=True
        )
    )
    inside = [(place >= 0) & (place < length) for place, length in zip((rows, columns), mask.shape, strict=True)]
    shown[np.ix_(*inside)] = mask[np.ix_(rows[inside[0]], columns[inside[1]])]
    return shown
