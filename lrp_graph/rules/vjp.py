"""The table of vector-Jacobian products: the cotangent of a value is the gradient of the target logits by it.

``g`` is the cotangent of the output ``y``, [targets, *y.shape]. In formulas x' is a transpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..reverse import Call, Rule, Table, unbroadcast, wrt_first
from .conv_and_pool import avg_pool_vjp, batch_norm_vjp, group_norm_rule, max_pool_vjp, transposed_convolution
from .products import FLOAT, Products
from .shape_ops import SHAPE_OPS, from_right, restore_axes

aten = torch.ops.aten


def elementwise(derivative: Callable[..., Tensor]) -> Rule:
    """y = f(x) entry by entry: g f'(x), with ``derivative(y, x, *args)``."""
    return wrt_first(lambda g, y, *args, **kwargs: g * derivative(y, *args, **kwargs))


def bilinear(left: Callable[..., Tensor], right: Callable[..., Tensor]) -> Rule:
    """Ops y = f(a, b): ``left(g, y, a, b)`` where a varies, and ``right(g, y, a, b)`` where b does."""

    def rule(g: Tensor, call: Call) -> list[Tensor | None]:
        sides = zip((left, right), call.args, call.varies, strict=True)
        return [
            unbroadcast(side(g, call.out, *call.args, **call.kwargs), x) if varies else None
            for side, x, varies in sides
        ]

    return rule


TINY = 1e-20
"""Added to a number, it changes 0 only."""


def _gelu(y: Tensor, x: Tensor, approximate: str = "none") -> Tensor:
    """Hendrycks & Gimpel 2016: the exact form y = x Phi(x), or its tanh approximation y = x (1 + tanh(u)) / 2.

    Phi(x) is computed as y / x, which TINY makes a half where x is 0; its slope is exp(-x^2 / 2) / sqrt(2 pi).
    """
    if approximate == "none":
        cumulative = (y + TINY) / (x + 2 * TINY)
        return cumulative + x * torch.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    slope, cubic = math.sqrt(2 / math.pi), 0.044715 * math.sqrt(2 / math.pi)
    square = x * x
    t = torch.tanh(x * (slope + cubic * square))
    return 0.5 + 0.5 * (t + (1 - t * t) * x * (slope + 3 * cubic * square))


def _silu(y: Tensor, x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s + y * (1 - s)


def _hardswish(y: Tensor, x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, x / 3 + 0.5, (x >= 3).to(x.dtype))


def _softplus(y: Tensor, x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    return torch.where(x * beta > threshold, 1.0, torch.sigmoid(x * beta)).to(x.dtype)


def _softmax(g: Tensor, y: Tensor, x: Tensor, dim: int, *_: Any) -> Tensor:
    gy = g * y
    return (gy - y * gy.sum(from_right(dim, x), keepdim=True)).to(x.dtype)


def _layer_norm(
    g: Tensor, y: Tensor, x: Tensor, shape: list[int], w: Tensor | None = None, b: Tensor | None = None,
    eps: float = 1e-5, *_: Any,
) -> Tensor:  # fmt: skip
    """dx = (gw - mean(gw) - c mean(gw c) / sigma^2) / sigma, with c = x - mean(x) and gw = g w."""
    dims = tuple(range(-len(shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    inverse = torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)
    gw = g if w is None else g * w
    along = (gw * centred).mean(dims, keepdim=True) * (inverse * inverse)
    return (gw - gw.mean(dims, keepdim=True) - centred * along) * inverse


def _rms_norm(
    g: Tensor, y: Tensor, x: Tensor, shape: list[int], w: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """dx = (gw - x mean(gw x) / rms^2) / rms, with gw = g w."""
    dims = tuple(range(-len(shape), 0))
    inverse = torch.rsqrt((x * x).mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    gw = g if w is None else g * w
    return (gw - x * ((gw * x).mean(dims, keepdim=True) * (inverse * inverse))) * inverse


def _sum(g: Tensor, y: Tensor, x: Tensor, dims: list[int], keepdim: bool = False, **_: Any) -> Tensor:
    return restore_axes(g, x, dims, keepdim).expand(g.shape[0], *x.shape)


def _mean(g: Tensor, y: Tensor, x: Tensor, dims: list[int], keepdim: bool = False, **_: Any) -> Tensor:
    return _sum(g, y, x, dims, keepdim) / math.prod(x.shape[dim] for dim in dims)


def _convolution(g: Tensor, y: Tensor, x: Tensor, w: Tensor, b: Tensor | None = None, *geometry: Any) -> Tensor:
    return transposed_convolution(g, x, w, *geometry)


def _linear(products: Products) -> Rule:
    return wrt_first(lambda g, y, x, w, b=None: products.back(g, products.weight(w), None))


DERIVATIVES: dict[Any, Callable[..., Tensor]] = {
    aten.gelu: _gelu,
    aten.silu: _silu,
    aten.sigmoid: lambda y, x: y * (1 - y),
    aten.tanh: lambda y, x: 1 - y * y,
    aten.relu: lambda y, x: (x > 0).to(x.dtype),
    aten.exp: lambda y, x: y,
    aten.pow: lambda y, x, n: n * x ** (n - 1),
    aten.sqrt: lambda y, x: 0.5 / y,
    aten.rsqrt: lambda y, x: -0.5 * y / x,
    aten.hardswish: _hardswish,
    aten.softplus: _softplus,
}
"""By elementwise op y = f(x, *args): its derivative f'(x), as ``function(y, x, *args)``."""

GRADIENT: Table = {
    **SHAPE_OPS,
    **{op: elementwise(derivative) for op, derivative in DERIVATIVES.items()},
    aten.linear: _linear(FLOAT),
    aten.conv2d: wrt_first(_convolution),
    **dict.fromkeys((aten.matmul, aten.bmm), bilinear(lambda g, y, a, b: g @ b.mT, lambda g, y, a, b: a.mT @ g)),
    aten.add: bilinear(lambda g, y, a, b, alpha=1: g, lambda g, y, a, b, alpha=1: g * alpha),
    aten.sub: bilinear(lambda g, y, a, b, alpha=1: g, lambda g, y, a, b, alpha=1: -alpha * g),
    aten.mul: bilinear(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    aten.div: bilinear(lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    aten.mean: wrt_first(_mean),
    aten.sum: wrt_first(_sum),
    aten.softmax: wrt_first(_softmax),
    aten._softmax: wrt_first(_softmax),
    aten.layer_norm: wrt_first(_layer_norm),
    aten.rms_norm: wrt_first(_rms_norm),
    aten.neg: wrt_first(lambda g, y, x: -g),
    aten.group_norm: wrt_first(group_norm_rule(_layer_norm)),
    aten.batch_norm: wrt_first(batch_norm_vjp),
    aten.max_pool2d: wrt_first(max_pool_vjp),
    aten.avg_pool2d: wrt_first(lambda g, y, x, *window: avg_pool_vjp(g, x, *window)),
}
"""One entry for each op."""


def gradient(products: Products = FLOAT) -> Table:
    """The table, with these products of linear layers."""
    return GRADIENT if products is FLOAT else {**GRADIENT, aten.linear: _linear(products)}
