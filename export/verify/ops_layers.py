"""Products and layers of ONNX as functions of PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def _gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, alpha: float = 1.0, beta: float = 1.0, transA: int = 0,
    transB: int = 0,
) -> Tensor:  # fmt: skip
    product = alpha * ((a.mT if transA else a) @ (b.mT if transB else b))
    return product if c is None else product + beta * c


def _layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    scaled = F.layer_norm(x, x.shape[axis:], None, None, epsilon).mul_(scale)  # in place: x may be of many copies
    return scaled if bias is None else scaled.add_(bias)


def _rms_norm(x: Tensor, scale: Tensor, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    return F.rms_norm(x, x.shape[axis:], None, epsilon) * scale


def _batch_norm(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float = 1e-5,
    momentum: float = 0.9, training_mode: int = 0,
) -> Tensor:  # fmt: skip
    if training_mode:
        raise NotImplementedError("BatchNormalization in training mode")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)


def _group_norm(
    x: Tensor, scale: Tensor, bias: Tensor, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return F.group_norm(x, num_groups, scale, bias, epsilon)


def _instance_norm(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(x, None, None, scale, bias, True, 0.0, epsilon)


def _padded(x: Tensor, pads: Sequence[int] | None, value: float = 0.0) -> Tensor:
    """An image with its borders, as ONNX lists them: all beginnings, then all ends."""
    if not pads or not any(pads):
        return x
    half = len(pads) // 2
    amounts = itertools.chain(*reversed(list(zip(pads[:half], pads[half:], strict=True))))
    return F.pad(x, list(amounts), value=value)


def _explicit(auto_pad: str) -> None:
    if auto_pad not in ("NOTSET", "VALID"):
        raise NotImplementedError(f"auto_pad {auto_pad}")


def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, auto_pad: str = "NOTSET", dilations: Any = 1,
    group: int = 1, kernel_shape: Any = None, pads: Any = None, strides: Any = 1,
) -> Tensor:  # fmt: skip
    _explicit(auto_pad)
    function = {3: F.conv1d, 4: F.conv2d}[x.dim()]
    return function(_padded(x, pads), weight, bias, strides, 0, dilations, group)


def _conv_transpose(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, auto_pad: str = "NOTSET", dilations: Any = 1,
    group: int = 1, kernel_shape: Any = None, output_padding: Any = 0, pads: Any = None, strides: Any = 1,
) -> Tensor:  # fmt: skip
    _explicit(auto_pad)
    half = len(pads) // 2 if pads else 0
    if pads and list(pads[:half]) != list(pads[half:]):
        raise NotImplementedError("ConvTranspose with pads that differ")
    function = {3: F.conv_transpose1d, 4: F.conv_transpose2d}[x.dim()]
    return function(x, weight, bias, strides, pads[:half] if pads else 0, output_padding, group, dilations)


def _average_pool(
    x: Tensor, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0, count_include_pad: int = 0,
    dilations: Any = None, pads: Any = None, strides: Any = 1,
) -> Tensor:  # fmt: skip
    _explicit(auto_pad)
    half = len(pads) // 2 if pads else 0
    if (pads and list(pads[:half]) != list(pads[half:])) or (dilations and set(dilations) != {1}):
        raise NotImplementedError("AveragePool with pads that differ or dilations")
    padding = pads[:half] if pads else 0
    return F.avg_pool2d(x, kernel_shape, strides, padding, bool(ceil_mode), bool(count_include_pad))


def _max_pool(
    x: Tensor, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: Any = 1, pads: Any = None,
    storage_order: int = 0, strides: Any = 1,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Maxima and their places, which ONNX counts through the whole tensor."""
    _explicit(auto_pad)
    half = len(pads) // 2 if pads else 0
    if (pads and list(pads[:half]) != list(pads[half:])) or storage_order:
        raise NotImplementedError("MaxPool with pads that differ or columns first")
    padding = pads[:half] if pads else 0
    values, places = F.max_pool2d(x, kernel_shape, strides, padding, dilations, bool(ceil_mode), return_indices=True)
    images = torch.arange(x.shape[0] * x.shape[1]).reshape(x.shape[0], x.shape[1], 1, 1)
    return values, places + images * x.shape[2] * x.shape[3]


def _matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> Tensor:
    """In float64, which holds the sums exactly."""
    left, right = (x.double() - (0 if zero is None else zero.double()) for x, zero in ((a, a_zero), (b, b_zero)))
    return (left @ right).to(torch.int32)


LAYERS: dict[str, Callable[..., Any]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Einsum": lambda *factors, equation: torch.einsum(equation, *factors),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": torch.matmul,
    "MatMulInteger": _matmul_integer,
    "MaxPool": _max_pool,
    "RMSNormalization": _rms_norm,
}
