"""Views without a class, slowly and in float64: by a written-out softmax, a forward hook and scikit-learn."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn

from .eager import explicit_attention
from .features import features

Array = NDArray[np.float64]


@torch.no_grad()
def heads(model: nn.Module, pixels: Tensor, layer: int, rows: list[int], grid: tuple[int, int]) -> Array:
    """The attention of each head of a layer from the mean of `rows` to the patches, [heads, h, w], for one image.

    Of an attention pool, the only row is 0; `layer` counts it as the last one.
    """
    with explicit_attention() as recorded:
        model(pixels[None])
    matrices = recorded[layer][0]  # [heads, rows, tokens]
    found = []
    for matrix in matrices:
        mean = sum(matrix[row] for row in rows) / len(rows)
        found.append(mean[-grid[0] * grid[1] :].reshape(grid).numpy())
    return np.stack(found)


def patch_features(model: nn.Module, pixels: Tensor, prefix: int) -> Array:
    """The features of patches, [images, patches, width]."""
    return np.asarray(features(model, pixels)[:, prefix:].numpy())


def colours(patches: Array, grid: tuple[int, int]) -> tuple[Array, Array, Array]:
    """DINOv2's recipe on patches [images, n, width]: the first component, the foreground, and red, green and blue."""
    count = len(patches)
    flat = patches.reshape(-1, patches.shape[-1])
    first = PCA(1, svd_solver="full").fit_transform(flat)[:, 0].reshape(count, *grid)
    at_border = [
        first[image, y, x]
        for image in range(count)
        for y in range(grid[0])
        for x in range(grid[1])
        if y in (0, grid[0] - 1) or x in (0, grid[1] - 1)
    ]
    if np.mean(at_border) > 0:
        first = -first
    foreground = first.ravel() > 0
    fitted = PCA(3, svd_solver="full").fit(flat[foreground])
    rgb = np.zeros((len(flat), 3))
    for number, axis in enumerate(fitted.components_):
        sign = 1 if axis[np.abs(axis).argmax()] > 0 else -1
        values = sign * fitted.transform(flat[foreground])[:, number]
        rgb[foreground, number] = (values - values.min()) / (values.max() - values.min())
    return first, foreground.reshape(count, *grid), rgb.reshape(count, *grid, 3)
