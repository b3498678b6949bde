"""How alike maps are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pearson(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Pearson's correlation of two maps of one shape, in float64; None if one of them is constant."""
    return _cosine(*(_centred(each.ravel()) for each in (first, second)))


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Spearman's rank correlation of two maps of one shape, -1 .. 1; equal values share their mean rank.

    A constant map has no order: 1 if both are constant, 0 if one is.
    """
    ranks = [_ranks(each) for each in (first, second)]
    correlation = _cosine(*ranks)
    return float(not any(each.any() for each in ranks)) if correlation is None else correlation


def agreement(maps: Sequence[NDArray[Any]]) -> float | None:
    """The mean of Spearman's correlation over all pairs of maps that are not constant; None if there is no pair."""
    ranks = [each for each in map(_ranks, maps) if each.any()]
    if len(ranks) < 2:
        return None
    unit = np.stack([each / np.linalg.norm(each) for each in ranks])
    return float((unit @ unit.T)[np.triu_indices(len(unit), 1)].mean())


def _cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    sizes = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.clip(first @ second / sizes, -1, 1)) if sizes else None


def _centred(values: NDArray[Any]) -> NDArray[np.float64]:
    """Without their mean, in float64: exactly 0 where all are equal."""
    shifted = values.astype(np.float64) - values[0]
    return np.asarray(shifted - shifted.mean())


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """The rank of each value, without the mean of all ranks: exactly 0 for a constant map."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means = ends - (counts + 1) / 2  # of the ranks from 0 that equal values share
    return np.asarray((means - (values.size - 1) / 2)[place.ravel()])
