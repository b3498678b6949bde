"""Ops of ONNX that go entry by entry, and reductions, as functions of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional as F

DTYPES = {
    **dict.fromkeys((ir.DataType.FLOAT, ir.DataType.DOUBLE), torch.float64),
    ir.DataType.INT64: torch.int64,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT8: torch.int8,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}
"""What a type becomes: all floating-point arithmetic is in float64."""


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An op of two arguments, for any number of them."""

    def fold(first: Tensor, *rest: Tensor) -> Tensor:
        for one in rest:
            first = function(first, one)
        return first

    return fold


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _modulo(a: Tensor, b: Tensor, fmod: int = 0) -> Tensor:
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def _cast(x: Tensor, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return x.to(DTYPES[ir.DataType(to)])


def _along(values: Tensor, axis: int, block_size: int, x: Tensor) -> Tensor:
    """One value for all entries of x, or one for each place along an axis, in a shape that goes with x."""
    if block_size or values.dim() > 1:
        raise NotImplementedError("quantization by blocks")
    return values.reshape([-1 if place == axis % x.dim() else 1 for place in range(x.dim())] if values.dim() else [])


def _quantize_linear(
    x: Tensor, scale: Tensor, zero: Tensor, axis: int = 1, saturate: int = 1, block_size: int = 0,
    output_dtype: int = 0, precision: int = 0,
) -> Tensor:  # fmt: skip
    """x / scale + zero in the integers of zero, rounded half to even; scale and zero are for entries along the axis."""
    limits = torch.iinfo(zero.dtype)
    codes = (x / _along(scale, axis, block_size, x)).round() + _along(zero.to(x.dtype), axis, block_size, x)
    return codes.clamp(limits.min, limits.max).to(zero.dtype)


def _dequantize_linear(
    x: Tensor, scale: Tensor, zero: Tensor | None = None, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Tensor:
    """(x - zero) scale; scale and zero are for entries along the axis."""
    wide = x.to(scale.dtype)
    shifted = wide if zero is None else wide - _along(zero.to(scale.dtype), axis, block_size, x)
    return shifted * _along(scale, axis, block_size, x)


def _reduced(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    def reduce(x: Tensor, axes: Tensor | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        over = list(range(x.dim())) if axes is None else axes.tolist()
        if noop_with_empty_axes and not over:
            raise NotImplementedError("a reduction over no axes")
        return function(x, over, bool(keepdims))

    return reduce


def _extreme(function: Callable[..., Any]) -> Callable[..., Any]:
    def extreme(x: Tensor, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
        return function(x, axis, keepdim=bool(keepdims))

    return extreme


def _top_k(x: Tensor, k: Tensor, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:
    values, indices = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, int(k)), indices.narrow(axis, 0, int(k))


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "Cast": _cast,
    "CastLike": lambda x, like: x.to(like.dtype),
    "Ceil": torch.ceil,
    "Clip": _clip,
    "Cos": torch.cos,
    "DequantizeLinear": _dequantize_linear,
    "Div": _divide,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Gelu": _gelu,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "LeakyRelu": lambda x, alpha=0.01: F.leaky_relu(x, alpha),
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "Max": _folded(torch.maximum),
    "Min": _folded(torch.minimum),
    "Mod": _modulo,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pow": torch.pow,
    "QuantizeLinear": _quantize_linear,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Softplus": F.softplus,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Sum": _folded(torch.add),
    "Tanh": torch.tanh,
    "Where": torch.where,
}
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ArgMax": _extreme(torch.argmax),
    "ArgMin": _extreme(torch.argmin),
    "CumSum": lambda x, axis, exclusive=0, reverse=0: x.cumsum(int(axis)),
    "LogSoftmax": lambda x, axis=-1: torch.log_softmax(x, axis),
    "ReduceL1": _reduced(lambda x, axes, keep: torch.linalg.vector_norm(x, 1, axes, keep)),
    "ReduceL2": _reduced(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceSum": _reduced(torch.sum),
    "ReduceSumSquare": _reduced(lambda x, axes, keep: x.square().sum(axes, keep)),
    "Softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "TopK": _top_k,
}
