"""LeGrad's layer-wise gradients: the fused graph against autograd, block by block, in float64."""

import pytest
from graph_checks import BATCH, TARGET, fused, per_target, resolved, worst
from reference import legrad, variants


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variant(name: str) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    found = graph(pixels, TARGET)
    classes = resolved(TARGET, found["logits"])
    expected = per_target(lambda target: legrad.layer_gradient(model, pixels, target), classes)
    for image in range(BATCH):
        for place in range(TARGET.shape[1]):
            assert worst(found["layer_gradient"][image, place], expected[image, place], 0) <= 1e-10
