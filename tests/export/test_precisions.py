"""Artifacts of other precisions: float64 against the definitions, weights in float16 against the rounded model."""

import copy
import functools

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import skimage.data
import torch

from onnxplain.contract.outputs import HEATMAP
from onnxplain.export import GateError, export_model
from onnxplain.export.formats.onnx_file import save_onnx
from onnxplain.export.formats.rounding import rounded_copy
from onnxplain.export.verify import limits, parity
from onnxplain.lrp_graph import fuse
from onnxplain.runtime import Explainer, OnnxplainError
from tests.helpers.export_cases import LABELS, build, preprocessing, reference, run
from tests.helpers.quick_export import export_unchecked

PASSES = ("gradient", "relevance", "pixel_relevance")
MODELS = [
    pytest.param("registers", PASSES, id="registers"),
    *(pytest.param(name, None, id=name, marks=pytest.mark.slow) for name in ("mean_pool_non_square", "clip", "plain")),
]
FINE, ROUNDED = 1e-6, 1e-5


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """By a model's name and a precision the model and its file, not compared with it."""
    folder = tmp_path_factory.mktemp("precisions")

    @functools.cache
    def case(name, precision, **options):
        model, path = build(name), folder / f"{len(list(folder.iterdir()))}.onnx"
        options |= {"labels": LABELS, "preprocessing": preprocessing(model)}
        return model, export_unchecked(model, path, precision=precision, **options)

    return case


def pixels(model, count=2):
    return torch.randn(count, 3, *model.patch_embed.img_size, generator=torch.Generator().manual_seed(0))


def outputs_of(path, x):
    return run(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]), x.numpy())


def off(given, right):
    return np.abs(given - right).max() / np.abs(right).max()


@pytest.mark.parametrize(("name", "passes"), MODELS)
def test_float64_equals_the_definitions(name, passes, cases):
    """Every output, relevance among them, of which float32 is off by much more."""
    model, path = cases(name, "float64", passes=passes)
    x = pixels(model)
    right = reference(copy.deepcopy(model).double(), x.double())
    given, single = outputs_of(path, x), outputs_of(cases(name, "float32", passes=passes)[1], x)
    assert given.keys() == single.keys() and {tensor.dtype for tensor in given.values()} == {np.dtype(np.float32)}
    assert passes is None or {"relevance", "attention_gradient", "pixel_relevance"} <= given.keys() <= right.keys()
    for output in given:
        assert off(given[output], right[output]) < FINE, output
    assert off(single["relevance"], right["relevance"]) > 10 * FINE


def test_a_float64_file(cases):
    """Weights are stored as the float32 numbers that they are; what export computes from them is in full."""
    (_, path), (_, single) = (cases("registers", precision, passes=PASSES) for precision in ("float64", "float32"))
    assert path.stat().st_size < 1.3 * single.stat().st_size
    graph = ir.load(path).graph
    assert graph.initializers["blocks.0.attn.qkv.weight"].dtype == ir.DataType.FLOAT
    kinds = {value.dtype for node in ir.traversal.RecursiveGraphIterator(graph) for value in node.outputs}
    assert ir.DataType.FLOAT in kinds  # the outputs alone
    computed = [node for node in ir.traversal.RecursiveGraphIterator(graph) if node.op_type in ("MatMul", "Gemm")]
    assert computed and {node.outputs[0].dtype for node in computed} == {ir.DataType.DOUBLE}
    assert {value.name: value.dtype for value in graph.inputs[:1]} == {"pixels": ir.DataType.FLOAT}


def checked(model, path, precision, **options):
    options = {"labels": LABELS, "preprocessing": preprocessing(model), **options}
    return export_model(model, path, precision=precision, **options)


def test_the_gate_of_float64(tmp_path):
    """Each output is compared as onnxruntime gives it; what rounding leaves of a map is that of the outputs."""
    model = build("registers")
    report = checked(model, tmp_path / "x.onnx", "float64", passes=["gradient", "relevance"])
    as_it_is = {row.output: row for row in report.rows if row.check == limits.AS_IT_IS}
    assert {"logits", "attention", "relevance", "gradient_relevance_positive"} <= as_it_is.keys()
    assert all(row.limit == 1e-6 for row in as_it_is.values())
    assert not any(row.check == limits.IN_FLOAT32 for row in report.rows)
    assert 0 < max(report.resolution.values()) < FINE
    explainer = Explainer(tmp_path / "x.onnx", "cpu")
    assert explainer.metadata.precision == "float64" and explainer.metadata.resolution == report.resolution
    result = explainer.explain(skimage.data.rocket(), method="transformer_attribution")
    assert result.precision == "float64" and result.resolution < FINE
    assert_rounded_constants_are_found(model, tmp_path, explainer.metadata)


class Tangent(torch.nn.Module):
    def forward(self, x):
        return torch.tan(x / 10)


@pytest.mark.parametrize("layer", [torch.nn.PReLU(), torch.nn.Conv1d(16, 16, 3, padding=1)], ids=["prelu", "conv1d"])
def test_ops_without_a_kernel_in_float64_are_written_as_others(layer, tmp_path):
    model = build("registers")
    model.patch_embed.norm = layer
    path = export_unchecked(
        model, tmp_path / "x.onnx", precision="float64", passes=[], labels=LABELS, preprocessing=preprocessing(model)
    )
    x = pixels(model)
    right = copy.deepcopy(model).double()(x.double()).detach().numpy()
    assert off(outputs_of(path, x)["logits"], right) < FINE


def test_ops_that_onnxruntime_cannot_compute_in_float64_are_named(tmp_path):
    model = build("registers")
    model.patch_embed.norm = Tangent()
    with pytest.raises(
        OnnxplainError, match=r"^onnxruntime cannot compute Tan in float64; choose another `precision`$"
    ):
        checked(model, tmp_path / "x.onnx", "float64", passes=[])
    assert not list(tmp_path.iterdir())


def assert_rounded_constants_are_found(model, folder, metadata):
    """A file that computes in float64 with float32's constants is another function."""
    file = ir.load(folder / "x.onnx")
    for value in file.graph.initializers.values():
        if value.dtype == ir.DataType.DOUBLE:
            numbers = value.const_value.numpy().astype(np.float32).astype(np.float64)
            value.const_value = ir.tensor(numbers, name=value.name)
    save_onnx(file, metadata.to_json(), folder / "y.onnx")
    example = torch.zeros(1, 3, *metadata.preprocessing.size)
    graph = fuse(model, example, ["gradient", "relevance"], exact_constants=True)
    report = parity.compare(folder / "y.onnx", metadata, model, graph)
    assert "relevance" in {row.output for row in report.rows if not row.passed}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"heatmaps": ["transformer_attribution", "full", "rollout"]}, marks=pytest.mark.slow),
        {"heatmaps": ["transformer_attribution", "legrad"], "flags": "optional", "input": "image"},
        pytest.param({"heatmaps": ["generic_attention"], "flags": "none"}, marks=pytest.mark.slow),
    ],
    ids=["required", "image", "one"],
)
def test_plain_files_in_float64(options, tmp_path):
    report = checked(build("registers"), tmp_path / "x.onnx", "float64", **options)
    assert report.passed and {HEATMAP + name for name in options["heatmaps"]} <= {row.output for row in report.rows}
    assert max(report.resolution.values()) < FINE
    for method in options["heatmaps"]:
        assert np.isfinite(
            Explainer(tmp_path / "x.onnx", "cpu").explain(skimage.data.rocket(), method=method).tokens
        ).all()
    onnx.checker.check_model(str(tmp_path / "x.onnx"))


def test_float16_is_the_rounded_model(cases):
    """To the last digits of float32: arithmetic is the same, and weights are read as they were rounded."""
    model, path = cases("registers", "float16", passes=("gradient",))
    graph = ir.load(path).graph
    narrow = {name for name, value in graph.initializers.items() if value.dtype == ir.DataType.FLOAT16}
    large = {name for name, value in model.named_parameters() if value.dim() > 1 and value.numel() >= 4096}
    assert narrow == large and "blocks.0.mlp.fc1.weight" in narrow and "blocks.0.mlp.fc1.bias" not in narrow
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in rounded.named_parameters():
            parameter.copy_(parameter.half() if name in large else parameter)
    x = pixels(model)
    given, right = outputs_of(path, x), reference(rounded, x)
    for name in ("logits", "attention", "attention_gradient"):
        assert off(given[name], right[name]) < ROUNDED, name
    assert off(given["logits"], reference(model, x)["logits"]) > ROUNDED


def test_the_gate_of_float16(tmp_path, monkeypatch):
    """The file is compared with the rounded model, and what rounding does to logits, attention and maps is told."""
    model = build("registers")
    before = copy.deepcopy(model.state_dict())
    options = {"passes": ["gradient"]}
    report = checked(model, tmp_path / "x.onnx", "float16", **options)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    rounding = {row.output: row.value for row in report.rows if row.check == limits.OF_FLOAT16}
    assert rounding.keys() == {"logits", "attention"}
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()  # as the gate's
    with torch.no_grad():
        rounded, right = (one.double()(x) for one in (rounded_copy(model, torch.float16), copy.deepcopy(model)))
    assert rounding["logits"] == pytest.approx(off(rounded[0].numpy(), right[0].numpy()), rel=1e-3)
    equal = {row.output: row.value for row in report.rows if row.check == limits.EQUAL}
    assert equal["logits"] < 1e-6 < rounding["logits"]
    single = checked(model, tmp_path / "y.onnx", "float32", **options)
    assert report.resolution["rollout"] > 10 * single.resolution["rollout"]
    monkeypatch.setattr(limits, "MAX_OF_FLOAT16", rounding["logits"] / 2)
    with pytest.raises(GateError, match="logits what weights in float16 change"):
        checked(model, tmp_path / "z.onnx", "float16", **options)


@pytest.mark.parametrize("factor", [1e25, 1e8, 1e-7, 1e-28])
def test_weights_beyond_float16_stay(factor):
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Linear(128, 64))
    with torch.no_grad():
        model[0].weight.mul_(factor)
    first, second = rounded_copy(model, torch.float16)
    assert torch.equal(first.weight, model[0].weight) and torch.equal(second.weight, model[1].weight.half().float())
    assert torch.equal(second.bias, model[1].bias) and not torch.equal(second.weight, model[1].weight)


def test_torchscript_is_refused(tmp_path):
    with pytest.raises(OnnxplainError, match="`precision` float64 is for files of the format onnx"):
        checked(build("plain"), tmp_path / "x.pt", "float64", format="torchscript")
