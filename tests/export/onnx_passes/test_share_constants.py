"""Equal constants are one initializer; weights keep theirs."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from onnxplain.export.onnx_passes.share_constants import ShareConstantsPass

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[2] x, bool wanted = {1}) => (float[2] y, float[2] z)
<float one = {1}, float other = {1}, float[1] axis = {1}, float two = {2}, bool true = {1},
 float[2] weight = {1, 1}, float[2] twin = {1, 1}, int32 number = {1}>
{
    a = Add(x, one)
    b = Mul(a, two)
    c = Add(b, other)
    d = Mul(c, axis)
    e = Mul(d, weight)
    y = Add(e, twin)
    f = Cast <to = 1> (number)
    g = Mul(f, x)
    z = If (wanted) <
        then_branch = then () => (float[2] p) { p = Add(g, other) },
        else_branch = else () => (float[2] q) { q = Add(g, one) }
    >
}
"""


def test_equal_constants_are_one():
    model = onnx.parser.parse_model(GRAPH.replace("bool wanted = {1}", "bool wanted").replace(", bool true = {1}", ""))
    changed = ir.from_proto(model)
    assert ShareConstantsPass(kept={"weight", "twin"})(changed).modified
    assert set(changed.graph.initializers) == {"one", "axis", "two", "weight", "twin", "number"}
    assert not ShareConstantsPass(kept={"weight", "twin"})(changed).modified
    feeds = {"x": np.array([0.5, -3], np.float32), "wanted": np.array(True)}
    before, after = (
        onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)
        for proto in (model, ir.to_proto(changed))
    )
    np.testing.assert_array_equal(before, after)
