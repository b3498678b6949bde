"""No products with one, and shapes that are constants: the same numbers from fewer nodes."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from onnxplain.export.onnx_passes.simplify import SimplifyPass

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[targets, batch, 6] x, float[batch, 4] y, float factor) =>
      (float[targets, batch, 2, 3] heads, float[batch, 2, 2] pairs, float[rows, 6] flat, float[targets, batch, 6] same,
       float[batch, targets, 6] swapped)
<float one = {1}, float[1] ones = {1}, int64[1] zero = {0}, int64[1] first = {1}, int64[1] two = {2},
 int64[1] rest = {-1}, int64[2] split = {2, 3}, int64[1] six = {6}>
{
    x1 = Mul(x, one)
    x2 = Mul(x1, ones)
    x3 = Mul(x2, factor)
    lengths = Shape(x3)
    outer = Slice(lengths, zero, two)
    by_head = Concat <axis = 0> (outer, split)
    heads = Reshape(x3, by_head)
    count = Shape <start = 0, end = 1> (y)
    by_pair = Concat <axis = 0> (count, two, two)
    pairs = Reshape(y, by_pair)
    by_row = Concat <axis = 0> (rest, six)
    flat = Reshape(x3, by_row)
    targets = Shape <start = 0, end = 1> (x3)
    turned = Concat <axis = 0> (count, targets, six)
    swapped = Reshape <allowzero = 1> (x3, turned)
    same = Mul(x3, one)
}
"""


@pytest.fixture(scope="module")
def plain():
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(GRAPH), data_prop=True)


@pytest.fixture(scope="module")
def simple(plain):
    model = ir.from_proto(plain)
    assert SimplifyPass()(model).modified
    return model


def test_what_is_left(simple):
    _check_what_is_left(simple)


def test_lengths_in_another_order_are_not_copied():
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(GRAPH.replace(" <allowzero = 1>", "")))
    changed = ir.from_proto(model)
    SimplifyPass()(changed)
    _check_what_is_left(changed)


def _check_what_is_left(simple):
    # `ones` might add an axis, `factor` is an input, and the outputs `same` and `swapped` keep what they need
    kinds = Counter(node.op_type for node in simple.graph)
    assert kinds == {"Mul": 3, "Reshape": 4, "Constant": 3, "Shape": 2, "Concat": 1}
    shapes = [
        node.inputs[1].producer().attributes.get_ints("value_ints", None)
        for node in simple.graph
        if node.op_type == "Reshape" and node.inputs[1].producer().op_type == "Constant"
    ]
    assert shapes == [(0, 0, 2, 3), (0, 2, 2), (-1, 6)]


@pytest.mark.parametrize("lengths", [(2, 3), (1, 1), (2, 0)], ids=str)
def test_the_same_numbers(plain, simple, lengths):
    targets, batch = lengths
    numbers = np.random.default_rng(0).normal
    feeds = {
        "x": numbers(size=(targets, batch, 6)).astype(np.float32),
        "y": numbers(size=(batch, 4)).astype(np.float32),
        "factor": np.array(0.5, np.float32),
    }
    before, after = (
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
        for model in (plain, ir.to_proto(simple))
    )
    for left, right in zip(before, after, strict=True):
        np.testing.assert_array_equal(left, right)
