"""How alike two maps of one image are, and how much one of them holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]

BINS = 100
"""Of the histogram that `entropy` is computed of, as in Hedström et al. 2024."""
WINDOW = 7
"""Side of the windows of `ssim`, in values of the map."""


def spearman(first: Map, second: Map) -> float:
    """Spearman's rank correlation of the values of two maps, -1 to 1; equal values share their mean rank.

    A constant map has no order: 1 if both are constant, 0 if one is.
    """
    from scipy.stats import spearmanr

    constant = [float(np.ptp(each)) == 0 for each in (first, second)]
    if any(constant):
        return float(all(constant))
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def ssim(first: Map, second: Map) -> float:
    """Structural similarity of two maps (Wang et al. 2004), -1 to 1, each scaled to 0 to 1 before.

    Over windows of 7 x 7 values, or as many as a smaller map has, of equal weight; a constant map is all 0.
    """
    from skimage.metrics import structural_similarity

    scaled = [(each - each.min()) / (np.ptp(each) or 1) for each in (first, second)]
    window = min(WINDOW, *(side - 1 + side % 2 for side in first.shape))
    return float(structural_similarity(*scaled, win_size=window, data_range=1.0))


def entropy(values: Map) -> float:
    """Entropy in nats of the histogram of a map's values, over 100 bins of equal width from the least to the greatest.

    A map of one value has 0.
    """
    counts, _ = np.histogram(values, BINS)
    shares = counts[counts > 0] / values.size
    return float(-(shares * np.log(shares)).sum())
