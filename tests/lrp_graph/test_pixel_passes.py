"""The fused graph's pixel-level passes against autograd and the eager relevance of `reference`, in float64."""

from collections.abc import Callable

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from onnxplain.lrp_graph import fuse
from tests.helpers.graph_checks import BATCH, TARGET, Hand, fused, images, per_target, resolved, sdpa
from tests.reference import attnlrp, chefer, eager, pixels, variants
from tests.reference.attnlrp import Gamma

TOLERANCE = {"pixel_gradient": 1e-10, "pixel_attnlrp": 1e-10, "pixel_cp_lrp": 1e-10, "pixel_relevance": 1e-8}


def expected(
    model: VisionTransformer, x: Tensor, classes: Tensor, alpha: float = 1.0, gamma: Gamma | float = 0.0
) -> dict[str, Tensor]:
    runs: dict[str, Callable[[Tensor], Tensor]] = {
        "pixel_gradient": lambda c: pixels.pixel_gradient(model, x, c),
        "pixel_attnlrp": lambda c: attnlrp.attnlrp(model, x, c, gamma),
        "pixel_cp_lrp": lambda c: attnlrp.cp_lrp(model, x, c, gamma),
        "pixel_relevance": lambda c: chefer.full(model, x, c, alpha, alpha - 1),
    }
    return {name: per_target(run, classes) for name, run in runs.items()}


def worst_map(actual: Tensor, expected: Tensor) -> float:
    """The greatest difference in a map [image, target] over that map's greatest entry."""
    assert actual.shape == expected.shape and actual.isfinite().all()
    scale = expected.flatten(2).abs().amax(2)
    assert scale.all()
    return float(((actual - expected).flatten(2).abs().amax(2) / scale).max())


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variant(name: str) -> None:
    model, graph = fused(name)
    x = variants.pixels(model, BATCH)
    found = graph(x, TARGET)
    for output, maps in expected(model, x, resolved(TARGET, found["logits"])).items():
        assert worst_map(found[output], maps) <= TOLERANCE[output], output
        assert not found[output].requires_grad


@pytest.mark.parametrize("name", ["plain", "clip", "mean_pool_no_class", "parallel_scaling_xp"])
def test_alpha_beta_and_gamma(name: str) -> None:
    model, graph = fused(name)
    x = variants.pixels(model, BATCH)
    changed = fuse(model, x[:1], alpha=2.0, beta=1.0, gamma=0.25)(x, TARGET)
    classes = resolved(TARGET, changed["logits"])
    for output, maps in expected(model, x, classes, 2.0, 0.25).items():
        assert worst_map(changed[output], maps) <= TOLERANCE[output], output
    relevance = per_target(lambda c: chefer.relevance(model, x, c, 2.0, 1.0), classes)
    assert worst_map(changed["relevance"].flatten(0, 1), relevance.flatten(0, 1)) <= 1e-8
    plain = graph(x, TARGET)
    assert torch.equal(changed["pixel_gradient"], plain["pixel_gradient"])
    for output in ("relevance", "pixel_relevance", "pixel_attnlrp", "pixel_cp_lrp"):
        assert worst_map(changed[output], plain[output]) > 1e-3


@pytest.mark.parametrize("name", ["plain", "distilled", "registers_no_class"])
def test_batches_and_targets_are_single_runs_side_by_side(name: str) -> None:
    model, graph = fused(name)
    x = variants.pixels(model, BATCH)
    together = graph(x, TARGET)
    for image, place in ((0, 3), (2, 1)):
        here, there = slice(image, image + 1), slice(place, place + 1)
        alone = graph(x[here], TARGET[here, there])
        for output in (*TOLERANCE, "layer_gradient", "reciprocam"):
            assert worst_map(alone[output], together[output][here, there]) <= 1e-9, output


@pytest.mark.parametrize("name", ["plain", "qk_norm", "parallel_scaling", "parallel_things"])
def test_each_gamma_is_of_its_own_layers(name: str) -> None:
    """Attention's projections, found from the graph, against those that the reference finds by their names."""
    model, x = variants.build(name), variants.pixels(variants.build(name), 1)
    target = torch.tensor([[3]])
    for gamma in (Gamma(0.25, 0.05, 0.0), Gamma(0.0, 0.05, 0.5)):
        given = {"gamma_conv": gamma.conv, "gamma_linear": gamma.linear, "gamma_attention": gamma.attention}
        found = fuse(model, x, ["pixel_attnlrp", "pixel_cp_lrp"], **given)(x, target)
        maps = expected(model, x, target, gamma=gamma)
        assert all(worst_map(found[output], maps[output]) <= 1e-10 for output in ("pixel_attnlrp", "pixel_cp_lrp"))


# What holds for any right implementation.


def test_a_linear_block_is_gradients_times_input() -> None:
    """Without norm and activation: past the attention in full, through v a half, through q and k a quarter."""
    model, x = Hand(sdpa).eval(), images()
    skipping = Hand(lambda q, k, v: sdpa(q, k, v).detach()).eval()
    found = fuse(model, x[:1])(x, TARGET)
    classes = resolved(TARGET, found["logits"])

    def held(target: Tensor) -> Tensor:
        with eager.explicit_attention(lambda layer, matrix: matrix.detach()):
            return pixels.input_x_gradient(model, x, target)

    past = per_target(lambda c: pixels.input_x_gradient(skipping, x, c), classes)
    constant = per_target(held, classes)
    whole = per_target(lambda c: pixels.input_x_gradient(model, x, c), classes)
    assert worst_map(found["pixel_cp_lrp"], constant) <= 1e-12
    assert worst_map(found["pixel_attnlrp"], past + (constant - past) / 2 + (whole - constant) / 4) <= 1e-12


@pytest.mark.parametrize("gamma", [0.0, 0.25])
def test_conservation(gamma: float) -> None:
    """No bias, class token or position embedding: CP-LRP keeps the logit, AttnLRP all but what the softmax loses."""
    model = VisionTransformer(32, 8, 3, 5, "avg", 24, 2, 2, class_token=False, pos_embed="none", act_layer=nn.SiLU)
    variants.randomise(model.double().eval())
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    x = images()
    found = fuse(model, x[:1], gamma=gamma)(x, TARGET)
    classes = resolved(TARGET, found["logits"])
    logits = found["logits"].gather(1, classes)
    assert ((found["pixel_cp_lrp"].sum((2, 3)) - logits) / logits).abs().max() <= 1e-10
    loss = per_target(lambda c: attnlrp.softmax_loss(model, x, c, gamma), classes)
    assert ((found["pixel_attnlrp"].sum((2, 3)) + loss - logits) / logits).abs().max() <= 1e-10
    assert (loss / logits).abs().min() > 1e-4
    if not gamma:  # nothing is lost to a class token, a position embedding or, in Chefer's rules, a bias
        assert (found["pixel_relevance"].sum((2, 3)) - 1).abs().max() <= 1e-5
