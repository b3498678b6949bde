"""Weights have their paths in the model, all values a name of their own that a reader can use, and none is long."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx_ir.passes import PostconditionError, PreconditionError
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from onnxplain.contract import Preprocessing
from onnxplain.contract.outputs import ALWAYS, OUTPUTS
from onnxplain.export import Backbone
from onnxplain.export.artifact import fuse_passes, translate, write
from onnxplain.export.onnx_passes.gate_outputs import GateOutputsPass
from onnxplain.export.onnx_passes.matmul_to_gemm import MatMulToGemmPass
from onnxplain.export.onnx_passes.name_values import NameValuesPass
from onnxplain.export.plan import prepare
from tests.reference import variants

PASSES = ["gradient", "relevance"]
LONGEST = 60
"""Characters of a name."""


class _Awkward(nn.Module):
    """Layers that share a weight, a weight that is not transposed, and parameters that are called as outputs are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.vit = VisionTransformer((32, 32), 8, num_classes=0, embed_dim=24, depth=2, num_heads=2)
        self.vit.blocks[1].mlp.fc1.weight = self.vit.blocks[0].mlp.fc1.weight
        self.attention = nn.Parameter(torch.randn(24, 24))
        self.logits = nn.Parameter(torch.randn(24, 5))
        self.with_gradient = nn.Parameter(torch.randn(24, 5))
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.vit(pixels) @ self.attention
        return features @ self.logits + (features @ self.with_gradient).tanh()


def _export(model: nn.Module, path: Path) -> ir.Model:
    preprocessing = Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3)
    plan = prepare(Backbone("x", model, preprocessing, tuple("abcde"), "softmax", "random", None), passes=PASSES)
    write(translate(plan, fuse_passes(plan)[0]), path)
    onnx.checker.check_model(path, full_check=True)
    return ir.load(path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    return _export(variants.build("plain", torch.float32), tmp_path_factory.mktemp("plain") / "plain.onnx")


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    return _export(_Awkward(), tmp_path_factory.mktemp("awkward") / "awkward.onnx")


def _weights(model: ir.Model) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items() if value.const_value}


def _all_names(model: ir.Model) -> list[str]:
    """Of every value, each once."""
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    values = [
        *model.graph.inputs,
        *(value for value in model.graph.initializers.values() if not value.is_graph_input()),
    ]
    return [value.name or "" for value in (*values, *(value for node in nodes for value in node.outputs))]


def test_weights_have_their_paths_in_the_model(plain: ir.Model) -> None:
    weights = _weights(plain)
    state = variants.build("plain", torch.float32).state_dict()
    assert state.keys() - weights.keys() == {"blocks.0.attn.qkv.weight"}  # which nothing but the forward pass reads
    np.testing.assert_array_equal(weights["blocks.0.attn.qkv.weight.T"], state.pop("blocks.0.attn.qkv.weight").T)
    for path, tensor in state.items():
        np.testing.assert_array_equal(weights[path], tensor.numpy())
    others = weights.keys() - state.keys() - {"blocks.0.attn.qkv.weight.T"}
    assert all(name.startswith(("initializer_", "with_")) for name in others)


def test_values_are_named_after_the_op_and_the_module_whose_weight_it_reads(plain: ir.Model) -> None:
    nodes = list(ir.traversal.RecursiveGraphIterator(plain.graph))
    assert all(node.name for node in nodes)
    names = {node.name for node in nodes}
    assert {"blocks.0.norm1/LayerNormalization_1", "blocks.1.mlp.fc1/Gemm_1", "Softmax_1", "Softmax_2"} <= names
    for node in nodes:
        if node.op_type != "If" and node.outputs[0].name not in {*ALWAYS, *OUTPUTS}:
            assert node.op_type in (node.name or "") or (node.name or "").endswith("/empty"), node


@pytest.mark.parametrize("case", ["plain", "awkward"])
def test_every_name_is_one_values_and_short(case: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(case)
    counts = Counter(_all_names(model))
    assert set(counts.values()) == {1} and "" not in counts
    assert max(map(len, counts)) <= LONGEST
    assert max(len(node.name or "") for node in ir.traversal.RecursiveGraphIterator(model.graph)) <= LONGEST
    assert not any(value.metadata_props for value in model.graph.initializers.values())


def test_awkward_weights(awkward: ir.Model) -> None:
    """A weight of two layers is there once; names of outputs and flags stay theirs; numbers are as they were."""
    model, weights = _Awkward(), _weights(awkward)
    shared = model.vit.blocks[0].mlp.fc1.weight.detach().numpy()
    same = [name for name, array in weights.items() if array.shape == shared.shape and np.array_equal(array, shared)]
    assert len(same) == 1 and same[0].endswith("mlp.fc1.weight")
    for path in ("attention", "logits", "with_gradient"):
        np.testing.assert_array_equal(weights[f"{path}_1"], getattr(model, path).detach().numpy())
    pixels = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(ir.to_proto(awkward).SerializeToString())
    (logits,) = session.run(["logits"], {"pixels": pixels, "target": np.zeros((2, 1), np.int64)})
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(torch.from_numpy(pixels)).numpy(), rtol=1e-4, atol=1e-4)


def _small() -> ir.Model:
    text = """<ir_version: 10, opset_import: ["" : 20]>
        g (float[n, 2] x, float[n, 2] target) => (float[n, 2] y, float[n, 2] z)
        { u = Exp(x) y = Neg(u) z = Mul(u, target) }"""
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


def _read_output() -> ir.Model:
    """Whose first output a node reads."""
    text = """<ir_version: 10, opset_import: ["" : 20]>
        g (float[n, 2] x) => (float[n, 2] y, float[n, 2] z) { y = Exp(x) z = Neg(y) }"""
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


def test_passes_say_what_they_require() -> None:
    gated = _small()
    with pytest.raises(PreconditionError, match="the graph has no output other"):
        GateOutputsPass({"other": "with_other"})(gated)
    GateOutputsPass({"z": "with_z"})(gated)
    for step in (GateOutputsPass({"y": "with_y"}), MatMulToGemmPass()):
        with pytest.raises(PreconditionError, match="not flat: If with_z_0 has branches"):
            step(gated)


def test_passes_check_what_they_ensure(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(step: ir.passes.PassBase, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=False)

    monkeypatch.setattr(GateOutputsPass, "call", nothing)
    with pytest.raises(PostconditionError, match="the output z is in no branch"):
        GateOutputsPass({"z": "with_z"})(_small())
    monkeypatch.setattr(NameValuesPass, "call", nothing)
    model = _small()
    for node in model.graph:
        node.outputs[0].name = "same"
    with pytest.raises(PostconditionError, match="two values have one name"):
        NameValuesPass({})(model)
    model = _small()
    for node in model.graph:
        node.name = "same"
    with pytest.raises(PostconditionError, match=r"two nodes have one name, or one has none: \['same'\]"):
        NameValuesPass({})(model)
    with pytest.raises(PostconditionError, match="a node reads the output y"):
        GateOutputsPass({})(_read_output())
