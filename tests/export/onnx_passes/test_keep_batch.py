"""Outputs that are switched off have an entry for each image, without elements."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from onnxplain.export.onnx_passes.gate_outputs import GateOutputsPass
from onnxplain.export.onnx_passes.keep_batch import KeepBatchPass

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[batch, 3] x, int64[batch, targets] target)
  => (float[batch, 3] y, float[batch, targets, 3] sines, float[batch, targets, 3] cosines)
{
    y = Relu(x)
    number = Cast <to = 1> (target)
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    rows = Unsqueeze(y, one)
    columns = Unsqueeze(number, two)
    both = Mul(rows, columns)
    sines = Sin(both)
    cosines = Cos(both)
}
"""
FLAGS = {name: f"with_{name}" for name in ("sines", "cosines")}
X = np.array([[-1, 0, 2], [1, -2, 0.25]], np.float32)
TARGET = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])


def _gated():
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(GRAPH), data_prop=True))
    GateOutputsPass(FLAGS, required=True)(model)
    KeepBatchPass()(model)
    return model


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    proto = ir.to_proto(_gated())
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    path = tmp_path_factory.mktemp("gated") / "gated.onnx"
    onnx.save(proto, path)
    return onnxruntime.InferenceSession(path)


@pytest.mark.parametrize("wanted", [(), ("sines",), ("cosines",), ("sines", "cosines")])
def test_every_output_can_be_split_among_the_images(session, wanted):
    flags = {flag: np.array([False, name in wanted]) for name, flag in FLAGS.items()}
    y, *found = session.run(None, {"x": X, "target": TARGET, **flags})
    np.testing.assert_array_equal(y, np.maximum(X, 0))
    for name, values, function in zip(FLAGS, found, (np.sin, np.cos), strict=True):
        if name in wanted:
            np.testing.assert_allclose(values, function(y[:, None] * TARGET[..., None]), atol=1e-5)
        else:
            assert values.shape == (2, 0, 3)


def test_nothing_is_left_of_the_former_tensors():
    for node in ir.traversal.RecursiveGraphIterator(_gated().graph):
        assert any(value.uses() or value.is_graph_output() for value in node.outputs), node
