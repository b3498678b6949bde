"""Removal of pixels: in which order, and what takes their place."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from .metric import Case, Heatmap, Pixels

TIES = 0
"""Purpose of random numbers, see `Case.random`: the order of equal values."""

Where = NDArray[np.bool_]
"""Which pixels are removed, [H, W]."""
Remover = Callable[[Where], Pixels]
"""From the pixels to remove to the input without them, a new array."""


def order(case: Case, heatmap: Heatmap, descending: bool) -> NDArray[np.intp]:
    """The pixels in the order of their values; those of equal value in random order, the same for all methods.

    Args:
        case: The image, whose seed draws the order of equal values.
        heatmap: [H, W]
        descending: Highest first; this is the lowest first, reversed.

    Returns:
        Flat indices, [H * W].
    """
    return order_of(case, heatmap.ravel(), descending)


def order_of(case: Case, values: NDArray[np.floating], descending: bool) -> NDArray[np.intp]:
    """`order` of any values, [n]."""
    shuffled = case.random(TIES).permutation(values.size)
    ascending = shuffled[np.argsort(values[shuffled], kind="stable")]
    return ascending[::-1] if descending else ascending


def black(case: Case) -> Pixels:
    """What black is after normalisation, [3, 1, 1]."""
    mean, std = case.preprocessing.mean, case.preprocessing.std
    return np.array([-m / s for m, s in zip(mean, std, strict=True)], np.float32)[:, None, None]


def _replacing(fill: Callable[[Case], Pixels]) -> Callable[[Case], Remover]:
    """The baseline that puts a given colour or image, which can be broadcast to [3, H, W], in the place of pixels."""

    def remover(case: Case) -> Remover:
        replacement = fill(case)

        def removed(where: Where) -> Pixels:
            pixels: Pixels = np.where(where, replacement, case.pixels)
            return pixels

        return removed

    return remover


BASELINES: Mapping[str, Callable[[Case], Remover]] = {
    "black": _replacing(black),
    "mean": _replacing(lambda case: np.zeros((3, 1, 1), np.float32)),
}
"""What takes the place of removed pixels, by name: for a case, the function that removes pixels."""


def remover(case: Case, baseline: str) -> Remover:
    """The function that removes pixels of a case, [H, W] -> [3, H, W], prepared once for many removals."""
    return BASELINES[baseline](case)


def remove(case: Case, where: Where, baseline: str) -> Pixels:
    """The input with these pixels removed.

    Args:
        case: The image.
        where: bool [H, W]
        baseline: A name in `BASELINES`.

    Returns:
        float32 [3, H, W], a new array.
    """
    return remover(case, baseline)(where)
