"""Chefer's relevance rules on whole tensors, structured as the published algorithm (CVPR 2021) does them.

All tensors are [B, …]: sums that normalise are per image. `rules` holds the element-by-element versions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-9


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / (denominator + 1e-9), and 0 where the denominator is 0."""
    quotient = numerator / (denominator + EPSILON)
    return torch.where(denominator == 0, torch.zeros_like(quotient), quotient)


def _linear_branch(x1: Tensor, x2: Tensor, w1: Tensor, w2: Tensor, relevance: Tensor) -> Tensor:
    """x1 (S W1) + x2 (S W2) with one shared S = R / (x1 W1' + x2 W2'): four matrix products."""
    z1, z2 = F.linear(x1, w1), F.linear(x2, w2)
    s = safe_divide(relevance, z1 + z2)
    return x1 * (s @ w1) + x2 * (s @ w2)


def linear(x: Tensor, weight: Tensor, relevance: Tensor, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
    """Alpha-beta rule for y = x W' + b: R_x = alpha * (x+ W+, x- W-) - beta * (x+ W-, x- W+).

    x [..., in], weight [out, in], relevance [..., out]. The bias gets nothing. Both branches are computed whatever
    beta is, as in the published algorithm: eight matrix products.
    """
    x_plus, x_minus = x.clamp(min=0), x.clamp(max=0)
    w_plus, w_minus = weight.clamp(min=0), weight.clamp(max=0)
    active = _linear_branch(x_plus, x_minus, w_plus, w_minus, relevance)
    inhibiting = _linear_branch(x_plus, x_minus, w_minus, w_plus, relevance)
    return alpha * active - beta * inhibiting


def matmul(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Z = A B: R_A = A * (S B') / 2, R_B = B * (A' S) / 2, S = R / Z."""
    s = safe_divide(relevance, a @ b)
    return a * (s @ b.transpose(-2, -1)) / 2, b * (a.transpose(-2, -1) @ s) / 2


def _sum_per_image(x: Tensor) -> Tensor:
    return x.sum(dim=tuple(range(1, x.ndim)), keepdim=True)


def add(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of two activations: a R / (a + b) and b R / (a + b), then rescaled image by image.

    With s_a, s_b the two parts' sums over an image, part a is scaled to |s_a| / (|s_a| + |s_b|) * sum R, b likewise.
    """
    s = safe_divide(relevance, a + b)
    part_a, part_b = a * s, b * s
    sum_a, sum_b, total = _sum_per_image(part_a), _sum_per_image(part_b), _sum_per_image(relevance)
    both = sum_a.abs() + sum_b.abs()
    share_a, share_b = safe_divide(sum_a.abs(), both) * total, safe_divide(sum_b.abs(), both) * total
    return part_a * safe_divide(share_a, sum_a), part_b * safe_divide(share_b, sum_b)


def add_many(parts: list[Tensor], relevance: Tensor) -> list[Tensor]:
    """Sum over a stacked axis, z = sum_i x_i: R_i = x_i R / z (a reduction, hence no rescaling)."""
    s = safe_divide(relevance, torch.stack(parts).sum(dim=0))
    return [part * s for part in parts]


def mean_tokens(x: Tensor, relevance: Tensor) -> Tensor:
    """Mean over n tokens, m = mean(x): R_x = x * S / n, S = R / m. x [B, n, D], relevance [B, D]."""
    s = safe_divide(relevance, x.mean(dim=1))
    return x * s[:, None] / x.shape[1]


def product(relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Elementwise product of two activations: half to each factor."""
    return relevance / 2, relevance / 2


def patches_z_b(x: Tensor, weight: Tensor, stride: tuple[int, int], relevance: Tensor) -> Tensor:
    """z-B rule for the first convolution, R_x [B, C, H, W] of relevance [B, D, h, w]; the bias gets nothing.

    Z = x * W - l * W+ - u * W- (convolutions), with l and u the image's own minimum and maximum everywhere, S = R / Z,
    R_x = x (S *' W) - l (S *' W+) - u (S *' W-). Montavon et al. 2017, the box rule.
    """
    low = x.amin(dim=(1, 2, 3), keepdim=True).expand_as(x)
    high = x.amax(dim=(1, 2, 3), keepdim=True).expand_as(x)
    w_plus, w_minus = weight.clamp(min=0), weight.clamp(max=0)
    terms = ((x, weight), (-low, w_plus), (-high, w_minus))
    z = torch.stack([F.conv2d(values, w, stride=stride) for values, w in terms]).sum(dim=0)
    s = safe_divide(relevance, z)
    return torch.stack([values * F.conv_transpose2d(s, w, stride=stride) for values, w in terms]).sum(dim=0)
