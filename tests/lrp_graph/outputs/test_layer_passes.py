"""Passes that cut the model between its blocks, LeGrad and ViT-ReciproCAM, against runs of those blocks in float64."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer

from onnxplain.lrp_graph import FusedGraph, fuse
from tests.helpers.graph_checks import BATCH, TARGET, fused, images, per_target, resolved
from tests.reference import attnlrp, legrad, pixels, variants


def worst(actual: Tensor, expected: Tensor, axes: int) -> float:
    """The greatest difference in a map, over its greatest entry; the first `axes` axes count the maps."""
    assert actual.shape == expected.shape
    scale = expected.flatten(axes).abs().amax(axes)
    assert scale.all()
    return float(((actual - expected).flatten(axes).abs().amax(axes) / scale).max())


def check(model: nn.Module, graph: FusedGraph, x: Tensor) -> dict[str, Tensor]:
    found = graph(x, TARGET)
    classes = resolved(TARGET, found["logits"])
    expected = per_target(lambda target: legrad.layer_gradient(model, x, target), classes)
    assert worst(found["layer_gradient"], expected, 3) <= 1e-10
    expected = per_target(lambda target: pixels.vit_reciprocam(model, x, target), classes)
    assert worst(found["reciprocam"], expected, 2) <= 1e-10
    assert (expected.amax((2, 3)) - expected.amin((2, 3))).min() > 1e-4
    return found


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variant(name: str) -> None:
    model, graph = fused(name)
    check(model, graph, variants.pixels(model, BATCH))


def test_multihead_attention_model() -> None:
    """torchvision's transformer, and its pixel-level passes."""
    model = TorchvisionTransformer(32, 8, 2, 2, 16, 32, num_classes=variants.CLASSES).double().eval()
    variants.randomise(model)
    x = images()
    found = check(model, fuse(model, x[:1]), x)
    classes = resolved(TARGET, found["logits"])
    for output, run in (
        ("pixel_gradient", pixels.pixel_gradient),
        ("pixel_attnlrp", attnlrp.attnlrp),
        ("pixel_cp_lrp", attnlrp.cp_lrp),
    ):
        expected = per_target(lambda target, run=run: run(model, x, target), classes)
        assert worst(found[output], expected, 2) <= 1e-10, output
    assert torch.isfinite(found["pixel_relevance"]).all()
