"""Maps brought from tokens back to the image: bilinear resizing, and the inverse of preprocessing's resize and crop."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating[Any]]
Window = tuple[slice, slice]  # rows, columns

BAND = 2**20  # pixels of an image that are worked on at once
SMOOTH = 1e-4  # weight of the differences between neighbours where a map is recovered: only where nothing else tells


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
        (rows, _), (columns, _) = self._seen_samples
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
        (down, rows), (across, columns) = self._seen_samples
        for band in bands(down.start, down.stop, across.stop - across.start):
            inside = slice(band.start - down.start, band.stop - down.start)
            yield (band, across), _bilinear(heatmap, rows.part(inside), columns)

    def recover(self, placed: Map, grid: tuple[int, int]) -> Map:
        """The map over `grid` which was resized to the input and then placed on the image; the inverse of `place`.

        By least squares, which is exact up to rounding, as both steps are linear. Where the image does not tell, since
        it has fewer pixels than the grid has rows or columns, or the input is padded, neighbours get values as alike as
        possible.

        Args:
            placed: [height, width] = `original`, as of `place`; only what the model saw is read.
            grid: [h, w], such as the patches; or `crop`, for a map over the input that has one value for each pixel.

        Returns:
            [h, w], of the same dtype.
        """
        (down, _), (across, _) = seen = self._seen_samples
        rows, columns = (
            _inverse(_matrix(samples, crop) @ interpolation(count, crop))
            for (_, samples), crop, count in zip(seen, self.crop, grid, strict=True)
        )
        lines = np.zeros((grid[0], columns.shape[1]))
        for band in bands(down.start, down.stop, columns.shape[1]):
            lines += rows[:, band.start - down.start : band.stop - down.start] @ placed[band, across]
        return np.asarray(lines @ columns.T, dtype=placed.dtype)

    def patch_of(self, pixel: tuple[int, int], grid: tuple[int, ...]) -> tuple[int, int]:
        """The patch that holds the centre of a pixel of the original image.

        Args:
            pixel: (y, x), which the model saw.
            grid: Rows and columns of patches in the input, as for `patch_sums`.

        Returns:
            (row, column).
        """
        row, column = (
            max(0, int(np.searchsorted(_edges(axis.crop, count), axis.positions()[place], side="right")) - 1)
            for place, axis, count in zip(pixel, self._axes, grid, strict=True)
        )
        return row, column

    @property
    def _axes(self) -> list["_Axis"]:
        """Rows and columns."""
        return list(map(_Axis, self.original, self.resized, self.offset, self.crop))

    @property
    def _seen_samples(self) -> list[tuple[slice, "_Samples"]]:
        """Of rows and columns: what the model saw of the original, and where that lies in the input."""
        return [_seen_samples(axis) for axis in self._axes]


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
    return _matrix(_samples((np.arange(length, dtype=np.float64) + 0.5) * (count / length), count), count)


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


class _Axis(NamedTuple):
    """A Placement's numbers for rows, or for columns."""

    original: int
    resized: int
    offset: int
    crop: int

    def positions(self) -> NDArray[np.float64]:
        """Where in the input the centres of the original's rows or columns lie."""
        return (np.arange(self.original, dtype=np.float64) + 0.5) * (self.resized / self.original) - self.offset


@lru_cache(32)  # images often have the size of those before them
def _seen_samples(axis: _Axis) -> tuple[slice, _Samples]:
    positions = axis.positions()
    seen = _span(positions, axis.crop)
    return seen, _samples(positions[seen], axis.crop)


def _samples(positions: NDArray[np.float64], length: int) -> _Samples:
    centre = np.clip(positions - 0.5, 0, length - 1)  # half a pixel at the border repeats the border's value
    lower = centre.astype(np.intp)
    return _Samples(lower, np.minimum(lower + 1, length - 1), centre - lower)


def _matrix(samples: _Samples, count: int) -> NDArray[np.float64]:
    """The samples' interpolation of `count` values, [samples, count]."""
    matrix, rows = np.zeros((len(samples.lower), count)), np.arange(len(samples.lower))
    matrix[rows, samples.lower] += 1 - samples.weight
    matrix[rows, samples.upper] += samples.weight
    return matrix


def _inverse(matrix: Map) -> Map:
    """[count, n] for a matrix [n, count]: the least squares, and of several solutions the one that changes least."""
    differences = SMOOTH * np.diff(np.eye(matrix.shape[1]), axis=0)
    return np.linalg.solve(matrix.T @ matrix + differences.T @ differences, matrix.T)


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
