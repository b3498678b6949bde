"""Pixel-level and gradient-free methods as slow loops: one path point, one sample, one mask, one patch at a time.

`model` maps normalised pixels [B, 3, H, W] to logits [B, C]; `target` is one class per image, int64 [B]. Random numbers
are arguments, so that those of the product can be fed in.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .eager import target_logits
from .parts import parts

Model = Callable[[Tensor], Tensor]


def pixel_gradient(model: Model, pixels: Tensor, target: Tensor) -> Tensor:
    """d logit_target / d pixels, [B, 3, H, W]."""
    with torch.enable_grad():
        leaf = pixels.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(target_logits(model(leaf), target).sum(), leaf)
    return gradient


def gradient(model: Model, pixels: Tensor, target: Tensor) -> Tensor:
    """[B, H, W]: the sum over channels."""
    return pixel_gradient(model, pixels, target).sum(dim=1)


def input_x_gradient(model: Model, pixels: Tensor, target: Tensor) -> Tensor:
    """[B, H, W]: sum over channels of pixels * gradient."""
    return (pixels * pixel_gradient(model, pixels, target)).sum(dim=1)


def black(mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The normalised value of a black pixel, [3, 1, 1]; that of a mean pixel is 0."""
    return torch.tensor([(0 - m) / s for m, s in zip(mean, std, strict=True)], dtype=torch.float64)[:, None, None]


def integrated_gradients(
    model: Model, pixels: Tensor, target: Tensor, baseline: Tensor | float, steps: int = 32
) -> Tensor:
    """[B, H, W]: sum_c (x - b) mean_k grad(b + (k + 0.5) / steps (x - b)). Sundararajan et al. 2017, midpoint rule."""
    total = torch.zeros_like(pixels)
    for step in range(steps):
        total += pixel_gradient(model, baseline + (step + 0.5) / steps * (pixels - baseline), target)
    return ((pixels - baseline) * total / steps).sum(dim=1)


def smoothgrad(model: Model, pixels: Tensor, target: Tensor, draws: Sequence[Tensor], noise: float = 0.15) -> Tensor:
    """[B, H, W]: mean gradient at x + noise (max x - min x) z for standard normal draws z [3, H, W] or [B, 3, H, W].

    Smilkov et al. 2017. Maximum and minimum are each image's own.
    """
    spread = pixels.amax(dim=(1, 2, 3), keepdim=True) - pixels.amin(dim=(1, 2, 3), keepdim=True)
    total = torch.zeros_like(pixels[:, 0])
    for draw in draws:
        total += gradient(model, pixels + noise * spread * draw, target)
    return total / len(draws)


def rise_mask(cells: Sequence[Sequence[float]], offset: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A RISE mask [H, W]: the n x n grid of cells, bilinear to one cell more than the picture, cropped at `offset`.

    A cell has ceil(H / n) x ceil(W / n) pixels; sample positions are pixel centres, clamped at the border.
    """
    count = len(cells)
    cell = [math.ceil(length / count) for length in size]

    def place(pixel: int, pixels_per_cell: int) -> tuple[int, int, float]:
        position = (pixel + 0.5) * count / ((count + 1) * pixels_per_cell) - 0.5
        position = min(max(position, 0.0), count - 1.0)
        low = min(int(position), count - 2)
        return low, low + 1, position - low

    mask = torch.zeros(size, dtype=torch.float64)
    for y in range(size[0]):
        top, bottom, down = place(y + offset[0], cell[0])
        for x in range(size[1]):
            left, right, along = place(x + offset[1], cell[1])
            upper = (1 - along) * cells[top][left] + along * cells[top][right]
            lower = (1 - along) * cells[bottom][left] + along * cells[bottom][right]
            mask[y, x] = (1 - down) * upper + down * lower
    return mask


def rise(
    confidence: Callable[[Tensor], float], picture: Tensor, masks: Sequence[Tensor], probability: float = 0.5
) -> Tensor:
    """[H, W]: sum_i p(x * m_i) m_i / (masks * probability). Petsiuk et al. 2018.

    confidence: the target's probability for a picture [3, H, W] that is not normalised yet (0 is black).
    """
    total = torch.zeros_like(masks[0])
    for mask in masks:
        total += confidence(picture * mask) * mask
    return total / (len(masks) * probability)


def neighbourhood(centre: int, grid: tuple[int, int]) -> Tensor:
    """[h w]: 1 at the centre, exp(-d^2 / 2) in the 3 x 3 patches around it as far as they exist, 0 elsewhere."""
    weights = torch.zeros(grid, dtype=torch.float64)
    row, column = divmod(centre, grid[1])
    for y in range(max(row - 1, 0), min(row + 2, grid[0])):
        for x in range(max(column - 1, 0), min(column + 2, grid[1])):
            weights[y, x] = math.exp(-((y - row) ** 2 + (x - column) ** 2) / 2)
    return weights.flatten()


def vit_reciprocam(model: nn.Module, pixels: Tensor, target: Tensor) -> Tensor:
    """[B, h, w]: the target's logit when the last block's input keeps of the patches only one's neighbourhood.

    Byun & Lee 2023, arXiv 2310.02588. Prefix tokens are kept; one patch at a time.
    """
    cut = parts(model)
    columns = []
    with torch.no_grad():
        x = cut.embed(pixels)
        for block in cut.blocks[:-1]:
            x = block(x)
        for patch in range(cut.grid[0] * cut.grid[1]):
            weights = torch.cat((torch.ones(cut.prefix, dtype=x.dtype), neighbourhood(patch, cut.grid).to(x.dtype)))
            columns.append(target_logits(cut.head(cut.blocks[-1](x * weights[:, None])), target))
    return torch.stack(columns, dim=1).reshape(-1, *cut.grid)
