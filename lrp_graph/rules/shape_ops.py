"""Rules for ops that only move, repeat or select entries: the same for every table.

A share moves back along the way its value came. Dimensions are counted from the right, where value and share agree.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..reverse import Table, first, unbroadcast

aten = torch.ops.aten


def from_right(dim: int, x: Tensor) -> int:
    """``dim`` of ``x`` as a negative number, which names the same axis of its share."""
    return dim if dim < 0 else dim - x.dim()


def _reshaped(share: Tensor, out: Tensor, x: Tensor, *_: Any) -> Tensor:
    return share.reshape(share.shape[0], *x.shape)


def _transposed(share: Tensor, out: Tensor, x: Tensor, a: int, b: int) -> Tensor:
    return share.transpose(from_right(a, x), from_right(b, x))


def _permuted(share: Tensor, out: Tensor, x: Tensor, dims: list[int]) -> Tensor:
    back = [0] * len(dims)
    for place, dim in enumerate(dims):
        back[dim] = place + 1
    return share.permute(0, *back)


def _selected(share: Tensor, out: Tensor, x: Tensor, dim: int, index: int) -> Tensor:
    axis = from_right(dim, x)
    return _padded(share.unsqueeze(axis), axis, index % x.shape[dim], x.shape[dim])


def _sliced(
    share: Tensor, out: Tensor, x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    axis, size = from_right(dim, x), x.shape[dim]
    covered = range(size)[start:end]
    return sliced_back(share, axis, covered.start, covered.stop, step, size)


def sliced_back(share: Tensor, axis: int, start: int, stop: int, step: int, size: int) -> Tensor:
    """The share of x [..., size, ...] given that of x[start:stop:step] along ``axis``, counted from the right."""
    if step > 1:  # zeros after each entry, and none after the last
        spread_out = torch.nn.functional.pad(share.unsqueeze(axis), [0, 0] * (-axis - 1) + [0, step - 1])
        share = spread_out.flatten(axis - 1, axis).narrow(axis, 0, (share.shape[axis] - 1) * step + 1)
    return _padded(share, axis, start, size)


def _padded(share: Tensor, axis: int, before: int, size: int) -> Tensor:
    """Zeros around ``share`` along ``axis``, so that it starts at ``before`` and the whole has ``size``."""
    after = size - before - share.shape[axis]
    return torch.nn.functional.pad(share, [0, 0] * (-axis - 1) + [before, after])


def _unbound(share: list[Tensor], out: Any, x: Tensor, dim: int = 0) -> Tensor:
    return torch.stack(share, from_right(dim, x))


def _split(share: list[Tensor], out: Any, x: Tensor, sizes: Any, dim: int = 0) -> Tensor:
    return torch.cat(share, from_right(dim, x))


def _concatenated(share: Tensor, out: Tensor, parts: list[Tensor], dim: int = 0) -> Any:
    axis = from_right(dim, out)
    return torch.split(share, [part.shape[dim] for part in parts], axis)


def _stacked(share: Tensor, out: Tensor, parts: list[Tensor], dim: int = 0) -> Any:
    return share.unbind(from_right(dim, out))


def _expanded(share: Tensor, out: Tensor, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return unbroadcast(share, x)


def _repeated(share: Tensor, out: Tensor, x: Tensor, times: list[int]) -> Tensor:
    """Along each axis ``times`` copies of x, one after the other."""
    sizes = [1] * (len(times) - x.dim()) + list(x.shape)
    pairs = [size for pair in zip(times, sizes, strict=True) for size in pair]
    copies = share.reshape(share.shape[0], *pairs).sum(list(range(1, 1 + len(pairs), 2)))
    return copies.reshape(share.shape[0], *x.shape)


def _interleaved(share: Tensor, out: Tensor, x: Tensor, times: int, dim: int, **_: Any) -> Tensor:
    """Along ``dim`` each entry ``times`` times."""
    axis = from_right(dim, x)
    return torch.unflatten(share, axis, (x.shape[dim], times)).sum(axis)


def _moved(share: Tensor, out: Tensor, x: Tensor, source: list[int] | int, destination: list[int] | int) -> Tensor:
    there, back = ([dims] if isinstance(dims, int) else dims for dims in (source, destination))
    return share.movedim([from_right(dim, x) for dim in back], [from_right(dim, x) for dim in there])


def _with_margins(share: Tensor, out: Tensor, x: Tensor, margins: list[int], mode: str = "constant", *_: Any) -> Tensor:
    if mode != "constant":
        raise NotImplementedError(f"{mode} padding has no rule")
    return torch.nn.functional.pad(share, [-margin for margin in margins])


def _gathered(share: Tensor, out: Tensor, x: Tensor, dim: int, index: Tensor, **_: Any) -> Tensor:
    places = index.expand(share.shape[0], *index.shape)
    return share.new_zeros(share.shape[0], *x.shape).scatter_add(from_right(dim, x), places, share)


def _cast(share: Tensor, out: Tensor, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return share.to(x.dtype)


def spread(share: Tensor, x: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    """The share of a reduction of ``x`` over ``dims``, given back the axes it lost; it broadcasts against ``x``."""
    for axis in () if keepdim else sorted((from_right(dim, x) for dim in dims), reverse=True):
        share = share.unsqueeze(axis)
    return share


SAME_ORDER = (
    *(aten.reshape, aten._unsafe_view, aten.reshape_as, aten.view_as),
    *(aten.flatten, aten.unflatten, aten.squeeze, aten.unsqueeze),
)

MOVEMENT: Table = {
    **dict.fromkeys(SAME_ORDER, first(_reshaped)),
    **dict.fromkeys((aten.clone, aten.to, aten._to_copy, aten.type_as), first(_cast)),
    **dict.fromkeys((aten.split, aten.split_with_sizes, aten.chunk), first(_split)),
    aten.transpose: first(_transposed),
    aten.permute: first(_permuted),
    aten.select: first(_selected),
    aten.slice: first(_sliced),
    aten.unbind: first(_unbound),
    aten.cat: first(_concatenated),
    aten.stack: first(_stacked),
    **dict.fromkeys((aten.expand, aten.expand_as), first(_expanded)),
    **dict.fromkeys((aten.movedim, aten.moveaxis), first(_moved)),
    aten.repeat: first(_repeated),
    aten.repeat_interleave: first(_interleaved),
    aten.pad: first(_with_margins),
    aten.gather: first(_gathered),
}
