"""Ops of ONNX that move, repeat, select and make entries, as functions of PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


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


SHAPE_OPS: dict[str, Callable[..., Any]] = {
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
}
