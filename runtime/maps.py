"""The functions behind the methods: pure NumPy, from attention tensors to a token map.

Every function takes the tensors of its passes, for one image and one target (`attention`, `gradient` =
d logit / d attention, `relevance` of the attention; each [layers, heads, N, N]), the token `Layout`, and its
parameters by name. It returns the token map, float64 [h, w]. In the formulas A, G, R are those tensors, E_h is the
mean over heads, (.)+ the positive part, * the product of entries, L the last and s the start layer, and e the readout
row. A product P of per-layer matrices is read as `e P`: the row goes through the layers from the top, and nothing
N x N is ever multiplied.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metadata import Layout

Array = NDArray[np.floating[Any]]
Matrix = NDArray[np.float64]
TokenMap = NDArray[np.float64]

HEAD_FUSIONS: dict[str, Callable[..., Any]] = {"mean": np.mean, "max": np.max, "min": np.min}
NORMS: dict[str, int] = {"l1": 1, "l2": 2}


def rollout(attention: Array, layout: Layout, *, head_fusion: str, discard_ratio: float, start_layer: int) -> TokenMap:
    """M_l = rownorm(fuse_h(A_l) + I), map = e M_L ... M_s (Abnar & Zuidema 2020, section 3; vit-explain).

    `discard_ratio`: see `_discard`.
    """
    fused = (_fuse_heads(layer, head_fusion) for layer in _from_top(attention, start_layer))
    return _roll_out((_discard(matrix, discard_ratio, layout) for matrix in fused), layout)


def grad_rollout(
    attention: Array, gradient: Array, layout: Layout, *, head_fusion: str, discard_ratio: float, start_layer: int
) -> TokenMap:
    """M_l = rownorm((fuse_h(G_l * A_l))+ + I), map = e M_L ... M_s (after vit-explain, each layer with its own G).

    `discard_ratio`: see `_discard`; it acts on the positive part.
    """
    pairs = zip(_from_top(gradient, start_layer), _from_top(attention, start_layer), strict=True)
    fused = (_positive(_fuse_heads(g * a, head_fusion)) for g, a in pairs)
    return _roll_out((_discard(matrix, discard_ratio, layout) for matrix in fused), layout)


def gmar(attention: Array, gradient: Array, layout: Layout, *, norm: str, start_layer: int) -> TokenMap:
    """w_h = |G_l[h]| / sum_h |G_l[h]|, M_l = rownorm(sum_h w_h A_l[h] + I), map = e M_L ... M_s (GMAR 2025).

    `norm`: |.| is the sum of absolute entries (l1) or the root of the sum of squares (l2). In a layer without any
    gradient all heads weigh the same.
    """
    pairs = zip(_from_top(gradient, start_layer), _from_top(attention, start_layer), strict=True)
    return _roll_out((np.tensordot(_head_weights(g, norm), a, 1) for g, a in pairs), layout)


def raw_attention(attention: Array, layout: Layout, *, layer: int) -> TokenMap:
    """map = e E_h[A_layer] (the baseline of Chefer et al. CVPR 2021, section 4)."""
    return _read_layer(attention[layer], layout)


def attention_gradcam(attention: Array, gradient: Array, layout: Layout) -> TokenMap:
    """a_h = e A_L[h], g_h = e G_L[h], patches only; w_h = mean of g_h; map = (E_h[w_h a_h])+.

    GradCAM on the readout row of the last attention, the baseline of Chefer et al. CVPR 2021, section 4.
    """
    row = layout.readout_row()
    a, g = ((row @ tensor[-1])[:, layout.prefix_tokens :] for tensor in (attention, gradient))
    weighted = (g.mean(axis=1, keepdims=True) * a).mean(axis=0)
    return np.asarray(_positive(weighted).reshape(layout.patch_grid))


def generic_attention(attention: Array, gradient: Array, layout: Layout, *, start_layer: int) -> TokenMap:
    """C_l = E_h[(G_l * A_l)+]; P = I, then P <- P + C_l P for l = s..L; map = e P.

    That is e (I + C_L) ... (I + C_s) (Chefer et al. ICCV 2021, equations 5 and 6).
    """
    pairs = zip(_from_top(gradient, start_layer), _from_top(attention, start_layer), strict=True)
    return _accumulate((_positive(g * a) for g, a in pairs), layout)


def transformer_attribution(gradient: Array, relevance: Array, layout: Layout, *, start_layer: int) -> TokenMap:
    """C_l = E_h[(G_l * R_l)+], map = e (I + C_L) ... (I + C_s) (Chefer et al. CVPR 2021, equations 13 and 14)."""
    pairs = zip(_from_top(gradient, start_layer), _from_top(relevance, start_layer), strict=True)
    return _accumulate((_positive(g * r) for g, r in pairs), layout)


def relevance_rollout(relevance: Array, layout: Layout, *, start_layer: int) -> TokenMap:
    """C_l = E_h[(R_l)+], map = e (I + C_L) ... (I + C_s) (Chefer et al. CVPR 2021, equation 13 without gradient)."""
    return _accumulate((np.maximum(r, 0) for r in _from_top(relevance, start_layer)), layout)


def last_layer(relevance: Array, layout: Layout, *, layer: int) -> TokenMap:
    """map = e E_h[(R_layer)+] (the partial LRP of Chefer et al. CVPR 2021, section 4)."""
    return _read_layer(np.maximum(relevance[layer], 0), layout)


def last_layer_gradient(gradient: Array, relevance: Array, layout: Layout, *, layer: int) -> TokenMap:
    """map = e E_h[(G_layer * R_layer)+] (Chefer et al. CVPR 2021, equation 13 for one layer)."""
    return _read_layer(_positive(gradient[layer] * relevance[layer]), layout)


def normalised(matrix: Matrix) -> Matrix:
    """rownorm(F + I) of a non-negative F."""
    with_residual = matrix + np.eye(len(matrix))
    return np.asarray(with_residual / with_residual.sum(axis=1, keepdims=True))


def _from_top(tensor: Array, start_layer: int) -> Array:
    """The layers L, ..., s."""
    return tensor[start_layer:][::-1]


def _fuse_heads(layer: Array, head_fusion: str) -> Matrix:
    """[heads, N, N] to a fresh float64 [N, N]."""
    return np.asarray(HEAD_FUSIONS[head_fusion](layer, axis=0), dtype=np.float64)


def _positive(array: Any) -> Any:
    """(.)+, in place."""
    return np.maximum(array, 0, out=array)


def _head_weights(gradient: Array, norm: str) -> NDArray[np.float64]:
    """The share of each head in the norms of a layer's gradient [heads, N, N]."""
    norms = np.linalg.norm(gradient.reshape(len(gradient), -1).astype(np.float64), ord=NORMS[norm], axis=1)
    total = norms.sum()
    return np.asarray(norms / total if total > 0 else np.full_like(norms, 1 / len(norms)))


def _discard(matrix: Matrix, ratio: float, layout: Layout) -> Matrix:
    """Set to zero, in place, those of the floor(ratio N^2) lowest entries that are not in the CLS row or column.

    All N^2 entries are ranked, ties by position; protected entries (row 0 and column 0, if there are prefix tokens)
    count among the lowest but keep their value, as vit-explain's one protected element does.
    """
    flat = matrix.ravel()
    count = int(ratio * flat.size)
    if count == 0:
        return matrix
    threshold = np.partition(flat, count - 1)[count - 1]
    below = flat < threshold
    below[np.flatnonzero(flat == threshold)[: count - np.count_nonzero(below)]] = True
    lowest = below.reshape(matrix.shape)
    if layout.prefix_tokens > 0:
        lowest[0, :] = lowest[:, 0] = False
    matrix[lowest] = 0
    return matrix


def _roll_out(matrices: Iterable[Matrix], layout: Layout) -> TokenMap:
    """e rownorm(F_L + I) ... rownorm(F_s + I) for non-negative F, given from the top layer down."""
    row = layout.readout_row()
    for matrix in matrices:
        row = row / (matrix.sum(axis=1) + 1)  # e rownorm(M) = (e / row sums of M) M
        row = row @ matrix + row
    return layout.patches(row)


def _accumulate(layers: Iterable[Array], layout: Layout) -> TokenMap:
    """e (I + E_h[C_L]) ... (I + E_h[C_s]) for C [heads, N, N], given from the top layer down."""
    row = layout.readout_row()
    for layer in layers:
        row = row + row @ _fuse_heads(layer, "mean")
    return layout.patches(row)


def _read_layer(layer: Array, layout: Layout) -> TokenMap:
    """e E_h[C] for one layer's C [heads, N, N]."""
    return layout.patches(layout.readout_row() @ _fuse_heads(layer, "mean"))
