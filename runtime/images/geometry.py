"""Maps brought from tokens back to the image: bilinear resizing, and the inverse of preprocessing's resize and crop."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating[Any]]
Window = tuple[slice, slice]  # rows, columns

BAND = 2**20  # pixels of an image that are worked on at once


@dataclass(frozen=True)
class Placement:
    """Where the model's input lies in the original image; all sizes are (height, width) in pixels.

    Attributes:
        original: The image's size.
        resized: The size that the image was resized to.
        offset: (top, left) of the window in the resized image that became the input; negative where the input was
            padded on that side.
        crop: The size of the window, and so of the input.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    crop: tuple[int, int]

    @property
    def seen(self) -> Window:
        """The part of the original that the model saw: the pixels whose centres are in the input."""
        rows, columns = (_span(positions, crop) for positions, crop in zip(self._positions, self.crop, strict=True))
        return rows, columns

    @property
    def shown(self) -> Window:
        """The part of the input that shows the original; the rest is padding."""
        rows, columns = (
            slice(max(0, -offset), min(crop, resized - offset))
            for resized, offset, crop in zip(self.resized, self.offset, self.crop, strict=True)
        )
        return rows, columns

    def place(self, heatmap: Map, outside: float = 0.0) -> Map:
        """Bring a map over the model's input onto the original image.

        A pixel of the original takes the bilinear value (align_corners = False) at its centre's place in the input.

        Args:
            heatmap: [H, W] = `crop`.
            outside: The value of pixels whose centre was cropped away.

        Returns:
            [height, width] = `original`, of the same dtype.
        """
        placed = np.full(self.original, outside, dtype=heatmap.dtype)
        for part, values in self.place_seen(heatmap):
            placed[part] = values
        return placed

    def place_seen(self, heatmap: Map) -> Iterator[tuple[Window, Map]]:
        """As `place`, only for what the model saw, in bands of whole rows.

        Yields:
            Each band's window in the original, and its map.
        """
        seen = self.seen
        rows, columns = (
            _samples(positions[part], crop)
            for positions, part, crop in zip(self._positions, seen, self.crop, strict=True)
        )
        top = seen[0].start
        for band in bands(top, seen[0].stop, seen[1].stop - seen[1].start):
            inside = slice(band.start - top, band.stop - top)
            yield (band, seen[1]), _bilinear(heatmap, rows.part(inside), columns)

    def patch_of(self, pixel: tuple[int, int], grid: tuple[int, ...]) -> tuple[int, int]:
        """The patch that holds the centre of a pixel of the original image.

        Args:
            pixel: (y, x), which the model saw.
            grid: Rows and columns of patches in the input, as for `patch_sums`.

        Returns:
            (row, column).
        """
        row, column = (
            max(0, int(np.searchsorted(_edges(crop, count), positions[place], side="right")) - 1)
            for place, positions, crop, count in zip(pixel, self._positions, self.crop, grid, strict=True)
        )
        return row, column

    @property
    def _positions(self) -> list[NDArray[np.float64]]:
        """Where in the input the centres of the original's rows lie, and of its columns."""
        return [
            (np.arange(original, dtype=np.float64) + 0.5) * (resized / original) - offset
            for original, resized, offset in zip(self.original, self.resized, self.offset, strict=True)
        ]


def bands(top: int, bottom: int, width: int) -> Iterator[slice]:
    """The rows top .. bottom in runs of about `BAND` pixels."""
    rows = max(1, BAND // max(1, width))
    for start in range(top, bottom, rows):
        yield slice(start, min(start + rows, bottom))


def resize(tokens: Map, size: tuple[int, int]) -> Map:
    """Bilinear with align_corners = False, as torch.nn.functional.interpolate does it: [h, w] to `size`, same dtype."""
    placement = Placement(size, tokens.shape, (0, 0), tokens.shape)  # as if the tokens had been a model's input
    return placement.place(tokens)


def interpolation(count: int, length: int) -> NDArray[np.float64]:
    """The matrix [length, count] by which `resize` enlarges one axis of `count` values to `length`."""
    samples = _samples((np.arange(length, dtype=np.float64) + 0.5) * (count / length), count)
    matrix, rows = np.zeros((length, count)), np.arange(length)
    matrix[rows, samples.lower] += 1 - samples.weight
    matrix[rows, samples.upper] += samples.weight
    return matrix


def tokens_of(heatmap: Map, grid: tuple[int, int]) -> Map:
    """The token map, `grid` = [h, w], that `resize` has enlarged to `heatmap` [H, W], by least squares."""
    rows, columns = (
        np.linalg.pinv(interpolation(count, length)) for count, length in zip(grid, heatmap.shape, strict=True)
    )
    return np.asarray(rows @ heatmap @ columns.T, dtype=heatmap.dtype)


def patch_sums(pixels: Map, grid: tuple[int, int]) -> Map:
    """The sum over each patch's pixels: [H, W] to `grid` = [h, w], same dtype."""
    for axis, count in enumerate(grid):
        pixels = np.add.reduceat(pixels, _edges(pixels.shape[axis], count), axis)
    return pixels


class _Samples(NamedTuple):
    """Along one axis, for every output index: the two input indices, and the second one's weight."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float64]

    def part(self, place: slice) -> "_Samples":
        """Those of some output indices."""
        return _Samples(self.lower[place], self.upper[place], self.weight[place])


def _samples(positions: NDArray[np.float64], length: int) -> _Samples:
    centre = np.clip(positions - 0.5, 0, length - 1)  # half a pixel at the border repeats the border's value
    lower = centre.astype(np.intp)
    return _Samples(lower, np.minimum(lower + 1, length - 1), centre - lower)


def _span(positions: NDArray[np.float64], length: int) -> slice:
    """Which of the ascending positions lie in 0 .. length; if none does, the nearest on either side."""
    first, end = np.searchsorted(positions, (0, length))
    beyond = int(first == end)
    return slice(max(0, int(first) - beyond), min(len(positions), int(end) + beyond))


def _edges(length: int, count: int) -> NDArray[np.intp]:
    """Where each of `count` patches begins."""
    return np.arange(count) * length // count


def _bilinear(values: Map, rows: _Samples, columns: _Samples) -> Map:
    for axis, samples in enumerate((rows, columns)):
        weight = (samples.weight[:, None] if axis == 0 else samples.weight).astype(values.dtype)
        lower, upper = values.take(samples.lower, axis), values.take(samples.upper, axis)
        upper -= lower  # in place: of a photograph each of these arrays is as large as the image
        upper *= weight
        upper += lower
        values = upper
    return values
