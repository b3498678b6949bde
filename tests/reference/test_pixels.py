"""Tests of the references for LeGrad, relevance of the pixels, pixel gradients and gradient-free methods."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from tests.reference import chefer, eager, legrad, maps, pixels, propagation, reductions, rules, variants

STEMS = ["plain", "distilled", "registers", "registers_no_class", "no_embed_class", "clip", "non_square"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Largest difference relative to the largest expected value."""
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max() / expected.abs().max()) <= tolerance


# LeGrad.


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_layer_gradient(name: str) -> None:
    model = variants.build(name)
    images, target = variants.pixels(model, 2), torch.tensor([4, 1])
    found = legrad.layer_gradient(model, images, target)
    assert found.shape == eager.attention_and_gradient(model, images, target)[1].shape
    assert not found.requires_grad and found.isfinite().all() and found.abs().amax((2, 3, 4)).all()
    assert_close(legrad.layer_gradient(model, images[1:], target[1:]), found[1:], 1e-11)


@pytest.mark.parametrize("name", ["deeper", "distilled", "registers_no_class", "parallel_things"])
def test_layer_gradient_is_the_finite_difference(name: str) -> None:
    """One entry a layer, in whole runs of the model: the block's output from a hook, head and pooling by hand."""
    model = variants.build(name)
    image, target = variants.pixels(model, 1), 3
    found = legrad.layer_gradient(model, image, torch.tensor([target]))
    per_block = found.shape[1] // len(model.blocks)
    places = torch.Generator().manual_seed(1)

    def score(layer: int, index: tuple[int, ...], step: float) -> float:
        def edit(current: int, matrix: Tensor) -> Tensor:
            if current == layer:
                matrix = matrix.clone()
                matrix[(0, *index)] += step
            return matrix

        outputs = []
        hook = model.blocks[layer // per_block].register_forward_hook(lambda m, i, output: outputs.append(output))
        with torch.no_grad(), eager.explicit_attention(edit):
            model(image)
        hook.remove()
        with torch.no_grad():
            token = model.fc_norm(model.norm(outputs[0][0].mean(0)))
            logits = (model.head(token) + model.head_dist(token)) / 2 if name == "distilled" else model.head(token)
        return float(logits[target])

    for layer in range(found.shape[1]):
        index = tuple(int(torch.randint(size, (), generator=places)) for size in found.shape[2:])
        slope = (score(layer, index, 1e-5) - score(layer, index, -1e-5)) / 2e-5
        assert slope == pytest.approx(float(found[(0, layer, *index)]), rel=1e-6, abs=1e-9)


def test_legrad_by_hand() -> None:
    first = [[[1, 2, -3], [4, -5, 6], [7, 8, 0]], [[-1, -1, -1], [0, 3, 0], [0, 0, 0]]]
    second = [[[0, 0, 6], [0, 0, 0], [0, 6, 0]], [[0, 0, 0], [0, 0, 0], [0, 0, -9]]]
    tensors = np.array([first, second])
    assert maps.legrad(tensors, 1, (1, 2)).tolist()[0] == pytest.approx([(10 + 3) / 6 + 1, 6 / 6 + 1])
    assert maps.legrad(tensors, 1, (2, 1), layers=1).flatten().tolist() == pytest.approx([1, 1])


# Relevance of the pixels.


def test_z_b_rule_element_by_element() -> None:
    image, weight, r = random(2, 3, 4, 6), random(5, 3, 2, 3, seed=1), random(2, 5, 2, 2, seed=2)
    found = propagation.patches_z_b(image, weight, (2, 3), r)
    for x, received, actual in zip(image, r, found, strict=True):
        low, high = float(x.min()), float(x.max())

        def rule(row: Tensor, r: Tensor, low: float = low, high: float = high) -> Tensor:
            return rules.linear_z_b(row, weight.flatten(1), r, low, high)

        assert_close(actual, rules.patches(rule, x, received, (2, 3)))
    assert rules.conservation_error(r, found) < 1e-8
    assert (propagation.patches_z_b(image, weight, (2, 3), r.abs()) >= 0).all()


def test_z_b_rule_by_hand() -> None:
    x, w, r = torch.tensor([[1.0, 3.0]]).double(), torch.tensor([[2.0, -1.0]]).double(), torch.tensor([[6.0]]).double()
    # Between 0 and 4: 1 * 2 - 0 and 3 * -1 - 4 * -1, together 3.
    assert rules.linear_z_b(x, w, r, 0.0, 4.0)[0].tolist() == pytest.approx([4, 2])


@pytest.mark.parametrize("name", STEMS)
def test_full_is_the_rules_applied_one_by_one(name: str) -> None:
    """The stem's relevance, with the tensors that timm's own stem hands on."""
    model = variants.build(name)
    images, target = variants.pixels(model, 2), torch.tensor([4, 1])
    found = chefer.full(model, images, target)
    assert_close(chefer.full(model, images[1:], target[1:]), found[1:], 1e-9)
    with torch.no_grad():
        r = chefer.forward(model, images).relevance(target)
        embedded, patches, prefix = model._pos_embed(model.patch_embed(images)), model.patch_embed(images), 0
        if model.no_embed_class:
            prefix = model.num_prefix_tokens
        r, embedded = r[:, prefix:], embedded[:, prefix:]
        r, _ = rules.add(embedded - model.pos_embed, model.pos_embed.expand_as(embedded), r)
        r = r[:, -patches.shape[1] :].transpose(1, 2).unflatten(2, model.patch_embed.grid_size)
    weight, low, high = (
        model.patch_embed.proj.weight.detach().flatten(1),
        float(images[1].min()),
        float(images[1].max()),
    )

    def rule(row: Tensor, r: Tensor) -> Tensor:
        return rules.linear_z_b(row, weight, r, low, high)

    assert_close(found[1], rules.patches(rule, images[1], r[1], model.patch_embed.patch_size).sum(0), 1e-8)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_full_conserves_without_position_embedding_and_prefix(alpha: float) -> None:
    model = VisionTransformer(32, 8, 3, 5, "avg", 32, 2, 4, class_token=False, pos_embed="none").double().eval()
    variants.randomise(model)
    found = chefer.full(model, variants.pixels(model, 2), torch.tensor([4, 1]), alpha, alpha - 1)
    assert found.sum((1, 2)).tolist() == pytest.approx([1, 1], abs=1e-5)


# Pixel gradients.


def square(x: Tensor) -> Tensor:
    """Two classes: the sums of x^2 and of 3 x^2."""
    total = x.square().sum((1, 2, 3))
    return torch.stack((total, 3 * total), dim=1)


def test_gradients_of_squares() -> None:
    x, target = random(2, 3, 4, 5), torch.tensor([0, 1])
    factor = torch.tensor([1.0, 3.0]).double()[:, None, None]
    assert_close(pixels.gradient(square, x, target), 2 * factor * x.sum(1))
    assert_close(pixels.input_x_gradient(square, x, target), 2 * factor * x.square().sum(1))
    black = pixels.black([0.5, 0.25, 0.0], [0.5, 0.5, 2.0])
    assert black.flatten().tolist() == [-1, -0.5, 0]
    for baseline in (black, 0.0):  # the gradient is linear along the path: any midpoint rule is exact
        expected = factor * (x.square() - torch.as_tensor(baseline).square()).sum(1)
        assert_close(pixels.integrated_gradients(square, x, target, baseline, 3), expected)
    draws = [random(3, 4, 5, seed=7), random(3, 4, 5, seed=8)]
    spread = torch.stack([image.max() - image.min() for image in x])[:, None, None]
    expected = 2 * factor * (x.sum(1) + 0.15 * spread * (draws[0] + draws[1]).sum(0) / 2)
    assert_close(pixels.smoothgrad(square, x, target, draws), expected)


def test_integrated_gradients_add_up() -> None:
    model = variants.build("plain")
    x, target, baseline = variants.pixels(model, 2), torch.tensor([3, 0]), pixels.black([0.5] * 3, [0.5] * 3)
    with torch.no_grad():
        change = eager.target_logits(model(x) - model(baseline.expand_as(x)), target)
    errors = [
        (pixels.integrated_gradients(model, x, target, baseline, steps).sum((1, 2)) - change).abs().max()
        for steps in (16, 256)
    ]
    assert errors[1] < 1e-3 and errors[1] < errors[0] / 10


# Gradient-free.


def test_rise_mask_is_an_upsampled_grid() -> None:
    cells = (random(4, 4) > 0).double()
    for size, offset in (((12, 16), (0, 0)), ((11, 15), (2, 3))):
        height, width = (-(-length // 4) for length in size)
        whole = F.interpolate(cells[None, None], (5 * height, 5 * width), mode="bilinear", align_corners=False)[0, 0]
        expected = whole[offset[0] : offset[0] + size[0], offset[1] : offset[1] + size[1]]
        assert_close(pixels.rise_mask(cells.tolist(), offset, size), expected)


def test_rise_by_hand() -> None:
    picture = torch.ones(3, 1, 2).double()
    masks = [torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.5, 1.0]]).double()]
    # p = 0.1 (sum over the picture): 0.3 and 0.45.
    found = pixels.rise(lambda x: float(x.sum() / 10), picture, masks, 0.5)
    assert found[0].tolist() == pytest.approx([0.3 + 0.225, 0.45])


def test_neighbourhood() -> None:
    near, far = np.exp(-0.5), np.exp(-1)
    corner = [[1, near, 0], [near, far, 0], [0, 0, 0], [0, 0, 0]]
    assert pixels.neighbourhood(0, (4, 3)).reshape(4, 3).tolist() == pytest.approx(np.array(corner))
    inner = [[0, 0, 0, 0], [0, far, near, far], [0, near, 1, near], [0, far, near, far]]
    assert pixels.neighbourhood(10, (4, 4)).reshape(4, 4).tolist() == pytest.approx(np.array(inner))


@pytest.mark.parametrize("name", ["plain", "distilled", "registers", "mean_pool_no_class", "non_square"])
def test_vit_reciprocam_with_a_hook(name: str) -> None:
    model = variants.build(name)
    images, target = variants.pixels(model, 2), torch.tensor([4, 1])
    found = pixels.vit_reciprocam(model, images, target)
    grid = model.patch_embed.grid_size
    assert found.shape == (2, *grid)
    for patch in (0, grid[1] - 1, grid[1] + 2):

        def mask(module: torch.nn.Module, inputs: tuple[Tensor], patch: int = patch) -> tuple[Tensor]:
            tokens = inputs[0].clone()
            tokens[:, model.num_prefix_tokens :] *= pixels.neighbourhood(patch, grid)[:, None]
            return (tokens,)

        hook = model.blocks[-1].register_forward_pre_hook(mask)
        with torch.no_grad():
            expected = eager.target_logits(model(images), target)
        hook.remove()
        assert_close(found[:, patch // grid[1], patch % grid[1]], expected)


# Reductions.


def test_reductions_by_hand() -> None:
    """One image, target and layer, two heads, a prefix token and two patches read alike."""
    a = torch.tensor(
        [[[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]], [[0.2, 0.6, 0.2], [0.4, 0.4, 0.2], [1, 0, 0]]]
    )
    g = torch.tensor([[[1.0, 0, 0], [0, 2, 0], [0, 0, 4]], [[0, 0, 0], [0, -3, 0], [0, 0, 1]]])
    r = torch.tensor([[[2.0, 1, 0], [0, -1, 0], [0, 0, 1]], [[4, -1, 0], [0, -2, 0], [0, 0, -1]]])
    a, g, r, e = a.double(), g.double(), r.double(), [0, 0.5, 0.5]
    found = reductions.reductions(e, 1, a[None, None], *(x[None, None, None] for x in (g, r, g)))
    one = {name: value.squeeze() for name, value in found.items()}
    expected = {
        "attention_mean": [[0.35, 0.45, 0.2], [0.3, 0.3, 0.4], [0.55, 0.4, 0.05]],
        "attention_max": [[0.5, 0.6, 0.2], [0.4, 0.4, 0.6], [1, 0.8, 0.1]],
        "attention_min": [[0.2, 0.3, 0.2], [0.2, 0.2, 0.2], [0.1, 0, 0]],
        "gradient_attention_mean": [[0.25, 0, 0], [0, -0.4, 0], [0, 0, 0.2]],
        "gradient_attention_max": [[0.5, 0, 0], [0, 0.4, 0], [0, 0, 0.4]],
        "gradient_attention_min": [[0, 0, 0], [0, -1.2, 0], [0, 0, 0]],
        "gradient_attention_positive": [[0.25, 0, 0], [0, 0.2, 0], [0, 0, 0.2]],
        "relevance_positive": [[3, 0.5, 0], [0, 0, 0], [0, 0, 0.5]],
        "gradient_relevance_positive": [[1, 0, 0], [0, 3, 0], [0, 0, 2]],
        "layer_gradient_positive": [1 / 6, 2 / 6, 5 / 6],
    }
    for name, value in expected.items():
        assert one[name] == pytest.approx(np.array(value)), name
    weighted = (7 * a[0] + 4 * a[1]) / 11
    assert one["attention_by_gradient_l1"] == pytest.approx(weighted.numpy())
    weighted = (21**0.5 * a[0] + 10**0.5 * a[1]) / (21**0.5 + 10**0.5)
    assert one["attention_by_gradient_l2"] == pytest.approx(weighted.numpy())
    # w = mean of the patch columns of e G: (1 + 2) / 2 and (-1.5 + 0.5) / 2; e A = (.15, .5, .35), (.7, .2, .1).
    gradcam = [(1.5 * 0.15 - 0.5 * 0.7) / 2, (1.5 * 0.5 - 0.5 * 0.2) / 2, (1.5 * 0.35 - 0.5 * 0.1) / 2]
    assert one["attention_gradcam"] == pytest.approx(np.array(gradcam))
    assert found.keys() == {*expected, "attention_gradcam", "attention_by_gradient_l1", "attention_by_gradient_l2"}
    flat = reductions.weighted_by_gradient(a.numpy(), np.zeros(a.shape), "l1")
    assert flat == pytest.approx(a.mean(0).numpy())


@pytest.mark.parametrize("name", ["deeper", "registers", "mean_pool"])
def test_maps_follow_from_the_reductions(name: str) -> None:
    """Several images, targets and layers: the maps of raw tensors, once more from what is left of the heads."""
    model = variants.build(name)
    images, classes = variants.pixels(model, 2), torch.tensor([[0, 3], [4, 1]])
    a = eager.attention_and_gradient(model, images, classes[:, 0])[1]
    g = torch.stack([eager.attention_and_gradient(model, images, c)[2] for c in classes.unbind(1)], 1)
    r = torch.stack([chefer.relevance(model, images, c) for c in classes.unbind(1)], 1)
    d = torch.stack([legrad.layer_gradient(model, images, c) for c in classes.unbind(1)], 1)
    e, prefix, grid = chefer.readout(model), model.num_prefix_tokens, model.patch_embed.grid_size
    found = reductions.reductions(e, prefix, a, g, r, d)
    identity = np.eye(a.shape[-1])
    for b, t in ((0, 1), (1, 0)):
        part = {name: value[b] if name.startswith("attention_m") else value[b, t] for name, value in found.items()}
        ours = {
            "rollout": maps.read([maps.row_normalised(m + identity) for m in part["attention_mean"]], e, prefix, grid),
            "gmar": maps.read(
                [maps.row_normalised(m + identity) for m in part["attention_by_gradient_l1"]], e, prefix, grid
            ),
            "transformer_attribution": maps.read(
                [m + identity for m in part["gradient_relevance_positive"]], e, prefix, grid
            ),
            "gradcam": np.maximum(part["attention_gradcam"][prefix:].reshape(grid), 0),
            "legrad": part["layer_gradient_positive"].sum(0)[prefix:].reshape(grid),
        }
        theirs = {
            "rollout": maps.rollout(a[b], e, prefix, grid),
            "gmar": maps.gmar(a[b], g[b, t], e, prefix, grid),
            "transformer_attribution": maps.transformer_attribution(g[b, t], r[b, t], e, prefix, grid),
            "gradcam": maps.attention_gradcam(a[b], g[b, t], e, prefix, grid),
            "legrad": maps.legrad(d[b, t], prefix, grid),
        }
        for method, expected in theirs.items():
            assert ours[method] == pytest.approx(expected, rel=1e-9, abs=1e-12), method
