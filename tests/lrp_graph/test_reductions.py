"""The fused graph's reductions against loops over its raw tensors, in float64."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from onnxplain.lrp_graph import fuse
from tests.helpers.graph_checks import BATCH, TARGET, fused
from tests.reference import chefer, reductions, variants

FROM_ATTENTION = {"attention_mean", "attention_max", "attention_min"}
FROM_GRADIENT = {
    *("gradient_attention_mean", "gradient_attention_max", "gradient_attention_min", "gradient_attention_positive"),
    *("attention_by_gradient_l1", "attention_by_gradient_l2", "attention_gradcam"),
}
ALLOWED = {
    (): FROM_ATTENTION,
    ("gradient",): FROM_ATTENTION | FROM_GRADIENT,
    ("relevance",): FROM_ATTENTION | {"relevance_positive"},
    ("layer_gradient",): FROM_ATTENTION | {"layer_gradient_positive"},
    ("relevance", "gradient"): FROM_ATTENTION | FROM_GRADIENT | {"relevance_positive", "gradient_relevance_positive"},
}
RAW = {"gradient": "attention_gradient"}


def assert_reduced(model: VisionTransformer, found: dict[str, Tensor]) -> None:
    expected = reductions.reductions(
        chefer.readout(model),
        model.num_prefix_tokens,
        found["attention"],
        found["attention_gradient"],
        found["relevance"],
        found["layer_gradient"],
    )
    assert expected.keys() < found.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        scale = float(found[name].abs().max()) or 1.0
        assert float((found[name] - torch.from_numpy(value)).abs().max()) <= 1e-13 * scale, name


@pytest.mark.parametrize(
    "name", ["plain", "deeper", "distilled", "registers_no_class", "mean_pool", "non_square", "parallel_things"]
)
def test_variant(name: str) -> None:
    model, graph = fused(name)
    assert_reduced(model, graph(variants.pixels(model, BATCH), TARGET))


def test_heads_weigh_alike_where_the_gradient_is_zero() -> None:
    model = variants.build("plain")
    with torch.no_grad():
        model.head.weight[3] = 0
    found = fuse(model, variants.pixels(model, 1))(variants.pixels(model, BATCH), TARGET.clamp(min=0))
    assert not found["attention_gradient"][0, 2].any()
    for norm in ("l1", "l2"):
        assert torch.allclose(found[f"attention_by_gradient_{norm}"][0, 2], found["attention_mean"][0], rtol=1e-13)
    assert all(value.isfinite().all() for value in found.values())
    assert_reduced(model, found)


def test_nan_is_not_reduced_away() -> None:
    """A gradient that is none stays none in whatever is made of it, or a map of it would look like one."""
    model = variants.build("plain")
    graph = fuse(model, variants.pixels(model, 1))
    with torch.no_grad():
        model.head.weight[3] = torch.nan
    found = graph(variants.pixels(model, 1), torch.tensor([[3]]))
    assert found["attention"].isfinite().all()
    for name in sorted(FROM_GRADIENT | {"gradient_relevance_positive", "layer_gradient_positive"}):
        assert found[name].isnan().any(), name


@pytest.mark.parametrize("passes", ALLOWED)
def test_reductions_of_the_chosen_passes(passes: tuple[str, ...]) -> None:
    model = variants.build("plain")
    pixels = variants.pixels(model, 1)
    found = fuse(model, pixels, passes=passes)(pixels, TARGET[:1])
    raw = {"attention", *(RAW.get(name, name) for name in passes)}
    assert set(found) == {"logits", "class_index", *raw, *ALLOWED[passes]}
