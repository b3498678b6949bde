"""The table of vector-Jacobian products: the share of a value is the gradient of the target logits by it.

``g`` is the share of the output ``y``, [targets, *y.shape].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .movement import MOVEMENT, from_right, spread
from .reverse import Call, Rule, Table, first, unbroadcast

aten = torch.ops.aten


def elementwise(derivative: Callable[..., Tensor]) -> Rule:
    """y = f(x) entry by entry: g f'(x), with ``derivative(y, x, *args)``."""
    return first(lambda g, y, *args, **kwargs: g * derivative(y, *args, **kwargs))


def bilinear(left: Callable[..., Tensor], right: Callable[..., Tensor]) -> Rule:
    """Ops of two arguments: one product for each that varies, with ``left(g, y, a, b)``."""

    def rule(g: Tensor, call: Call) -> list[Tensor | None]:
        sides = zip((left, right), call.args, call.varies, strict=True)
        return [
            unbroadcast(side(g, call.out, *call.args, **call.kwargs), x) if varies else None
            for side, x, varies in sides
        ]

    return rule


def _gelu(y: Tensor, x: Tensor, approximate: str = "none") -> Tensor:
    """Hendrycks & Gimpel 2016: the exact form x Phi(x), or its tanh approximation."""
    if approximate == "none":
        cumulative = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        return cumulative + x * torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    slope = math.sqrt(2 / math.pi)
    t = torch.tanh(slope * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope * (1 + 3 * 0.044715 * x * x)


def _silu(y: Tensor, x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def _softmax(g: Tensor, y: Tensor, x: Tensor, dim: int, *_: Any) -> Tensor:
    gy = g * y
    return (gy - y * gy.sum(from_right(dim, x), keepdim=True)).to(x.dtype)


def _layer_norm(
    g: Tensor, y: Tensor, x: Tensor, shape: list[int], w: Tensor | None = None, b: Tensor | None = None,
    eps: float = 1e-5, *_: Any,
) -> Tensor:  # fmt: skip
    """dx = (gw - mean(gw) - n mean(gw n)) / sigma, with n = (x - mean(x)) / sigma and gw = g w."""
    dims = tuple(range(-len(shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    inverse = torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)
    n = centred * inverse
    gw = g if w is None else g * w
    return (gw - gw.mean(dims, keepdim=True) - n * (gw * n).mean(dims, keepdim=True)) * inverse


def _rms_norm(
    g: Tensor, y: Tensor, x: Tensor, shape: list[int], w: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """dx = (gw - n mean(gw n)) / rms, with n = x / rms and gw = g w."""
    dims = tuple(range(-len(shape), 0))
    inverse = torch.rsqrt((x * x).mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps))
    n = x * inverse
    gw = g if w is None else g * w
    return (gw - n * (gw * n).mean(dims, keepdim=True)) * inverse


def _sum(g: Tensor, y: Tensor, x: Tensor, dims: list[int], keepdim: bool = False, **_: Any) -> Tensor:
    return spread(g, x, dims, keepdim).expand(g.shape[0], *x.shape)


def _mean(g: Tensor, y: Tensor, x: Tensor, dims: list[int], keepdim: bool = False, **_: Any) -> Tensor:
    return _sum(g, y, x, dims, keepdim) / math.prod(x.shape[dim] for dim in dims)


def _linear(g: Tensor, y: Tensor, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    return g @ w


GRADIENT: Table = {
    **MOVEMENT,
    aten.linear: first(_linear),
    **dict.fromkeys((aten.matmul, aten.bmm), bilinear(lambda g, y, a, b: g @ b.mT, lambda g, y, a, b: a.mT @ g)),
    aten.add: bilinear(lambda g, y, a, b, alpha=1: g, lambda g, y, a, b, alpha=1: g * alpha),
    aten.sub: bilinear(lambda g, y, a, b, alpha=1: g, lambda g, y, a, b, alpha=1: -alpha * g),
    aten.mul: bilinear(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    aten.div: bilinear(lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    aten.mean: first(_mean),
    aten.sum: first(_sum),
    aten.softmax: first(_softmax),
    aten._softmax: first(_softmax),
    aten.layer_norm: first(_layer_norm),
    aten.rms_norm: first(_rms_norm),
    aten.gelu: elementwise(_gelu),
    aten.silu: elementwise(_silu),
    aten.sigmoid: elementwise(lambda y, x: y * (1 - y)),
    aten.tanh: elementwise(lambda y, x: 1 - y * y),
    aten.relu: elementwise(lambda y, x: (x > 0).to(x.dtype)),
    aten.exp: elementwise(lambda y, x: y),
    aten.neg: first(lambda g, y, x: -g),
}
"""One entry an op. Ops with a constant argument only need the share of the other one."""
