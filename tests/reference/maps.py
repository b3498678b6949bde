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
