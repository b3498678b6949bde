"""From token map to picture: bilinear resizing, and the way back through the resize and crop of preprocessing."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Placement:
    """Where the model's input lies in the original picture; all sizes are (height, width) in pixels.

    The picture of size `original` was resized to `resized`; of that, the window of size `crop` whose top left corner
    is `offset` = (top, left) became the input. A negative offset means that the input was padded on that side.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    crop: tuple[int, int]

    def place(self, heatmap: Map, outside: float = 0.0) -> Map:
        """A map over the model's input, [H, W] = `crop`, as a map over the original picture, `original`, same dtype.

        A pixel of the original takes the bilinear value (align_corners = False) at its centre's place in the input;
        pixels whose centre was cropped away are `outside`.
        """
        rows, columns = (
            _samples(original, resized / original, offset, crop)
            for original, resized, offset, crop in zip(self.original, self.resized, self.offset, self.crop, strict=True)
        )
        placed = _bilinear(heatmap, rows, columns)
        placed[~rows.inside] = outside
        placed[:, ~columns.inside] = outside
        return placed


def resize(tokens: Map, size: tuple[int, int]) -> Map:
    """Bilinear with align_corners = False, as torch.nn.functional.interpolate does it: [h, w] to `size`, same dtype."""
    rows, columns = (_samples(out, before / out, 0, before) for out, before in zip(size, tokens.shape, strict=True))
    return _bilinear(tokens, rows, columns)


def patch_sums(pixels: Map, grid: tuple[int, int]) -> Map:
    """The sum over each patch's pixels: [H, W] to `grid` = [h, w], same dtype."""
    for axis, count in enumerate(grid):
        pixels = np.add.reduceat(pixels, np.arange(count) * pixels.shape[axis] // count, axis)
    return pixels


class _Samples(NamedTuple):
    """Along one axis, for every output index: the two input indices, the second one's weight, is it in the input."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float64]
    inside: NDArray[np.bool_]


def _samples(length: int, scale: float, offset: int, input_length: int) -> _Samples:
    position = (np.arange(length) + 0.5) * scale - offset
    centre = np.clip(position - 0.5, 0, input_length - 1)  # half a pixel at the border repeats the border's value
    lower = centre.astype(np.intp)
    upper = np.minimum(lower + 1, input_length - 1)
    return _Samples(lower, upper, centre - lower, (position >= 0) & (position < input_length))


def _bilinear(values: Map, rows: _Samples, columns: _Samples) -> Map:
    for axis, samples in enumerate((rows, columns)):
        weight = (samples.weight[:, None] if axis == 0 else samples.weight).astype(values.dtype)
        lower, upper = values.take(samples.lower, axis), values.take(samples.upper, axis)
        upper -= lower  # in place: of a photograph each of these arrays is as large as the picture
        upper *= weight
        upper += lower
        values = upper
    return values
