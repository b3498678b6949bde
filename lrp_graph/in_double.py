"""Run code that was written for float32 in float64, with the constants that float32 has or with exact ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from .torch_internals import TorchDispatchMode, is_mutable, returns_view

aten = torch.ops.aten

DOUBLE_EPS, SINGLE_EPS = float(np.finfo(np.float64).eps), float(np.finfo(np.float32).eps)
"""The epsilon that a norm adds by default, in float64 and in float32."""


def _widened(arg: Any) -> Any:
    """An argument of an op for float64: the dtype float64 in place of float32, but float32's epsilon."""
    if isinstance(arg, float) and arg == DOUBLE_EPS:
        return SINGLE_EPS
    return torch.float64 if arg is torch.float32 else arg


def _rounded(arg: Any) -> Any:
    """As `_widened`, and a number as float32 rounds it."""
    arg = _widened(arg)
    if isinstance(arg, float):
        with np.errstate(over="ignore"):
            return float(np.float32(arg))
    return arg


def _wide(arg: Any) -> Any:
    """A weight for the time of one op: all of them in float64 would take twice the memory of the model."""
    narrow = isinstance(arg, Tensor) and arg.is_floating_point() and arg.dtype != torch.float64
    return arg.double() if narrow else arg


class _InDouble(TorchDispatchMode):
    """Has code that was written for float32 compute in float64, with float32's weights."""

    def __init__(self, exact: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.exact = exact

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = fx.node.map_aggregate((tuple(args), kwargs or {}), _widened if self.exact else _rounded)
        if not is_mutable(op) and not returns_view(op):  # what is kept of weights, as by autograd, stays as it is
            args, kwargs = fx.node.map_aggregate((args, kwargs), _wide)
        result = op(*args, **kwargs)
        if op in (aten.lift_fresh.default, aten.lift_fresh_copy.default) and result.is_floating_point():
            # A number that the code has made a tensor of
            return (result if self.exact else result.to(torch.float32)).to(torch.float64)
        return result


class _WideWhereRefused(TorchFunctionMode):
    """The same for functions that ask for one dtype before they come to the dispatcher, such as convolutions.

    They are called once more. Where every function got its weights in float64, autograd would keep these.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tuple(args), kwargs or {}
        try:
            return function(*given[0], **given[1])
        except RuntimeError:
            dtypes: set[torch.dtype] = set()
            fx.node.map_aggregate(given, lambda arg: _note_dtype(arg, dtypes))
            # A copy would get what it writes
            writes = getattr(function, "__name__", "").endswith("_") or given[1].get("out") is not None
            if writes or len(dtypes) < 2:
                raise
        args, kwargs = fx.node.map_aggregate(given, _wide)
        return function(*args, **kwargs)


def _note_dtype(arg: Any, dtypes: set[torch.dtype]) -> None:
    """Add that of a tensor of floating-point numbers."""
    if isinstance(arg, Tensor) and arg.is_floating_point():
        dtypes.add(arg.dtype)


@contextmanager
def in_double(exact: bool = False) -> Iterator[None]:
    """A context in which modules compute in float64 throughout, given inputs in float64.

    Args:
        exact: Whether numbers in the code are what they are, and rules take numbers to be as fine as in float64; else
            they are as in float32, so that the result can be compared with a program of float32.
    """
    before, limits = torch.get_default_dtype(), torch.finfo(torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        narrow = nullcontext() if exact else patch.object(torch, "finfo", lambda dtype=None: limits)
        with _WideWhereRefused(), _InDouble(exact), narrow:
            yield
    finally:
        torch.set_default_dtype(before)
