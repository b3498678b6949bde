"""Where an image lies in the model's input, and the input's maps in the image, as of the runtime, in the graph."""

from __future__ import annotations

import math

import numpy as np

from onnxplain.contract.preprocessing import Preprocessing

from .expressions import DOUBLE, FLOAT, INT, Expression
from .resampling import Axis


def axes_of(height: Expression, width: Expression, preprocessing: Preprocessing) -> tuple[Axis, Axis]:
    """The rows and the columns of an image of this size, as the runtime's `placement_of` has them.

    Args:
        height: A scalar.
        width: A scalar.
        preprocessing: The artifact's.
    """
    lengths = (height, width)
    rows, columns = (
        Axis(length, resized, _offset(resized, crop, preprocessing.crop_rounding), crop)
        for length, resized, crop in zip(lengths, _resized(lengths, preprocessing), preprocessing.size, strict=True)
    )
    return rows, columns


class Placement:
    """Brings maps over the model's input onto the image, as the runtime's `Placement.place` does."""

    def __init__(self, axes: tuple[Axis, Axis]) -> None:
        """Compute what is the same for all maps, from the rows and the columns."""
        self._seen_rows, self._seen_columns = seen = [_seen(axis) for axis in axes]
        self._rows, self._columns = (
            _interpolation(axis, part).transpose(1, 0) for axis, part in zip(axes, seen, strict=True)
        )

    def place(self, heatmap: Expression, relative: bool) -> Expression:
        """Place some maps.

        Args:
            heatmap: FLOAT [batch, targets, H, W].
            relative: Whether what the model did not see gets the map's minimum in place of 0.

        Returns:
            FLOAT [batch, targets, height, width].
        """
        turned = _times(heatmap.transpose(0, 1, 3, 2), self._rows)  # [batch, targets, W, height]
        placed = _times(turned.transpose(0, 1, 3, 2), self._columns)
        if not relative:
            return placed
        seen = self._seen_rows.unsqueeze(1) & self._seen_columns
        return seen.where(placed, heatmap.op("ReduceMin", [2, 3], keepdims=1))


def _times(values: Expression, matrix: Expression) -> Expression:
    """[a, b, c, n] times [n, m], as one product of matrices: a flag may have left no maps, which others do not take."""
    first, second, rows, inner = (values.length(axis) for axis in range(4))
    product = values.reshape(first * second * rows, inner) @ matrix
    return product.reshape(first, second, rows, matrix.length(1))


def _resized(lengths: tuple[Expression, Expression], preprocessing: Preprocessing) -> tuple[Expression, Expression]:
    height, width = lengths
    scaled = [math.floor(length / preprocessing.crop_pct) for length in preprocessing.size]
    if preprocessing.crop_mode == "squash":
        return height.constant(scaled[0]), height.constant(scaled[1])
    if preprocessing.crop_mode == "center" and scaled[0] == scaled[1]:
        short, long = height.minimum(width), height.maximum(width)
        long = long * scaled[0] / short
        upright = width <= height
        return upright.where(long, scaled[0]), upright.where(long.constant(scaled[0]), long)
    sides = height.cast(DOUBLE), width.cast(DOUBLE)
    ratios = [side / length for side, length in zip(sides, scaled, strict=True)]
    border = preprocessing.crop_mode == "border"
    ratio = ratios[0].maximum(ratios[1]) if border else ratios[0].minimum(ratios[1])
    rows, columns = ((side / ratio).op("Round").cast(INT).maximum(1) for side in sides)
    return rows, columns


def _offset(length: Expression, crop: int, rounding: str) -> Expression:
    half = (length - crop).cast(DOUBLE) * 0.5
    if rounding == "floor":
        return half.floor().cast(INT)
    return (length >= crop).where(half.op("Round"), half.op("Ceil")).cast(INT)


def _positions(axis: Axis) -> Expression:
    """Where in the input the centres of the image's pixels lie, DOUBLE [length]."""
    scale = axis.resized.cast(DOUBLE) / axis.length.cast(DOUBLE)
    return (axis.length.range().cast(DOUBLE) + 0.5) * scale - axis.offset.cast(DOUBLE)


def _seen(axis: Axis) -> Expression:
    """Which pixels of the image the model saw, BOOL [length]: those with a centre in the input, or the nearest two."""
    positions = _positions(axis)
    first, end = ((positions < bound).cast(INT).op("ReduceSum", keepdims=0) for bound in (0, axis.crop))
    beyond = first.op("Equal", end).cast(INT)
    numbers = axis.length.range()
    return (numbers >= first - beyond) & (numbers < end + beyond)


def _interpolation(axis: Axis, seen: Expression) -> Expression:
    """The matrix of bilinear interpolation, FLOAT [length, crop]; zeros for what the model did not see."""
    centres = (_positions(axis) - 0.5).maximum(0).minimum(axis.crop - 1).unsqueeze(1)
    distances = (centres - centres.constant(np.arange(axis.crop))).op("Abs")
    weights = (distances.constant(1) - distances).maximum(0)
    return seen.unsqueeze(1).where(weights, 0).cast(FLOAT)
