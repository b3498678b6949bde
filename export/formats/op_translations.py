"""How some ATen ops are written in ONNX, in place of what PyTorch's exporter makes of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from onnxscript import opset18 as op

from .int8_ops import INT8


def translations(opset: int) -> dict[Any, Any]:
    """The ops that are translated in another way than the exporter's."""
    table: dict[Any, Any] = {torch.ops.aten.sort.stable: _stable_sort, **INT8}
    if opset < 20:  # before ONNX had the op
        table[torch.ops.aten.gelu.default] = _gelu
    return table


def _gelu(x: Any, approximate: str = "none") -> Any:
    """x / 2 (1 + erf(x / sqrt(2))), with a factor of two numbers, as one of float32 is too coarse to be compared."""
    if approximate == "tanh":
        cubic = op.Add(x, _times(op.Mul(x, op.Mul(x, x)), 0.044715))
        bent = op.Tanh(_times(cubic, math.sqrt(2 / math.pi)))
    else:
        bent = op.Erf(_times(x, math.sqrt(1 / 2)))
    return op.Mul(op.Mul(x, 0.5), op.Add(bent, 1.0))


def _times(x: Any, factor: float) -> Any:
    """x times a number of float64, as the sum of two of float32."""
    first = float(np.float32(factor))
    return op.Add(op.Mul(x, first), op.Mul(x, factor - first))


def _stable_sort(x: Any, *, stable: bool, dim: int = -1, descending: bool = False) -> Any:
    """PyTorch's op as ONNX has it: TopK puts of equal entries the one with the lower index first, by its definition."""
    length: Any = [x.shape[dim]]
    return op.TopK(x, length, axis=dim, largest=int(descending), sorted=1)
