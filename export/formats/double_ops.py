"""Ops that onnxruntime cannot compute in float64, or that ONNX gives a constant of float32, as others.

onnxruntime 1.31 has no kernel in double for convolutions, their transposes, means over windows, the error function and
several activations. The epsilon of a norm is an attribute in ONNX, and attributes are float32. Written in PyTorch, with
its signatures; equal to its functions up to float64's rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from onnxplain.lrp_graph.in_double import SINGLE_EPS
from onnxplain.lrp_graph.rules.conv_and_pool import pair

aten = torch.ops.aten

ERFCX = (
    (
        *(1.0, 1.5866551404106381097, 1.2703343729840918163, 0.62583465623991012459),
        *(0.20171479411229727006, 0.042187758258022597128, 0.0052951058477099465839, 0.00030871146862163774883),
    ),
    (
        *(1.0, 2.7150343075061506081, 3.333922523523629, 2.4249818470518571124, 1.146483367748414364),
        *(0.36221029642063173137, 0.075050533694342075704, 0.0093852684620972779873, 0.00054717858386078495239),
    ),
)
"""Coefficients of two polynomials, from the lowest, whose quotient is exp(z^2) erfc(z) for z from 0 to ERF_END; times
exp(-z^2), it is off by 2e-19 at most. Fitted by weighted least squares in 50 digits."""
ERF_END = 6.0
"""From here on erf is 1 in float64."""


def erf(x: Tensor) -> Tensor:
    """The error function, to 4e-16."""
    z = x.abs().clamp(max=ERF_END)
    over, under = (_polynomial(z, coefficients) for coefficients in ERFCX)
    return torch.sign(x) * (1 - torch.exp(-(z * z)) * (over / under))


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    result = x * coefficients[-1] + coefficients[-2]
    for coefficient in reversed(coefficients[:-2]):
        result = result * x + coefficient
    return result


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x), or its approximation by tanh."""
    if approximate == "tanh":
        return x * 0.5 * (1 + torch.tanh((x + x * x * x * 0.044715) * (2 / torch.pi) ** 0.5))
    return x * 0.5 * (1 + erf(x * 0.5**0.5))


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """x where it is positive, else slope x, for slopes of at most 1."""
    if slope > 1:
        raise NotImplementedError(f"leaky_relu with a slope of {slope}")
    return torch.maximum(x, x * slope)


def softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta x)) / beta; beyond the threshold PyTorch gives x, which is the same to 2e-9."""
    scaled = x * beta
    smooth = scaled.clamp(min=0) + torch.log(1 + torch.exp(-scaled.abs()))
    return torch.where(scaled > threshold, x, smooth / beta)


def elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    """scale x where x is positive, else scale alpha (exp(input_scale x) - 1)."""
    return scale * (x.clamp(min=0) + alpha * (torch.exp((x * input_scale).clamp(max=0)) - 1))


def prelu(x: Tensor, w: Tensor) -> Tensor:
    """x where it is positive, else w x, with one slope w for each channel or for all."""
    slope = w.reshape([-1, *[1] * (x.dim() - 2)] if w.numel() > 1 else [])
    return x.clamp(min=0) + slope * x.clamp(max=0)


def hardsigmoid(x: Tensor) -> Tensor:
    """From 0 at -3 to 1 at 3, straight."""
    return (x + 3).clamp(0, 6) / 6


def conv2d(
    x: Tensor, w: Tensor, b: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """A convolution: of patches side by side one product of matrices, else a sum over the kernel's entries."""
    gaps = pair(dilation)
    reach = [d * (k - 1) for d, k in zip(gaps, w.shape[-2:], strict=True)]
    if padding == "same":  # of an odd number, the extra pixel comes after
        sides = [reach[1] // 2, reach[1] - reach[1] // 2, reach[0] // 2, reach[0] - reach[0] // 2]
    else:
        rows, columns = (0, 0) if padding == "valid" else pair(padding)
        sides = [columns, columns, rows, rows]
    x = F.pad(x, sides) if any(sides) else x
    sizes = [(n - r - 1) // s + 1 for n, r, s in zip(x.shape[-2:], reach, pair(stride), strict=True)]
    if pair(stride) == tuple(w.shape[-2:]) and gaps == (1, 1) and groups == 1:
        result = _of_patches(x, w, sizes)
    else:
        matrices = ((i * gaps[0], j * gaps[1], matrix) for i, j, matrix in _matrices(w, groups))
        result = _sum_of_shifts(x, matrices, pair(stride), sizes)
    return result if b is None else result + b[:, None, None]


def conv1d(
    x: Tensor, w: Tensor, b: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """A convolution of images of one row."""
    borders = padding if isinstance(padding, str) else (0, pair(padding)[-1])
    steps, gaps = (1, pair(stride)[-1]), (1, pair(dilation)[-1])
    return conv2d(x[..., None, :], w[..., None, :], b, steps, borders, gaps, groups).squeeze(-2)


def conv_transpose2d(
    x: Tensor, w: Tensor, b: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """A transposed convolution without padding."""
    if b is not None or any(pair(padding)) or any(pair(output_padding)):
        raise NotImplementedError("conv_transpose2d with a bias or padding")
    steps, gaps, kernel = pair(stride), pair(dilation), tuple(w.shape[-2:])
    rows, columns = x.shape[-2:]
    if steps == kernel and gaps == (1, 1) and groups == 1:
        parts: Tensor = x.permute(0, 2, 3, 1) @ w.flatten(1)  # [batch, rows, columns, channels * kernel]
        parts = parts.unflatten(-1, (w.shape[1], *kernel)).permute(0, 3, 1, 4, 2, 5)
        return parts.flatten(4, 5).flatten(2, 3)
    apart = F.pad(x[..., None, :, None], [0, steps[1] - 1, 0, 0, 0, steps[0] - 1]).flatten(4, 5).flatten(2, 3)
    apart = apart[..., : (rows - 1) * steps[0] + 1, : (columns - 1) * steps[1] + 1]
    reach = [d * (k - 1) for d, k in zip(gaps, kernel, strict=True)]
    padded = F.pad(apart, [reach[1], reach[1], reach[0], reach[0]])
    shifts = ((reach[0] - i * gaps[0], reach[1] - j * gaps[1], matrix.mT) for i, j, matrix in _matrices(w, groups))
    sizes = [n + r for n, r in zip(apart.shape[-2:], reach, strict=True)]
    return _sum_of_shifts(padded, shifts, (1, 1), sizes)


def _matrices(w: Tensor, groups: int) -> Iterable[tuple[int, int, Tensor]]:
    """By row and column of the kernel, the matrices [groups, out, in] of a convolution."""
    for i in range(w.shape[-2]):
        for j in range(w.shape[-1]):
            yield i, j, w[..., i, j].reshape(groups, -1, w.shape[1])


def _of_patches(x: Tensor, w: Tensor, sizes: Sequence[int]) -> Tensor:
    rows, columns = w.shape[-2:]
    x = x[..., : sizes[0] * rows, : sizes[1] * columns]
    patches = x.reshape(-1, w.shape[1], sizes[0], rows, sizes[1], columns).permute(0, 2, 4, 1, 3, 5)
    return (patches.flatten(3) @ w.flatten(1).mT).permute(0, 3, 1, 2)


def _sum_of_shifts(
    x: Tensor, shifts: Iterable[tuple[int, int, Tensor]], steps: Sequence[int], sizes: Sequence[int]
) -> Tensor:
    """The sum of matrices [groups, out, in] times x [batch, groups * in, …] from some row and column on."""
    ends = [(n - 1) * s + 1 for n, s in zip(sizes, steps, strict=True)]
    total = None
    for i, j, matrix in shifts:
        part = x[..., i : i + ends[0] : steps[0], j : j + ends[1] : steps[1]]
        part = part.reshape(-1, matrix.shape[0], matrix.shape[2], sizes[0] * sizes[1])
        term = matrix * part if matrix.shape[2] == 1 else matrix @ part
        total = term if total is None else total + term
    assert total is not None
    return total.reshape(-1, total.shape[1] * total.shape[2], *sizes)


def avg_pool2d(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Means over windows, or sums over a divisor."""
    borders: list[int] = []
    beyond: list[int] = []
    for size, k, s, p in zip(x.shape[-2:], pair(kernel), pair(stride or kernel), pair(padding), strict=True):
        rest = (size + 2 * p - k) % s
        reaches = ceil_mode and rest > 0 and p + s < k + rest  # one window more, if it begins before the border
        borders = [p, p, *borders]
        beyond = [0, s - rest if reaches else 0, *beyond]

    def sums(values: Tensor) -> Tensor:
        ones = x.new_ones(values.shape[1], 1, *pair(kernel))
        return conv2d(F.pad(values, beyond), ones, None, stride or kernel, 0, 1, values.shape[1])

    counted = F.pad(x.new_ones(1, 1, *x.shape[-2:]), borders, value=float(count_include_pad))
    return sums(F.pad(x, borders)) / (divisor_override or sums(counted))


def layer_norm(
    x: Tensor, shape: Sequence[int], w: Tensor | None = None, b: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    """(x - mean) / sqrt(variance + eps), times w, plus b."""
    dims = list(range(-len(shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    y = centred * torch.rsqrt((centred * centred).mean(dims, keepdim=True) + eps)
    y = y if w is None else y * w
    return y if b is None else y + b


def rms_norm(x: Tensor, shape: Sequence[int], w: Tensor | None = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean of squares + eps), times w; without eps, float32's."""
    dims = list(range(-len(shape), 0))
    y = x * torch.rsqrt((x * x).mean(dims, keepdim=True) + (SINGLE_EPS if eps is None else eps))
    return y if w is None else y * w


def group_norm(
    x: Tensor, groups: int, w: Tensor | None = None, b: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    """Layer normalisation over each group of channels and the image."""
    y = layer_norm(x.unflatten(1, (groups, -1)).flatten(2), x.shape[1:2], None, None, eps).reshape(x.shape)
    after = [-1, *[1] * (x.dim() - 2)]
    y = y if w is None else y * w.reshape(after)
    return y if b is None else y + b.reshape(after)


def batch_norm(
    x: Tensor, w: Tensor | None, b: Tensor | None, mean: Tensor | None, variance: Tensor | None, training: bool,
    momentum: float, eps: float, *_: Any,
) -> Tensor:  # fmt: skip
    """In evaluation mode: (x - mean) / sqrt(variance + eps), times w, plus b, for each channel."""
    if training or mean is None or variance is None:
        raise NotImplementedError("a norm over batches, or of images by themselves, that has no mean stored")
    after = [-1, *[1] * (x.dim() - 2)]
    scale = torch.rsqrt(variance + eps) if w is None else w * torch.rsqrt(variance + eps)
    y = (x - mean.reshape(after)) * scale.reshape(after)
    return y if b is None else y + b.reshape(after)


def is_single(number: Any) -> bool:
    """Whether a number is none of float64 alone, which the exporter would round to float32."""
    with np.errstate(over="ignore"):
        return not isinstance(number, float) or number != number or number == float(np.float32(number))


def _filled(ones: Callable[..., Tensor]) -> Callable[..., Any]:
    """A tensor full of a number, as the product of ones and the number."""

    def fill(*args: Any, **options: Any) -> Any:
        *like, number = args
        return NotImplemented if is_single(number) else ones(*like, **options) * number

    return fill


def clamp(x: Tensor, low: Any = None, high: Any = None) -> Any:
    """x within bounds, as maximum and minimum of tensors."""
    if is_single(low) and is_single(high):
        return NotImplemented
    x = x if low is None else torch.maximum(x, x.new_ones(()) * low)
    return x if high is None else torch.minimum(x, x.new_ones(()) * high)


DOUBLE_OPS: dict[Any, Callable[..., Any]] = {
    aten.full.default: _filled(aten.ones.default),
    aten.full_like.default: _filled(aten.ones_like.default),
    aten.new_full.default: _filled(aten.new_ones.default),
    aten.where.ScalarSelf: lambda condition, a, b: torch.where(condition, b.new_ones(()) * a, b),
    aten.where.ScalarOther: lambda condition, a, b: torch.where(condition, a, a.new_ones(()) * b),
    aten.clamp.default: clamp,
    aten.clamp_min.default: clamp,
    aten.clamp_max.default: lambda x, high: clamp(x, None, high),
    aten.erf.default: erf,
    aten.gelu.default: gelu,
    aten.leaky_relu.default: leaky_relu,
    aten.softplus.default: softplus,
    aten.elu.default: elu,
    aten.mish.default: lambda x: x * torch.tanh(softplus(x)),
    aten.prelu.default: prelu,
    aten.hardsigmoid.default: hardsigmoid,
    aten.hardswish.default: lambda x: x * hardsigmoid(x),
    aten.conv1d.default: conv1d,
    aten.conv1d.padding: conv1d,
    aten.conv2d.default: conv2d,
    aten.conv2d.padding: conv2d,
    aten.conv_transpose2d.input: conv_transpose2d,
    aten.avg_pool2d.default: avg_pool2d,
    aten.layer_norm.default: layer_norm,
    aten.rms_norm.default: rms_norm,
    aten.group_norm.default: group_norm,
    aten.batch_norm.default: batch_norm,
}
"""By op."""
