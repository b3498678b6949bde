"""Tests of the reference for AttnLRP and CP-LRP: rules one by one, what is conserved, a second way to compute it."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import RmsNorm, SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tests.reference import attnlrp, eager, pixels, rules, variants


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Largest difference relative to the largest expected value."""
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max() / expected.abs().max()) <= tolerance


def back(function: Any, *inputs: Tensor, g: Tensor, **settings: Any) -> tuple[Tensor, ...]:
    """The output is unchanged; the modified gradients of the inputs for g at the output."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    with attnlrp.Rules(**settings):
        y = function(*leaves)
    assert_close(y.detach(), function(*inputs))
    return torch.autograd.grad(y, leaves, g)


# Rules.


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "module": nn.GELU(),
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("f", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_hand_back_their_value_over_their_argument(f: Any) -> None:
    x, g = random(4, 5), random(4, 5, seed=1)
    assert_close(back(f, x, g=g)[0], g * f(x) / x)


def test_at_zero_an_activation_has_its_derivative() -> None:
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    leaf = zero.clone().requires_grad_()
    with attnlrp.Rules():
        y = leaf.sigmoid()
    assert float(y.detach()) == 0.5 and float(torch.autograd.grad(y, leaf, one)[0]) == 0.25


def test_products_and_quotients() -> None:
    a, b, g = random(3, 4), random(4, 5, seed=1), random(3, 5, seed=2)
    for multiply in (torch.matmul, lambda a, b: a @ b):
        shares = back(multiply, a, b, g=g)
        assert_close(shares[0], g @ b.t() / 2)
        assert_close(shares[1], a.t() @ g / 2)
    a, b = random(3, 5), random(3, 5, seed=1)
    for half, expected in zip(back(lambda a, b: a * b, a, b, g=g), (g * b / 2, g * a / 2), strict=True):
        assert_close(half, expected)
    assert_close(back(lambda a: 3 * a * b, a, g=g)[0], 3 * g * b)  # a constant factor takes nothing
    leaf = a.clone().requires_grad_()
    with attnlrp.Rules():
        y = leaf / (b * leaf).exp()
    assert_close(torch.autograd.grad(y, leaf, g)[0], g / (b * a).exp())


def test_norms_have_a_constant_scale() -> None:
    x, w, b, g = random(3, 8), random(8, seed=1), random(8, seed=2), random(3, 8, seed=3)
    sigma = (x.var(-1, unbiased=False, keepdim=True) + 1e-3).sqrt()
    centre = torch.eye(8, dtype=torch.float64) - 1 / 8
    assert_close(back(lambda x: F.layer_norm(x, (8,), w, b, 1e-3), x, g=g)[0], (g * w / sigma) @ centre)
    rms = (x.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    assert_close(back(lambda x: F.rms_norm(x, (8,), w, 1e-3), x, g=g)[0], g * w / rms)


def test_attention_gives_v_a_half_and_q_and_k_a_quarter() -> None:
    q, k, v = (random(1, 2, 5, 4, seed=seed) for seed in range(3))
    g = random(1, 2, 5, 4, seed=3)
    plain = [x.clone().requires_grad_() for x in (q, k, v)]
    expected = torch.autograd.grad(F.scaled_dot_product_attention(*plain), plain, g)
    for share, gradient, part in zip(
        back(F.scaled_dot_product_attention, q, k, v, g=g), expected, (4, 4, 2), strict=True
    ):
        assert_close(share, gradient / part)
    held = v.clone().requires_grad_()
    with attnlrp.Rules(hold_attention=True):
        y = F.scaled_dot_product_attention(q.clone().requires_grad_(), k, held)
    assert_close(torch.autograd.grad(y, held, g)[0], expected[2])


@pytest.mark.parametrize("gamma", [0.0, 0.25, 10.0])
@pytest.mark.parametrize("bias", [None, random(6, seed=3)])
def test_gamma_rule_element_by_element(gamma: float, bias: Tensor | None) -> None:
    x, w, g = random(5, 7), random(6, 7, seed=1), random(5, 6, seed=2)
    y = F.linear(x, w, bias)
    (share,) = back(lambda x: F.linear(x, w, bias), x, g=g, gamma=gamma)
    assert_close(x * share, rules.linear_gamma(x, w, bias, y * g, gamma))
    if bias is None:
        assert rules.conservation_error((y * g)[None], (x * share)[None]) < 1e-12
    image, kernel = random(1, 3, 4, 6), random(6, 3, 2, 3, seed=1)
    y = F.conv2d(image, kernel, bias, stride=(2, 3))
    g = random(*y.shape, seed=4)
    (share,) = back(lambda x: F.conv2d(x, kernel, bias, (2, 3)), image, g=g, gamma=gamma)

    def rule(x: Tensor, r: Tensor) -> Tensor:
        return rules.linear_gamma(x, kernel.flatten(1), bias, r, gamma)

    assert_close((image * share)[0], rules.patches(rule, image[0], (y * g)[0], (2, 3)))


def test_gamma_rule_by_hand() -> None:
    x, w = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[3.0, -1.0], [1.0, -2.0]]).double()
    # f = (3, -2), y = 1; f = (1, -4), y = -3. gamma = 1: (6, -2) / 4 and (1, -8) / -7.
    shares = rules.linear_gamma(x, w, None, torch.tensor([[4.0, 7.0]]).double(), 1.0)
    assert shares[0].tolist() == pytest.approx([6 - 1, -2 + 8])


def test_multihead_attention_is_seen_into() -> None:
    """nn.MultiheadAttention, and the same written out."""
    module, x, g = (
        nn.MultiheadAttention(8, 2, batch_first=True).double().eval(),
        random(3, 5, 8),
        random(3, 5, 8, seed=1),
    )
    variants.randomise(module.requires_grad_(False))

    def written_out(x: Tensor) -> Tensor:
        packed = F.linear(x, module.in_proj_weight, module.in_proj_bias)
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in packed.chunk(3, -1))
        mixed = (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v
        return module.out_proj(mixed.transpose(1, 2).flatten(2))

    for settings in ({}, {"gamma": 0.25}, {"hold_attention": True}):
        (found,) = back(lambda x: module(x, x, x, need_weights=False)[0], x, g=g, **settings)
        assert_close(found, back(written_out, x, g=g, **settings)[0])


def test_in_place_ops_are_refused() -> None:
    leaf = torch.ones(2, requires_grad=True)
    with pytest.raises(NotImplementedError, match="mul_"), attnlrp.Rules():
        (leaf + 1).mul_(2)


# Models.


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variant(name: str) -> None:
    model = variants.build(name)
    images, target = variants.pixels(model, batch=2), torch.tensor([4, 1])
    with torch.no_grad(), attnlrp.Rules(gamma=0.25):
        logits = model(images)
    assert_close(logits, model(images).detach())
    found = [attnlrp.attnlrp(model, images, target), attnlrp.cp_lrp(model, images, target)]
    for one, run in zip(found, (attnlrp.attnlrp, attnlrp.cp_lrp), strict=True):
        assert one.shape == (2, *model.patch_embed.img_size) and one.isfinite().all() and not one.requires_grad
        assert_close(run(model, images[1:], target[1:]), one[1:], 1e-11)
        assert not torch.allclose(run(model, images[1:], target[:1]), one[1:], rtol=1e-2)
    assert not torch.allclose(*found, rtol=1e-2)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_linear_network_is_gradient_times_input() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 4, 4, bias=False), nn.Flatten(), nn.Linear(24, 5, bias=False)).double()
    variants.randomise(model.eval())
    images, target = random(2, 3, 8, 8), torch.tensor([3, 1])
    expected = pixels.input_x_gradient(model, images, target)
    assert_close(attnlrp.attnlrp(model, images, target), expected)
    assert_close(attnlrp.cp_lrp(model, images, target), expected)
    changed = attnlrp.attnlrp(model, images, target, gamma=0.25)
    assert not torch.allclose(changed, expected, rtol=1e-2)
    logits = eager.target_logits(model(images), target).detach()
    assert_close(expected.sum((1, 2)), logits)
    assert_close(changed.sum((1, 2)), logits, 1e-11)


def tiny(**options: Any) -> VisionTransformer:
    """16 x 16 pixels, four patches, two layers of two heads."""
    model = VisionTransformer(16, 8, num_classes=5, embed_dim=24, depth=2, num_heads=2, **options).double()
    variants.randomise(model)
    return model.eval()


CONSERVING: dict[str, dict[str, Any]] = {
    "plain": {},
    "quick gelu": {"act_layer": "quick_gelu", "pre_norm": True},
    "swiglu": {"norm_layer": RmsNorm, "mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "qk_norm": True},
}


@pytest.mark.parametrize("options", CONSERVING.values(), ids=CONSERVING)
@pytest.mark.parametrize("gamma", [0.0, 0.25])
def test_conservation(options: dict[str, Any], gamma: float) -> None:
    """No bias, class token or position embedding: CP-LRP keeps the logit, AttnLRP all but what the softmax loses."""
    model = tiny(class_token=False, global_pool="avg", pos_embed="none", **options)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    images, target = variants.pixels(model, 3), torch.tensor([0, 4, 2])
    logits = eager.target_logits(model(images), target).detach()
    assert_close(attnlrp.cp_lrp(model, images, target, gamma).sum((1, 2)), logits, 1e-10)
    kept = attnlrp.attnlrp(model, images, target, gamma).sum((1, 2))
    loss = attnlrp.softmax_loss(model, images, target, gamma)
    assert (loss.abs() > 1e-3 * logits.abs()).all()
    assert_close(kept + loss, logits, 1e-10)


@pytest.mark.parametrize("gamma", [0.0, 0.25])
def test_relevance_rule_by_rule(gamma: float) -> None:
    """A plain ViT once more, one image: activations from hooks, relevances instead of gradients, rule by rule."""
    model, target = tiny(), 2
    image = variants.pixels(model, 1)
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    for module in model.modules():
        module.register_forward_hook(lambda m, inputs, output: seen.update({m: (inputs[0], output)}))
    with torch.no_grad():
        model(image)

    def linear(layer: nn.Module, r: Tensor, gamma: float = gamma) -> Tensor:
        x = seen[layer][0].reshape(r.shape[0], -1)
        return rules.linear_gamma(x, layer.weight.detach(), layer.bias.detach(), r, gamma)

    def norm(layer: nn.Module, r: Tensor) -> Tensor:
        """Given sigma, a linear layer for each token: W = diag(w) (I - 1/n) / sigma."""
        centre = torch.eye(r.shape[1], dtype=torch.float64) - 1 / r.shape[1]
        rows = []
        for x, row in zip(seen[layer][0][0], r, strict=True):
            matrix = layer.weight.detach()[:, None] * centre / (x.var(unbiased=False) + layer.eps).sqrt()
            rows.append(rules.linear_gamma(x[None], matrix, layer.bias.detach(), row[None], 0.0))
        return torch.cat(rows)

    def epsilon(r: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        s = r / (a @ b)
        return a * (s @ b.t()) / 2, b * (a.t() @ s) / 2

    head = torch.zeros(1, 5, dtype=torch.float64)
    head[0, target] = seen[model.head][1][0, target]
    tokens, width = seen[model.norm][0].shape[1:]
    r = torch.zeros(tokens, width, dtype=torch.float64)
    r[:1] = linear(model.head, head)
    r = norm(model.norm, r)
    for block in reversed(model.blocks):
        middle, out, size = seen[block.norm2][0][0], seen[block][1][0], block.attn.head_dim
        r_mlp = linear(block.mlp.fc2, r * seen[block.mlp][1][0] / out)  # activations pass relevance on
        r = r * middle / out + norm(block.norm2, linear(block.mlp.fc1, r_mlp))
        x = seen[block][0][0]
        r_mixed = linear(block.attn.proj, r * seen[block.attn][1][0] / middle)
        qkv, r_qkv = seen[block.attn.qkv][1][0], torch.zeros(tokens, 3 * width, dtype=torch.float64)
        for number in range(block.attn.num_heads):
            q, k, v = (slice(part * width + number * size, part * width + (number + 1) * size) for part in range(3))
            scores = qkv[:, q] @ qkv[:, k].t() / size**0.5
            matrix = scores.softmax(-1)
            r_matrix, r_qkv[:, v] = epsilon(r_mixed[:, number * size : (number + 1) * size], matrix, qkv[:, v])
            r_scores = scores * (r_matrix - matrix * r_matrix.sum(-1, keepdim=True))
            r_qkv[:, q], r_k = epsilon(r_scores, qkv[:, q] / size**0.5, qkv[:, k].t())
            r_qkv[:, k] = r_k.t()
        r = r * x / middle + norm(block.norm1, linear(block.attn.qkv, r_qkv))
    patches = seen[model.patch_embed][1][0]
    r = (r[1:] * patches / x[1:]).t().unflatten(1, model.patch_embed.grid_size)

    def rule(x: Tensor, r: Tensor) -> Tensor:
        layer = model.patch_embed.proj
        return rules.linear_gamma(x, layer.weight.detach().flatten(1), layer.bias.detach(), r, gamma)

    expected = rules.patches(rule, image[0], r, model.patch_embed.patch_size).sum(0)
    assert_close(attnlrp.attnlrp(model, image, torch.tensor([target]), gamma)[0], expected, 1e-9)
