"""What an explanation says in numbers and texts that JSON can hold.

Boxes are [left, top, right, bottom] in pixels of the image, as Pillow has them: the last two are the first column and
the first row beyond.
"""

from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .figures.scale import drawn_map, find_scale
from .images.geometry import Map, Window

if TYPE_CHECKING:
    from .explanation import Explanation

PARTS = 5  # the highest values that are boxed in hold one part of so many
HALF = 16  # bits of half a float32


def about_image(explanation: "Explanation") -> dict[str, Any]:
    """What is the same for all explanations of one image by one model."""
    rows, columns = explanation.tokens.shape
    return {
        "model": explanation.model,
        "precision": explanation.precision,
        "width": explanation.image.width,
        "height": explanation.image.height,
        "seen": _box(explanation.placement.seen),
        "patch_rows": rows,
        "patch_columns": columns,
        "predictions": [
            {"index": index, "label": label, "probability": probability}
            for index, label, probability in explanation.predictions
        ],
    }


def about_map(explanation: "Explanation") -> dict[str, Any]:
    """The rest: the method, the class, and where the map is high."""
    peak = explanation.peak()
    return {
        "method": explanation.method,
        "parameters": {name: _plain(value) for name, value in explanation.parameters.items()},
        "target": explanation.target,
        "label": explanation.label,
        "score": explanation.score,
        "probability": explanation.probability,
        "maximum": None if peak is None else [peak[1], peak[0]],
        "upper_fifth": upper_fifth(explanation),
        "resolution": explanation.resolution,
    }


def upper_fifth(explanation: "Explanation") -> list[int] | None:
    """The smallest box around the highest values which together hold a fifth of what is drawn.

    What counts is how far a value of the map that `overlay` draws, placed on the image, lies above the lowest that is
    drawn: 0, or the map's minimum where that is higher or the map is relative. Values below count nothing. Let t be the
    greatest value such that the pixels of t or more hold at least a fifth of the sum over all pixels. The box contains
    these pixels, and no row or column more.

    Returns:
        The box; None if nothing is drawn.
    """
    scale = find_scale(explanation)
    if scale is None:
        return None
    levels, placement = scale.scaled(drawn_map(explanation)), explanation.placement

    lowest = _lowest_of_part(lambda: (values for _, values in placement.place_seen(levels)))
    if lowest is None:
        return None
    boxes = []
    for (rows, columns), values in placement.place_seen(levels):
        high = values >= lowest
        ys, xs = np.flatnonzero(high.any(axis=1)), np.flatnonzero(high.any(axis=0))
        if len(ys):
            top, left = rows.start, columns.start
            boxes.append((left + xs[0], top + ys[0], left + xs[-1] + 1, top + ys[-1] + 1))
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return [int(min(lefts)), int(min(tops)), int(max(rights)), int(max(bottoms))]


def _lowest_of_part(bands: Callable[[], Iterable[Map]]) -> np.float32 | None:
    """The greatest value such that those not below it hold one part of PARTS of the sum; None if none is above 0.

    As sorting would find it, but of a photograph all values would be too many. Positive float32 are in the order of
    their bits as integers. So the sums of values are taken by the upper half of the bits, and then, of those with the
    upper half that is found, by the lower half.

    Args:
        bands: What gives the values, float32, in parts; called twice.
    """
    sums = np.zeros(2**HALF)
    for bits, values in map(_positive, bands()):
        sums += np.bincount(bits >> HALF, values, len(sums))
    total = sums.sum()
    if total == 0:
        return None
    upper, above = _from_top(sums, total / PARTS)
    sums[:] = 0
    for bits, values in map(_positive, bands()):
        inside = bits >> HALF == upper
        sums += np.bincount(bits[inside] & (len(sums) - 1), values[inside], len(sums))
    lower, _ = _from_top(sums, total / PARTS - above)
    return np.uint32(upper << HALF | lower).view(np.float32)


def _positive(values: Map) -> tuple[NDArray[np.uint32], Map]:
    """The values above 0, and their bits."""
    positive = values[values > 0]
    return positive.view(np.uint32), positive


def _from_top(sums: NDArray[np.float64], wanted: float) -> tuple[int, float]:
    """The last place down from which the sums reach what is wanted, or the first that has any; and the sum above it."""
    places = np.flatnonzero(sums)[::-1]  # a map has few values beside the places that there are
    reached = np.concatenate([[0.0], np.cumsum(sums[places])])
    above = min(int(np.searchsorted(reached[1:], wanted)), len(places) - 1)
    return int(places[above]), float(reached[above])


def _box(window: Window) -> list[int]:
    rows, columns = window
    return [columns.start, rows.start, columns.stop, rows.stop]


def _plain(value: Any) -> Any:
    """A parameter's value as Python has it, whatever number type it was given as."""
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value
