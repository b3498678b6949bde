"""The table of Chefer's relevance rules: the share of a value is its LRP relevance.

Chefer, Gur & Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR 2021, with alpha = 1, beta = 0.
``r`` is the relevance of the output ``y``, [targets, *y.shape]. Constants and biases get nothing: what is added to or
multiplied by a constant receives all of ``r``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .movement import MOVEMENT, spread
from .reverse import Call, Rule, Table, first, unbroadcast

aten = torch.ops.aten

EPSILON = 1e-9


def divide(r: Tensor, z: Tensor) -> Tensor:
    """r / (z + epsilon), and 0 where z is 0; what concerns z alone is computed once for all targets."""
    return r / torch.where(z == 0, torch.inf, z + EPSILON)


def _linear(r: Tensor, y: Tensor, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """The alpha = 1 rule, Z = x+ W+' + x- W-', R_x = x+ (S W+) + x- (S W-), S = R / Z, in three matrix products.

    x W' is the sum of all four sign pairs and |x| |W|' the same sum with the mixed pairs negated. So half their sum is
    Z, and the same holds on the way back. The product for Z does not depend on the target. Where no product of an input
    and a weight is positive, the two halves cancel to rounding noise, not to 0: that is told by its size.
    """
    plain = y if b is None else y - b
    magnitude = x.abs() @ w.abs().mT
    z = (plain + magnitude) / 2
    s = r / torch.where(z > 16 * torch.finfo(z.dtype).eps * magnitude, z + EPSILON, torch.inf)
    return (x * (s @ w) + x.abs() * (s @ w.abs())) / 2


def _pass_on(r: Tensor, y: Tensor, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return unbroadcast(r, x).to(x.dtype)


def _two_sided(
    both: Callable[..., tuple[Tensor, Tensor]],
    left: Callable[..., Tensor] = _pass_on,
    right: Callable[..., Tensor] = _pass_on,
) -> Rule:
    """``both(r, y, a, b)`` where both vary, ``left(r, y, a, b)`` or ``right(r, y, b, a)`` where only a or b does."""

    def rule(r: Tensor, call: Call) -> list[Tensor | None]:
        a, b = call.args
        if all(call.varies):
            shares = both(r, call.out, a, b, **call.kwargs)
            return [unbroadcast(share, x) for share, x in zip(shares, (a, b), strict=True)]
        if call.varies[0]:
            return [unbroadcast(left(r, call.out, a, b), a), None]
        return [None, unbroadcast(right(r, call.out, b, a), b)]

    return rule


def _matmul(r: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """R_A = A * (S B') / 2, R_B = B * (A' S) / 2, S = R / (A B)."""
    s = divide(r, y)
    return a * (s @ b.mT) / 2, b * (a.mT @ s) / 2


def _residual(r: Tensor, y: Tensor, a: Tensor, b: Tensor, alpha: float = 1) -> tuple[Tensor, Tensor]:
    """a R / (a + b) and b R / (a + b), scaled to keep the sum of R in the ratio of their absolute sums.

    The sums are taken for each target and sample, so that an image's map does not depend on its neighbours.
    """
    s = divide(r, y)
    ra, rb = a * s, alpha * b * s
    dims = list(range(2, r.dim()))
    total, sum_a, sum_b = (t.sum(dims, keepdim=True) for t in (r, ra, rb))
    unit = divide(total, sum_a.abs() + sum_b.abs())
    return ra * divide(sum_a.abs() * unit, sum_a), rb * divide(sum_b.abs() * unit, sum_b)


def _sum(r: Tensor, y: Tensor, x: Tensor, dims: list[int], keepdim: bool = False, **_: Any) -> Tensor:
    """x R / sum(x)."""
    return x * divide(spread(r, x, dims, keepdim), x.sum(dims, keepdim=True))


def _mean(r: Tensor, y: Tensor, x: Tensor, dims: list[int], keepdim: bool = False, **_: Any) -> Tensor:
    """x R / (n mean(x)), with the small constant of the division added to the mean."""
    s = divide(spread(r, x, dims, keepdim), x.mean(dims, keepdim=True))
    return x * (s / math.prod(x.shape[dim] for dim in dims))


PASS_ON = (
    *(aten.softmax, aten._softmax, aten.layer_norm, aten.rms_norm),
    *(aten.gelu, aten.silu, aten.sigmoid, aten.tanh, aten.relu, aten.exp, aten.neg),
)

CHEFER: Table = {
    **MOVEMENT,
    **dict.fromkeys(PASS_ON, first(_pass_on)),
    aten.linear: first(_linear),
    **dict.fromkeys(
        (aten.matmul, aten.bmm),
        _two_sided(
            _matmul,
            lambda r, y, a, constant: _linear(r, y, a, constant.mT),
            lambda r, y, b, constant: _linear(r.mT, y.mT, b.mT, constant).mT,
        ),
    ),
    aten.add: _two_sided(_residual),
    aten.sub: _two_sided(lambda r, y, a, b, alpha=1: _residual(r, y, a, b, -alpha)),
    aten.mul: _two_sided(lambda r, y, a, b: (r / 2, r / 2)),
    aten.div: _two_sided(lambda r, y, a, b: (r / 2, r / 2)),
    aten.mean: first(_mean),
    aten.sum: first(_sum),
}
"""One entry an op."""
