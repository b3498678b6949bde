"""Rules for ops that only move, repeat, cast or select entries: the same for every table.

``g`` is the cotangent of the output ``y``, [targets, *y.shape]. It moves back the way the values came. Dimensions are
counted from the right, where value and cotangent agree.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..reverse import Table, unbroadcast, wrt_first

aten = torch.ops.aten


def from_right(dim: int, x: Tensor) -> int:
    """``dim`` of ``x`` as a negative number, which names the same axis of its cotangent."""
    return dim if dim < 0 else dim - x.dim()


def _reshape(g: Tensor, y: Tensor, x: Tensor, *_: Any) -> Tensor:
    return g.reshape(g.shape[0], *x.shape)


def _transpose(g: Tensor, y: Tensor, x: Tensor, a: int, b: int) -> Tensor:
    return g.transpose(from_right(a, x), from_right(b, x))


def _permute(g: Tensor, y: Tensor, x: Tensor, dims: list[int]) -> Tensor:
    back = [0] * len(dims)
    for place, dim in enumerate(dims):
        back[dim] = place + 1
    return g.permute(0, *back)


def _select(g: Tensor, y: Tensor, x: Tensor, dim: int, index: int) -> Tensor:
    axis = from_right(dim, x)
    return _pad_to(g.unsqueeze(axis), axis, index % x.shape[dim], x.shape[dim])


def _slice(
    g: Tensor, y: Tensor, x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    axis, size = from_right(dim, x), x.shape[dim]
    covered = range(size)[start:end]  # as Python understands negative and missing ends
    return slice_vjp(g, axis, covered.start, step, size)


def slice_vjp(g: Tensor, axis: int, start: int, step: int, size: int) -> Tensor:
    """The cotangent of x [..., size, ...] given that of x[start:stop:step] along ``axis``, counted from the right."""
    if step > 1:  # zeros after each entry, and none after the last
        with_gaps = torch.nn.functional.pad(g.unsqueeze(axis), [0, 0] * (-axis - 1) + [0, step - 1])
        g = with_gaps.flatten(axis - 1, axis).narrow(axis, 0, (g.shape[axis] - 1) * step + 1)
    return _pad_to(g, axis, start, size)


def _pad_to(g: Tensor, axis: int, before: int, size: int) -> Tensor:
    """``g`` with zeros around it along ``axis``, so that it starts at ``before`` and the result has ``size``."""
    after = size - before - g.shape[axis]
    return torch.nn.functional.pad(g, [0, 0] * (-axis - 1) + [before, after])


def _unbind(g: list[Tensor], y: Any, x: Tensor, dim: int = 0) -> Tensor:
    return torch.stack(g, from_right(dim, x))


def _split(g: list[Tensor], y: Any, x: Tensor, sizes: Any, dim: int = 0) -> Tensor:
    return torch.cat(g, from_right(dim, x))


def _cat(g: Tensor, y: Tensor, parts: list[Tensor], dim: int = 0) -> Any:
    axis = from_right(dim, y)
    return torch.split(g, [part.shape[dim] for part in parts], axis)


def _stack(g: Tensor, y: Tensor, parts: list[Tensor], dim: int = 0) -> Any:
    return g.unbind(from_right(dim, y))


def _expand(g: Tensor, y: Tensor, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return unbroadcast(g, x)


def _repeat(g: Tensor, y: Tensor, x: Tensor, times: list[int]) -> Tensor:
    """Along each axis ``times`` copies of x, one after the other."""
    sizes = [1] * (len(times) - x.dim()) + list(x.shape)
    pairs = [size for pair in zip(times, sizes, strict=True) for size in pair]
    copies = g.reshape(g.shape[0], *pairs).sum(list(range(1, 1 + len(pairs), 2)))
    return copies.reshape(g.shape[0], *x.shape)


def _repeat_interleave(g: Tensor, y: Tensor, x: Tensor, times: int, dim: int, **_: Any) -> Tensor:
    """Along ``dim`` each entry ``times`` times."""
    axis = from_right(dim, x)
    return torch.unflatten(g, axis, (x.shape[dim], times)).sum(axis)


def _movedim(g: Tensor, y: Tensor, x: Tensor, source: list[int] | int, destination: list[int] | int) -> Tensor:
    there, back = ([dims] if isinstance(dims, int) else dims for dims in (source, destination))
    return g.movedim([from_right(dim, x) for dim in back], [from_right(dim, x) for dim in there])


def _pad(g: Tensor, y: Tensor, x: Tensor, margins: list[int], mode: str = "constant", *_: Any) -> Tensor:
    if mode != "constant":
        raise NotImplementedError(f"{mode} padding has no rule")
    return torch.nn.functional.pad(g, [-margin for margin in margins])


def _gather(g: Tensor, y: Tensor, x: Tensor, dim: int, index: Tensor, **_: Any) -> Tensor:
    places = index.expand(g.shape[0], *index.shape)
    return g.new_zeros(g.shape[0], *x.shape).scatter_add(from_right(dim, x), places, g)


def _cast(g: Tensor, y: Tensor, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return g.to(x.dtype)


def restore_axes(g: Tensor, x: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    """The cotangent of a reduction of ``x`` over ``dims``, given back the axes it lost; it broadcasts against ``x``."""
    for axis in () if keepdim else sorted((from_right(dim, x) for dim in dims), reverse=True):
        g = g.unsqueeze(axis)
    return g


RESHAPES = (
    *(aten.reshape, aten._unsafe_view, aten.reshape_as, aten.view_as),
    *(aten.flatten, aten.unflatten, aten.squeeze, aten.unsqueeze),
)

SHAPE_OPS: Table = {
    **dict.fromkeys(RESHAPES, wrt_first(_reshape)),
    **dict.fromkeys((aten.clone, aten.to, aten._to_copy, aten.type_as), wrt_first(_cast)),
    **dict.fromkeys((aten.split, aten.split_with_sizes, aten.chunk), wrt_first(_split)),
    aten.transpose: wrt_first(_transpose),
    aten.permute: wrt_first(_permute),
    aten.select: wrt_first(_select),
    aten.slice: wrt_first(_slice),
    aten.unbind: wrt_first(_unbind),
    aten.cat: wrt_first(_cat),
    aten.stack: wrt_first(_stack),
    **dict.fromkeys((aten.expand, aten.expand_as), wrt_first(_expand)),
    **dict.fromkeys((aten.movedim, aten.moveaxis), wrt_first(_movedim)),
    aten.repeat: wrt_first(_repeat),
    aten.repeat_interleave: wrt_first(_repeat_interleave),
    aten.pad: wrt_first(_pad),
    aten.gather: wrt_first(_gather),
}
