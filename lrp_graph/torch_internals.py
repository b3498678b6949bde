"""What this project takes from PyTorch beyond its documented interface: all of it, in one place.

Tested with PyTorch 2.15; pyproject says which versions are accepted. There is no public way to ask an op what it does
to its arguments, to see every ATen call, or to ask of an open size what it is computed from, and what it was when a
model was traced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._dispatch.python import enable_python_dispatcher
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "OpOverload",
    "TorchDispatchMode",
    "enable_python_dispatcher",
    "fake_mode_of",
    "is_mutable",
    "returns_view",
    "schema_of",
    "size_expression",
    "traced_length",
]


def schema_of(op: Any) -> Any:
    """The signature of an ATen op: ``arguments`` and ``returns``, each with name and type; None for other functions."""
    return getattr(op, "_schema", None)


def is_mutable(op: Any) -> bool:
    """Whether an op writes to one of its arguments."""
    schema = schema_of(op)
    return schema is not None and bool(schema.is_mutable)


def returns_view(op: Any) -> bool:
    """Whether the result of an op shares memory with an argument that it does not change."""
    schema = schema_of(op)
    return schema is not None and not schema.is_mutable and any(value.alias_info for value in schema.returns)


def traced_length(size: torch.SymInt | int) -> int:
    """The length that an axis had when the model was traced; int() of an open size would fix it."""
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size  # type: ignore[arg-type]


def size_expression(size: torch.SymInt) -> Any:
    """An open size as sympy's expression of the sizes that it is computed from; a number where it is none any more."""
    return size.node.expr


def fake_mode_of(tensor: Tensor) -> Any:
    """The context in which a traced tensor, which has a shape and no values, was made; ``from_tensor`` makes more."""
    return tensor.fake_mode  # type: ignore[attr-defined]
