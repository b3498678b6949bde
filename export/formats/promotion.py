"""Type promotion: PyTorch takes numbers and tensors of several types in one call, where ONNX has one type.

To find what is promoted, PyTorch's exporter runs every call once more with open sizes, which takes longer than all of
its translation. In a fused graph these are whole numbers beside floating-point tensors, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from onnxplain.lrp_graph.torch_internals import schema_of

aten = torch.ops.aten

UNPROMOTED = {
    *(aten._to_copy, aten.argmax, aten.gather, aten.index, aten.index_select, aten.sort, aten.topk),
    *(torch.ops.onnxplain.integer_product, torch.ops.onnxplain.row_codes, torch.ops.onnxplain.weight_codes),
}
"""Ops that have tensors of several types but promote none: indices, results of a type that a call names."""

VALUES = {"Tensor", "Optional[Tensor]", "number", "Optional[number]"}
"""The types of arguments that are computed with, as schemas name them."""

EXACT = 2**24
"""Up to here float32 has all whole numbers."""


def with_floats(node: fx.Node) -> Any:
    """The arguments of a call, with floats for the whole numbers that it computes with in floating point."""
    if int not in map(type, node.args) or not any(dtype.is_floating_point for dtype in _dtypes(node.all_input_nodes)):
        return node.args
    places = _places_of_values(node)
    return tuple(
        float(value) if type(value) is int and place in places and abs(value) <= EXACT else value
        for place, value in enumerate(node.args)
    )


def may_promote(node: fx.Node) -> bool:
    """Whether PyTorch may promote what a call takes `with_floats`; also True where that is not known."""
    if schema_of(node.target) is None or getattr(node.target, "overloadpacket", None) in UNPROMOTED:
        return False
    operands = node.args[1:] if node.target.overloadpacket is aten.where else node.all_input_nodes  # type: ignore[union-attr]
    taken = _dtypes(operands)
    if len(taken | (_dtypes([node]) - {torch.bool})) > 1:
        return True
    args = with_floats(node)
    kinds = {type(_value(args[place])) for place in _places_of_values(node) if place < len(args)}
    return (int if any(dtype.is_floating_point for dtype in taken) else float) in kinds


def _places_of_values(node: fx.Node) -> set[int]:
    """Where a call takes tensors or numbers to compute with, and not sizes, axes or options."""
    arguments = enumerate(schema_of(node.target).arguments)
    return {place for place, argument in arguments if str(argument.type) in VALUES}


def _dtypes(args: Iterable[Any]) -> set[torch.dtype]:
    """Those of the tensors in these arguments, which may be lists of some."""
    values = map(_value, args)
    tensors = (one for value in values for one in (value if isinstance(value, list | tuple) else [value]))
    return {tensor.dtype for tensor in tensors if isinstance(tensor, Tensor)}


def _value(arg: Any) -> Any:
    """What stands at an argument: an open size is a whole number."""
    return arg.meta["val"] if isinstance(arg, fx.Node) else arg
