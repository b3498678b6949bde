"""Square weights that are read both ways: a copy for one way, in a small graph that onnxruntime and OpenVINO run."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import openvino
import pytest
from onnx_ir.passes import PostconditionError

from onnxplain.export.onnx_passes.copy_square_weights import CopySquareWeightsPass

# Squares are read both ways: a weight, its absolute value, a kernel; others are not square, or read one way
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[n, 4] x, float[n, 4, 3, 3] z)
    => (float[n, 4] there, float[n, 4] back, float[n, 4] absolute, float[n, 4] turned, float[n, 6] wide,
        float[n, 4] narrow, float[n, 4] once, float[n, 4, 3, 3] conv, float[n, 4, 3, 3] transposed_conv)
<float[4, 4] square, float[6, 4] oblong, float[4, 4] one_way, float[4, 4, 1, 1] kernel>
{
    there = Gemm <transB = 1> (x, square)
    back = MatMul(x, square)
    size = Abs(square)
    absolute = MatMul(x, size)
    size_turned = Transpose <perm = [1, 0]> (size)
    turned = MatMul(x, size_turned)
    wide = Gemm <transB = 1> (x, oblong)
    narrow = MatMul(wide, oblong)
    once = MatMul(x, one_way)
    conv = Conv(z, kernel)
    transposed_conv = ConvTranspose(z, kernel)
}
"""
NAMES = ("there", "back", "absolute", "turned", "wide", "narrow", "once", "conv", "transposed_conv")


@pytest.fixture
def model() -> onnx.ModelProto:
    model = onnx.parser.parse_model(GRAPH)
    rng = np.random.default_rng(0)
    shapes = {"square": (4, 4), "oblong": (6, 4), "one_way": (4, 4), "kernel": (4, 4, 1, 1)}
    del model.graph.initializer[:]
    for name, shape in shapes.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    return onnx.shape_inference.infer_shapes(model)


@pytest.fixture
def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = ir.from_proto(model)
    CopySquareWeightsPass()(changed)
    changed = ir.to_proto(changed)
    onnx.checker.check_model(changed, full_check=True)
    return changed


def _feeds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"x": rng.normal(size=(3, 4)).astype(np.float32), "z": rng.normal(size=(3, 4, 3, 3)).astype(np.float32)}


def _run(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(NAMES, session.run(NAMES, _feeds()), strict=True))


def test_products_of_one_way_read_a_copy(copied: onnx.ModelProto) -> None:
    read = {node.output[0]: node.input[1] for node in copied.graph.node if len(node.input) > 1}
    copies = {node.output[0]: node.input[0] for node in copied.graph.node if node.op_type == "Clip"}
    assert {name: copies.get(value, value) for name, value in read.items() if value in copies} == {
        "back": "square",
        "absolute": "size",
        "transposed_conv": "kernel",
    }
    assert len(copies) == 3


def test_numbers_are_the_same_to_the_bit(model: onnx.ModelProto, copied: onnx.ModelProto) -> None:
    before, after = _run(model), _run(copied)
    for name in NAMES:
        np.testing.assert_array_equal(after[name], before[name])


def test_openvino_multiplies_by_the_right_weight(copied: onnx.ModelProto) -> None:
    """Without the copies, it is wrong in `back`, `turned` and `transposed_conv`."""
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(copied.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    given = compiled(_feeds())
    for name, expected in _run(copied).items():
        np.testing.assert_allclose(given[name], expected, atol=1e-5)


def test_what_it_ensures(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(step: ir.passes.PassBase, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=False)

    monkeypatch.setattr(CopySquareWeightsPass, "call", nothing)
    with pytest.raises(PostconditionError, match="reads a square weight that others read transposed"):
        CopySquareWeightsPass()(ir.from_proto(model))
