"""What flags switch off does not run, and what several outputs need runs once: a small graph, every combination."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from onnxplain.export.onnx_passes.gate_outputs import GateOutputsPass

# `third` is used by `fourth`, `same` is computed anyway; Transpose and Shape are used across groups
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[batch, 4] x) => (float[batch, 4] y, float[batch, batch] first, float[batch, 4] second,
                              float[batch, 4] third, float[n] fourth, float[batch, 4] same)
<float[4, 4] weight = {1,0,0,0, 0,2,0,0, 0,0,3,0, 0,0,0,4}>
{
    y = Relu(x)
    scale = Abs(weight)
    common = Exp(y)
    two = Sin(common)
    turned = Transpose <perm = [1, 0]> (two)
    first = MatMul(two, turned)
    scaled = MatMul(common, scale)
    back = Transpose <perm = [1, 0]> (turned)
    second = Sub(scaled, back)
    third = Cos(common)
    shape = Shape(y)
    length = ReduceProd <keepdims = 1> (shape)
    flat = Reshape(third, length)
    fourth = Tan(flat)
    same = Identity(y)
}
"""
NEEDS = {
    "first": {"Exp", "Sin"},
    "second": {"Exp", "Sin", "Sub"},
    "third": {"Exp", "Cos"},
    "fourth": {"Exp", "Cos", "Tan"},
}
NEEDS |= {"same": set()}
FLAGS = {name: f"with_{name}" for name in NEEDS}
COMBINATIONS = [set(names) for count in range(len(NEEDS) + 1) for names in itertools.combinations(NEEDS, count)]
X = np.array([[-1, 0, 0.5, 2], [1, -2, 0, 0.25], [0, 1, 1, -1]], np.float32)


def _plain():
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(GRAPH), data_prop=True)


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    model = ir.from_proto(_plain())
    GateOutputsPass(FLAGS)(model)
    path = tmp_path_factory.mktemp("gated") / "gated.onnx"
    ir.save(model, path)
    onnx.checker.check_model(path, full_check=True)
    return path


def _session(model, **settings):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in settings.items():
        setattr(options, name, value)
    return onnxruntime.InferenceSession(model, options)


@pytest.fixture(scope="module")
def expected():
    session = _session(_plain().SerializeToString())
    return dict(zip(["y", *NEEDS], session.run(None, {"x": X}), strict=True))


@pytest.mark.parametrize("wanted", COMBINATIONS, ids=lambda wanted: ",".join(sorted(wanted)) or "none")
def test_combination(wanted, gated, expected, tmp_path):
    session = _session(gated, enable_profiling=True, profile_file_prefix=str(tmp_path / "profile"))
    feeds = {flag: np.array(name in wanted) for name, flag in FLAGS.items()}
    given = dict(zip(["y", *NEEDS], session.run(None, feeds | {"x": X}), strict=True))
    np.testing.assert_array_equal(given.pop("y"), expected["y"])
    for name, tensor in given.items():
        assert tensor.dtype == np.float32 and tensor.ndim == expected[name].ndim
        if name in wanted:
            np.testing.assert_allclose(tensor, expected[name], rtol=1e-6)
        else:
            assert tensor.size == 0
    events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [event for event in events if event["name"].endswith("_kernel_time")]
    ran = Counter(event["args"]["op_name"] for event in kernels)
    needed = set().union(*(NEEDS[name] for name in wanted))
    assert {op: ran[op] for op in ("Exp", "Sin", "Sub", "Cos", "Tan")} == {
        op: int(op in needed) for op in ("Exp", "Sin", "Sub", "Cos", "Tan")
    }


def test_flags_are_optional(gated, expected):
    session = _session(gated)
    assert [value.name for value in session.get_overridable_initializers()] == list(FLAGS.values())
    for given, name in zip(session.run(None, {"x": X}), ["y", *NEEDS], strict=True):
        np.testing.assert_allclose(given, expected[name], rtol=1e-6)


def test_one_branch_a_group(gated):
    """Each set of outputs that need the same has one If; weights, shapes and views do not cross."""
    graph = ir.load(gated).graph
    choices = [node for node in graph if node.op_type == "If"]
    insides = [sorted(node.op_type for node in choice.attributes["then_branch"].as_graph()) for choice in choices]
    shared, own = [["Exp"], ["Sin"], ["Cos"]], [["MatMul", "Transpose"], ["Reshape", "Tan"], ["Identity"], ["Identity"]]
    assert sorted(insides[:3]) == sorted(shared)
    assert sorted(insides[3:]) == sorted([*own, ["MatMul", "Sub", "Transpose", "Transpose"]])
    assert sum(len(choice.outputs) for choice in choices) == len(NEEDS) + 3
    assert {node.op_type for node in graph} == {"Relu", "Identity", "Abs", "Shape", "ReduceProd", "Or", "If"}


def test_models_own_or_nodes_are_few(gated):
    """The condition of many outputs is made of those of fewer."""
    conditions = [node for node in ir.load(gated).graph if node.op_type == "Or"]
    assert len(conditions) == 3


def test_the_order_of_branches_is_that_of_the_graph(gated):
    """Of groups of as many outputs: else the file would be another each time."""
    choices = [node for node in ir.load(gated).graph if node.op_type == "If"]
    order = [node.op_type for choice in choices for node in choice.attributes["then_branch"].as_graph()]
    assert order.index("Sin") < order.index("Cos")


def test_one_layer_is_done_before_the_next_begins():
    """In a branch, too: what a layer needs is let go of as early as it can be."""
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    layers (float[batch, 4] x) => (float[batch, 4] y, float[batch, 8] both)
    { y = Relu(x) one = Exp(y) two = Sin(y) small = Neg(one) other = Cos(two) both = Concat <axis = 1> (small, other) }
    """
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    GateOutputsPass({"both": "with_both"})(model)
    (choice,) = (node for node in model.graph if node.op_type == "If")
    branch = choice.attributes["then_branch"].as_graph()
    assert [node.op_type for node in branch] == ["Exp", "Neg", "Sin", "Cos", "Concat"]
