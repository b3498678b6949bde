"""The ops of int8 products, see lrp_graph/rules/products.py, as ops of ONNX."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18

from onnxplain.lrp_graph.rules.products import LARGEST_WEIGHT, TINY

op: Any = opset18
"""Its methods make constants of numbers and lists, which their types do not say."""


def _weight_codes(w: Any) -> Any:
    """What WeightCodesPass stores."""
    scale = op.Max(op.Div(op.ReduceMax(op.Abs(w), [1], keepdims=1), float(LARGEST_WEIGHT)), TINY)
    return op.Cast(op.Round(op.Div(w, scale)), to=ir.DataType.INT8), scale


def _row_codes(x: Any, zero: int) -> Any:
    """It rounds half to even. With a step for each row in place of 1, OpenVINO would refuse it."""
    return op.QuantizeLinear(x, 1.0, _byte(zero))


def _integer_product(rows: Any, codes: Any, step: Any, zero: int) -> Any:
    """DequantizeLinear casts the sums and multiplies them in one go, in half the time of two ops."""
    sums = op.MatMulInteger(rows, codes, _byte(zero))
    product = op.DequantizeLinear(op.Reshape(sums, [-1, codes.shape[1]]), op.Reshape(step, [-1]), axis=0)
    return op.Reshape(product, op.Shape(sums))


def _byte(number: int) -> Any:
    return op.Cast(op.Constant(value_int=number), to=ir.DataType.UINT8)


INT8 = {
    torch.ops.onnxplain.weight_codes.default: _weight_codes,
    torch.ops.onnxplain.row_codes.default: _row_codes,
    torch.ops.onnxplain.integer_product.default: _integer_product,
}
"""Translations for the exporter, by op."""
