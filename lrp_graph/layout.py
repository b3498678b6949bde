"""Which token is what, read off the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from .reverse import Propagator, reverse
from .rules.vjp import GRADIENT
from .trace.capture import MATMUL, Trace
from .trace.rewrite import GraphError, ancestors, dependents, interpret, interpret_for, shape_of, target_of, with_others

aten = torch.ops.aten


@dataclass(frozen=True)
class Layout:
    """How the rows and columns of an attention matrix relate to the image.

    Attributes:
        patch_grid: (h, w), patches in row-major order, the last h * w tokens.
        prefix_tokens: How many class, distillation and register tokens stand before the patches.
        readout: The token rows that the head reads; where it reads class tokens and patches both, the class tokens.
        pool: Whether it reads them through an attention pool, which weighs them itself.
    """

    patch_grid: tuple[int, int]
    prefix_tokens: int
    readout: tuple[int, ...]
    pool: bool = False

    @property
    def tokens(self) -> int:
        """The number of rows and columns."""
        return self.prefix_tokens + self.patch_grid[0] * self.patch_grid[1]


def patch_grid(trace: Trace, tokens: int) -> tuple[int, int]:
    """(h, w) of the patch embedding before the first attention.

    That is the output size of its last convolution or, where there is none, of pixels that were reshaped to [batch, 3,
    h, patch height, w, patch width].

    Raises:
        GraphError: There is neither, or more patches than ``tokens``.
    """
    before = trace.nodes[: trace.nodes.index(trace.layer_attention[0])]
    convolved = [shape_of(node)[2:] for node in before if target_of(node) is aten.conv2d]
    split = [shape_of(node) for node in before if target_of(node) is aten.reshape and len(shape_of(node)) == 6]
    height, width = shape_of(trace.pixels)[2:]
    reshaped = [(h, w) for _, _, h, p, w, q in split if h * p == height and w * q == width]
    grids = convolved or reshaped
    if not grids:
        raise GraphError("no patch embedding found: no convolution stands before the first attention")
    h, w = (int(size) for size in grids[-1])
    if h * w > tokens:
        raise GraphError(f"a patch grid of {h} x {w} does not fit in {tokens} tokens")
    return h, w


def _weighed(trace: Trace) -> fx.Node:
    """What the first attention weighs."""
    after = dependents(trace.nodes, trace.layer_attention[:1]) - {trace.layer_attention[0]}
    weighed = next(node for node in trace.nodes if node in after and target_of(node) in MATMUL).args[1]
    assert isinstance(weighed, fx.Node)
    return weighed


def _require_patches_last(trace: Trace, given: Mapping[fx.Node, Tensor], value: Tensor, patches: int) -> None:
    """Raise GraphError unless the last tokens are patches: what the first attention weighs depends on the image.

    Its value for the image that is given is ``value``.
    """
    weighed = _weighed(trace)
    before = ancestors(weighed)
    another = {**given, trace.pixels: given[trace.pixels].flip(-2, -1)}
    changed = interpret([node for node in trace.nodes if node in before], another)[weighed] != value
    if not changed.movedim(-2, 0).flatten(1).any(1)[-patches:].all():
        raise GraphError(
            f"the last {patches} tokens must be the patches, after class tokens and the like; here some of them do not "
            "depend on the image"
        )


def read_layout(trace: Trace, nodes: Sequence[fx.Node], given: Mapping[fx.Node, Tensor]) -> Layout:
    """Find out which token is what.

    After the last attention every op works on single tokens, so the rows that the head reads are just those in which
    the gradient of the last attention matrix is not zero. An attention pool reads the tokens it attends to, all or the
    patches.

    Args:
        trace: The model's graph.
        nodes: Those that the logits need, in their order.
        given: An image of noise and the weights, by placeholder.

    Returns:
        The layout.

    Raises:
        GraphError: The model has none that is supported.
    """
    last = trace.layer_attention[-1]
    tokens = shape_of(last)[-1]
    grid = patch_grid(trace, tokens)
    prefix = tokens - grid[0] * grid[1]
    weighed, after = _weighed(trace), dependents(trace.nodes, [last])
    read = {node for user in after for node in user.all_input_nodes}
    found = interpret_for({weighed, *after, *read}, nodes, given)  # all layers of a large image would be gigabytes
    values = with_others(given, found)
    _require_patches_last(trace, given, values[weighed], tokens - prefix)
    logits = values[trace.logits]
    if not logits.isfinite().all():
        raise GraphError("its logits for an image of noise are NaN or infinite; are its weights those of training?")
    seed = torch.eye(min(4, logits.shape[1]), logits.shape[1]).to(logits).unsqueeze(1)
    (gradient,) = reverse(trace, values, trace.logits, seed, Propagator(GRADIENT), [last])
    rows = (gradient.abs().sum((0, 1, 2, 4)) > 0).nonzero().flatten().tolist()
    if not rows:
        raise GraphError("the logits do not depend on the last attention layer (is the head all zero?)")
    if trace.pool_attention is not None:
        seen = shape_of(trace.pool_attention)[-1]
        if seen not in (tokens, tokens - prefix):
            raise GraphError(
                f"an attention pool must read all {tokens} tokens or the {tokens - prefix} patches, not {seen}"
            )
        return Layout(grid, prefix, tuple(range(tokens - seen, tokens)), True)
    classes = tuple(row for row in rows if row < prefix)
    return Layout(grid, prefix, classes or tuple(rows))
