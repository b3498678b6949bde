"""Trace, interpret, reverse: one module whose forward pass explains itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from .gradient import GRADIENT
from .relevance import CHEFER
from .reverse import Table, require_rules, reverse
from .rewrite import shape_of, target_of
from .trace import GraphError, Trace, trace

aten = torch.ops.aten

PASSES: dict[str, tuple[str, Table]] = {
    "gradient": ("attention_gradient", GRADIENT),
    "relevance": ("relevance", CHEFER),
}
"""Pass name to the output it computes and the rule table that drives it."""


@dataclass(frozen=True)
class Layout:
    """How the rows and columns of an attention matrix relate to the picture.

    patch_grid: (h, w), patches in row-major order, the last h * w tokens.
    prefix_tokens: class, distillation and register tokens before the patches.
    readout: the token rows that the head reads; where it reads class tokens and patches both, the class tokens.
    """

    patch_grid: tuple[int, int]
    prefix_tokens: int
    readout: tuple[int, ...]


class FusedGraph(nn.Module):
    """Logits, attention and the reverse passes of a traced model as one computation without autograd.

    layout: see Layout. layers, heads: of the attention outputs.
    """

    def __init__(self, model: nn.Module, traced: Trace, passes: Sequence[str]) -> None:
        super().__init__()
        self.training = False  # not eval(), which would change the model's own flags; nothing here depends on them
        self.model = model
        self.passes = tuple(passes)
        self._trace = traced
        self._constants = [f"constant_{i}" for i in range(len(traced.constants))]
        for name, constant in zip(self._constants, traced.constants.values(), strict=True):
            self.register_buffer(name, constant.clone())
        shapes = [shape_of(site) for site in traced.sites]
        if any(len(s) != 4 or s != shapes[0] for s in shapes) or shapes[0][0] != shape_of(traced.pixels)[0]:
            raise GraphError(
                "attention layers over all tokens, of one shape [batch, heads, tokens, tokens], are needed; windowed, "
                f"hierarchical and pooled attention is not supported: got {shapes}"
            )
        self.layers = len(shapes)
        self.heads: int = shapes[0][1]
        self.tokens: int = shapes[0][2]
        self.layout: Layout

    def forward(self, pixels: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Explain a batch.

        pixels: [batch, 3, H, W], preprocessed. target: int64 [batch, targets], class indices; -1 is the class with the
        greatest logit, -2 the runner-up, and so on.
        Returns ``logits`` [batch, classes], ``attention`` [batch, layers, heads, tokens, tokens], and for each pass
        its output [batch, targets, layers, heads, tokens, tokens].
        """
        values = self._interpret(pixels)
        logits = values[self._trace.logits]
        seed = one_hot(target, logits)
        outputs = {"logits": logits, "attention": torch.stack([values[site] for site in self._trace.sites], 1)}
        for name in self.passes:
            output, table = PASSES[name]
            outputs[output] = torch.stack(reverse(self._trace, values, seed, table), 2).transpose(0, 1)
        return outputs

    def _interpret(self, pixels: Tensor) -> dict[fx.Node, Any]:
        """Run the traced forward pass and keep every value."""
        values: dict[fx.Node, Any] = {self._trace.pixels: pixels}
        for node, path in self._trace.weights.items():
            owner, _, name = path.rpartition(".")
            values[node] = getattr(self.model.get_submodule(owner), name).detach()  # nothing here uses autograd
        for node, name in zip(self._trace.constants, self._constants, strict=True):
            values[node] = self.get_buffer(name)
        for node in self._trace.nodes:
            args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
            values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return values


def fuse(model: nn.Module, example: Tensor, passes: Sequence[str] = tuple(PASSES)) -> FusedGraph:
    """Turn an image classifier into a graph that explains itself.

    model: any nn.Module that maps [batch, 3, H, W] to logits [batch, classes] through softmax attention over patches.
        It is not copied: the result computes with its parameters.
    example: [1, 3, H, W], in the dtype of the model; fixes height and width.
    passes: the reverse passes that forward computes, of "gradient" and "relevance".
    Raises GraphError if the model is no such classifier, MissingRuleError if a pass has no rule for one of its ops.
    """
    traced = trace(model, example)
    graph = FusedGraph(model, traced, passes)
    for name in passes:
        require_rules(traced, PASSES[name][1], name)
    graph.layout = _layout(graph, example)
    return graph


def one_hot(target: Tensor, logits: Tensor) -> Tensor:
    """The share that the logits start with, [targets, batch, classes]: 1 at the target, 0 elsewhere."""
    classes = logits.shape[1]
    ranking = logits.argsort(1, descending=True)
    chosen = torch.where(target < 0, ranking.gather(1, (-1 - target).clamp(0, classes - 1)), target)
    return (torch.arange(classes, device=logits.device) == chosen.mT.unsqueeze(-1)).to(logits.dtype)


@torch.no_grad()
def _layout(graph: FusedGraph, example: Tensor) -> Layout:
    """Read the layout off the graph: the grid off the patch embedding, the readout off the last layer's gradient.

    After the last attention every op works on single tokens, so the rows that the head reads are just those in which
    the gradient of the last attention matrix is not zero.
    """
    traced = graph._trace
    before = traced.nodes[: traced.nodes.index(traced.sites[0])]
    shapes = [shape_of(node) for node in before if target_of(node) is aten.conv2d]
    if not shapes:
        raise GraphError("no patch embedding found: no convolution stands before the first attention")
    grid = (int(shapes[-1][2]), int(shapes[-1][3]))
    prefix = graph.tokens - grid[0] * grid[1]
    if prefix < 0:
        raise GraphError(f"a patch grid of {grid[0]} x {grid[1]} does not fit in {graph.tokens} tokens")
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    values = graph._interpret(noise)
    logits = values[traced.logits]
    target = torch.arange(min(4, logits.shape[1]), device=logits.device).unsqueeze(0)
    last = reverse(traced, values, one_hot(target, logits), GRADIENT)[-1]
    rows = (last.abs().sum((0, 1, 2, 4)) > 0).nonzero().flatten().tolist()
    if not rows:
        raise GraphError("the logits do not depend on the last attention layer (is the head all zero?)")
    classes = tuple(row for row in rows if row < prefix)
    return Layout(grid, prefix, classes or tuple(rows))
