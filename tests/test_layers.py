"""Where blocks begin and end, LeGrad's layer gradients and ViT-ReciproCAM, against the modules of the eager model."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from math import exp

import pytest
import torch
from graph_checks import BATCH, TARGET, Hand, check_gradient, fused, images, resolved, sdpa, worst
from reference import eager, variants
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer

from onnxplain.lrp_graph import ALL, FusedGraph, GraphError, fuse
from onnxplain.lrp_graph.layers import embedding
from onnxplain.lrp_graph.trace import ancestors, trace

STREAMS = ("layer_gradient", "reciprocam")


@cache
def single_block(name: str) -> tuple[VisionTransformer, FusedGraph]:
    model = variants.build(name)
    model.blocks = model.blocks[:1]
    return model, fuse(model, variants.pixels(model, 1), passes=STREAMS)


def block_streams(model: VisionTransformer, pixels: Tensor) -> list[Tensor]:
    """What the first block reads and what every block returns, by hooks."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, args, out: found.extend([args[0], out])) for block in model.blocks]
    with torch.no_grad():
        model(pixels)
    for hook in hooks:
        hook.remove()
    return [found[0], *found[1::2]]


Build = Callable[[str], tuple[VisionTransformer, FusedGraph]]


@pytest.mark.parametrize("build", [fused, single_block])
@pytest.mark.parametrize("name", variants.VARIANTS)
def test_streams_are_the_outputs_of_blocks(name: str, build: Build) -> None:
    model, graph = build(name)
    pixels = variants.pixels(model, BATCH)
    streams, values = block_streams(model, pixels), graph._interpret(pixels)
    sites_per_block = 2 if name == "parallel_things" else 1
    assert len(graph._stream) == graph.layers == sites_per_block * len(model.blocks)
    for place, node in enumerate(graph._stream):
        torch.testing.assert_close(values[node], streams[1 + place // sites_per_block], rtol=0, atol=1e-9)
    assert graph._block is not None
    torch.testing.assert_close(values[graph._block.features], streams[-2], rtol=0, atol=1e-9)
    assert not any(torch.allclose(a, b) for a, b in pairwise(streams))


def logits_of(model: VisionTransformer, tokens: Tensor) -> Tensor:
    """What follows the last block, on other tokens than its own."""
    return model.forward_head(model.norm(tokens))


@pytest.mark.parametrize("name", ["deeper", "distilled", "registers", "mean_pool", "clip", "parallel_things"])
def test_layer_gradients(name: str) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    found = graph.compute(pixels, TARGET, ("logits", "layer_gradient"))
    streams: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, args, out: streams.append(out)) for block in model.blocks]
    with eager.explicit_attention() as recorded:
        model(pixels)
    for hook in hooks:
        hook.remove()
    expected = []
    for classes in resolved(TARGET, found["logits"]).unbind(1):
        gradients = []
        for layer, attention in enumerate(recorded):
            tokens = streams[layer * len(streams) // len(recorded)]
            logits = logits_of(model, tokens.mean(1, keepdim=True).expand_as(tokens))
            score = eager.target_logits(logits, classes).sum()
            gradients += torch.autograd.grad(score, [attention], retain_graph=True)
        expected.append(torch.stack(gradients, 1))
    assert worst(found["layer_gradient"], torch.stack(expected, 1), 2) <= 1e-9


def neighbourhood(place: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """A 3 x 3 Gaussian around one patch, cut at the border, [h * w]."""
    values = torch.zeros(grid, dtype=torch.float64)
    for row in range(max(place[0] - 1, 0), min(place[0] + 2, grid[0])):
        for column in range(max(place[1] - 1, 0), min(place[1] + 2, grid[1])):
            distance = (row - place[0]) ** 2 + (column - place[1]) ** 2
            values[row, column] = exp(-distance / 2)
    return values.flatten()


@pytest.mark.parametrize("name", ["plain", "distilled", "registers", "mean_pool_no_class", "non_square", "res_post"])
def test_reciprocam(name: str) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    features, (h, w) = block_streams(model, pixels)[-2], model.patch_embed.grid_size
    found = graph.compute(pixels, TARGET, ("logits", "reciprocam"))
    classes = resolved(TARGET, found["logits"])
    expected = torch.zeros(BATCH, TARGET.shape[1], h, w, dtype=torch.float64)
    kept = torch.ones(model.num_prefix_tokens, dtype=torch.float64)
    with torch.no_grad():
        for row in range(h):
            for column in range(w):
                mask = torch.cat([kept, neighbourhood((row, column), (h, w))])
                logits = logits_of(model, model.blocks[-1](features * mask[:, None]))
                expected[:, :, row, column] = logits.gather(1, classes)
    assert worst(found["reciprocam"], expected, 1) <= 1e-9


# Models of other shapes.


def test_batch_sizes_in_reshapes() -> None:
    """torchvision's reshapes join the axes of pictures and heads, so that their sizes are multiples of the batch."""
    model = TorchvisionTransformer(32, 8, 2, 2, 16, 32, num_classes=variants.CLASSES).double().eval()
    variants.randomise(model)
    pixels = images()
    graph = fuse(model, pixels[:1], passes=STREAMS)
    streams: list[Tensor] = []
    for block in model.encoder.layers:
        block.register_forward_hook(lambda _, args, out: streams.append(out))
    with torch.no_grad():
        logits, values = model(pixels), graph._interpret(pixels)
        features = streams[0]
        mask = torch.cat([torch.ones(1, dtype=torch.float64), neighbourhood((0, 2), (4, 4))])
        masked = model.encoder.layers[1](features * mask[:, None])
        expected = model.heads(model.encoder.ln(masked)[:, 0]).gather(1, resolved(TARGET, logits))
    found = graph.compute(pixels, TARGET, ("reciprocam",))["reciprocam"][..., 0, 2]
    assert worst(found, expected, 0) <= 1e-9
    for found, expected in zip(graph._stream, streams[:2], strict=True):
        torch.testing.assert_close(values[found], expected)


class WithoutStream(Hand):
    """No value [batch, tokens, width] before the attention, no sum after it."""

    def __init__(self) -> None:
        super().__init__(sdpa)
        self.patches = nn.Conv2d(3, 48, 8, 8)
        variants.randomise(self.double())

    def forward(self, pixels: Tensor) -> Tensor:
        q, k, v = self.patches(pixels).unflatten(1, (3, 2, 8)).flatten(4).permute(1, 0, 2, 4, 3)
        return self.head(self.pool(self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2))))


def test_a_model_without_a_stream_is_refused_by_the_passes_that_need_it() -> None:
    model, pixels = WithoutStream(), images()
    for name in STREAMS:
        message = (
            rf"^no residual stream \[batch, 16, width\] found .* softmax\w*; the pass {name} needs one, leave it out$"
        )
        with pytest.raises(GraphError, match=message):
            fuse(model, pixels[:1], passes=[name])
    graph = fuse(model, pixels[:1], passes=[name for name in ALL if name not in STREAMS])
    check_gradient(model, graph, pixels)
    assert all(value.isfinite().all() for value in graph(pixels, TARGET).values())


def test_the_stem_ends_where_the_first_block_begins() -> None:
    """The bias of the first block's MLP, added before any attention, is none of the embedding's."""
    model = variants.build("parallel_scaling")
    traced = trace(model, variants.pixels(model, 1))
    before = {path for node, path in traced.weights.items() if node in embedding(traced)}
    assert before == {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    traced = trace(WithoutStream(), images()[:1])
    assert embedding(traced) == ancestors(traced.sites[0])
