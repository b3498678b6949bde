"""Pillow's resampling in the graph, equal to it bit for bit: along one axis, of whatever length at run time.

As in Pillow's Resample.c, an output pixel is a sum over a window of input pixels. Its weights are the filter's values,
stretched where the image shrinks, divided by their sum and rounded to multiples of 2^-22; the sum is exact, rounded
half up and clipped to 0..255.

Here the output pixels form tiles of neighbours, and each tile is one matrix product: its weights times the part of
the input that the windows of the tile span. Each weight is split into a multiple of 2^-11 and a rest, so that float32
holds both sums exactly: integers below 2^24 in units of 2^-11 and of 2^-22. Of the rests' sums that is so for any image
where windows have up to 64 pixels (bicubic: shrunk to a 16th), and beyond for all but contrived ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .expressions import BYTE, DOUBLE, FLOAT, INT, Expression

TILE = 32
"""About how many output pixels form a tile."""
WHOLE, HALF = 2**22, 2**11
"""What a weight of 1 is: in Pillow's integers, and in the greater part of a weight."""


@dataclass(frozen=True)
class Axis:
    """How one axis of an image becomes that of the model's input; lengths in pixels.

    Attributes:
        length: Of the image, a scalar.
        resized: That it is resized to, a scalar.
        offset: Where in the resized image the input begins; below 0 where the input is padded.
        crop: The input's length, which is known.
    """

    length: Expression
    resized: Expression
    offset: Expression
    crop: int

    def outputs(self, count: int | None = None) -> Expression:
        """Which of the resized image's pixels the input's are, INT [count]; `count` may go beyond the input."""
        return self.offset + self.offset.constant(np.arange(count or self.crop))


@dataclass(frozen=True)
class Windows:
    """Which pixels of an axis count for an input pixel, and how much, tile by tile.

    Attributes:
        first: The first pixel that counts at all, INT [1].
        end: Behind the last one, INT [1].
        index: Which pixels from `first` on a tile reads, INT [tiles, width].
        weights: Their weights, FLOAT [tiles, 2 * pixels of a tile, width]: the greater parts, then the rests.
    """

    first: Expression
    end: Expression
    index: Expression
    weights: Expression


def windows(axis: Axis, interpolation: str) -> Windows:
    """The windows of one of Pillow's filters."""
    support, weigh = FILTERS[interpolation]
    tiles, size = _tiles(axis.crop)
    outputs = axis.outputs(tiles * size).maximum(0).minimum(axis.resized - 1).reshape(tiles, size)
    # Pillow's `precompute_coeffs`, in its order of operations
    scale = axis.length.cast(DOUBLE) / axis.resized.cast(DOUBLE)
    stretch = scale.maximum(1)
    centre = (outputs.cast(DOUBLE) + 0.5) * scale
    first = (centre - stretch * support + 0.5).cast(INT).maximum(0)
    end = (centre + stretch * support + 0.5).cast(INT).minimum(axis.length)
    begin = first.part(1, 0, 1)
    width = (end.part(1, size - 1, size) - begin).op("ReduceMax", keepdims=0)
    pixels = begin + width.range()  # [tiles, width]
    place = pixels.unsqueeze(1)
    inside = (place >= first.unsqueeze(2)) & (place < end.unsqueeze(2))
    distance = (place.cast(DOUBLE) - centre.unsqueeze(2) + 0.5) * (stretch.constant(1) / stretch)
    weights = inside.where(weigh(distance), 0)
    fixed = _rounded(weights / weights.op("ReduceSum", [2], keepdims=1) * WHOLE)
    greater = (fixed / HALF + 0.5).floor()
    halves = greater.join(fixed - greater * HALF, axis=1)
    last = tiles * size - 1
    start, stop = first.reshape(last + 1).part(0, 0, 1), end.reshape(last + 1).part(0, last, last + 1)
    return Windows(start, stop, (pixels - start).minimum(stop - start - 1), halves.cast(FLOAT))


def resize(image: Expression, rows: Axis, columns: Axis, interpolation: str) -> Expression:
    """Resize images with one of Pillow's filters, and cut out the model's input; only what it needs is computed.

    One axis after the other, as each step rounds: the width first, but the height first where it shrinks by more than
    twice as many pixels, as in Pillow 13. Both orders are in the graph, and one of them gets images without channels.

    Args:
        image: BYTE [batch, height, width, 3].
        rows: The first of the two axes.
        columns: The second one.
        interpolation: The filter.

    Returns:
        BYTE [batch, H, W, 3]; where the input is padded, some pixel.
    """
    down, across = windows(rows, interpolation), windows(columns, interpolation)
    less_rows, less_columns = (axis.length - axis.resized for axis in (rows, columns))
    rows_first = (less_rows > 0) & (less_rows > less_columns * 2)
    split = rows_first.cast(INT).reshape(1) * 3  # the channels up to here are resized in that order, the others not

    def read(first: Expression | list[int], end: Expression | list[int]) -> Expression:
        """These channels of the part of the image that is needed."""
        firsts, ends = down.first.join(across.first, first), down.end.join(across.end, end)
        return image.op("Slice", firsts, ends, [1, 2, 3])

    one = _resample_columns(_resample_rows(read([0], split), down, rows.crop), across, columns.crop)
    other = _resample_rows(_resample_columns(read(split, [3]), across, columns.crop), down, rows.crop)
    return one.join(other, axis=3)


def _resample_rows(image: Expression, window: Windows, crop: int) -> Expression:
    """BYTE [batch, n, width, channels] to [batch, crop, width, channels]; n is what the windows are over."""
    batch, height, width, channels = (image.length(axis) for axis in range(4))
    return _resample(image.reshape(batch, height, width * channels), window, crop).reshape(batch, crop, width, channels)


def _resample_columns(image: Expression, window: Windows, crop: int) -> Expression:
    """As `_resample_rows` along the third axis; with transposes of matrices, which are fast."""
    batch, height, width, channels = (image.length(axis) for axis in range(4))
    turned = image.reshape(batch, height, width * channels).transpose(0, 2, 1)
    turned = _resample(turned.reshape(batch, width, channels * height), window, crop)
    turned = turned.reshape(batch, channels * crop, height).transpose(0, 2, 1)
    return turned.reshape(batch, height, crop, channels)


def _resample(values: Expression, window: Windows, crop: int) -> Expression:
    """BYTE [batch, n, m] to [batch, crop, m]."""
    tiles, size = _tiles(crop)
    sums = window.weights @ values.op("Gather", window.index, axis=1).cast(FLOAT)  # [batch, tiles, 2 * size, m]
    greater, rest = sums.part(2, 0, size), sums.part(2, size, 2 * size)
    # floor((greater * 2^11 + rest) / 2^22 + 1/2), so that no number needs more than 24 bits
    pixels = ((greater + HALF / 2 + (rest / HALF).floor()) / HALF).floor()
    pixels = pixels.maximum(0).minimum(255).cast(BYTE)
    return pixels.reshape(values.length(0), tiles * size, values.length(2)).part(1, 0, crop)


def nearest(axis: Axis) -> Expression:
    """Which pixel of the image each of the input's is, by Pillow's `ImagingScaleAffine`, which adds up steps.

    Returns:
        INT [crop].
    """
    last = axis.resized - 1
    outputs = axis.outputs().maximum(0).minimum(last)
    step = axis.length.cast(DOUBLE) / axis.resized.cast(DOUBLE)
    numbers = (outputs.part(0, axis.crop - 1, axis.crop).scalar() + 1).range()
    places = (numbers < 1).where(step * 0.5, step).op("CumSum", numbers.constant(0))
    return places.cast(INT).minimum(axis.length - 1).op("Gather", outputs)


def _tiles(crop: int) -> tuple[int, int]:
    """How many tiles there are, and how many pixels each has."""
    tiles = math.ceil(crop / TILE)
    return tiles, math.ceil(crop / tiles)


def _rounded(values: Expression) -> Expression:
    """To integers, halves away from zero."""
    return (values < 0).where((values - 0.5).op("Ceil"), (values + 0.5).floor())


def _box(x: Expression) -> Expression:
    return ((x > -0.5) & (x <= 0.5)).cast(DOUBLE)


def _bilinear(x: Expression) -> Expression:
    return (x.constant(1) - x.op("Abs")).maximum(0)


def _bicubic(x: Expression) -> Expression:
    x = x.op("Abs")
    near = (x * 1.5 - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return (x < 1).where(near, (x < 2).where(far, 0))


def _hamming(x: Expression) -> Expression:
    x = x.op("Abs")
    angle = x * math.pi
    return (x < 1).where(_sinc(x) * (angle.op("Cos") * float(np.float32(0.46)) + float(np.float32(0.54))), 0)


def _lanczos(x: Expression) -> Expression:
    x = x.op("Abs")
    return (x < 3).where(_sinc(x) * _sinc(x / 3), 0)


def _sinc(x: Expression) -> Expression:
    """sin(pi x) / (pi x), for x from 0."""
    angle = (x * math.pi).maximum(1e-30)  # whose sine is itself
    return angle.op("Sin") / angle


FILTERS: dict[str, tuple[float, Callable[[Expression], Expression]]] = {
    "box": (0.5, _box),
    "bilinear": (1, _bilinear),
    "hamming": (1, _hamming),
    "bicubic": (2, _bicubic),
    "lanczos": (3, _lanczos),
}
"""By Pillow's name half the width of a filter, and its weight at a distance from the centre."""
