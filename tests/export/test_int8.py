"""Artifacts with backward passes in int8: against the float32 ones, and against their own graph."""

import copy
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from onnxplain.export import export_model
from onnxplain.export.verify.op_by_op import OnnxOpByOp
from onnxplain.lrp_graph import fuse
from onnxplain.lrp_graph.in_double import in_double
from onnxplain.runtime import OnnxplainError
from tests.helpers.export_cases import ILL_CONDITIONED, LABELS, build, preprocessing, run, samples
from tests.helpers.quick_export import export_unchecked
from tests.reference import variants

FORWARD = {"logits", "attention", "attention_mean", "attention_max", "attention_min"}
"""What the forward pass alone gives."""


def _wide() -> VisionTransformer:
    """Its hidden layer has as many columns as get some more in the file."""
    model = VisionTransformer(32, 8, num_classes=5, embed_dim=256, depth=1, num_heads=4)
    variants.randomise(model)
    return model.eval()


def _model(name: str) -> nn.Module:
    return _wide() if name == "wide" else build(name)


@pytest.fixture(scope="module", params=["plain", "clip", "wide"])
def files(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nn.Module, dict[str, Path]]:
    model, folder = _model(request.param), tmp_path_factory.mktemp(request.param)
    options = {"labels": LABELS, "preprocessing": preprocessing(model)}
    return model, {
        precision: export_unchecked(model, folder / f"{precision}.onnx", precision=precision, **options)
        for precision in ("float32", "int8")
    }


def _rows(name: str, tensor: np.ndarray) -> np.ndarray:
    """One for each image and target."""
    tensor = samples(name, tensor)
    return tensor.reshape(len(tensor), -1)


def test_what_needs_no_backward_pass_is_the_same_to_the_last_bit(files):
    model, paths = files
    x = variants.pixels(model, 3).numpy()
    single, rounded = (run(onnxruntime.InferenceSession(path), x) for path in paths.values())
    assert single.keys() == rounded.keys() >= FORWARD
    for name, right in single.items():
        if name in FORWARD or name in ("reciprocam", "features"):
            np.testing.assert_array_equal(rounded[name], right, err_msg=name)
            continue
        given, exact = (_rows(name, tensor) for tensor in (rounded[name], right))
        off = np.linalg.norm(given - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert 1e-5 < np.median(off) < (0.3 if name in ILL_CONDITIONED else 0.05), (name, off)


def test_the_file_is_the_fused_graph(files):
    """In float64 both round at the same places."""
    model, paths = files
    x, targets = variants.pixels(model, 2).double(), torch.tensor([[1, -1], [1, -1]])
    graph = fuse(copy.deepcopy(model).double(), x[:1], int8=True)
    with torch.no_grad(), in_double():
        right = graph(x, targets)
    given = OnnxOpByOp(paths["int8"]).run(x, targets, graph.names)
    for name, tensor in right.items():
        assert (given[name] - tensor).abs().max() <= 1e-7 * tensor.abs().max(), name


def test_a_linear_weight_is_there_once_in_float32_and_once_in_int8(files):
    model, paths = files
    single, rounded = (ir.load(path).graph for path in paths.values())
    codes = {name: item for name, item in rounded.initializers.items() if item.dtype == ir.DataType.INT8}
    linear = [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert set(codes) == {f"{name}.int8" for name in linear if f"{name}.int8" in codes} != set()
    for name, item in codes.items():
        w = rounded.initializers[name.removesuffix(".int8")].const_value.numpy()
        step = abs(w).max(1, keepdims=True) / 64
        assert abs(item.const_value.numpy() * step - w).max() <= step.max() / 2 * 1.001

    def large(graph):
        shapes = [tuple(item.shape) for item in graph.initializers.values() if item.dtype == ir.DataType.FLOAT]
        return Counter(shape for shape in shapes if min(shape, default=0) > 1 and np.prod(shape) > 1000)

    assert large(rounded) == large(single)


def test_rows_are_rounded_once_for_the_products_that_share_them(files):
    """Those of relevance on the way back, for the weight and its magnitude."""
    _, paths = files
    file = ir.load(paths["int8"])
    nodes = list(ir.traversal.RecursiveGraphIterator(file.graph))
    read = Counter(node.inputs[0] for node in nodes if node.op_type == "MatMulInteger")
    made = [node for node in nodes if node.op_type == "QuantizeLinear"]
    assert len(made) == len(read) and set(read.values()) == {1, 2}


def test_sums_become_numbers_and_are_multiplied_by_the_step_of_their_row_in_one_node(files):
    _, paths = files
    nodes = list(ir.traversal.RecursiveGraphIterator(ir.load(paths["int8"]).graph))
    sums = [node.outputs[0] for node in nodes if node.op_type == "MatMulInteger"]
    users = {user.op_type for value in sums for user in value.consumers()}
    flat = [user.outputs[0] for value in sums for user in value.consumers() if user.op_type == "Reshape"]
    assert users == {"Reshape", "Shape"} and len(flat) == len(sums)
    assert {user.op_type for value in flat for user in value.consumers()} == {"DequantizeLinear"}


def test_only_onnx_files_can_have_it(tmp_path):
    model = build("plain")
    with pytest.raises(OnnxplainError, match="`precision` int8 is for files of the format onnx"):
        export_model(model, tmp_path / "x.pt", "torchscript", precision="int8", labels=LABELS,
                     preprocessing=preprocessing(model))  # fmt: skip


def test_files_without_a_backward_pass_have_nothing_to_round(tmp_path):
    model = build("plain")
    for options in ({"passes": ["reciprocam"]}, {"heatmaps": ["rollout"]}):
        with pytest.raises(
            OnnxplainError, match=r"int8 is for passes that go back from the logits \(gradient, .*\), of which"
        ):
            export_model(model, tmp_path / "x.onnx", precision="int8", labels=LABELS,
                         preprocessing=preprocessing(model), **options)  # fmt: skip
    assert not list(tmp_path.iterdir())
