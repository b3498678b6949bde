"""Products with transposed weights become Gemm: the same numbers, the weight as it is, what is added taken along."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from onnxplain.export.onnx_passes.matmul_to_gemm import MatMulToGemmPass

RNG = np.random.default_rng(0)
WEIGHTS = {"w": (6, 4), "b": (6,), "k": ()}
CASES = {
    "alone": ("y = MatMul(x, t)", 1.0),
    "bias": ("p = MatMul(x, t) y = Add(p, b)", 1.0),
    "bias first": ("p = MatMul(x, t) y = Add(b, p)", 1.0),
    "matrix": ("p = MatMul(x, t) y = Add(p, m)", 1.0),
    "scaled matrix": ("s = Mul(m, k) p = MatMul(x, t) y = Add(p, s)", 0.75),
    "scaled matrix first": ("s = Mul(k, m) p = MatMul(x, t) y = Add(s, p)", 0.75),
}
OTHERS = {
    "two readers": "p = MatMul(x, t) q = Neg(p) r = Add(p, b) y = Add(q, r)",
    "the scaled matrix has another reader": "s = Mul(m, k) p = MatMul(x, t) r = Add(p, s) y = Add(r, s)",
    "a row is added": "p = MatMul(x, t) y = Add(p, z)",
}


def _model(body):
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, 3, 4] x, float[batch, 3, 6] m, float[batch, 1, 6] z) => (float[batch, 3, 6] y)
        {{ u = Abs(w) t = Transpose <perm = [1, 0]> (u) {body} }}"""
    model = onnx.parser.parse_model(text)
    for name, shape in WEIGHTS.items():
        values = np.float32(0.75) if name == "k" else RNG.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
    return ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))


def _run(model):
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    rng = np.random.default_rng(1)
    feeds = {"x": (2, 3, 4), "m": (2, 3, 6), "z": (2, 1, 6)}
    feeds = {name: rng.normal(size=shape).astype(np.float32) for name, shape in feeds.items()}
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)[0]


@pytest.mark.parametrize("name", CASES)
def test_one_gemm(name):
    body, factor = CASES[name]
    model = _model(body)
    expected = _run(model)
    MatMulToGemmPass()(model)
    np.testing.assert_allclose(_run(model), expected, rtol=1e-6)
    assert {node.op_type for node in model.graph} == {"Abs", "Constant", "Reshape", "Gemm"}
    (gemm,) = (node for node in model.graph if node.op_type == "Gemm")
    assert gemm.inputs[1].producer().op_type == "Abs"
    assert gemm.attributes["beta"].as_float() == factor


@pytest.mark.parametrize("name", OTHERS)
def test_what_others_read_stays(name):
    model = _model(OTHERS[name])
    expected = _run(model)
    MatMulToGemmPass()(model)
    np.testing.assert_allclose(_run(model), expected, rtol=1e-6)
    assert "Gemm" in {node.op_type for node in model.graph} and "Add" in {node.op_type for node in model.graph}
