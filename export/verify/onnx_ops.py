"""What the ops of ONNX compute, as functions of PyTorch: the table with which op_by_op.py runs a file in float64.

Each function takes the node's inputs, None for one that is left out, and its attributes by name; it returns one tensor,
or several for ops of several outputs. Attributes for which there is no argument are an error: nothing is passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .ops_elementwise import ELEMENTWISE, REDUCTIONS
from .ops_layers import LAYERS
from .ops_shape import SHAPE_OPS

OPS: dict[str, Callable[..., Any]] = {**ELEMENTWISE, **REDUCTIONS, **SHAPE_OPS, **LAYERS}
"""By the op's name."""
