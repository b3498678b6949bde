"""What the ops of ONNX compute, as functions of PyTorch: the table with which file_in_double.py runs a file in float64.

Each function takes the node's inputs, None for one that is left out, and its attributes by name; it returns one tensor,
or several for ops of several outputs. Attributes for which there is no argument are an error: nothing is passed over.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional as F

DTYPES = {
    **dict.fromkeys((ir.DataType.FLOAT, ir.DataType.DOUBLE), torch.float64),
    ir.DataType.INT64: torch.int64,
    ir.DataType.INT32: torch.int32,
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


def _reshape(x: Tensor, shape: Tensor, allowzero: int = 0) -> Tensor:
    sizes = [x.shape[axis] if size == 0 and not allowzero else size for axis, size in enumerate(shape.tolist())]
    if -1 in sizes and 0 in x.shape:  # PyTorch finds this ambiguous where ONNX does not
        known = torch.Size([size for size in sizes if size != -1]).numel()
        sizes[sizes.index(-1)] = x.numel() // known if known else 0
    return x.reshape(sizes)


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.dim() + axes.numel()
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _split(x: Tensor, sizes: Tensor | None = None, axis: int = 0, num_outputs: int | None = None) -> tuple[Tensor, ...]:
    if sizes is not None:
        return torch.split(x, sizes.tolist(), axis)
    assert num_outputs is not None
    return torch.split(x, -(-x.shape[axis] // num_outputs), axis)


def _slice(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    over = list(range(starts.numel())) if axes is None else axes.tolist()
    strides = [1] * starts.numel() if steps is None else steps.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), over, strides, strict=True):
        places = range(x.shape[axis])[start:end:step]
        if step == 1:
            x = x.narrow(axis, places.start if places else 0, len(places))
        else:
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def _gather(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    axis %= x.dim()
    flat = indices.reshape(-1) % x.shape[axis]
    return x.index_select(axis, flat).reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _gather_elements(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    return x.gather(axis, indices % x.shape[axis])


def _gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    if batch_dims:
        return torch.stack([_gather_nd(a, b, batch_dims - 1) for a, b in zip(x, indices, strict=True)])
    return x[tuple(indices.unbind(-1))]


def _scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, reduction: str = "none") -> Tensor:
    indices = indices % x.shape[axis]
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    return x.scatter_reduce(
        axis, indices, updates, {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
    )


def _scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str = "none") -> Tensor:
    if reduction not in ("none", "add"):
        raise NotImplementedError(f"ScatterND with reduction {reduction}")
    return x.index_put(tuple(indices.unbind(-1)), updates, accumulate=reduction == "add")


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _pad(
    x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None, mode: str = "constant"
) -> Tensor:
    over = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes.tolist()]
    sides = dict(zip(over, zip(*pads.reshape(2, -1).tolist(), strict=True), strict=True))
    amounts = [sides.get(axis, (0, 0)) for axis in reversed(range(x.dim()))]
    if mode != "constant":
        raise NotImplementedError(f"Pad with mode {mode}")
    return F.pad(x, list(itertools.chain(*amounts)), value=0 if value is None else value.item())


def _shape(x: Tensor, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


def _constant_of_shape(shape: Tensor, value: Tensor | None = None) -> Tensor:
    one = torch.zeros(1, dtype=torch.float64) if value is None else value
    return one.reshape(()).expand(tuple(shape.tolist()))


def _constant(value: Tensor | None = None, **others: Any) -> Tensor:
    if value is not None:
        return value
    ((name, numbers),) = others.items()
    return torch.tensor(numbers, dtype=torch.float64 if "float" in name else torch.int64)


def _gemm(
    a: Tensor, b: Tensor, c: Tensor | None = None, alpha: float = 1.0, beta: float = 1.0, transA: int = 0,
    transB: int = 0,
) -> Tensor:  # fmt: skip
    product = alpha * ((a.mT if transA else a) @ (b.mT if transB else b))
    return product if c is None else product + beta * c


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


def _layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return F.layer_norm(x, x.shape[axis:], None, None, epsilon) * scale + (0 if bias is None else bias)


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


Function = Callable[..., Any]
OPS: dict[str, Function] = {
    # Element by element
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "Cast": _cast,
    "CastLike": lambda x, like: x.to(like.dtype),
    "Ceil": torch.ceil,
    "Clip": _clip,
    "Cos": torch.cos,
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
    # Reductions
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
    # Movement
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": lambda x, axis=1: x.reshape(x.shape[:axis].numel(), -1),
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "Range": lambda start, limit, step: torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype),
    "Reshape": _reshape,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Size": lambda x: torch.tensor(x.numel()),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda x, repeats: x.repeat(repeats.tolist()),
    "Transpose": lambda x, perm=None: x.permute(perm or list(reversed(range(x.dim())))),
    "Trilu": lambda x, k=None, upper=1: (torch.triu if upper else torch.tril)(x, 0 if k is None else int(k)),
    "Unsqueeze": _unsqueeze,
    # Products and layers
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
    "MaxPool": _max_pool,
    "RMSNormalization": _rms_norm,
}
