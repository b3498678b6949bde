"""Removal of pixels: in which order, and what takes their place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .metric import Case, Heatmap, Pixels
from .noisy_linear import noisy_linear
from .purposes import TIES

Where = NDArray[np.bool_]
"""Which pixels are removed, [H, W]."""
Remover = Callable[[Where], Pixels]
"""From the pixels to remove to the input without them, a new array."""

BLUR_KERNEL, BLUR_SIGMA = 11, 5
"""Side of the Gaussian kernel and its standard deviation, in pixels, as RISE has them."""


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


def mean(case: Case) -> Pixels:
    """What the mean of the preprocessing is after normalisation, [3, 1, 1]."""
    return np.zeros((3, 1, 1), np.float32)


def blurred(case: Case) -> Pixels:
    """The input under a Gaussian blur, reflected at its edges, [3, H, W]."""
    reach = BLUR_KERNEL // 2
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * BLUR_SIGMA**2))
    pixels = case.pixels.astype(np.float64)
    for axis in (1, 2):
        length = pixels.shape[axis]
        padded = np.pad(pixels, [(reach, reach) if each == axis else (0, 0) for each in range(3)], mode="reflect")
        shifted = (padded.take(range(start, start + length), axis) for start in range(BLUR_KERNEL))
        pixels = sum((w * part for w, part in zip(kernel / kernel.sum(), shifted, strict=True)), np.zeros(1))
    return pixels.astype(np.float32)


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
    "mean": _replacing(mean),
    "blur": _replacing(blurred),
    "noisy-linear": noisy_linear,
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


def removals(
    case: Case, groups: NDArray[np.intp], ranked: NDArray[np.intp], counts: Sequence[int], baseline: str
) -> Iterator[Pixels]:
    """The input without the first groups of pixels, for each number of groups.

    Args:
        case: The image.
        groups: To which group each pixel belongs, int [H, W].
        ranked: The groups in the order of their removal.
        counts: How many are removed, ascending.
        baseline: A name in `BASELINES`.
    """
    removed, remove_where = np.zeros(ranked.size, bool), remover(case, baseline)
    for start, stop in pairwise((0, *counts)):
        removed[ranked[start:stop]] = True
        yield remove_where(removed[groups])
