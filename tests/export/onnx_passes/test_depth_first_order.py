"""The order of the nodes of files without flags."""

import onnx
import onnx_ir as ir
import pytest

from onnxplain.export.onnx_passes.depth_first_order import DepthFirstOrderPass

GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[3] x) => (float[3] y, float[3] z)
{
    a1 = Sin(x)
    a2 = Sin(a1)
    b1 = Cos(a1)
    b2 = Cos(a2)
    m1 = Mul(a1, b1)
    m2 = Mul(a2, b2)
    z = Neg(a2)
    y = Add(m2, m1)
}
"""


def _model(text=GRAPH):
    return ir.from_proto(onnx.parser.parse_model(text))


def test_each_node_stands_behind_what_it_reads_and_the_first_input_first():
    model = _model()
    DepthFirstOrderPass()(model)
    assert [node.outputs[0].name for node in model.graph] == ["a1", "a2", "b2", "m2", "b1", "m1", "y", "z"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_the_graph_must_be_flat():
    branch = "if_body () => (float[3] r) { r = Identity(x) }"
    text = GRAPH.replace(
        "z = Neg(a2)",
        f"c = Constant <value = bool {{1}}> ()\n z = If (c) <then_branch = {branch}, "
        f"else_branch = {branch.replace('if', 'else')}>",
    )
    with pytest.raises(ir.passes.PreconditionError, match="not flat: If"):
        DepthFirstOrderPass()(_model(text))
