"""The forms for converters in a small graph: what they become, and the same numbers."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnxruntime.quantization import quantize_dynamic

from onnxplain.export.onnx_passes.forms_for_converters import FormsForConvertersPass

# Two products read `shared`, and one `own`; `both` reads neither number first; `zeros` is no bias, `ones` is
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[n, 2] x, float[n, 2, 1, 1] z)
    => (float[n, 2] there, float[n, 2] back, float[n, 2] alone, float[n, 2] more, float[n, 2] less, float[n, 2] both,
        float[n, 2, 1, 1] without, float[n, 2, 1, 1] biased)
<float[2, 2] shared = {1, 2, 3, 4}, float[2, 2] own = {1, 3, 0, 1}, float[2, 2, 1, 1] kernel = {1, 2, 0, 1},
 float[2] zeros = {0, 0}, float[2] ones = {1, 1}, float zero = {0}>
{
    there = Gemm <transB = 1> (x, shared)
    back = MatMul(x, shared)
    alone = Gemm <transB = 1> (x, own)
    more = Max(x, zero)
    less = Min(x, zero)
    both = Max(x, back)
    without = Conv(z, kernel, zeros)
    biased = Conv(z, kernel, ones)
}
"""


@pytest.fixture
def model() -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(GRAPH))


@pytest.fixture
def changed(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = ir.from_proto(model)
    FormsForConvertersPass()(changed)
    proto = ir.to_proto(changed)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _run(model: onnx.ModelProto | Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    feeds = {name: rng.normal(size=(3, 2, *rest)).astype(np.float32) for name, rest in {"x": (), "z": (1, 1)}.items()}
    session = onnxruntime.InferenceSession(model if isinstance(model, Path) else model.SerializeToString())
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_forms(changed: onnx.ModelProto) -> None:
    nodes = {node.output[0]: node for node in changed.graph.node}
    assert [nodes[name].op_type for name in ("more", "less", "both")] == ["Clip", "Clip", "Max"]
    assert list(nodes["more"].input) == ["x", "zero", ""] and list(nodes["less"].input) == ["x", "", "zero"]
    assert list(nodes["without"].input) == ["z", "kernel"] and list(nodes["biased"].input) == ["z", "kernel", "ones"]
    between = nodes[nodes["there"].input[1]]
    assert between.op_type == "Identity" and list(between.input) == ["shared"]
    assert nodes["alone"].input[1] == "own" and nodes["back"].input[1] == "shared"
    assert "zeros" not in {weight.name for weight in changed.graph.initializer}


def test_numbers_are_the_same_to_the_bit(model: onnx.ModelProto, changed: onnx.ModelProto) -> None:
    after = _run(changed)
    for name, before in _run(model).items():
        np.testing.assert_array_equal(after[name], before)


def test_int8_does_not_transpose_what_others_read(changed: onnx.ModelProto, tmp_path: Path) -> None:
    """Without the identity, `back` is the product with the transposed weight."""
    onnx.save(changed, tmp_path / "float32.onnx")
    quantize_dynamic(tmp_path / "float32.onnx", tmp_path / "int8.onnx", op_types_to_quantize=["MatMul"])
    given, expected = _run(tmp_path / "int8.onnx"), _run(changed)
    for name in ("there", "back", "alone"):
        np.testing.assert_allclose(given[name], expected[name], atol=0.1)
