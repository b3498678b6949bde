"""Which token is what, read off the graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from .gradient import GRADIENT
from .reverse import Walk, reverse
from .rewrite import shape_of, target_of
from .trace import GraphError, Trace

aten = torch.ops.aten


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

    def readout_row(self, like: Tensor) -> Tensor:
        """The uniform distribution over the readout rows, [tokens], in the dtype and on the device of ``like``."""
        tokens = self.prefix_tokens + self.patch_grid[0] * self.patch_grid[1]
        share = 1 / len(self.readout)
        return torch.tensor([share * (token in self.readout) for token in range(tokens)]).to(like)


def patch_grid(trace: Trace, tokens: int) -> tuple[int, int]:
    """(h, w) of the last convolution before the first attention. Raises GraphError if there is none that fits."""
    before = trace.nodes[: trace.nodes.index(trace.sites[0])]
    shapes = [shape_of(node) for node in before if target_of(node) is aten.conv2d]
    if not shapes:
        raise GraphError("no patch embedding found: no convolution stands before the first attention")
    grid = (int(shapes[-1][2]), int(shapes[-1][3]))
    if grid[0] * grid[1] > tokens:
        raise GraphError(f"a patch grid of {grid[0]} x {grid[1]} does not fit in {tokens} tokens")
    return grid


def read_layout(trace: Trace, values: dict[fx.Node, Tensor]) -> Layout:
    """The layout of a model of which ``values`` are those of one forward pass over noise.

    After the last attention every op works on single tokens, so the rows that the head reads are just those in which
    the gradient of the last attention matrix is not zero.
    """
    last = trace.sites[-1]
    tokens = shape_of(last)[-1]
    grid = patch_grid(trace, tokens)
    prefix = tokens - grid[0] * grid[1]
    logits = values[trace.logits]
    seed = torch.eye(min(4, logits.shape[1]), logits.shape[1]).to(logits).unsqueeze(1)
    (gradient,) = reverse(trace, values, trace.logits, seed, Walk(GRADIENT), [last])
    rows = (gradient.abs().sum((0, 1, 2, 4)) > 0).nonzero().flatten().tolist()
    if not rows:
        raise GraphError("the logits do not depend on the last attention layer (is the head all zero?)")
    classes = tuple(row for row in rows if row < prefix)
    return Layout(grid, prefix, classes or tuple(rows))
