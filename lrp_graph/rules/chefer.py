"""The table of Chefer's relevance rules: the cotangent of a value is its LRP relevance.

Chefer, Gur & Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR 2021.
``r`` is the relevance of the output ``y``, [targets, *y.shape]. Constants and biases get nothing: what is added to or
multiplied by a constant receives all of ``r``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from onnxplain.contract.lrp_rules import RULES

from ..reverse import Call, Rule, Table, unbroadcast, wrt_first
from .conv_and_pool import avg_pool_vjp, max_pool_vjp, transposed_convolution
from .products import FLOAT, Products
from .shape_ops import SHAPE_OPS, restore_axes
from .vjp import DERIVATIVES

aten = torch.ops.aten

EPSILON = 1e-9

NEGLIGIBLE = 1e12
"""A divisor that makes a quotient negligible. A larger one could make it denormal, which slows down products."""

Layer = Callable[[Tensor, Any], Tensor]
"""forward(x, w), a linear layer without bias."""
Transpose = Callable[[Tensor, Any, Tensor | None], Tensor]
"""back(s, w, divisor): the layer's transpose of s / divisor, or of s where that is None."""

COLOURS = 3
"""A convolution whose input has so many channels reads the pixels."""


def divide(r: Tensor, z: Tensor) -> Tensor:
    """r / (z + epsilon), and 0 where z is 0; what concerns z alone is computed once for all targets."""
    return r / torch.where(z == 0, torch.inf, z + EPSILON)


def _large_where_negative(z: Tensor) -> Tensor:
    """Where z is negative a large positive number, -NEGLIGIBLE z, else z itself: what leaky_relu does.

    onnxruntime takes three times as long for torch.where.
    """
    return nn.functional.leaky_relu(z, -NEGLIGIBLE)


def alpha_beta(alpha: float, beta: float) -> Callable[..., Tensor]:
    """The rule of linear layers y = x W' + b (Bach et al. 2015, equation 60), in three matrix products.

    R_x = alpha (x+ (S W+) + x- (S W-)) - beta (x+ (T W-) + x- (T W+)), where S = R / (x+ W+' + x- W-') takes the
    positive products of an input and a weight, and T = R / (x+ W-' + x- W+') the negative ones.

    x W' is the sum of all four sign pairs and |x| |W|' the same sum with the mixed pairs negated. So their sum and
    their difference are twice the two denominators, and the same holds on the way back: the factors of two cancel. The
    product for the denominators does not depend on the target.

    Where no product has the sign asked for, what is left is rounding noise, not 0, and must not be divided by. So the
    plain product is taken for a little larger than it is, which makes that noise negative. Other denominators are off
    by as much: 32 roundings of half their difference from the other sign's, and to either side.
    """

    def rule(r: Tensor, plain: Tensor, x: Tensor, w: Any, forward: Layer, back: Transpose) -> Tensor:
        larger = (1 + 32 * torch.finfo(r.dtype).eps) * plain
        magnitude = forward(x.abs(), w.abs())
        positive = _large_where_negative(magnitude + larger) + 2 * EPSILON
        if not beta:
            return x * back(alpha * r, w, positive) + x.abs() * back(alpha * r, w.abs(), positive)
        s, t = alpha * r / positive, beta * r / (_large_where_negative(magnitude - larger) - 2 * EPSILON)
        return x * back(s + t, w, None) + x.abs() * back(s - t, w.abs(), None)

    return rule


def _linear(rule: Callable[..., Tensor], products: Products = FLOAT) -> Callable[..., Tensor]:
    """A rule for linear layers, given ``rule(r, y without bias, x, w, forward, back)``."""

    def linear(r: Tensor, y: Tensor, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        plain = y if b is None else y - b
        return rule(r, plain, x, products.weight(w), products.forward, products.back)

    return linear


def _convolution(rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A rule for convolutions, given ``rule(r, y without bias, x, w, forward, back)``."""

    def convolution(r: Tensor, y: Tensor, x: Tensor, w: Tensor, b: Tensor | None = None, *geometry: Any) -> Tensor:
        def forward(x: Tensor, w: Tensor) -> Tensor:
            return nn.functional.conv2d(x, w, None, *geometry)

        def back(s: Tensor, w: Tensor, divisor: Tensor | None) -> Tensor:
            return transposed_convolution(s if divisor is None else s / divisor, x, w, *geometry)

        plain = y if b is None else y - b[:, None, None]
        return rule(r, plain, x, w, forward, back)

    return convolution


def _of_pixels(r: Tensor, plain: Tensor, x: Tensor, w: Tensor, forward: Layer, back: Transpose) -> Tensor:
    """The z-B rule of the first layer, whose inputs lie in [l, h] (Montavon et al. 2017, equation 17).

    R_x = x C(S, W) - l C(S, W+) - h C(S, W-), S = R / (x * W - l * W+ - h * W-), where * is the layer, C is its
    transpose, and l and h are the image's own minimum and maximum, as in Chefer's code.
    """
    dims = tuple(range(1, x.dim()))
    low, high = x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
    positive, negative = w.clamp(min=0), w.clamp(max=0)
    one = torch.ones_like(x[:1])
    s = divide(r, plain - low * forward(one, positive) - high * forward(one, negative))
    return x * back(s, w, None) - low * back(s, positive, None) - high * back(s, negative, None)


def _pass_on(r: Tensor, y: Tensor, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """All relevance, unchanged."""
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
            ra, rb = both(r, call.out, a, b, **call.kwargs)
            return [unbroadcast(ra, a), unbroadcast(rb, b)]
        if call.varies[0]:
            return [unbroadcast(left(r, call.out, a, b), a), None]
        return [None, unbroadcast(right(r, call.out, b, a), b)]

    return rule


def _matmul(r: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """R_A = A * (S B') / 2, R_B = B * (A' S) / 2, S = R / (A B); onnxruntime halves as it multiplies."""
    s = divide(r, y)
    return a * (s @ b.mT * 0.5), b * (a.mT @ s * 0.5)


def _residual(r: Tensor, y: Tensor, a: Tensor, b: Tensor, alpha: float = 1) -> tuple[Tensor, Tensor]:
    """a R / (a + b) and b R / (a + b), scaled to keep the sum of R in the ratio of their absolute sums.

    The sums are taken for each target and sample, so that an image's map does not depend on its neighbours.
    """
    s = divide(r, y)
    ra, rb = a * s, alpha * b * s
    dims = list(range(2, r.dim()))
    # Row by row: in one go, onnxruntime is off by 6e-5 for a million numbers.
    total, sum_a, sum_b = (t.sum(-1, keepdim=True).sum(dims, keepdim=True) for t in (r, ra, rb))
    unit = divide(total, sum_a.abs() + sum_b.abs())
    return ra * divide(sum_a.abs() * unit, sum_a), rb * divide(sum_b.abs() * unit, sum_b)


def _sum(r: Tensor, y: Tensor, x: Tensor, dims: list[int], keepdim: bool = False, **_: Any) -> Tensor:
    """x R / sum(x)."""
    return x * divide(restore_axes(r, x, dims, keepdim), x.sum(dims, keepdim=True))


def _mean(r: Tensor, y: Tensor, x: Tensor, dims: list[int], keepdim: bool = False, **_: Any) -> Tensor:
    """x R / (n mean(x)), with the small constant of the division added to the mean."""
    s = divide(restore_axes(r, x, dims, keepdim), x.mean(dims, keepdim=True))
    return x * (s / math.prod(x.shape[dim] for dim in dims))


def _avg_pool(r: Tensor, y: Tensor, x: Tensor, *window: Any) -> Tensor:
    """x_i R / (n mean(x)) from each window of n that x_i is in."""
    return x * avg_pool_vjp(divide(r, y), x, *window)


PASS_ON = (
    *(aten.softmax, aten._softmax, aten.layer_norm, aten.rms_norm, aten.group_norm, aten.batch_norm),
    *(*DERIVATIVES, aten.neg),
)


def chefer(alpha: float = RULES["alpha"], beta: float = RULES["beta"], products: Products = FLOAT) -> Table:
    """The table, with these constants of the rule for linear layers and convolutions, see ``alpha_beta``.

    ``products`` are those of linear layers with weights.
    """
    rule = alpha_beta(alpha, beta)
    linear = _linear(rule)
    return {
        **SHAPE_OPS,
        **dict.fromkeys(PASS_ON, wrt_first(_pass_on)),
        aten.linear: wrt_first(_linear(rule, products)),
        aten.conv2d: wrt_first(_convolution(rule)),
        **dict.fromkeys(
            (aten.matmul, aten.bmm),
            _two_sided(
                _matmul,
                lambda r, y, a, constant: linear(r, y, a, constant.mT),
                lambda r, y, b, constant: linear(r.mT, y.mT, b.mT, constant).mT,
            ),
        ),
        aten.add: _two_sided(_residual),
        aten.sub: _two_sided(lambda r, y, a, b, alpha=1: _residual(r, y, a, b, -alpha)),
        aten.mul: _two_sided(lambda r, y, a, b: (r / 2, r / 2)),
        aten.div: _two_sided(lambda r, y, a, b: (r / 2, r / 2)),
        aten.mean: wrt_first(_mean),
        aten.sum: wrt_first(_sum),
        aten.avg_pool2d: wrt_first(_avg_pool),
        aten.max_pool2d: wrt_first(max_pool_vjp),
    }


def stem(alpha: float = RULES["alpha"], beta: float = RULES["beta"], products: Products = FLOAT) -> Table:
    """The table before the first block: position embeddings take part of the relevance, and pixels get theirs by z-B.

    A linear layer there is taken for the patch embedding.
    """

    def add(r: Tensor, call: Call) -> list[Tensor | None]:
        relevance = _residual(r, call.out, *call.args, **call.kwargs)
        sides = zip(relevance, call.args, call.varies, strict=True)
        return [unbroadcast(part, x) if varies else None for part, x, varies in sides]

    deeper = _convolution(alpha_beta(alpha, beta))

    def convolution(r: Tensor, y: Tensor, x: Tensor, *layer: Any) -> Tensor:
        return (_convolution(_of_pixels) if x.shape[1] == COLOURS else deeper)(r, y, x, *layer)

    return {
        **chefer(alpha, beta, products),
        aten.add: add,
        aten.conv2d: wrt_first(convolution),
        aten.linear: wrt_first(_linear(_of_pixels)),
    }
