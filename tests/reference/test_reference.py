"""Tests of the reference itself: `tests/reference/` is what everything else is compared with."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.reference import chefer, eager, maps, propagation, rules, variants

LAYERS_PER_BLOCK = {"parallel_things": 2}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Largest difference relative to the largest expected value."""
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max() / expected.abs().max()) <= tolerance


# Rules: whole tensors against element by element.


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (2.0, 1.0)])
def test_linear_rule(alpha: float, beta: float) -> None:
    x, weight, r = random(5, 7), random(6, 7, seed=1), random(5, 6, seed=2)
    x[2] = 0.0  # every Z of this row is 0
    actual = propagation.linear(x, weight, r, alpha, beta)
    assert_close(actual, rules.linear(x, weight, r, alpha, beta))
    assert not actual[2].any()
    kept = torch.tensor([0, 1, 3, 4])
    assert rules.conservation_error(r[kept], actual[kept]) < 1e-7


def test_linear_rule_published_denominator() -> None:
    """alpha = 1: Z = x+ W+' + x- W-', R_x = x+ (S W+) + x- (S W-), and the same in three products."""
    x, weight, bias, r = random(5, 7), random(6, 7, seed=1), random(6, seed=3), random(5, 6, seed=2)
    y = x @ weight.t() + bias
    s = r / ((y - bias + x.abs() @ weight.abs().t()) / 2 + 1e-9)
    expected = (x * (s @ weight) + x.abs() * (s @ weight.abs())) / 2
    assert_close(propagation.linear(x, weight, r), expected)


def test_matmul_rule() -> None:
    a, b, r = random(4, 3), random(3, 5, seed=1), random(4, 5, seed=2)
    a[1] = 0.0
    actual, expected = propagation.matmul(a, b, r), rules.matmul(a, b, r)
    assert_close(actual[0], expected[0])
    assert_close(actual[1], expected[1])
    rest = r.clone()
    rest[1] = 0.0
    assert rules.conservation_error(rest[None], actual[0][None], actual[1][None]) < 1e-6


def test_add_rule() -> None:
    a, b, r = random(3, 4, 5), random(3, 4, 5, seed=1), random(3, 4, 5, seed=2)
    b[0, 0, 0] = -a[0, 0, 0]
    actual, expected = propagation.add(a, b, r), rules.add(a, b, r)
    for part, wanted in zip(actual, expected, strict=True):
        assert_close(part, wanted)
    assert rules.conservation_error(r, *actual) < 1e-7
    alone = propagation.add(a[1:2], b[1:2], r[1:2])
    assert torch.equal(alone[0], actual[0][1:2]) and torch.equal(alone[1], actual[1][1:2])


def test_add_rule_keeps_ratio_of_absolute_sums() -> None:
    a, b, r = torch.tensor([[3.0, 1.0]]), torch.tensor([[-1.0, -3.0]]), torch.tensor([[2.0, 1.0]])
    # Shares before scaling: a -> 3, -1/2; b -> -1, 3/2. Sums 5/2 and 1/2, R sums to 3: nothing to correct.
    part_a, part_b = propagation.add(a.double(), b.double(), r.double())
    assert part_a.flatten().tolist() == pytest.approx([3, -0.5])
    assert part_b.flatten().tolist() == pytest.approx([-1, 1.5])
    # R = (2, -1): a -> 3, 1/2; b -> -1, -3/2: sums 7/2 and -5/2, scaled to 7/12 and 5/12 of 1.
    part_a, part_b = propagation.add(a.double(), b.double(), torch.tensor([[2.0, -1.0]]).double())
    assert part_a.flatten().tolist() == pytest.approx([3 / 6, 0.5 / 6])
    assert part_b.flatten().tolist() == pytest.approx([1 / 6, 1.5 / 6])


def test_stacked_sum_mean_and_product_rules() -> None:
    parts, r = [random(2, 3, seed=seed) for seed in range(3)], random(2, 3, seed=4)
    assert rules.conservation_error(r, *propagation.add_many(parts, r)) < 1e-7
    x, r = random(2, 4, 3), random(2, 3, seed=1)
    actual = propagation.mean_tokens(x, r)
    assert_close(actual, rules.mean_tokens(x, r))
    assert rules.conservation_error(r, actual) < 1e-7
    halves = rules.product(x, random(2, 4, 3, seed=2), x)
    for half, wanted in zip(propagation.product(x), halves, strict=True):
        assert_close(half, wanted)
    assert rules.conservation_error(x, *propagation.product(x)) == 0


# Models.


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variant(name: str) -> None:
    model = variants.build(name)
    for parameter in model.parameters():
        assert not (parameter == 0).any() and not (parameter == 1).any()
    pixels, target = variants.pixels(model, batch=2), variants.targets(2)
    with torch.no_grad():
        expected = model(pixels)
    logits, attention, gradient = eager.attention_and_gradient(model, pixels, target)
    tokens = model.patch_embed.num_patches + model.num_prefix_tokens
    layers = len(model.blocks) * LAYERS_PER_BLOCK.get(name, 1)
    heads = attention.shape[2]
    assert attention.shape == gradient.shape == (2, layers, heads, tokens, tokens)
    assert_close(logits, expected)
    assert_close(attention.sum(dim=-1), torch.ones(2, layers, heads, tokens, dtype=torch.float64))
    assert not attention.requires_grad and not gradient.requires_grad

    walked = chefer.forward(model, pixels)
    assert_close(walked.logits.detach(), expected)
    assert_close(torch.stack(walked.tape.attention, dim=1).detach(), attention)
    embedded = walked.relevance(target)
    assert rules.conservation_error(torch.ones(2, 1), embedded) < 1e-6
    relevance = walked.stacked_relevance()
    assert relevance.shape == attention.shape
    assert relevance.isfinite().all() and relevance.abs().amax(dim=(2, 3, 4)).min() > 0


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_images_do_not_interact(name: str) -> None:
    model = variants.build(name)
    pixels, target = variants.pixels(model, batch=3), torch.tensor([4, 0, 2])
    relevance = chefer.relevance(model, pixels, target)
    gradient = eager.attention_and_gradient(model, pixels, target)[2]
    assert_close(chefer.relevance(model, pixels[1:2], target[1:2]), relevance[1:2], 1e-9)
    assert_close(eager.attention_and_gradient(model, pixels[1:2], target[1:2])[2], gradient[1:2], 1e-11)


def test_relevance_depends_on_class_and_alpha() -> None:
    model = variants.build("plain")
    pixels = variants.pixels(model, batch=1)
    first, second = (chefer.relevance(model, pixels, torch.tensor([target])) for target in (0, 1))
    other = chefer.relevance(model, pixels, torch.tensor([0]), alpha=2.0, beta=1.0)
    assert not torch.allclose(first, second, rtol=1e-2) and not torch.allclose(first, other, rtol=1e-2)


def test_gradient_is_the_finite_difference() -> None:
    model = variants.build("deeper")
    pixels, target = variants.pixels(model, batch=2), torch.tensor([3, 1])
    _, _, gradient = eager.attention_and_gradient(model, pixels, target)
    places = torch.Generator().manual_seed(1)

    def logit(image: int, layer: int, index: tuple[int, ...], step: float) -> float:
        def edit(current: int, matrix: Tensor) -> Tensor:
            if current == layer:
                matrix = matrix.clone()
                matrix[(image, *index)] += step
            return matrix

        with torch.no_grad(), eager.explicit_attention(edit):
            return float(eager.target_logits(model(pixels), target)[image])

    for layer in range(gradient.shape[1]):
        for image in range(2):
            sizes = gradient.shape[2:]
            index = tuple(int(torch.randint(size, (), generator=places)) for size in sizes)
            index = index if layer < 2 else (index[0], 0, index[2])  # on top only the class token's row matters
            slope = (logit(image, layer, index, 1e-5) - logit(image, layer, index, -1e-5)) / 2e-5
            assert slope == pytest.approx(float(gradient[(image, layer, *index)]), rel=1e-6, abs=1e-9)


def test_patch_is_undone_and_misuse_is_refused() -> None:
    original = torch.nn.functional.scaled_dot_product_attention
    model = variants.build("plain")
    pixels = variants.pixels(model)
    with pytest.raises(ValueError, match="one class per image"):
        eager.attention_and_gradient(model, pixels, torch.tensor([0]))
    assert torch.nn.functional.scaled_dot_product_attention is original
    with pytest.raises(ValueError, match="never called"):
        eager.attention_and_gradient(torch.nn.Flatten(), pixels, torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="eval"):
        chefer.relevance(model.train(), pixels, torch.tensor([0, 0]))


def test_other_libraries_attention_is_seen() -> None:
    """nn.MultiheadAttention (torchvision, open_clip) in eval mode, frozen: the fast path must not hide it."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=False)[0][:, 0]

    model, x = Model().eval().requires_grad_(False), random(2, 5, 8)
    logits, attention, gradient = eager.attention_and_gradient(model, x, torch.tensor([1, 7]))
    assert_close(logits, model(x))
    assert_close(attention[:, 0].mean(dim=1), model.attention(x, x, x)[1])
    assert gradient[:, :, :, 0].abs().min() > 0 and not gradient[:, :, :, 1:].any()


def _slow_relevance(model: torch.nn.Module, pixels: Tensor, target: int) -> list[Tensor]:
    """A plain ViT's relevance, one image: activations from hooks on the unmodified model, rules from `rules`."""
    seen: dict[Any, tuple[Tensor, Tensor]] = {}
    hooks = [
        module.register_forward_hook(lambda m, inputs, output: seen.update({m: (inputs[0], output)}))
        for module in model.modules()
    ]
    with torch.no_grad():
        model(pixels)
    for hook in hooks:
        hook.remove()

    def linear(layer: torch.nn.Module, r: Tensor) -> Tensor:
        return rules.linear(seen[layer][0].reshape(r.shape[0], -1), layer.weight.detach(), r)

    start = torch.zeros(1, variants.CLASSES, dtype=torch.float64)
    start[0, target] = 1
    tokens, width = seen[model.norm][0].shape[1:]
    r = torch.zeros(tokens, width, dtype=torch.float64)
    r[:1] = linear(model.head, start)
    layers = []
    for block in reversed(model.blocks):
        middle = seen[block.norm2][0]
        r_skip, r_mlp = rules.add(middle, seen[block.mlp][1], r[None])
        r = r_skip[0] + linear(block.mlp.fc1, linear(block.mlp.fc2, r_mlp[0]))
        r_skip, r_attention = rules.add(seen[block][0], seen[block.attn][1], r[None])
        heads, size = block.attn.num_heads, block.attn.head_dim
        r_mixed = linear(block.attn.proj, r_attention[0])
        qkv, r_qkv = seen[block.attn.qkv][1][0], torch.zeros(tokens, 3 * width, dtype=torch.float64)
        matrices = []
        for head in range(heads):
            q, k, v = (slice(part * width + head * size, part * width + (head + 1) * size) for part in range(3))
            matrix = torch.softmax(qkv[:, q] @ qkv[:, k].t() / size**0.5, dim=-1)
            mixed = r_mixed[:, head * size : (head + 1) * size]
            r_matrix, r_qkv[:, v] = rules.matmul(matrix, qkv[:, v], mixed)
            r_qkv[:, q], r_k = rules.matmul(qkv[:, q], qkv[:, k].t(), r_matrix)
            r_qkv[:, k] = r_k.t()
            matrices.append(r_matrix)
        layers.insert(0, torch.stack(matrices))
        r = r_skip[0] + linear(block.attn.qkv, r_qkv)
    return layers


def test_relevance_is_the_rules_applied_one_by_one() -> None:
    model = variants.build("plain")
    pixels = variants.pixels(model, batch=1)
    actual = chefer.relevance(model, pixels, torch.tensor([2]))[0]
    for layer, expected in enumerate(_slow_relevance(model, pixels, 2)):
        assert_close(actual[layer], expected, 1e-10)


# Maps.


@pytest.mark.parametrize("name", ["plain", "distilled", "mean_pool", "registers_no_class", "non_square"])
def test_attribution_in_one_pass_equals_the_parts(name: str) -> None:
    model = variants.build(name)
    pixels, target = variants.pixels(model, batch=2), variants.targets(2)
    relevance = chefer.relevance(model, pixels, target)
    gradient = eager.attention_and_gradient(model, pixels, target)[2]
    row, prefix, grid = chefer.readout(model), model.num_prefix_tokens, model.patch_embed.grid_size
    assert float(row.sum()) == pytest.approx(1)
    actual = chefer.transformer_attribution(model, pixels, target)
    for image in range(2):
        expected = maps.transformer_attribution(gradient[image], relevance[image], row, prefix, grid)
        assert expected.shape == tuple(grid)
        assert_close(actual[image], torch.from_numpy(expected), 1e-9)
    frozen = model.requires_grad_(False)
    assert_close(chefer.transformer_attribution(frozen, pixels, target), actual, 1e-9)


def test_rollout_by_hand() -> None:
    first, second = [[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]], [[0.2, 0.6, 0.2], [0.4, 0.4, 0.2], [1, 0, 0]]
    attention = np.array([[first], [second]])
    # rownorm(A + I): top row (0.6, 0.3, 0.1), below it columns 1 and 2 of the first layer's rows.
    expected = [0.6 * 0.15 + 0.3 * 0.6 + 0.1 * 0.4, 0.6 * 0.1 + 0.3 * 0.3 + 0.1 * 0.55]
    assert maps.rollout(attention, [1, 0, 0], 1, (1, 2)).tolist()[0] == pytest.approx(expected)
    assert maps.rollout(attention, [1, 0, 0], 1, (2, 1), start_layer=1).flatten().tolist() == pytest.approx([0.3, 0.1])
    uniform = maps.rollout(attention, [0, 0.5, 0.5], 1, (1, 2), start_layer=1)
    assert uniform.tolist()[0] == pytest.approx([0.5 * 0.7, 0.5 * 0.1 + 0.5 * 0.5])
    ones = maps.grad_rollout(attention, np.ones_like(attention), [1, 0, 0], 1, (1, 2))
    assert ones.tolist()[0] == pytest.approx(expected)
    assert not maps.grad_rollout(attention, -np.ones_like(attention), [1, 0, 0], 1, (1, 2)).any()


def test_discard_spares_the_class_token() -> None:
    matrix = np.array([[0.1, 0.2, 0.3], [0.0, 0.5, 0.4], [0.6, 0.05, 0.9]])
    # floor(0.45 * 9) = 4 lowest: 0.0, 0.05, 0.1, 0.2; all but 0.05 stand in row or column 0.
    assert maps.discard(matrix, 0.45).tolist() == [[0.1, 0.2, 0.3], [0.0, 0.5, 0.4], [0.6, 0.0, 0.9]]
    assert maps.discard(matrix, 0.45, class_token=None)[0].tolist() == [0, 0, 0.3]
    assert np.array_equal(maps.discard(matrix, 0.0), matrix)


def test_head_fusion() -> None:
    heads = np.array([[[1.0, 4.0]], [[3.0, 2.0]]])
    fused = [maps.fuse_heads(heads, name).tolist() for name in ("mean", "max", "min")]
    assert fused == [[[2, 3]], [[3, 4]], [[1, 2]]]
