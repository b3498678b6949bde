"""What is not the model is refused by the gate, and nothing is written."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from onnxplain.contract.outputs import ALWAYS
from onnxplain.export import GateError, artifact, export_model
from onnxplain.export.formats.table import WRITERS
from onnxplain.export.verify import limits, portions, reference
from onnxplain.export.verify.report import Report
from onnxplain.lrp_graph.rules.vjp import GRADIENT
from onnxplain.runtime import METADATA_KEY, PASSES, Metadata
from onnxplain.runtime.backends.onnx import OnnxArtifact
from tests.helpers.export_cases import LABELS, OUTPUTS, PER_TARGET, PREPROCESSING, branch_of, scaled
from tests.reference import variants

aten = torch.ops.aten

ALL = [name for name in PASSES if name != "attention"]
STAGES = 4


@pytest.fixture(scope="module")
def model(plain):
    return plain


@pytest.fixture(scope="module")
def good(model, tmp_path_factory):
    """The path of an artifact of `model` that has passed."""
    path = tmp_path_factory.mktemp("good") / "good.onnx"
    export_model(model, path, labels=LABELS, preprocessing=PREPROCESSING)
    return path


def _failures(error):
    return {(row.output, row.check) for row in error.report.rows if not row.passed}


def _weight(name, factor):
    """A parameter, multiplied; found by its value, since the exporter renames some."""

    def damage(file, path):
        weight = variants.build("plain", torch.float32).state_dict()[name].numpy()
        values = file.graph.initializers.values()
        (value,) = (value for value in values if np.array_equal(value.const_value.numpy(), weight))
        value.const_value = ir.tensor(weight * np.float32(factor), name=value.name)

    return damage


def _ranks_reversed(file, path):
    """-1 stands for the class with the least logit."""
    (node,) = (node for node in file.graph if node.op_type == "TopK")
    node.attributes["largest"] = ir.AttrInt64("largest", 0)


def _ranks_of_the_first_image(file, path):
    """-1 stands for the first image's class with the greatest logit, in all images."""
    (node,) = (node for node in file.graph if node.op_type == "TopK")
    ranking = node.outputs[1]
    zero = ir.node("Constant", [], {"value": ir.tensor(np.array([0]), name="zero")})
    first = ir.node("Gather", [ranking, zero.outputs[0]], {"axis": 0})
    shape = ir.node("Shape", [ranking])
    for_all = ir.node("Expand", [first.outputs[0], shape.outputs[0]])
    nodes = {"zero": zero, "first": first, "shape_of_ranks": shape, "for_all": for_all}
    for name, new in nodes.items():
        new.outputs[0].name, new.outputs[0].type = name, ir.TensorType(ir.DataType.INT64)
    for user, place in list(ranking.uses()):
        if user not in nodes.values():
            user.replace_input_with(place, for_all.outputs[0])
    file.graph.insert_after(node, list(nodes.values()))


def _baked_in(output, bound=False):
    """An output as a constant, right for one image and class; bound: of the sizes that are compared."""

    def damage(file, path):
        feeds = {"pixels": np.ones((1, 3, 32, 32), np.float32), "target": np.zeros((1, 1), np.int64)}
        (tensor,) = onnxruntime.InferenceSession(path).run([output], feeds)
        times = [portions.IMAGES, portions.TARGETS] if output in PER_TARGET else [portions.IMAGES]
        if bound:
            tensor = np.tile(tensor, [*times, *[1] * (tensor.ndim - len(times))])
        branch = branch_of(file, output)
        constant = ir.node("Constant", [], {"value": ir.tensor(tensor, name="constant")})
        shape = ir.node("Shape", [branch.outputs[0]])
        baked = constant if bound else ir.node("Expand", [constant.outputs[0], shape.outputs[0]])
        for node, name in ((shape, "shape"), (constant, "one"), (baked, "baked")):
            kind = ir.DataType.INT64 if node is shape else ir.DataType.FLOAT
            node.outputs[0].name, node.outputs[0].type = name, ir.TensorType(kind)
        branch.extend([constant] if bound else [constant, shape, baked])
        branch.outputs[0] = baked.outputs[0]

    return damage


def _for_all(output, axis, index):
    """An output of one image (axis 0) or class (axis 1) as that of all of them."""

    def damage(file, path):
        branch = branch_of(file, output)
        right = branch.outputs[0]
        place = ir.node("Constant", [], {"value_ints": [index]})
        one = ir.node("Gather", [right, place.outputs[0]], {"axis": axis})
        shape = ir.node("Shape", [right])
        spread = ir.node("Expand", [one.outputs[0], shape.outputs[0]])
        _extend(branch, {"place": place, "shape": shape}, {"one": one, "spread": spread})

    return damage


def _for_two_images(output):
    """An output that is there for two images, also where there is one."""

    def damage(file, path):
        branch = branch_of(file, output)
        two = ir.node("Constant", [], {"value_ints": [2, *[1] * (len(branch.outputs[0].shape) - 1)]})
        spread = ir.node("Expand", [branch.outputs[0], two.outputs[0]])
        _extend(branch, {"two": two}, {"spread": spread})

    return damage


def _extend(branch, sizes, floats):
    """These nodes at the end, by the names of what they give; the last is the output."""
    for name, node in (sizes | floats).items():
        node.outputs[0].name = name
        node.outputs[0].type = ir.TensorType(ir.DataType.INT64 if name in sizes else ir.DataType.FLOAT)
    branch.extend([*sizes.values(), *floats.values()])
    branch.outputs[0] = list(floats.values())[-1].outputs[0]


EQUAL, FINITE = limits.EQUAL, limits.SOUND
RAW = [item.output for item in PASSES.values()]
DAMAGES = {
    "logits": (_weight("head.bias", 1.0001), {("logits", EQUAL)}),
    "nan": (_weight("head.bias", [1, 1, 1, 1, np.nan]), {("logits", FINITE)}),
    "weight": (_weight("pos_embed", 1.0001), {("attention", EQUAL), ("pixel_gradient", EQUAL)}),
    **{f"scaled {output}": (scaled(output, 1.0001), {(output, EQUAL)}) for output in OUTPUTS},
    **{f"constant {output}": (_baked_in(output), {(output, EQUAL)}) for output in RAW},
    "ranks": (_ranks_reversed, {("class_index", limits.RANKS)}),
    "ranks of the first image": (_ranks_of_the_first_image, {("class_index", limits.RANKS)}),
    "bound to a batch": (_baked_in("relevance", bound=True), {("relevance", FINITE)}),
    "bound to two images": (_for_two_images("relevance"), {("relevance", FINITE)}),
    **{f"last image {output}": (_for_all(output, 0, -1), {(output, EQUAL)}) for output in RAW},
    **{f"first class {output}": (_for_all(output, 1, 0), {(output, EQUAL)}) for output in RAW if output in PER_TARGET},
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_artifact_is_refused(name, model, good, kept, exporter_gives):
    damage, expected = DAMAGES[name]
    file = ir.load(good)
    damage(file, good)
    exporter_gives(file)
    with pytest.raises(GateError, match="does not equal the model, nothing was written") as caught:
        export_model(model, kept, passes=ALL, labels=LABELS, preprocessing=PREPROCESSING)
    assert expected <= _failures(caught.value)
    assert all(output in str(caught.value) for output, _ in expected) and "\n" not in str(caught.value)
    if name.startswith("scaled"):
        assert {output for output, _ in _failures(caught.value)} <= {output for output, _ in expected}


def test_wrong_rule_is_refused(model, kept, monkeypatch):
    monkeypatch.setitem(GRADIENT, aten.gelu, GRADIENT[aten.relu])
    with pytest.raises(GateError) as caught:
        export_model(model, kept, labels=LABELS, preprocessing=PREPROCESSING, passes=["gradient"])
    assert {("attention_gradient", EQUAL), ("gradient_attention_mean", EQUAL)} <= _failures(caught.value)
    assert {check for _, check in _failures(caught.value)} == {EQUAL}


def test_wrong_rule_is_refused_where_only_reductions_are_compared(model, kept, monkeypatch):
    monkeypatch.setitem(GRADIENT, aten.gelu, GRADIENT[aten.relu])
    monkeypatch.setattr(portions, "MAX_RAW", 1)
    with pytest.raises(GateError) as caught:
        export_model(model, kept, labels=LABELS, preprocessing=PREPROCESSING, passes=["gradient"])
    assert ("gradient_attention_mean", EQUAL) in _failures(caught.value)
    assert "attention_gradient" not in {row.output for row in caught.value.report.rows}


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("good", ALL),
        ("scaled relevance_positive", ["relevance"]),
        ("scaled reciprocam", ["reciprocam"]),
        ("scaled attention_mean", ["gradient"]),
    ],
)
def test_large_inputs(name, passes, model, good, tmp_path, exporter_gives, monkeypatch):
    """Where raw tensors are too large to take out, their reductions are compared, and the report says so."""
    monkeypatch.setattr(portions, "MAX_RAW", 4 * 2 * 4 * 17 * 17 - 1)
    large = {"attention", "attention_gradient", "relevance", "layer_gradient"}
    runs, run = [], OnnxArtifact.run
    asked, compute = [], reference.FusedGraph.compute
    monkeypatch.setattr(OnnxArtifact, "run", lambda *given: runs.append(set(given[-1])) or run(*given))
    monkeypatch.setattr(reference.FusedGraph, "compute", lambda *given: asked.append(given[-1]) or compute(*given))
    file = ir.load(good)
    path = tmp_path / "large.onnx"
    if name != "good":
        DAMAGES[name][0](file, good)
    exporter_gives(file)
    options = {"labels": LABELS, "preprocessing": PREPROCESSING, "passes": passes}
    if name == "good":
        report = export_model(model, path, **options)
        assert {row.output for row in report.rows} == {*ALWAYS, *OUTPUTS} - large
        assert len(report.notes) == 1 and all(output in report.notes[0] for output in large)
        assert Metadata.from_json(ir.load(path).metadata_props[METADATA_KEY]).parity["notes"] == list(report.notes)
    else:
        with pytest.raises(GateError) as caught:
            export_model(model, path, **options)
        assert DAMAGES[name][1] == {item for item in _failures(caught.value) if item[1] == EQUAL}
    assert large.isdisjoint(set().union(*runs)) and len(runs) > portions.TARGETS
    assert (asked and all(asked)) if passes != ["gradient"] else not asked, "values that are not computed again"


@pytest.mark.parametrize("stage", range(STAGES))
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interrupted_export_leaves_nothing(stage, error, model, good, kept, exporter_gives):
    """At the last stage the gate is passed: the damages above, and nothing else, are what it refuses."""
    exporter_gives(ir.load(good))
    stages = []

    def progress(description):
        stages.append(description)
        if len(stages) > stage:
            raise error("stop")

    for path in (kept, kept.parent / "new" / "folder" / "artifact.onnx"):
        stages.clear()
        with pytest.raises(error, match="stop"):
            export_model(model, path, labels=LABELS, preprocessing=PREPROCESSING, progress=progress)
        assert len(stages) == stage + 1


def test_existing_artifact_is_replaced(model, good, tmp_path, exporter_gives):
    exporter_gives(ir.load(good))
    path = tmp_path / "artifact.onnx"
    path.write_bytes(b"before")
    assert export_model(model, str(path), labels=LABELS, preprocessing=PREPROCESSING).passed
    assert path.read_bytes() == good.read_bytes() and list(tmp_path.iterdir()) == [path]
    other = tmp_path / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_reciprocam_of_many_patches_is_left_out_unless_named(model, good, tmp_path, made_once, monkeypatch):
    copies = 4 * 16 * 17 * 32  # bytes: patches, tokens, width
    options = {"labels": LABELS, "preprocessing": PREPROCESSING}
    for limit, passes, there in ((copies, None, True), (copies - 1, None, False), (copies - 1, ["reciprocam"], True)):
        graphs = []
        monkeypatch.setattr(artifact, "MAX_COPIES", limit)
        row = replace(WRITERS["onnx"], translate=lambda graph, *_, to=graphs: to.append(graph) or ir.load(good))
        monkeypatch.setitem(WRITERS, "onnx", row)
        monkeypatch.setattr(artifact, "compare", lambda *_: Report(()))
        report = export_model(model, tmp_path / "x.onnx", passes=passes, **options)
        assert ("reciprocam" in graphs[0].passes) == there == (not report.notes)
        assert there or report.notes[0].startswith("reciprocam: left out, since it would need several times")
