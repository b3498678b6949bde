"""Where blocks begin and end, against the modules of the eager model."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer

from onnxplain.lrp_graph import ALL, FusedGraph, GraphError, fuse
from onnxplain.lrp_graph.outputs.streams import embedding
from onnxplain.lrp_graph.trace.capture import trace
from onnxplain.lrp_graph.trace.rewrite import ancestors
from tests.helpers.graph_checks import BATCH, TARGET, Hand, check_gradient, fused, images, sdpa
from tests.reference import variants

STREAMS = ("layer_gradient", "reciprocam", "features")


@cache
def single_block(name: str) -> tuple[VisionTransformer, FusedGraph]:
    model = variants.build(name)
    model.blocks = model.blocks[:1]
    return model, fuse(model, variants.pixels(model, 1), passes=STREAMS)


def streams_of(model: nn.Module, blocks: nn.Sequential, pixels: Tensor) -> list[Tensor]:
    """What the first block reads and what every block returns, by hooks."""
    found: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, args, out: found.extend([args[0], out])) for block in blocks]
    with torch.no_grad():
        model(pixels)
    for hook in hooks:
        hook.remove()
    return [found[0], *found[1::2]]


def check_streams(graph: FusedGraph, streams: list[Tensor], pixels: Tensor) -> None:
    """The graph's streams are those of the blocks, one for each attention; the last block reads that before it."""
    values, blocks = graph._interpret(pixels), len(streams) - 1
    stream, last_block = graph._prepared["layer_gradient"], graph._prepared["reciprocam"]
    assert len(stream) == graph.layers and graph.layers % blocks == 0
    for layer, node in enumerate(stream):
        torch.testing.assert_close(values[node], streams[1 + layer * blocks // graph.layers], rtol=0, atol=1e-9)
    torch.testing.assert_close(values[last_block.features], streams[-2], rtol=0, atol=1e-9)
    assert not any(torch.allclose(a, b) for a, b in pairwise(streams))


Build = Callable[[str], tuple[VisionTransformer, FusedGraph]]


@pytest.mark.parametrize("build", [fused, pytest.param(single_block, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", variants.VARIANTS)
def test_streams_are_the_outputs_of_blocks(name: str, build: Build) -> None:
    model, graph = build(name)
    pixels = variants.pixels(model, BATCH)
    check_streams(graph, streams_of(model, model.blocks, pixels), pixels)


# Models of other shapes.


def test_multihead_attention_model() -> None:
    """torchvision's transformer, whose attention has the axes in another order."""
    model = TorchvisionTransformer(32, 8, 3, 2, 16, 32, num_classes=variants.CLASSES).double().eval()
    variants.randomise(model)
    pixels = images()
    check_streams(fuse(model, pixels[:1], passes=STREAMS), streams_of(model, model.encoder.layers, pixels), pixels)


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
        message = rf"^no residual stream \[batch, 16, width\] found .* softmax\w*, which {name} needs$"
        with pytest.raises(GraphError, match=message):
            fuse(model, pixels[:1], passes=[name])
    graph = fuse(model, pixels[:1])
    assert graph.left_out.keys() == set(STREAMS) and graph.passes == tuple(n for n in ALL if n not in STREAMS)
    check_gradient(model, graph, pixels)
    assert all(value.isfinite().all() for value in graph(pixels, TARGET).values())


def test_the_stem_ends_where_the_first_block_begins() -> None:
    """The bias of the first block's MLP, added before any attention, is none of the embedding's."""
    model = variants.build("parallel_scaling")
    traced = trace(model, variants.pixels(model, 1))
    before = {path for node, path in traced.weights.items() if node in embedding(traced)}
    assert before == {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    traced = trace(WithoutStream(), images()[:1])
    assert embedding(traced) == ancestors(traced.layer_attention[0])
