"""ViT-ReciproCAM: the class's score where the last block sees one neighbourhood of patches only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..layout import Layout
from ..trace.capture import Trace
from ..trace.hoist_selection import hoist_selection
from ..trace.rewrite import (
    GraphError,
    ancestors,
    call,
    copy_nodes,
    dependents,
    interpret_for,
    shape_of,
    target_of,
    with_others,
)
from .streams import stream_before, tail_after

aten = torch.ops.aten


@dataclass(frozen=True)
class LastBlock:
    """A copy of the last block and of what follows, to be run on other features than the image's.

    Attributes:
        features: The token stream [batch, tokens, width] that it reads.
        nodes: From there to ``logits``, in execution order.
        batch_sizes: The nodes whose value is the number of images.
        logits: Its output, [batch, classes].
    """

    features: fx.Node
    nodes: tuple[fx.Node, ...]
    batch_sizes: tuple[fx.Node, ...]
    logits: fx.Node


def last_block(trace: Trace) -> LastBlock:
    """Copy what follows the last token stream before the last attention, so that only the rows read are computed.

    Raises:
        GraphError: There is no such stream.
    """
    attention = trace.layer_attention[-1]
    features = stream_before(trace, attention)
    if features is None:
        tokens = shape_of(attention)[-1]
        raise GraphError(
            f"no residual stream [batch, {tokens}, width] found before {attention.name}, which reciprocam needs"
        )
    graph = features.graph
    (output,) = graph.find_nodes(op="output")
    copies = copy_nodes(graph, tail_after(trace, features), output)
    with graph.inserting_before(output):
        logits = call(graph, aten.clone.default, copies[trace.full_logits])
    hoist_selection(graph, set(copies.values()))
    batch = shape_of(trace.pixels)[0]
    sizes = [node for node in trace.nodes if target_of(node) is aten.sym_size and node.meta["val"] == batch]
    replaced = {features, *sizes}  # sizes too, which are multiplied in reshapes
    needed = ancestors(logits, replaced)
    # Rows of a constant do not depend on what is replaced, but came with the copy
    new = {node for node in needed if node.op == "call_function"}.difference(trace.nodes)
    run = (needed & dependents(graph.nodes, replaced) | new) - replaced
    return LastBlock(features, tuple(node for node in graph.nodes if node in run), tuple(sizes), logits)


def reciprocam(trace: Trace, block: LastBlock, values: Mapping[fx.Node, Any], seed: Tensor, layout: Layout) -> Tensor:
    """The target's logit for each patch where the last block sees its neighbourhood only (Byun & Lee 2023).

    The features of patches are multiplied by a 3 x 3 Gaussian around one patch, those of prefix tokens are kept, and
    what follows is run once for each patch.

    Args:
        trace: The model's graph.
        block: Its last block.
        values: The result of every node in the forward pass.
        seed: [targets, batch, classes], 1 at the target.
        layout: Which token is what.

    Returns:
        [batch, targets, h, w], the patch grid.
    """
    features: Tensor = values[block.features]
    h, w = layout.patch_grid
    rows, columns = (_neighbourhood(size, features) for size in layout.patch_grid)
    masks = (rows[:, None, :, None] * columns[None, :, None, :]).reshape(h * w, h * w)
    masks = nn.functional.pad(masks, [layout.prefix_tokens, 0], value=1.0)
    masked = (features.unsqueeze(1) * masks.unsqueeze(-1)).flatten(0, 1)
    sizes = dict.fromkeys(block.batch_sizes, masked.shape[0])
    known = with_others(values, {**sizes, block.features: masked})
    logits: Tensor = interpret_for([block.logits], block.nodes, known)[block.logits]
    scores = logits.reshape(features.shape[0], h * w, -1) @ seed.permute(1, 2, 0)
    return scores.mT.reshape(features.shape[0], -1, h, w)


def _neighbourhood(size: int, like: Tensor) -> Tensor:
    """exp(-d^2 / 2) for neighbours at distance d = 0 or 1 in a row of ``size``, else 0: [size, size]."""
    place = torch.arange(size).to(like)
    distance = (place[:, None] - place).abs()
    return torch.where(distance <= 1, torch.exp(-(distance**2) / 2), 0.0)
