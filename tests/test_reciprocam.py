"""ViT-ReciproCAM: the fused graph's re-runs of the last block against one run a patch on the eager model."""

import pytest
from graph_checks import BATCH, TARGET, fused, per_target, resolved
from reference import pixels, variants


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variant(name: str) -> None:
    model, graph = fused(name)
    images = variants.pixels(model, BATCH)
    found = graph(images, TARGET)
    expected = per_target(
        lambda target: pixels.vit_reciprocam(model, images, target), resolved(TARGET, found["logits"])
    )
    assert found["reciprocam"].shape == expected.shape
    scale = expected.abs().amax((2, 3), keepdim=True)
    assert ((found["reciprocam"] - expected).abs() / scale).max() <= 1e-10
    assert (expected.amax((2, 3)) - expected.amin((2, 3))).min() > 1e-3
