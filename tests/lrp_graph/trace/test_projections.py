"""The linear layers of attention in the graphs of models of all libraries, by the names that these give the weights."""

import re
from collections.abc import Callable

import pytest
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, fx, nn

from onnxplain.lrp_graph.trace.capture import Trace, trace
from onnxplain.lrp_graph.trace.projections import attention_projections
from onnxplain.lrp_graph.trace.rewrite import dependents, target_of
from tests.helpers.graph_checks import Hand, images, sdpa
from tests.helpers.libraries import OTHERS, TRANSFORMERS
from tests.reference import variants

OF_ATTENTION = re.compile(
    r"attn\.(q|k|v|kv|qkv|proj)\.|attn_pool\.(q|kv|proj)\.|attention\.([qkvo]|out)_proj\.|self_attn\.\w+_proj\."
    r"|\.(in_proj|out_proj|attn_out_proj)[._]"
)

TIMM = ("plain", "registers_no_class", "qk_norm", "res_post", "swiglu", "no_bias", "parallel_things")
PARALLEL = ("parallel_scaling", "parallel_scaling_fused")
"""Attention and MLP share layers, which count as those of attention."""

MODELS: dict[str, Callable[[], nn.Module]] = {
    **{f"timm, {name}": lambda name=name: variants.build(name).float() for name in (*TIMM, *PARALLEL)},
    "timm, pool": lambda: VisionTransformer(32, 8, 3, 5, "map", 16, 2, 2, class_token=False),
    "timm, EVA": lambda: Eva(
        32, 8, 3, 5, embed_dim=16, depth=2, num_heads=2, use_rot_pos_emb=True, scale_attn_inner=True
    ),
    **{f"transformers, {name}": TRANSFORMERS[name] for name in ("ViT", "Dinov2", "DINOv3", "CLIP", "BEiT, positions")},
    **OTHERS,
}


def linear_layers(traced: Trace) -> list[fx.Node]:
    varying = dependents(traced.nodes, [traced.pixels])
    return [node for node in traced.nodes if target_of(node) is torch.ops.aten.linear and node in varying]


@pytest.mark.parametrize("name", MODELS)
def test_model(name: str) -> None:
    traced = trace(MODELS[name]().eval(), torch.zeros(1, 3, 32, 32))
    layers, found = linear_layers(traced), attention_projections(traced)
    names = {layer: traced.weights[layer.all_input_nodes[1]] for layer in layers}
    assert {names[layer] for layer in found} == {name for name in names.values() if OF_ATTENTION.search(name)}
    assert found < set(layers) and len(found) >= 2 * len(traced.attention_nodes)


class Bare(nn.Module):
    """Two blocks whose attention has no layer of its own for the values and none for its output."""

    def __init__(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.patches, self.head, self.attend = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 5), attend
        self.qk = nn.ModuleList(nn.Linear(16, 32) for _ in range(2))
        self.mlp = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).mT
        for qk, mlp in zip(self.qk, self.mlp, strict=True):
            q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in (*qk(x).chunk(2, -1), x))
            x = x + self.attend(q, k, v).transpose(1, 2).flatten(2)
            x = x + mlp(x).relu()
        return self.head(x.mean(1))


ATTEND = {
    "plain": sdpa,
    "a sum within": lambda q, k, v: sdpa(q + q.flip(-1), k, v),
    "values gated": lambda q, k, v: sdpa(q, k, v) * v.sigmoid(),
}


@pytest.mark.parametrize("attend", ATTEND.values(), ids=ATTEND)
def test_attention_without_some_of_them(attend: Callable[..., Tensor]) -> None:
    """The layers of the MLP before and after are not taken for what is missing."""
    traced = trace(Bare(attend), images()[:1].float())
    found = attention_projections(traced)
    assert {traced.weights[layer.all_input_nodes[1]] for layer in found} == {"qk.0.weight", "qk.1.weight"}


def test_without_residuals() -> None:
    """One attention after the other, the head right behind."""

    class Chain(Hand):
        def forward(self, pixels: Tensor) -> Tensor:
            x = self.patches(pixels).flatten(2).mT
            for _ in range(2):
                q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
                x = self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2))
            return self.head(x.mean(1))

    traced = trace(Chain(sdpa), images()[:1])
    found = attention_projections(traced)
    assert {traced.weights[layer.all_input_nodes[1]] for layer in found} == {"qkv.weight", "proj.weight"}
