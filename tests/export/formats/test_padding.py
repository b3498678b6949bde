"""Hidden layers of an unlucky width are wider in the file, and nothing else changes."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from onnxplain.export import export_model
from onnxplain.export.formats.onnx_file import onnx_model
from onnxplain.export.formats.padding import ADDED
from onnxplain.lrp_graph import fuse
from onnxplain.runtime import Explainer

SIZE = (16, 16)


class _Quick(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class _Gated(nn.Module):
    """Two halves of the hidden layer, of which one opens the other."""

    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x):
        a, b = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(a * torch.sigmoid(b))


def _model(ratio=32.0, **changes):
    torch.manual_seed(0)
    return VisionTransformer(
        SIZE, 8, num_classes=3, embed_dim=32, depth=2, num_heads=2, mlp_ratio=ratio, **changes
    ).eval()  # fmt: skip


def _layers(model):
    return fuse(model, torch.zeros(1, 3, *SIZE), ["gradient", "relevance"]).hidden_layers


@pytest.mark.parametrize("activation", [nn.GELU, nn.ReLU, nn.SiLU, _Quick], ids=lambda kind: kind.__name__)
def test_hidden_layers_are_found(activation):
    layers = _layers(_model(act_layer=activation))
    assert [(layer.width, layer.in_weight, layer.in_bias, layer.out_weight) for layer in layers] == [
        (1024, f"blocks.{i}.mlp.fc1.weight", f"blocks.{i}.mlp.fc1.bias", f"blocks.{i}.mlp.fc2.weight") for i in (0, 1)
    ]


def test_layers_with_other_uses_are_not():
    shared = _model()
    shared.blocks[1].mlp.fc1.weight = shared.blocks[0].mlp.fc1.weight
    assert _layers(shared) == []
    normed = _model()
    for block in normed.blocks:
        block.mlp.norm = nn.LayerNorm(1024)
    assert _layers(normed) == []
    gated = _model()
    gated.blocks[0].mlp = _Gated(32, 1024)
    assert [layer.in_weight for layer in _layers(gated)] == ["blocks.1.mlp.fc1.weight"]


def _stored(file):
    return {tuple(value.shape) for value in file.graph.initializers.values()}


@pytest.mark.slow
def test_file(tmp_path):
    """All passes hold against eager PyTorch, which export checks, with a bias and without."""
    model = _model()
    model.blocks[1].mlp.fc1.bias = None
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = tmp_path / "wide.onnx"
    report = export_model(
        model, path, labels=["a", "b", "c"], preprocessing={"size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3}
    )
    assert report.passed
    width = 1024 + ADDED
    assert {(width, 32), (32, width), (width,)} <= _stored(ir.load(path))
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in before.items()
    }
    explainer = Explainer(path)
    assert explainer.explain(np.zeros((16, 16, 3), np.uint8)).heatmap.shape == SIZE


def test_other_widths_stay():
    graph = fuse(_model(31.0), torch.zeros(1, 3, *SIZE), ["gradient"])
    assert {(992, 32), (32, 992), (992,)} <= _stored(onnx_model(graph, SIZE))
