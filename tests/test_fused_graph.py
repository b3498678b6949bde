"""The fused graph against autograd and the eager relevance of `reference`, model by model."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from reference import chefer, eager, variants
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer

from onnxplain.lrp_graph import FusedGraph, GraphError, MissingRuleError, fuse
from onnxplain.lrp_graph.rewrite import shape_of, target_of

aten = torch.ops.aten

BATCH = 3
TARGET = torch.tensor([[0, -1, 3, -2], [-5, 2, -1, 2], [4, 1, -3, 0]])
"""Four per image, indices and ranks mixed, one of them twice."""

LAYER_AXIS = {"logits": 0, "attention": 1, "attention_gradient": 2, "relevance": 2}


@cache
def fused(name: str, dtype: torch.dtype = torch.float64) -> tuple[VisionTransformer, FusedGraph]:
    model = variants.build(name, dtype)
    return model, fuse(model, variants.pixels(model, 1, seed=9))


def worst(actual: Tensor, expected: Tensor, layer_axis: int) -> float:
    """The greatest difference in a layer over the greatest entry of that layer."""
    assert actual.shape == expected.shape and actual.isfinite().all()
    rest = [axis for axis in range(expected.dim()) if axis != layer_axis]
    scale = expected.abs().amax(rest)
    assert scale.all()
    return float(((actual - expected).abs().amax(rest) / scale).max())


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    assert found.keys() == expected.keys()
    for output, value in found.items():
        assert worst(value, expected[output], LAYER_AXIS[output]) <= tolerance, output


def images() -> Tensor:
    return torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def resolved(target: Tensor, logits: Tensor) -> Tensor:
    """Class indices for ranks."""
    ranking = logits.argsort(1, descending=True)
    return torch.tensor(
        [
            [t if t >= 0 else int(order[-1 - t]) for t in row]
            for row, order in zip(target.tolist(), ranking, strict=True)
        ]
    )


def per_target(run: Callable[[Tensor], Tensor], classes: Tensor) -> Tensor:
    """[batch, targets, …] from a function of one class per image."""
    return torch.stack([run(column) for column in classes.unbind(1)], 1)


def check_gradient(model: nn.Module, graph: FusedGraph, pixels: Tensor, tolerance: float = 1e-9) -> None:
    """Logits, attention and its gradient as autograd has them on the unmodified model."""
    found = graph(pixels, TARGET)
    classes = resolved(TARGET, found["logits"])
    logits, attention, _ = eager.attention_and_gradient(model, pixels, classes[:, 0])
    expected = per_target(lambda column: eager.attention_and_gradient(model, pixels, column)[2], classes)
    assert worst(found["logits"], logits, 0) <= tolerance
    assert worst(found["attention"], attention, 1) <= tolerance
    assert worst(found["attention_gradient"], expected, 2) <= tolerance


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variant(name: str) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    check_gradient(model, graph, pixels)
    found = graph(pixels, TARGET)
    expected = per_target(lambda c: chefer.relevance(model, pixels, c), resolved(TARGET, found["logits"]))
    assert worst(found["relevance"], expected, 2) <= 1e-7
    assert set(found) == set(LAYER_AXIS) and not any(value.requires_grad for value in found.values())
    assert found["attention"].shape[1:4] == (graph.layers, graph.heads, graph.tokens)


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
    assert all(found.dtype == torch.float32 for found in graph(pixels, TARGET).values())


@pytest.mark.parametrize("name", ["plain", "distilled", "mean_pool_no_class", "parallel_scaling", "parallel_things"])
def test_batches_and_targets_are_single_runs_side_by_side(name: str) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    together = graph(pixels, TARGET)
    for image in range(BATCH):
        for place in range(TARGET.shape[1]):
            alone = graph(pixels[image : image + 1], TARGET[image : image + 1, place : place + 1])
            part = {
                output: value[image : image + 1, place : place + 1]
                if LAYER_AXIS[output] == 2
                else value[image : image + 1]
                for output, value in together.items()
            }
            assert_same(alone, part)


def test_a_sample_does_not_feel_its_neighbours() -> None:
    model, graph = fused("plain")
    pixels = variants.pixels(model, BATCH)
    others = torch.cat([pixels[:1], 100 * variants.pixels(model, 2, seed=5)])
    one, two = graph(pixels, TARGET), graph(others, torch.cat([TARGET[:1], TARGET[1:].flip(0)]))
    assert_same(*({output: value[:1] for output, value in found.items()} for found in (one, two)))


def test_ranks_are_classes_by_logit() -> None:
    model, graph = fused("deeper")
    pixels = variants.pixels(model, BATCH, seed=2)
    ranks = torch.tensor([[-1, -2, -3, -4, -5]]).expand(BATCH, -1)
    order = model(pixels).argsort(1, descending=True)
    assert not torch.equal(order[0], order[1])
    assert_same(graph(pixels, ranks), graph(pixels, order), 0)


def test_passes_are_chosen() -> None:
    model = variants.build("plain")
    pixels = variants.pixels(model, 1)
    assert set(fuse(model, pixels, passes=())(pixels, TARGET[:1])) == {"logits", "attention"}
    assert set(fuse(model, pixels, passes=["relevance"])(pixels, TARGET[:1])) == {"logits", "attention", "relevance"}


# Other ways to write a transformer.


class Hand(nn.Module):
    """One block in plain PyTorch.

    attend: of q, k, v, each [batch, 2 heads, 16 tokens, 8]. pool: what the head reads of [batch, 16 tokens, 16].
    """

    def __init__(self, attend: Callable[..., Tensor], pool: Callable[[Tensor], Tensor] = lambda x: x.mean(1)) -> None:
        super().__init__()
        self.patches, self.qkv, self.proj = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 48), nn.Linear(16, 16)
        self.head, self.attend, self.pool = nn.Linear(16, variants.CLASSES), attend, pool
        variants.randomise(self.double())

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2))
        return self.head(self.pool(x))


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


WRITTEN_OUT = {
    "softmax": lambda q, k, v: (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1) @ v,
    "scaled first": lambda q, k, v: torch.matmul(F.softmax((q * 8**-0.5) @ k.mT, dim=-1), v),
    "dropout": lambda q, k, v: F.dropout((q @ k.transpose(-2, -1) * 8**-0.5).softmax(-1), 0.5, training=False) @ v,
    "cast": lambda q, k, v: F.softmax(q @ k.mT * 8**-0.5, -1, dtype=torch.float64).to(q.dtype) @ v,
    "scale argument": lambda q, k, v: F.scaled_dot_product_attention(8**0.5 * q, k, v, scale=1 / 8),
    "mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=q.new_zeros(16, 16)),
}


@pytest.mark.parametrize("attend", WRITTEN_OUT.values(), ids=WRITTEN_OUT)
def test_written_out_attention_is_the_fused_one(attend: Callable[..., Tensor]) -> None:
    fast, slow = Hand(sdpa), Hand(attend)
    pixels = images()
    graph = fuse(slow, pixels[:1])
    assert_same(graph(pixels, TARGET), fuse(fast, pixels[:1])(pixels, TARGET), 1e-7)
    check_gradient(fast, graph, pixels)


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
    assert_same(two, one, 1e-7)


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


# The head's selection moves up through the last block.


@pytest.fixture
def without_moving(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FusedGraph]:
    """`fuse`, with the selection left where it stands."""

    def plain(*args: Any) -> FusedGraph:
        with monkeypatch.context() as patch:
            patch.setattr("onnxplain.lrp_graph.trace.move_selection_up", lambda graph: None)
            return fuse(*args)

    return plain


def ranks_after_attention(graph: FusedGraph) -> set[int]:
    """How many axes the results of the linear layers after the last attention have."""
    nodes = graph._trace.nodes
    tail = nodes[nodes.index(graph._trace.sites[-1]) :]
    return {len(shape_of(node)) for node in tail if target_of(node) is aten.linear}


@pytest.mark.parametrize("name", ["plain", "distilled", "swiglu_packed", "res_post", "parallel_scaling_fused", "clip"])
def test_moving_the_selection_changes_no_value(name: str, without_moving: Callable[..., FusedGraph]) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    whole = without_moving(model, pixels[:1])
    assert ranks_after_attention(whole) >= {2, 3}
    assert_same(graph(pixels, TARGET), whole(pixels, TARGET))
    assert graph.layout == whole.layout
    # Two rows of a distilled model are read: it stays whole.
    assert ranks_after_attention(graph) == ({2, 3} if name == "distilled" else {2})


def test_all_rows_of_a_mean_pooled_model_stay() -> None:
    assert ranks_after_attention(fused("mean_pool")[1]) == {2, 3}


SELECTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "negative": lambda x: F.silu(x)[:, -2],
    "twice": lambda x: (y := F.gelu(x))[:, 1] * y[:, 1],
    "two rows": lambda x: (y := F.gelu(x))[:, 1] * y[:, 2],
    "a feature": lambda x: F.layer_norm(torch.sigmoid(x), (16,))[..., 3],
    "norm over two axes": lambda x: F.layer_norm(x, (16, 16))[:, 0],
    "rms norm": lambda x: F.rms_norm(x, (16,))[:, 5],
    "broadcast": lambda x: (x / (x.mean(2, keepdim=True) + 9) - x.mean(1, keepdim=True) * 2)[:, 4],
    "of one": lambda x: torch.tanh(x.mean(1, keepdim=True))[:, 0],
    "transposed": lambda x: F.relu(x.transpose(1, -1))[..., 6],
    "reshaped": lambda x: F.relu(x.reshape(-1, 16, 4, 4))[:, 7].flatten(1),
    "merged": lambda x: F.relu(x.reshape(-1, 4, 64))[:, 1, :16],
    "product": lambda x: (x.softmax(-1) @ x)[:, 8],
    "used whole": lambda x: (y := F.relu(x))[:, 0] + y.mean(1),
}


@pytest.mark.parametrize("pool", SELECTIONS.values(), ids=SELECTIONS)
def test_selections(pool: Callable[[Tensor], Tensor], without_moving: Callable[..., FusedGraph]) -> None:
    model, pixels = Hand(sdpa, pool), images()
    graph = fuse(model, pixels[:1])
    check_gradient(model, graph, pixels)
    assert_same(graph(pixels, TARGET), without_moving(model, pixels[:1])(pixels, TARGET))


# What is refused.


class Wrapped(nn.Module):
    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.model, self.change = variants.build("plain", torch.float32), change

    def forward(self, pixels: Tensor) -> object:
        return self.change(self.model(pixels))


def test_all_missing_rules_are_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FusedGraph, "_interpret", lambda *_: pytest.fail("the graph was run"))
    model = Hand(sdpa, lambda x: torch.cumsum(torch.sin(x), -1).mean(1)).float()
    with pytest.raises(MissingRuleError) as caught:
        fuse(model, torch.zeros(1, 3, 32, 32))
    (message,) = str(caught.value).splitlines()
    assert "gradient table" in message
    for op in ("sin", "cumsum"):
        assert f"aten.{op} (node {op}, shape (" in message
    assert message.count("16, 16)") == 2
    with pytest.raises(MissingRuleError, match=r"relevance table .*aten\.sin .*aten\.cumsum"):
        fuse(model, torch.zeros(1, 3, 32, 32), passes=["relevance"])


def test_ops_before_the_first_attention_need_no_rule() -> None:
    class Model(Hand):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(torch.cumsum(torch.sin(pixels), -1))

    model = Model(sdpa)
    pixels = images()
    check_gradient(model, fuse(model, pixels[:1]), pixels)


def swin(*depths: int) -> nn.Module:
    heads = [2, 4][: len(depths)]
    return SwinTransformer(32, 4, num_classes=5, embed_dim=8, depths=depths, num_heads=heads, window_size=4)


def cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(30), nn.Flatten())


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "no attention": (cnn, (1, 3, 32, 32), "no attention found"),
    "a tuple": (lambda: Wrapped(lambda y: (y, y)), (1, 3, 32, 32), r"must return one tensor \[batch, classes\]"),
    "not logits": (lambda: Wrapped(lambda y: y[:, None]), (1, 3, 32, 32), r"must return one tensor \[batch, classes\]"),
    "hierarchical": (lambda: swin(2, 2), (1, 3, 32, 32), "windowed, hierarchical .* not supported"),
    "windowed": (lambda: swin(1), (1, 3, 32, 32), "windowed, hierarchical .* not supported"),
    "another image size": (lambda: variants.build("plain", torch.float32), (1, 3, 40, 32), "Input height .40. doesn't"),
    "no batch axis": (lambda: variants.build("plain", torch.float32), (3, 32, 32), "torch.export cannot trace Vision"),
    "a zero head": (lambda: Wrapped(lambda y: 0 * y), (1, 3, 32, 32), "do not depend on the last attention"),
    "causal": (
        lambda: Hand(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)).float(),
        (1, 3, 32, 32),
        "causal .* not supported",
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
