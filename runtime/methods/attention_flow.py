"""Attention flow: how much of a unit of flow gets from the readout through all layers down to each patch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.layout import Layout

# Capacities become integers for scipy, whose flows are int32: the largest power of two that leaves a bit to spare.
# The flow is off by at most 2^-31 for every edge of the smallest cut, whose capacity is 1 at most: 1e-7 for the 197
# edges of a typical one at 197 tokens, 1e-6 for 2000 edges.
SCALE = 2**30

Matrices = NDArray[np.floating[Any]]
Row = NDArray[np.float64]
TokenMap = NDArray[np.float64]


def attention_flow(attention: Matrices, readout: Row, layout: Layout) -> TokenMap:
    """The maximum flow from the readout on top to each patch at the bottom (Abnar & Zuidema 2020, section 3).

    `attention`: E_h[A], [layers, N, N]. The edge from token i above layer l to token j below it has capacity
    rownorm(E_h[A_l] + I)[i, j]; a source feeds the tokens on top with e, 1 in all. Exact up to `SCALE`. Each patch is a
    run of Dinic's algorithm over all layers N^2 edges: 20 to 30 ms for 12 layers of 197 tokens, 3 to 6 s for a map;
    about N^3. NaN everywhere if the attention is not finite.

    Needs scipy, which is not among the runtime's dependencies: pip install 'onnxplain[flow]'.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_flow

    layers, size = len(attention), layout.tokens
    source = (layers + 1) * size  # tokens below layer l are the nodes from l * size
    above, below, capacities = [np.full(size, source)], [layers * size + np.arange(size)], [readout]
    rows, columns = np.divmod(np.arange(size * size), size)
    for number, layer in enumerate(attention):
        above.append((number + 1) * size + rows)
        below.append(number * size + columns)
        capacities.append(_normalised(layer.astype(np.float64)).ravel())
    shares = np.concatenate(capacities)
    if not np.isfinite(shares).all():  # as an integer, NaN would be some capacity
        return np.full(layout.patch_grid, np.nan)
    units = np.rint(shares * SCALE).astype(np.int32)
    used = units > 0
    edges = tuple(np.concatenate(ends)[used].astype(np.int32) for ends in (above, below))
    graph = coo_array((units[used], edges), shape=(source + 1, source + 1)).tocsr()
    row = np.zeros(size)
    for token in range(layout.prefix_tokens, size):
        row[token] = maximum_flow(graph, source, token).flow_value / SCALE
    return np.asarray(layout.patches(row))


def _normalised(matrix: Row) -> Row:
    """rownorm(F + I) of a non-negative F."""
    with_residual = matrix + np.eye(len(matrix))
    return np.asarray(with_residual / with_residual.sum(axis=1, keepdims=True))
