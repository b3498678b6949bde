"""The table of AttnLRP: the vector-Jacobian products with a few entries replaced.

Achtibat et al., "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers", ICML 2024. The cotangent
``g`` of a value x is its relevance divided by x: relevance is input times cotangent. With the plain table of
vector-Jacobian products that would be input times gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..reverse import Call, Rule, Table, wrt_first
from .conv_and_pool import group_norm_rule, transposed_convolution
from .products import FLOAT, Products
from .vjp import DERIVATIVES, bilinear, gradient

aten = torch.ops.aten


def _secant(f: Callable[..., Tensor], derivative: Callable[..., Tensor]) -> Rule:
    """y = f(x) entry by entry keeps its relevance: g f(x) / x, and f'(0) where x is 0."""

    def rule(g: Tensor, y: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        slope = y / torch.where(x == 0, 1, x)
        return g * torch.where(x == 0, derivative(f(zero, *args, **kwargs), zero, *args, **kwargs), slope)

    return wrt_first(rule)


def _halved(rule: Rule) -> Rule:
    """A product of two values that both vary: half of the relevance to each (equation 13)."""

    def half(g: Tensor, call: Call) -> list[Tensor | None]:
        results = rule(g, call)
        return [result / 2 for result in results] if all(call.varies) else list(results)

    return half


def _layer_norm(
    g: Tensor, y: Tensor, x: Tensor, shape: list[int], w: Tensor | None = None, b: Tensor | None = None,
    eps: float = 1e-5, *_: Any,
) -> Tensor:  # fmt: skip
    """The standard deviation is held constant: (gw - mean(gw)) / sigma, with gw = g w."""
    dims = tuple(range(-len(shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    inverse = torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)
    gw = g if w is None else g * w
    return (gw - gw.mean(dims, keepdim=True)) * inverse


def _rms_norm(
    g: Tensor, y: Tensor, x: Tensor, shape: list[int], w: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """The root of the mean square is held constant: gw / rms, with gw = g w."""
    square = (x * x).mean(tuple(range(-len(shape), 0)), keepdim=True)
    return (g if w is None else g * w) * torch.rsqrt(square + (torch.finfo(x.dtype).eps if eps is None else eps))


def _gamma_rule(
    gamma: float, g: Tensor, y: Tensor, x: Tensor, w: Any, b: Tensor | None,
    forward: Callable[[Tensor, Any, Tensor | None], Tensor], back: Callable[[Tensor, Any], Tensor],
) -> Tensor:  # fmt: skip
    """The gamma rule of layers y = sum_i f_i + b with f_i = x_i w_i (Montavon et al. 2019, for either sign of y).

    Input i gets (f_i + gamma f_i+) / (y + gamma (sum f+ + b+)) of the relevance where y > 0, and the same with f- and
    b- where y < 0: contributions that agree with the output are favoured, that of the bias as well, which keeps its
    share. With f+ = (f + |f|) / 2 and f- = (f - |f|) / 2 the denominator is (1 + gamma / 2) y + sign(y) gamma / 2
    (sum |f| + |b|), and with one quotient s the input gets x_i s (1 + gamma / 2) w_i + |x_i| s sign(y) gamma / 2 |w_i|.

    Args:
        gamma: How much they are favoured.
        g: The cotangent of y.
        y: The output.
        x: The input.
        w: The weight.
        b: The bias, if there is one.
        forward: (x, w, b) -> y.
        back: (s, w) -> the transpose of ``forward`` without b.
    """
    sign = y.sign()
    magnitude = forward(x.abs(), w.abs(), None if b is None else b.abs())
    total = (1 + gamma / 2) * y + gamma / 2 * sign * magnitude
    s = g * (y / torch.where(total == 0, torch.inf, total))
    return (1 + gamma / 2) * back(s, w) + gamma / 2 * x.sign() * back(s * sign, w.abs())


def attnlrp(gamma_conv: float = 0.0, gamma_linear: float = 0.0, products: Products = FLOAT) -> Table:
    """The table, with the gamma rule for convolutions and linear layers, or where its gamma is 0 the plain one."""
    plain = gradient(products)

    def linear(g: Tensor, y: Tensor, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        def forward(x: Tensor, w: Any, b: Tensor | None) -> Tensor:
            magnitude = products.forward(x, w)
            return magnitude if b is None else magnitude + b

        def back(s: Tensor, w: Any) -> Tensor:
            return products.back(s, w, None)

        return _gamma_rule(gamma_linear, g, y, x, products.weight(w), b, forward, back)

    def convolution(g: Tensor, y: Tensor, x: Tensor, w: Tensor, b: Tensor | None = None, *geometry: Any) -> Tensor:
        def forward(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
            return nn.functional.conv2d(x, w, b, *geometry)

        return _gamma_rule(gamma_conv, g, y, x, w, b, forward, lambda s, w: transposed_convolution(s, x, w, *geometry))

    return {
        **plain,
        **{op: _secant(op, derivative) for op, derivative in DERIVATIVES.items()},
        **{op: _halved(plain[op]) for op in (aten.matmul, aten.bmm, aten.mul)},
        aten.div: bilinear(lambda g, y, a, b: g / b, lambda g, y, a, b: torch.zeros_like(g)),
        aten.layer_norm: wrt_first(_layer_norm),
        aten.rms_norm: wrt_first(_rms_norm),
        aten.group_norm: wrt_first(group_norm_rule(_layer_norm)),
        **({aten.linear: wrt_first(linear)} if gamma_linear else {}),
        **({aten.conv2d: wrt_first(convolution)} if gamma_conv else {}),
    }
