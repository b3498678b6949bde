"""Shapes as COCO has them, drawn as masks: polygons, and run-length encodings."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError

Inside = NDArray[np.bool_]
"""Which pixels are in a shape, [height, width]."""


def polygon(points: Sequence[float], size: tuple[int, int]) -> Inside:
    """The pixels whose centres are in a polygon: from there to the left its border is crossed an odd number of times.

    pycocotools draws the outline as well, so that its masks can have a pixel more at the border.

    Args:
        points: x, y, x, y, … in pixels.
        size: (height, width).
    """
    height, width = size
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    centres = np.arange(height) + 0.5
    crossings = np.zeros((height, width + 1), int)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        rows = np.flatnonzero((centres < y0) != (centres < y1))
        places = x0 + (centres[rows] - y0) * ((x1 - x0) / (y1 - y0)) if rows.size else np.empty(0)
        columns = np.clip(np.ceil(places - 0.5), 0, width).astype(int)  # the first centre right of the edge
        crossings[rows, columns] += 1
    return np.asarray(np.cumsum(crossings, axis=1)[:, :width] % 2 == 1)


def runs(counts: Sequence[int] | str, size: tuple[int, int]) -> Inside:
    """A run-length encoding: lengths of runs of background and object in turn, down the columns.

    Args:
        counts: The lengths, from background on; or as `decode` takes them.
        size: (height, width).

    Raises:
        OnnxplainError: If the lengths are not those of an image of this size.
    """
    lengths = np.asarray(decode(counts) if isinstance(counts, str) else counts, np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise OnnxplainError(f"a run-length encoding is not of an image of {size[1]} x {size[0]} pixels")
    values = np.repeat(np.arange(lengths.size) % 2 == 1, lengths)
    return values.reshape(size[1], size[0]).T


def decode(text: str) -> list[int]:
    """The lengths in COCO's compressed text.

    A number is written in groups of 5 bits, the lowest first, in two's complement. A character is 48 more than a group,
    and 32 more if others follow. From the fourth number on it is the difference to the last but one.

    Raises:
        OnnxplainError: If the text ends within a number.
    """
    numbers: list[int] = []
    number = bits = 0
    for code in (ord(character) - 48 for character in text):
        number |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            number -= 1 << bits
        numbers.append(number + (numbers[-2] if len(numbers) > 2 else 0))
        number = bits = 0
    if bits:
        raise OnnxplainError(f"a run-length encoding ends within a number: {text[-10:]!r}")
    return numbers
