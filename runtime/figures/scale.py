"""Which values of a map its colours span."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images.geometry import Map
from .drawable import Drawable

PIXEL_QUANTILE = 0.99  # of a pixel-level map's values: what gets the brightest colour


@dataclass(frozen=True)
class Scale:
    """The values that the colours span.

    Attributes:
        low: What is drawn bare; if `signed`, -high, and zero is drawn bare.
        high: What gets the brightest colour.
        signed: Whether values below zero are drawn as well.
    """

    low: float
    high: float
    signed: bool = False

    def scaled(self, values: Map) -> NDArray[np.float32]:
        """The values as shares of the scale, from 0 to 1, or if `signed` from -1 to 1; some may lie beyond."""
        low = 0.0 if self.signed else self.low
        return ((values.astype(np.float64) - low) / (self.high - low)).astype(np.float32)


def drawn_map(item: Drawable) -> NDArray[np.float32]:
    """The map over the model's input as it is drawn, [H, W]; of pixels, the means over half patches.

    Neighbouring pixels often have values of opposite signs.
    """
    heatmap = item.input_heatmap
    return _smoothed(heatmap, item.tokens.shape) if item.pixel_level else heatmap


def find_scale(item: Drawable) -> Scale | None:
    """What the colours of this map span, if it is drawn by itself: from its minimum to its maximum.

    It begins at 0 where there are values below that. Of signed maps it reaches equally far on both sides of 0. At pixel
    level a high quantile of the values takes the maximum's place. Only what the model saw counts.

    Returns:
        None if nothing is to be drawn: the map is constant, or has no value that counts.
    """
    if item.input_heatmap.min() == item.input_heatmap.max():
        return None
    shown = drawn_map(item)[item.placement.shown]
    if item.signed:
        shown = np.abs(shown)
    low = float(shown.min()) if item.relative else max(float(shown.min()), 0.0)
    if item.signed:
        low = 0.0
    high = float(shown.max())
    if item.pixel_level and high > low:
        high = float(np.quantile(shown[shown > low], PIXEL_QUANTILE))
    if high <= low:
        return None
    return Scale(-high, high, signed=True) if item.signed else Scale(low, high)


def shared_scales(items: Iterable[Drawable]) -> list[Scale | None]:
    """The same as of each alone, but that all span the same values: the least minimum to the greatest maximum."""
    scales = [find_scale(item) for item in items]
    high = max((scale.high for scale in scales if scale), default=0.0)
    low = min((scale.low for scale in scales if scale and not scale.signed), default=0.0)
    return [scale and (Scale(-high, high, signed=True) if scale.signed else Scale(low, high)) for scale in scales]


def _smoothed(heatmap: NDArray[np.float32], grid: tuple[int, ...]) -> NDArray[np.float32]:
    """The means over half patches, interpolated to the heatmap's size again."""
    height, width = heatmap.shape
    halves = (min(2 * grid[1], width), min(2 * grid[0], height))
    means = Image.fromarray(heatmap).resize(halves, Image.Resampling.BOX)
    return np.asarray(means.resize((width, height), Image.Resampling.BICUBIC))
