"""How alike two maps are."""

import numpy as np
from numpy.typing import NDArray

from .metric import Heatmap


def spearman(first: Heatmap, second: Heatmap) -> float:
    """Spearman's rank correlation of two maps' pixels, -1 .. 1; equal values share their mean rank.

    A constant map has no order: 1 if both are constant, 0 if one is.
    """
    ranks = [_ranks(each) for each in (first, second)]
    sizes = [float(np.linalg.norm(each)) for each in ranks]
    if 0 in sizes:
        return float(sizes[0] == sizes[1])
    return float(np.clip(ranks[0] @ ranks[1] / (sizes[0] * sizes[1]), -1, 1))


def _ranks(values: Heatmap) -> NDArray[np.float64]:
    """The rank of each value, from which the mean of all ranks is subtracted: exactly 0 for a constant map."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means = ends - (counts + 1) / 2  # of the ranks from 0 that equal values share
    return np.asarray((means - (values.size - 1) / 2)[place.ravel()])
