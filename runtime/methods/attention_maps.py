"""The functions behind the methods that need one run of the graph: pure NumPy, from its outputs to a map.

Every function takes the outputs that its row in METHODS names, for one image and one target, and its parameters by
name. Those that go through attention take a reduction, [layers, N, N] unless stated otherwise, and the
token `Layout`, and return the token map, float64 [h, w]. Those of pixels take `pixels`, the model's input [3, H, W], as
well and return float64 [H, W]. In the formulas A, G, R are attention, d logit / d A and the relevance of
A, E_h is the mean over heads, (.)+ the positive part, * the product of entries, L the last and s the start layer, and e
the readout row. A product P of per-layer matrices is read as `e P`: the row goes through the layers from the top, and
nothing N x N is ever multiplied.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.layout import Layout

Array = NDArray[np.floating[Any]]
Matrix = NDArray[np.float64]
TokenMap = NDArray[np.float64]
PixelMap = NDArray[np.float64]


def rollout(fused: Array, layout: Layout, *, discard_ratio: float, start_layer: int) -> TokenMap:
    """M_l = rownorm(F_l + I), map = e M_L ... M_s (Abnar & Zuidema 2020, section 3; vit-explain).

    `fused`: F = fuse_h(A), non-negative. `discard_ratio`: see `_discard`.
    """
    row = np.maximum(layout.readout_row(), 0)  # of a pool: its F, which can be negative where the caller clips `fused`
    for layer in _from_top(fused, start_layer):
        matrix = _discard(layer.astype(np.float64), discard_ratio, layout)
        row = row / (matrix.sum(axis=1) + 1)  # e rownorm(M) = (e / row sums of M) M
        row = row @ matrix + row
    return layout.patches(row)


def grad_rollout(fused: Array, layout: Layout, *, discard_ratio: float, start_layer: int) -> TokenMap:
    """M_l = rownorm((F_l)+ + I), map = e M_L ... M_s (after vit-explain, each layer with its own G).

    `fused`: F = fuse_h(G * A). `discard_ratio`: see `_discard`; it acts on the positive part.
    """
    return rollout(np.maximum(fused, 0), layout, discard_ratio=discard_ratio, start_layer=start_layer)


def gmar(weighted: Array, layout: Layout, *, start_layer: int) -> TokenMap:
    """M_l = rownorm(W_l + I), map = e M_L ... M_s (GMAR 2025).

    `weighted`: W = sum_h w_h A[h], w_h the share of head h in the norms of G, which the graph computes.
    """
    return rollout(weighted, layout, discard_ratio=0.0, start_layer=start_layer)


def accumulated(contributions: Array, layout: Layout, *, start_layer: int) -> TokenMap:
    """map = e (I + C_L) ... (I + C_s), not row-normalised.

    `contributions`: C = E_h[(G * R)+] for transformer_attribution (Chefer et al. CVPR 2021, equations 13 and 14),
    E_h[(R)+] for relevance_rollout (the same without gradient), E_h[(G * A)+] for generic_attention, where
    P = I, P <- P + C_l P for l = s..L says the same (Chefer et al. ICCV 2021, equations 5 and 6).
    """
    row = layout.readout_row()
    for matrix in _from_top(contributions, start_layer):
        row = row + row @ matrix
    return layout.patches(row)


def single_layer(contributions: Array, layout: Layout, *, layer: int) -> TokenMap:
    """map = e C_layer (baselines of Chefer et al. CVPR 2021, section 4).

    `contributions`: C = E_h[A] for raw_attention, E_h[(R)+] for last_layer, E_h[(G * R)+] for last_layer_gradient.
    """
    return layout.patches(layout.readout_row() @ contributions[layer])


def attention_gradcam(row: Array, layout: Layout) -> TokenMap:
    """map = (E_h[w_h a_h])+, a_h = e A_L[h], w_h the mean of e G_L[h] over the patches.

    GradCAM on the readout row of the last attention, the baseline of Chefer et al. CVPR 2021, section 4.
    `row`: E_h[w_h a_h] over all tokens, [N].
    """
    return layout.patches(np.maximum(row, 0, dtype=np.float64))


def legrad(columns: Array, layout: Layout, *, layers: int) -> TokenMap:
    """map = sum over layers of the mean over heads and query rows of (d s_l / d A_l)+ (LeGrad 2024, section 3).

    s_l is the target's score computed from layer l as if it were the last. `columns`: those means, [layers, N].
    `layers`: how many of the last ones count, 0 for all.
    """
    return layout.patches(columns[-layers:].sum(axis=0, dtype=np.float64))


def token_output(values: Array, layout: Layout) -> TokenMap:
    """A token map that the graph itself computes, [h, w].

    For vit_reciprocam: the target's logit where the last block sees only what is around that patch.
    """
    return values.astype(np.float64)


def pixel_output(values: Array, pixels: Array) -> PixelMap:
    """A pixel map that the graph itself computes, [H, W]: relevance summed over the channels."""
    return values.astype(np.float64)


def gradient(gradient: Array, pixels: Array) -> PixelMap:
    """map = sum_c d logit / d x_c; `gradient`: [3, H, W]."""
    return np.asarray(gradient.sum(axis=0, dtype=np.float64))


def input_x_gradient(gradient: Array, pixels: Array) -> PixelMap:
    """map = sum_c x_c d logit / d x_c, x as the model sees it; `gradient`: [3, H, W]."""
    return np.asarray((pixels.astype(np.float64) * gradient).sum(axis=0))


def normalised(matrix: Matrix) -> Matrix:
    """rownorm(F + I) of a non-negative F."""
    with_residual = matrix + np.eye(len(matrix))
    return np.asarray(with_residual / with_residual.sum(axis=1, keepdims=True))


def _from_top(tensor: Array, start_layer: int) -> Array:
    """The layers L, ..., s."""
    return tensor[start_layer:][::-1]


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
