"""Token maps from the tensors of one image, written as their definitions stand, with full N x N matrices.

Inputs are [L, H, N, N] (NumPy arrays or detached CPU tensors); everything is computed in float64 NumPy. `readout` is
the row e [N]; `prefix` the number of tokens before the patches; `grid` = (h, w). Layers count from 0, so
`start_layer=s` uses layers s, …, L - 1. The result is [h, w].
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FUSIONS: dict[str, Callable[..., Array]] = {"mean": np.mean, "max": np.max, "min": np.min}


def fuse_heads(matrices: npt.ArrayLike, head_fusion: str = "mean") -> Array:
    """[H, N, N] -> [N, N]."""
    return np.asarray(FUSIONS[head_fusion](np.asarray(matrices, dtype=np.float64), axis=0))


def discard(matrix: Array, ratio: float, class_token: int | None = 0) -> Array:
    """Zero the lowest floor(ratio N^2) entries, except those among them in the class token's row or column."""
    size = matrix.shape[0]
    lowest = np.argsort(matrix, axis=None, kind="stable")[: int(ratio * size * size)]
    result = matrix.copy()
    for index in lowest:
        row, column = divmod(int(index), size)
        if class_token is None or class_token not in (row, column):
            result[row, column] = 0.0
    return result


def row_normalised(matrix: Array) -> Array:
    """Every row divided by its sum."""
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def read(matrices: list[Array], readout: npt.ArrayLike, prefix: int, grid: tuple[int, int]) -> Array:
    """e M_L ... M_s for [M_s, …, M_L], patch columns only, as [h, w]."""
    size = matrices[0].shape[0]
    total = np.eye(size)
    for matrix in matrices:
        total = matrix @ total
    return np.asarray((np.asarray(readout, dtype=np.float64) @ total)[prefix:].reshape(grid))


def rollout(
    attention: npt.ArrayLike,
    readout: npt.ArrayLike,
    prefix: int,
    grid: tuple[int, int],
    *,
    head_fusion: str = "mean",
    discard_ratio: float = 0.0,
    start_layer: int = 0,
    class_token: int | None = 0,
) -> Array:
    """M_l = rownorm(fuse_h(A_l) + I), map = e M_L ... M_s. Abnar & Zuidema 2020; vit-explain."""
    layers = np.asarray(attention, dtype=np.float64)[start_layer:]
    identity = np.eye(layers.shape[-1])
    fused = [discard(fuse_heads(layer, head_fusion), discard_ratio, class_token) for layer in layers]
    return read([row_normalised(matrix + identity) for matrix in fused], readout, prefix, grid)


def grad_rollout(
    attention: npt.ArrayLike,
    gradient: npt.ArrayLike,
    readout: npt.ArrayLike,
    prefix: int,
    grid: tuple[int, int],
    *,
    head_fusion: str = "mean",
    discard_ratio: float = 0.0,
    start_layer: int = 0,
    class_token: int | None = 0,
) -> Array:
    """F_l = (fuse_h(G_l * A_l))+, discarded as in rollout, M_l = rownorm(F_l + I), map = e M_L ... M_s."""
    weighted = np.asarray(attention, dtype=np.float64) * np.asarray(gradient, dtype=np.float64)
    identity = np.eye(weighted.shape[-1])
    matrices = []
    for layer in weighted[start_layer:]:
        fused = np.maximum(fuse_heads(layer, head_fusion), 0.0)
        matrices.append(row_normalised(discard(fused, discard_ratio, class_token) + identity))
    return read(matrices, readout, prefix, grid)


def transformer_attribution(
    gradient: npt.ArrayLike,
    relevance: npt.ArrayLike,
    readout: npt.ArrayLike,
    prefix: int,
    grid: tuple[int, int],
    *,
    start_layer: int = 0,
) -> Array:
    """C_l = mean_h (G_l * R_l)+, map = e (I + C_L) ... (I + C_s), not row-normalised. Chefer et al. CVPR 2021."""
    weighted = np.asarray(gradient, dtype=np.float64) * np.asarray(relevance, dtype=np.float64)
    identity = np.eye(weighted.shape[-1])
    matrices = [identity + fuse_heads(np.maximum(layer, 0.0)) for layer in weighted[start_layer:]]
    return read(matrices, readout, prefix, grid)


def gmar(
    attention: npt.ArrayLike,
    gradient: npt.ArrayLike,
    readout: npt.ArrayLike,
    prefix: int,
    grid: tuple[int, int],
    *,
    norm: str = "l1",
    start_layer: int = 0,
) -> Array:
    """w_h = norm(G_l[h]) / sum_h norm, M_l = rownorm(sum_h w_h A_l[h] + I), map = e M_L ... M_s. GMAR 2025."""
    matrices = []
    pairs = zip(np.asarray(attention, np.float64), np.asarray(gradient, np.float64), strict=True)
    for a, g in list(pairs)[start_layer:]:
        norms = [np.abs(head).sum() if norm == "l1" else np.sqrt((head**2).sum()) for head in g]
        fused = np.zeros_like(a[0])
        for size, head in zip(norms, a, strict=True):
            fused = fused + size / sum(norms) * head
        matrices.append(row_normalised(fused + np.eye(len(fused))))
    return read(matrices, readout, prefix, grid)


def raw_attention(
    attention: npt.ArrayLike, readout: npt.ArrayLike, prefix: int, grid: tuple[int, int], *, layer: int = -1
) -> Array:
    """e mean_h A_layer."""
    return read([fuse_heads(np.asarray(attention)[layer])], readout, prefix, grid)


def attention_gradcam(
    attention: npt.ArrayLike, gradient: npt.ArrayLike, readout: npt.ArrayLike, prefix: int, grid: tuple[int, int]
) -> Array:
    """Of the last layer's readout row, patches [h, w]: w_h = mean_ij g_h, map = (mean_h w_h a_h)+."""
    total = np.zeros(grid)
    heads = list(zip(np.asarray(attention)[-1], np.asarray(gradient)[-1], strict=True))
    for a, g in heads:
        weight = read([g.astype(np.float64)], readout, prefix, grid).mean()
        total += weight * read([a.astype(np.float64)], readout, prefix, grid) / len(heads)
    return np.maximum(total, 0.0)


def generic_attention(
    attention: npt.ArrayLike,
    gradient: npt.ArrayLike,
    readout: npt.ArrayLike,
    prefix: int,
    grid: tuple[int, int],
    *,
    start_layer: int = 0,
) -> Array:
    """P = I; P <- P + mean_h (G_l * A_l)+ P for l = s..L; map = e P. Chefer et al. ICCV 2021."""
    weighted = np.asarray(attention, dtype=np.float64) * np.asarray(gradient, dtype=np.float64)
    total = np.eye(weighted.shape[-1])
    for layer in weighted[start_layer:]:
        total = total + fuse_heads(np.maximum(layer, 0.0)) @ total
    return np.asarray((np.asarray(readout, dtype=np.float64) @ total)[prefix:].reshape(grid))


def relevance_rollout(
    relevance: npt.ArrayLike, readout: npt.ArrayLike, prefix: int, grid: tuple[int, int], *, start_layer: int = 0
) -> Array:
    """C_l = mean_h (R_l)+, map = e (I + C_L) ... (I + C_s), not row-normalised."""
    layers = np.asarray(relevance, dtype=np.float64)[start_layer:]
    identity = np.eye(layers.shape[-1])
    return read([identity + fuse_heads(np.where(layer > 0, layer, 0.0)) for layer in layers], readout, prefix, grid)


def last_layer(
    relevance: npt.ArrayLike,
    readout: npt.ArrayLike,
    prefix: int,
    grid: tuple[int, int],
    *,
    gradient: npt.ArrayLike = 1.0,
    layer: int = -1,
) -> Array:
    """e mean_h (R_layer)+, with a gradient e mean_h (G_layer * R_layer)+."""
    weighted = np.asarray(relevance, dtype=np.float64) * np.asarray(gradient, dtype=np.float64)
    return read([fuse_heads(np.where(weighted[layer] > 0, weighted[layer], 0.0))], readout, prefix, grid)


def legrad(layer_gradient: npt.ArrayLike, prefix: int, grid: tuple[int, int], *, layers: int | None = None) -> Array:
    """Sum over the last `layers` layers (None: all) of mean_h mean_rows (D_l)+, patches only. LeGrad 2024."""
    total = np.zeros(grid)
    tensors = np.asarray(layer_gradient, dtype=np.float64)
    for layer in tensors if layers is None else tensors[len(tensors) - layers :]:
        for head in layer:
            total += np.where(head > 0, head, 0.0).mean(axis=0)[prefix:].reshape(grid) / len(layer)
    return total


def attention_flow(attention: npt.ArrayLike, readout: npt.ArrayLike, prefix: int, grid: tuple[int, int]) -> Array:
    """Value of patch j = maximum flow, in float64, from a source that feeds the top tokens with e down to j.

    Edmonds & Karp: augment along a shortest path of the residual capacities until there is none.
    """
    layers = np.asarray(attention, dtype=np.float64)
    depth, size = len(layers), layers.shape[-1]
    source = (depth + 1) * size
    capacity = np.zeros((source + 1, source + 1))
    capacity[source, depth * size : source] = readout
    for number, layer in enumerate(layers):
        upper, lower = (number + 1) * size, number * size
        matrix = row_normalised(fuse_heads(layer) + np.eye(size))
        capacity[upper : upper + size, lower : lower + size] = matrix
    flows = [_maximum_flow(capacity.copy(), source, token) for token in range(prefix, size)]
    return np.asarray(flows).reshape(grid)


def _maximum_flow(residual: Array, source: int, sink: int) -> float:
    total = 0.0
    while True:
        before, queue = {source: source}, [source]
        for node in queue:
            for other in np.flatnonzero(residual[node] > 1e-12).tolist():
                if other not in before:
                    before[other] = node
                    queue.append(other)
        if sink not in before:
            return total
        path, node = [], sink
        while node != source:
            path.append((before[node], node))
            node = before[node]
        amount = min(float(residual[edge]) for edge in path)
        for upper, lower in path:
            residual[upper, lower] -= amount
            residual[lower, upper] += amount
        total += amount
