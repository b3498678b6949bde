"""The fused graph against autograd and the eager relevance of `reference`, model by model."""

import copy
import gc
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer

from onnxplain.contract.outputs import PASSES
from onnxplain.lrp_graph import GraphError, fuse
from onnxplain.lrp_graph.passes import TABLE
from tests.helpers.graph_checks import (
    BATCH,
    TARGET,
    Hand,
    assert_same,
    check_gradient,
    fused,
    images,
    per_target,
    resolved,
    sdpa,
    worst,
)
from tests.reference import chefer, variants


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variant(name: str) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    check_gradient(model, graph, pixels)
    found = graph.compute(pixels, TARGET, ("logits", "relevance"))
    expected = per_target(lambda c: chefer.relevance(model, pixels, c), resolved(TARGET, found["logits"]))
    assert worst(found["relevance"], expected, 2) <= 1e-7


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_layout(name: str) -> None:
    model, graph = fused(name)
    assert graph.layout.patch_grid == model.patch_embed.grid_size
    assert graph.layout.prefix_tokens == model.num_prefix_tokens
    assert graph.layout.readout == tuple(chefer.readout(model).nonzero().flatten().tolist())


@pytest.mark.parametrize("name", ["plain", "distilled", "registers", "mean_pool", "layer_scale", "swiglu_packed"])
def test_float32(name: str) -> None:
    model, graph = fused(name, torch.float32)
    pixels = variants.pixels(model, BATCH)
    check_gradient(model, graph, pixels, 1e-5)
    found = graph(pixels, TARGET)
    assert found.pop("class_index").dtype == torch.int64
    assert all(value.dtype == torch.float32 for value in found.values())


# The constants of rules.


OF_ATTNLRP = ("attnlrp", "cp_lrp")
"""The propagators that have a gamma."""


def test_gamma_is_of_attnlrp_alone() -> None:
    model, plain = fused("plain")
    pixels = variants.pixels(model, BATCH)
    found, expected = fuse(model, pixels[:1], gamma=0.25)(pixels, TARGET), plain(pixels, TARGET)
    by_attnlrp = [name for name, item in TABLE.items() if item.backward and item.backward.propagator in OF_ATTNLRP]
    assert len(by_attnlrp) > 1
    for output in (PASSES[name].output for name in by_attnlrp):
        assert worst(found.pop(output), expected.pop(output), 1) > 0.1
    assert_same(found, expected, 0)


REFUSED = {
    "`beta` one less than `alpha`": [{"alpha": 2}, {"beta": 1}, {"alpha": 0.5, "beta": -0.5}],
    "`gamma` must be at least 0, got -0.1": [{"gamma": -0.1}],
    "`gamma_conv` must be at least 0, got -1": [{"gamma_conv": -1}],
    "got `gamma` and `gamma_attention`": [{"gamma": 0.25, "gamma_attention": 0}],
}


@pytest.mark.parametrize(
    ("message", "constants"), [(message, one) for message, all_ in REFUSED.items() for one in all_]
)
def test_refused_constants(message: str, constants: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=message):
        fuse(nn.Identity(), torch.zeros(1, 3, 32, 32), **constants)


# Other ways to write a transformer.


@pytest.fixture
def tiny_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The constant that relevance rules add to denominators weighs differently where scores are scaled elsewhere."""
    monkeypatch.setattr("onnxplain.lrp_graph.rules.chefer.EPSILON", 1e-14)


WRITTEN_OUT = {
    "softmax": lambda q, k, v: (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1) @ v,
    "scaled first": lambda q, k, v: torch.matmul(F.softmax((q * 8**-0.5) @ k.mT, dim=-1), v),
    "dropout": lambda q, k, v: F.dropout((q @ k.transpose(-2, -1) * 8**-0.5).softmax(-1), 0.5, training=False) @ v,
    "cast": lambda q, k, v: F.softmax(q @ k.mT * 8**-0.5, -1, dtype=torch.float64).to(q.dtype) @ v,
    "scale argument": lambda q, k, v: F.scaled_dot_product_attention(8**0.5 * q, k, v, scale=1 / 8),
}


@pytest.mark.usefixtures("tiny_epsilon")
@pytest.mark.parametrize("attend", WRITTEN_OUT.values(), ids=WRITTEN_OUT)
def test_written_out_attention_is_the_fused_one(attend: Callable[..., Tensor]) -> None:
    fast, slow = Hand(sdpa), Hand(attend)
    pixels = images()
    graph = fuse(slow, pixels[:1])
    assert_same(graph(pixels, TARGET), fuse(fast, pixels[:1])(pixels, TARGET), 1e-8)
    check_gradient(fast, graph, pixels)


def test_additive_mask() -> None:
    model, pixels = Hand(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, v @ k.mT)), images()
    check_gradient(model, fuse(model, pixels[:1]), pixels)


@pytest.mark.usefixtures("tiny_epsilon")
@pytest.mark.parametrize("name", ["plain", "parallel_scaling", "qk_norm"])
def test_timm_without_fused_attention(name: str) -> None:
    model, expected = fused(name)
    timm.layers.set_fused_attn(False)
    try:
        slow = variants.build(name)
        graph = fuse(slow, variants.pixels(slow, 1))
    finally:
        timm.layers.set_fused_attn(True)
    pixels = variants.pixels(model, BATCH)
    one, two = expected(pixels, TARGET), graph(pixels, TARGET)
    assert_same(two, one, 1e-8)


@pytest.mark.parametrize("frozen", [False, True])
def test_multihead_attention_model(frozen: bool) -> None:
    """torchvision's transformer: nn.MultiheadAttention, with its fast path for frozen weights."""
    model = TorchvisionTransformer(32, 8, 2, 2, 16, 32, num_classes=variants.CLASSES).double().eval()
    variants.randomise(model)
    model.requires_grad_(not frozen)
    pixels = images()
    graph = fuse(model, pixels[:1])
    check_gradient(model, graph, pixels)
    assert graph.layout.patch_grid == (4, 4) and graph.layout.readout == (0,)


# What is refused.


class Wrapped(nn.Module):
    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.model, self.change = variants.build("plain", torch.float32), change

    def forward(self, pixels: Tensor) -> object:
        return self.change(self.model(pixels))


def test_ops_before_the_first_attention_need_no_rule() -> None:
    class Model(Hand):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(torch.cumsum(torch.sin(pixels), -1))

    model = Model(sdpa)
    pixels = images()
    check_gradient(model, fuse(model, pixels[:1], passes=("gradient", "relevance", "layer_gradient")), pixels)


def swin(*depths: int, window: int) -> nn.Module:
    heads = [2, 4][: len(depths)]
    return SwinTransformer(32, 4, num_classes=5, embed_dim=8, depths=depths, num_heads=heads, window_size=window)


def cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(30), nn.Flatten())


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "no attention": (cnn, (1, 3, 32, 32), "no attention found"),
    "a tuple": (lambda: Wrapped(lambda y: (y, y)), (1, 3, 32, 32), r"must return one tensor \[batch, classes\]"),
    "not logits": (lambda: Wrapped(lambda y: y[:, None]), (1, 3, 32, 32), r"must return one tensor \[batch, classes\]"),
    "windowed": (lambda: swin(1, window=4), (1, 3, 32, 32), "layer 1 of 1 stays within windows of 16 tokens"),
    "hierarchical": (
        lambda: swin(2, 2, window=8),
        (1, 3, 32, 32),
        "layer 3 of 4 has 4 heads and 16 tokens, not 2 and 64 as layer 1",
    ),
    "fewer keys": (
        lambda: Hand(lambda q, k, v: sdpa(q, k[:, :, ::4], v[:, :, ::4])).float(),
        (1, 3, 32, 32),
        "layer 1 of 1 goes from 16 to 4 tokens",
    ),
    "changed attention": (
        lambda: Hand(lambda q, k, v: ((q @ k.mT).softmax(-1) * 0.5 + 0.5 / 16) @ v).float(),
        (1, 3, 32, 32),
        r"matrix softmax \[s\d+, 2, 16, 16\] is changed before it weighs the values",
    ),
    "a class token at the end": (
        lambda: Hand(sdpa, before=lambda x: torch.cat([x, torch.ones_like(x[:, :1])], 1)).float(),
        (1, 3, 32, 32),
        "the last 16 tokens must be the patches",
    ),
    "a pool of some tokens": (
        lambda: Hand(sdpa, lambda x: sdpa(x[:, None, :1] * 0, x[:, None, ::2], x[:, None, ::2])[:, 0, 0]).float(),
        (1, 3, 32, 32),
        "an attention pool must read all 16 tokens or the 16 patches, not 8",
    ),
    "another image size": (lambda: variants.build("plain", torch.float32), (1, 3, 40, 32), "Input height .40. doesn't"),
    "no batch axis": (lambda: variants.build("plain", torch.float32), (3, 32, 32), "torch.export cannot trace Vision"),
    "a zero head": (lambda: Wrapped(lambda y: 0 * y), (1, 3, 32, 32), "do not depend on the last attention"),
    "a head that overflows": (
        lambda: Wrapped(lambda y: y * 1e38 * 1e38),
        (1, 3, 32, 32),
        "logits for an image of noise are NaN or infinite",
    ),
    "chance": (lambda: Wrapped(lambda y: y * torch.rand_like(y)), (1, 3, 32, 32), "draws random numbers"),
    "causal": (
        lambda: Hand(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)).float(),
        (1, 3, 32, 32),
        "causal .* not supported",
    ),
    "boolean mask": (
        lambda: Hand(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, q @ k.mT > 0)).float(),
        (1, 3, 32, 32),
        "boolean .* not supported",
    ),
}


@pytest.mark.parametrize(("build", "shape", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(build: Callable[[], nn.Module], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        fuse(build(), torch.zeros(shape))


# What fusing leaves alone.


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    model = variants.build("plain").train(training)
    model.blocks[0].eval()
    modes, weights = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    graph = fuse(model, variants.pixels(model, 1))
    graph(variants.pixels(model, BATCH), TARGET)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    shared = {p.data_ptr() for p in graph.parameters()}
    assert shared == {p.data_ptr() for p in model.parameters()}, "the graph computes with the model's own weights"


def test_nothing_is_kept_of_a_run() -> None:
    """Not even until Python's collector comes: a layer's cotangents are large."""
    pixels = images()
    graph = fuse(Hand(sdpa), pixels[:1])
    gc.collect()
    gc.disable()
    try:
        before = {id(one) for one in gc.get_objects() if type(one) is Tensor}
        graph.compute(pixels, TARGET, graph.names)
        assert [one.shape for one in gc.get_objects() if type(one) is Tensor and id(one) not in before] == []
    finally:
        gc.enable()
