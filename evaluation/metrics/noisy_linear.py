"""The baseline of ROAD: removed pixels become weighted means of their neighbours, with a little noise."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError

from .metric import Case, Pixels
from .purposes import ROAD_NOISE

NEIGHBOURS = {(0, 1): 1 / 6, (1, 0): 1 / 6, (1, 1): 1 / 12, (1, -1): 1 / 12}
"""Rows and columns to a neighbour, and its weight; the four opposite ones have the same."""
NOISE_SCALE = 0.01
"""Standard deviation of the noise, in units of the normalized input."""


def solver() -> Any:
    """scipy's decomposition of a sparse matrix; raises OnnxplainError if scipy is missing."""
    try:
        from scipy.sparse.linalg import splu
    except ImportError:
        raise OnnxplainError("the baseline noisy-linear needs scipy: pip install 'onnxplain[report]'") from None
    return splu


def noisy_linear(case: Case) -> Callable[[NDArray[np.bool_]], Pixels]:
    """A function that removes pixels as ROAD does (Rong et al. 2022, section 5).

    Every removed pixel is the weighted mean of its eight neighbours, whose weights at the edges are scaled to the sum
    of 1: a sparse system of linear equations. To that comes noise, the same for all maps of the image.

    Args:
        case: The image.

    Returns:
        From the pixels to remove, bool [H, W], to the input without them. If all are to be removed, they become the
        mean of the preprocessing, 0.

    Raises:
        OnnxplainError: If scipy is missing.
    """
    splu = solver()
    flat = case.pixels.reshape(3, -1).T.astype(np.float64)
    noise = NOISE_SCALE * case.random(ROAD_NOISE).standard_normal(flat.shape)
    weights, system = _weights(*case.pixels.shape[1:])

    def removed(where: NDArray[np.bool_]) -> Pixels:
        gone, values = where.ravel(), flat.copy()
        values[gone] = 0
        if gone.any() and not gone.all():
            # The equations are symmetric and positive definite: no pivots are needed
            factors = splu(
                system[gone][:, gone].tocsc(),
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0,
                options={"SymmetricMode": True},
            )
            values[gone] = factors.solve(weights[gone] @ values)
        values[gone] += noise[gone]
        return values.T.reshape(case.pixels.shape).astype(np.float32)

    return removed


@lru_cache(maxsize=2)
def _weights(height: int, width: int) -> tuple[Any, Any]:
    """The weights of all pairs of neighbours, and the matrix of the equations, both sparse [H * W, H * W]."""
    from scipy.sparse import coo_array, diags_array

    index = np.arange(height * width).reshape(height, width)
    ends, starts, values = [], [], []
    for (down, right), weight in NEIGHBOURS.items():
        columns = slice(max(0, -right), width - max(0, right)), slice(max(0, right), width - max(0, -right))
        start, end = index[: height - down, columns[0]].ravel(), index[down:, columns[1]].ravel()
        starts += [start, end]
        ends += [end, start]
        values += [np.full(2 * start.size, weight)]
    places = np.concatenate(starts), np.concatenate(ends)
    weights = coo_array((np.concatenate(values), places), (index.size, index.size)).tocsr()
    return weights, (diags_array(weights.sum(axis=1)) - weights).tocsr()
