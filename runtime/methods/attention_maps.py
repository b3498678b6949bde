"""The functions behind the methods that need one run of the graph: from its outputs to a map.

They are written against the Python array API (data-apis.org/array-api, 2023.12), so that they run on NumPy arrays, in
the runtime, and on tensors, when export makes them a part of the graph. All arrays may have leading axes, such as batch
and targets, which broadcast against each other; below, ... stands for them.

Every function takes the outputs that its row in METHODS names, and its parameters by name. Those that go through
attention take a reduction, [..., layers, N, N] unless stated otherwise, the readout row `readout` [..., N], and the
token `Layout`, and return the token map [..., h, w] in the dtype of `readout`, in which they compute. Those of pixels
take `pixels`, the model's input [..., 3, H, W], as well and return [..., H, W] in the dtype of `pixels`.

In the formulas A, G, R are attention, d logit / d A and the relevance of A, E_h is the mean over heads, (.)+ the
positive part, * the product of entries, L the last and s the start layer, and e the readout row. A product P of
per-layer matrices is read as `e P`: the row goes through the layers from the top, and nothing N x N is ever multiplied.
"""

from collections.abc import Iterator
from typing import Any

from onnxplain.contract.layout import Layout

Array = Any
"""A NumPy array or a tensor."""


def array_namespace(array: Array) -> Any:
    """The functions of the array API for arrays of this kind; tensors need array-api-compat, which export installs."""
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    from array_api_compat import array_namespace as namespace

    return namespace(array)


def rollout(fused: Array, readout: Array, layout: Layout, *, discard_ratio: float, start_layer: int) -> Array:
    """M_l = rownorm(F_l + I), map = e M_L ... M_s (Abnar & Zuidema 2020, section 3; vit-explain).

    `fused`: F = fuse_h(A), non-negative. `discard_ratio`: see `_discard`.
    """
    xp = array_namespace(fused)
    row = xp.clip(readout, min=0)  # of a pool: its F, which can be negative where the caller clips `fused`
    for layer in _from_top(fused, start_layer, readout):
        matrix = _discard(layer, discard_ratio, layout)
        row = row / (xp.sum(matrix, axis=-1) + 1)  # e rownorm(M) = (e / row sums of M) M
        row = _times(row, matrix) + row
    return layout.patches(row)


def grad_rollout(fused: Array, readout: Array, layout: Layout, *, discard_ratio: float, start_layer: int) -> Array:
    """M_l = rownorm((F_l)+ + I), map = e M_L ... M_s (after vit-explain, each layer with its own G).

    `fused`: F = fuse_h(G * A). `discard_ratio`: see `_discard`; it acts on the positive part.
    """
    positive = array_namespace(fused).clip(fused, min=0)
    return rollout(positive, readout, layout, discard_ratio=discard_ratio, start_layer=start_layer)


def gmar(weighted: Array, readout: Array, layout: Layout, *, start_layer: int) -> Array:
    """M_l = rownorm(W_l + I), map = e M_L ... M_s (GMAR 2025).

    `weighted`: W = sum_h w_h A[h], w_h the share of head h in the norms of G, which the graph computes.
    """
    return rollout(weighted, readout, layout, discard_ratio=0.0, start_layer=start_layer)


def accumulated(contributions: Array, readout: Array, layout: Layout, *, start_layer: int) -> Array:
    """map = e (I + C_L) ... (I + C_s), not row-normalised.

    `contributions`: C = E_h[(G * R)+] for transformer_attribution (Chefer et al. CVPR 2021, equations 13 and 14),
    E_h[(R)+] for relevance_rollout (the same without gradient), E_h[(G * A)+] for generic_attention, where
    P = I, P <- P + C_l P for l = s..L says the same (Chefer et al. ICCV 2021, equations 5 and 6).
    """
    row = readout
    for matrix in _from_top(contributions, start_layer, readout):
        row = row + _times(row, matrix)
    return layout.patches(row)


def single_layer(contributions: Array, readout: Array, layout: Layout, *, layer: int) -> Array:
    """map = e C_layer (baselines of Chefer et al. CVPR 2021, section 4).

    `contributions`: C = E_h[A] for raw_attention, E_h[(R)+] for last_layer, E_h[(G * R)+] for last_layer_gradient.
    """
    return layout.patches(_times(readout, _in_dtype_of(readout, contributions[..., layer, :, :])))


def attention_gradcam(row: Array, readout: Array, layout: Layout) -> Array:
    """map = (E_h[w_h a_h])+, a_h = e A_L[h], w_h the mean of e G_L[h] over the patches.

    GradCAM on the readout row of the last attention, the baseline of Chefer et al. CVPR 2021, section 4.
    `row`: E_h[w_h a_h] over all tokens, [..., N].
    """
    return layout.patches(array_namespace(row).clip(_in_dtype_of(readout, row), min=0))


def legrad(columns: Array, readout: Array, layout: Layout, *, layers: int) -> Array:
    """map = sum over layers of the mean over heads and query rows of (d s_l / d A_l)+ (LeGrad 2024, section 3).

    s_l is the target's score computed from layer l as if it were the last. `columns`: those means, [..., layers, N].
    `layers`: how many of the last ones count, 0 for all.
    """
    last = _in_dtype_of(readout, columns[..., -layers:, :])
    return layout.patches(array_namespace(columns).sum(last, axis=-2))


def token_output(values: Array, readout: Array, layout: Layout) -> Array:
    """A token map that the graph itself computes, [..., h, w].

    For vit_reciprocam: the target's logit where the last block sees only what is around that patch.
    """
    return array_namespace(values).astype(values, readout.dtype)


def pixel_output(values: Array, pixels: Array) -> Array:
    """A pixel map that the graph itself computes, [..., H, W]: relevance summed over the channels."""
    return array_namespace(values).astype(values, pixels.dtype)


def gradient(gradient: Array, pixels: Array) -> Array:
    """map = sum_c d logit / d x_c; `gradient`: [..., 3, H, W]."""
    return array_namespace(gradient).sum(_in_dtype_of(pixels, gradient), axis=-3)


def input_x_gradient(gradient: Array, pixels: Array) -> Array:
    """map = sum_c x_c d logit / d x_c, x as the model sees it; `gradient`: [..., 3, H, W]."""
    return array_namespace(gradient).sum(pixels * gradient, axis=-3)


def _times(row: Array, matrix: Array) -> Array:
    """[..., N] times [..., N, N]."""
    return (row[..., None, :] @ matrix)[..., 0, :]


def _in_dtype_of(like: Array, array: Array) -> Array:
    return array_namespace(array).astype(array, like.dtype, copy=False)


def _from_top(tensor: Array, start_layer: int, readout: Array) -> Iterator[Array]:
    """The layers L, ..., s, each [..., N, N], one at a time in the dtype of `readout`."""
    for layer in reversed(range(start_layer, tensor.shape[-3])):
        yield _in_dtype_of(readout, tensor[..., layer, :, :])


def _discard(matrix: Array, ratio: float, layout: Layout) -> Array:
    """Set to zero those of the floor(ratio N^2) lowest entries that are not in the CLS row or column.

    All N^2 entries are ranked, ties by position; protected entries (row 0 and column 0, if there are prefix tokens)
    count among the lowest but keep their value, as vit-explain's one protected element does.
    """
    size = layout.tokens
    count = int(ratio * size * size)
    if count == 0:
        return matrix
    xp = array_namespace(matrix)
    flat = xp.reshape(matrix, (*matrix.shape[:-2], size * size))
    threshold = xp.sort(flat, axis=-1)[..., count - 1 : count]
    below, equal = flat < threshold, flat == threshold
    left = count - xp.sum(xp.astype(below, xp.int64), axis=-1, keepdims=True)
    lowest = below | (equal & (xp.cumulative_sum(xp.astype(equal, xp.int64), axis=-1) <= left))
    lowest = xp.reshape(lowest, matrix.shape)
    if layout.prefix_tokens > 0:
        later = xp.arange(size, device=matrix.device) > 0
        lowest = lowest & later & later[:, None]
    return xp.where(lowest, xp.zeros_like(matrix), matrix)
