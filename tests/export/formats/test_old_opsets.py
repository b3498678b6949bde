"""ONNX before opset 20 has no GELU: it is written out, as exactly as float64 tells."""

import pytest
import torch
from torch import nn

from onnxplain.export import export_model
from onnxplain.export.verify.limits import EQUAL
from tests.helpers.export_cases import LABELS, preprocessing
from tests.reference import variants


@pytest.mark.parametrize("approximate", ["none", pytest.param("tanh", marks=pytest.mark.slow)])
@pytest.mark.parametrize("opset", [18, pytest.param(19, marks=pytest.mark.slow)])
def test_gelu(approximate, opset, tmp_path):
    """A constant of float32 would be off by 1e-8 in the logits, and by any amount in relevance."""
    model = variants.build("plain", torch.float32)
    for block in model.blocks:
        block.mlp.act = nn.GELU(approximate=approximate)
    options = {"labels": LABELS, "preprocessing": preprocessing(model)}
    report = export_model(model, tmp_path / "x.onnx", heatmaps=["relevance_rollout"], opset=opset, **options)
    errors = {row.output: row.value for row in report.rows if row.check == EQUAL}
    assert errors["logits"] < 1e-12 and errors["heatmap_relevance_rollout"] < 1e-7
