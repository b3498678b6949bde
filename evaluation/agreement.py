"""How far maps of several methods agree, whatever their scales."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """The ranks of all entries from 0, [n]; equal entries have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    return (last - (counts - 1) / 2)[place.ravel()]


def agreement(maps: Sequence[NDArray[Any]]) -> float | None:
    """The mean of Spearman's correlation over all pairs of maps that are not constant; None if there is no pair."""
    centred = [rank - rank.mean() for rank in map(ranks, maps)]
    unit = [each / np.linalg.norm(each) for each in centred if each.any()]
    if len(unit) < 2:
        return None
    correlations = np.stack(unit) @ np.stack(unit).T
    return float(correlations[np.triu_indices(len(unit), 1)].mean())
