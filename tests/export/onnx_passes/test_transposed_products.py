"""Transposed products with their factors in the other order, in a small graph that onnxruntime runs."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir.passes import PostconditionError

from onnxplain.export.onnx_passes.transposed_products import TransposedProductsPass

# Four that can be computed directly; of the others the product is read twice, is an output, has no transposed factor,
# is added to, or is permuted in another way
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[b, 5, 3] q, float[b, 4, 3] k, float[t, b, 5, 4] s)
    => (float[t, b, 4, 3] plain, float[t, b, 4, 3] scaled, float[t, b, 4, 3] divided, float[t, b, 4, 3] halved,
        float[t, b, 4, 3] twice, float[t, b, 3, 4] again, float[t, b, 4, 3] shown, float[t, b, 3, 4] seen,
        float[t, b, 4, 5] other, float[t, b, 4, 3] moved, float[b, t, 3, 4] permuted)
<float half = {0.5}>
{
    qt = Transpose <perm = [0, 2, 1]> (q)
    kt = Transpose <perm = [0, 2, 1]> (k)
    plain_product = MatMul(qt, s)
    plain = Transpose <perm = [0, 1, 3, 2]> (plain_product)
    scaled_product = MatMul(qt, s)
    scaled_half = Mul(scaled_product, half)
    scaled_times = Mul(kt, scaled_half)
    scaled = Transpose <perm = [0, 1, 3, 2]> (scaled_times)
    divided_product = MatMul(qt, s)
    divided_by = Div(divided_product, kt)
    divided = Transpose <perm = [0, 1, 3, 2]> (divided_by)
    halved_product = MatMul(qt, s)
    halved_by = Div(halved_product, half)
    halved = Transpose <perm = [0, 1, 3, 2]> (halved_by)
    twice_product = MatMul(qt, s)
    twice = Transpose <perm = [0, 1, 3, 2]> (twice_product)
    again = Abs(twice_product)
    seen = MatMul(qt, s)
    shown = Transpose <perm = [0, 1, 3, 2]> (seen)
    other_scores = MatMul(q, kt)
    other_sum = Add(other_scores, s)
    other = Transpose <perm = [0, 1, 3, 2]> (other_sum)
    moved_product = MatMul(qt, s)
    moved_sum = Add(moved_product, half)
    moved = Transpose <perm = [0, 1, 3, 2]> (moved_sum)
    permuted_product = MatMul(qt, s)
    permuted = Transpose <perm = [1, 0, 2, 3]> (permuted_product)
}
"""
DIRECT = {"plain", "scaled", "divided", "halved"}


@pytest.fixture
def model() -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(GRAPH))


@pytest.fixture
def changed(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = ir.from_proto(model)
    TransposedProductsPass()(changed)
    proto = ir.to_proto(changed)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _run(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"q": (2, 5, 3), "k": (2, 4, 3), "s": (6, 2, 5, 4)}
    feeds = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in model.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_products_that_are_only_read_transposed_are_computed_so(changed: onnx.ModelProto) -> None:
    makers = {node.output[0]: node for node in changed.graph.node}
    ends = {output.name for output in changed.graph.output} - {"again", "seen"}
    assert {name for name in ends if makers[name].op_type != "Transpose"} == DIRECT
    products = [node for node in changed.graph.node if node.op_type == "MatMul"]
    transposed = [node for node in products if node.input[1] == "q" and makers[node.input[0]].op_type == "Transpose"]
    assert len(transposed) == len(DIRECT) and len(products) == 9, "those of before are gone"


def test_numbers_are_the_same(model: onnx.ModelProto, changed: onnx.ModelProto) -> None:
    before, after = _run(model), _run(changed)
    for name, right in before.items():
        np.testing.assert_allclose(after[name], right, rtol=1e-5, atol=1e-6, err_msg=name)


def test_what_it_ensures(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(step: ir.passes.PassBase, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=False)

    monkeypatch.setattr(TransposedProductsPass, "call", nothing)
    with pytest.raises(PostconditionError, match="transposes a product"):
        TransposedProductsPass()(ir.from_proto(model))
