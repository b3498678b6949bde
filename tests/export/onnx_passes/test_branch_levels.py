"""Gated products with weights: between the branches, in levels, without rows where nobody wants them."""

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from onnxplain.export import export_model
from onnxplain.export.onnx_passes import branch_levels
from onnxplain.export.onnx_passes.gate_outputs import GateOutputsPass
from tests.helpers.export_cases import always_needed

# Two walks back through two layers, `first` and `second`, and what both give of each layer, `joint`
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[batch, 3, 4] x, float[batch, 3, 4] target) =>
      (float[batch, 3, 4] y, float[batch, 3, 4] chosen,
       float[batch, 3, 4] first, float[batch, 3, 8] second, float[batch, 3, 8] joint)
<float[4, 4] one = {1,2,0,0, 0,2,1,0, 0,0,3,1, 1,0,0,4}, float[4, 4] two = {2,0,1,0, 1,1,0,0, 3,0,1,0, 0,2,0,1}>
{
    y = Relu(x)
    chosen = Abs(target)
    seed = Exp(chosen)
    late = Tan(y)
    later = Sin(y)
    a = MatMul(seed, one)
    b = Cos(a)
    first = Neg(b)
    turned = Neg(target)
    size = MatMul(late, one)
    c = MatMul(turned, one)
    d = Mul(c, size)
    sizes = MatMul(later, two)
    e = MatMul(d, two)
    f = Mul(e, sizes)
    second = Concat <axis = 2> (d, f)
    g = Mul(b, d)
    h = Mul(a, f)
    joint = Concat <axis = 2> (g, h)
}
"""
FLAGS = {name: f"with_{name}" for name in ("first", "second", "joint")}
WANTED = [set(names) for count in range(4) for names in itertools.combinations(FLAGS, count)]
FEEDS = {name: np.linspace(-1, low, 24, dtype=np.float32).reshape(2, 3, 4) for name, low in (("x", 1), ("target", 0.5))}


def _plain():
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(GRAPH), data_prop=True)


def _session(model, **settings):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name, value in settings.items():
        setattr(options, name, value)
    return onnxruntime.InferenceSession(model, options)


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    model = ir.from_proto(_plain())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(branch_levels, "MIN_WEIGHT", 16)
        patch.setattr(branch_levels, "MANY", 12)
        GateOutputsPass(FLAGS)(model)
    path = tmp_path_factory.mktemp("levels") / "gated.onnx"
    ir.save(model, path)
    onnx.checker.check_model(path, full_check=True)
    return path


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: ",".join(sorted(wanted)) or "none")
def test_combination(wanted, gated, tmp_path):
    names = ["y", "chosen", *FLAGS]
    expected = dict(zip(names, _session(_plain().SerializeToString()).run(None, FEEDS), strict=True))
    session = _session(gated, enable_profiling=True, profile_file_prefix=str(tmp_path / "profile"))
    flags = {flag: np.array(name in wanted) for name, flag in FLAGS.items()}
    for name, tensor in zip(names, session.run(None, FEEDS | flags), strict=True):
        if name in {"y", "chosen", *wanted}:
            np.testing.assert_allclose(tensor, expected[name], rtol=1e-6)
        else:
            assert tensor.size == 0
    events = [e for e in json.loads(Path(session.end_profiling()).read_text()) if e["name"].endswith("_kernel_time")]
    rows = [e["args"]["output_type_shape"][0]["float"][0] for e in events if e["args"]["op_name"] == "MatMul"]
    assert len(rows) == 5  # a; size, c, sizes and e
    assert len([count for count in rows if count]) == sum(
        [not wanted.isdisjoint({"first", "joint"}), 4 * (not wanted.isdisjoint({"second", "joint"}))]
    )


def test_weights_stand_in_no_branch(gated):
    graph = ir.load(gated).graph
    inside = [
        node
        for choice in graph
        if choice.op_type == "If"
        for node in choice.attributes["then_branch"].as_graph()
        if any(value.is_initializer() for value in node.inputs)
    ]
    assert inside == []


def test_layers_are_done_one_after_the_other(gated):
    """What the walks leave of a layer is read before the next one's, and what does not depend on them comes late."""
    order = []
    for node in ir.load(gated).graph:
        if node.op_type == "If":
            order += [f"{inner.op_type} {inner.outputs[0].name}" for inner in node.attributes["then_branch"].as_graph()]
        else:
            order.append(f"{node.op_type} {node.outputs[0].name}")
    place = {name.split()[1].rpartition("/")[2]: number for number, name in enumerate(order)}
    assert place["g"] < place["e"] < place["f"] < place["h"]
    assert place["c"] < place["later"] < place["sizes"]


def test_small_values_wait(monkeypatch):
    """A branch more takes time to open, and is not made for what may as well be kept."""
    monkeypatch.setattr(branch_levels, "MIN_WEIGHT", 16)

    def branches():
        model = ir.from_proto(_plain())
        GateOutputsPass(FLAGS)(model)
        return sum(node.op_type == "If" for node in model.graph)

    few = branches()
    monkeypatch.setattr(branch_levels, "MANY", 12)
    assert few < branches()


def test_small_weights_stay_in_branches():
    model = ir.from_proto(_plain())
    GateOutputsPass(FLAGS)(model)
    assert {node.op_type for node in model.graph} == {"Relu", "Abs", "Identity", "Or", "If"}
    assert sum(node.op_type == "If" for node in model.graph) <= 6


def test_artifact(tmp_path, monkeypatch):
    """A file with all passes, as a large model has it: compared with PyTorch; branches give products their rows."""
    monkeypatch.setattr(branch_levels, "MIN_WEIGHT", 1)
    torch.manual_seed(0)
    model = VisionTransformer((32, 32), 8, num_classes=3, embed_dim=24, depth=3, num_heads=2).eval()
    preprocessing = {"size": (32, 32), "mean": [0.5] * 3, "std": [0.5] * 3}
    path = tmp_path / "large.onnx"
    assert export_model(model, path, labels=["a", "b", "c"], preprocessing=preprocessing).passed
    graph = ir.load(path).graph
    needed = always_needed(graph)
    products = [node for node in graph if node not in needed and node.op_type in ("MatMul", "Gemm")]
    assert len(products) > 3 * 4 * 3  # gradient and relevance of four layers in each of three blocks
    for node in products:
        rows = node.inputs[0].producer()
        rows = rows.inputs[0].producer() if rows.op_type == "Reshape" else rows
        assert rows.op_type in ("If", "MatMul", "Gemm")
