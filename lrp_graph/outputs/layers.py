"""What a block's own output says: the score of every layer (LeGrad), and of the last one without most patches.

The residual stream after each block is found from the graph: what a block adds to it goes through one value, so that is
the last value that every path from the block's attention to the logits goes through before the next block reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..layout import Layout
from ..reverse import Propagator, reverse
from ..rules.vjp import GRADIENT
from ..trace.capture import Trace
from ..trace.hoist_selection import move_selection_up
from ..trace.rewrite import (
    GraphError,
    ancestors,
    call,
    computed,
    copy_nodes,
    dependents,
    interpret,
    shape_of,
    target_of,
)

aten = torch.ops.aten

Values = Mapping[fx.Node, Any]


def residual_stream(trace: Trace) -> tuple[fx.Node, ...]:
    """The token stream [batch, tokens, width] after the block of each attention site.

    Raises GraphError if there is none that carries all a block does to the logits.
    """
    whole = ancestors(trace.whole)
    stream: list[fx.Node] = []
    for site in trace.sites:
        after = dependents(trace.nodes, [site])
        nodes = [node for node in trace.nodes if node in after and node in whole]
        passages = _post_dominators(nodes)
        later = [other for other in trace.sites if other is not site and other in after]
        if later:
            before = ancestors(later[0])
            passages = [node for node in passages if node in before]
        else:  # what follows the last block is told from it by what the blocks before end with
            if trace.pool is not None:
                before = ancestors(trace.pool)
                passages = [node for node in passages if node in before]
            like = stream[-1] if stream else None
            op = target_of(like) if like is not None else aten.add
            passages = [node for node in passages if target_of(node) is op]
        tokens = shape_of(site)[-1]
        passages = [node for node in passages if _is_stream(node, tokens)]
        if not passages:
            raise GraphError(
                f"no residual stream [batch, {tokens}, width] found after {site.name}, which layer_gradient needs"
            )
        stream.append(passages[-1])
    return tuple(stream)


def embedding(trace: Trace) -> frozenset[fx.Node]:
    """The nodes before the first block; those before the first attention where no one value enters that block."""
    first = trace.sites[0]
    return frozenset(ancestors(stream_before(trace, first) or first))


def stream_before(trace: Trace, site: fx.Node) -> fx.Node | None:
    """The last token stream [batch, tokens, width] before ``site`` through which all goes from pixels to logits."""
    after, whole = dependents(trace.nodes, [trace.pixels]), ancestors(trace.whole)
    nodes = [trace.pixels, *(node for node in trace.nodes if node in after and node in whole)]
    tokens, before = shape_of(site)[-1], ancestors(site)
    passages = [node for node in _post_dominators(nodes) if node in before and _is_stream(node, tokens)]
    return passages[-1] if passages else None


def _post_dominators(nodes: list[fx.Node]) -> list[fx.Node]:
    """Those of ``nodes``, all that depend on the first of them, that every path from the first to the last meets.

    In execution order, these are the nodes that no edge jumps over.
    """
    place = {node: number for number, node in enumerate(nodes)}
    reached, found = 0, []
    for number, node in enumerate(nodes):
        if reached <= number:
            found.append(node)
        reached = max(reached, *(place[user] for user in node.users if user in place), 0)
    return found


def layer_gradients(trace: Trace, stream: Sequence[fx.Node], values: Values, seed: Tensor) -> list[Tensor]:
    """D_l = d s_l / d A_l, [targets, batch, heads, queries, keys] each (Bousselham et al. 2024, equations 5 and 6).

    s_l is the logits times ``seed`` where every token that leaves the last block is the mean token after block l.
    With an attention pool, s_l is the logits times ``seed`` where the pool reads the tokens after block l as they are,
    and A_l is the pool's attention to them, [targets, batch, pool's heads, 1, keys].
    """
    propagator = Propagator(GRADIENT)
    last = stream[-1]
    tail = _between(trace, last)
    found = []
    for site, node in zip(trace.sites, stream, strict=True):
        tokens = values[node]
        if trace.pool is not None:
            of_tokens = interpret(tail, {**values, last: tokens})
            found += reverse(trace, of_tokens, trace.whole, seed, propagator, [trace.pool])
            continue
        mean = tokens.mean(1, keepdim=True).expand_as(tokens)
        of_mean = reverse(trace, interpret(tail, {**values, last: mean}), trace.whole, seed, propagator, [last])[0]
        share = of_mean.mean(2, keepdim=True).expand_as(of_mean) * 1
        found += reverse(trace, values, node, share, propagator, [site])
    return found


@dataclass(frozen=True)
class LastBlock:
    """The last block once more, to be run on other features than the picture's.

    features: the token stream [batch, tokens, width] that it reads. nodes: from there to ``logits``, in order.
    batch_sizes: the nodes that hold the number of pictures.
    """

    features: fx.Node
    nodes: tuple[fx.Node, ...]
    batch_sizes: tuple[fx.Node, ...]
    logits: fx.Node


def require_stream(trace: Trace) -> fx.Node:
    """The token stream that the last block reads. Raises GraphError if there is none."""
    last = trace.sites[-1]
    features = stream_before(trace, last)
    if features is None:
        raise GraphError(
            f"no residual stream [batch, {shape_of(last)[-1]}, width] found before {last.name}, which reciprocam needs"
        )
    return features


def last_block(trace: Trace) -> LastBlock:
    """Copy what follows the last token stream before the last attention, so that only the rows read are computed.

    Raises GraphError if there is no such stream.
    """
    features = require_stream(trace)
    graph = features.graph
    (output,) = graph.find_nodes(op="output")
    copies = copy_nodes(graph, _between(trace, features), output)
    with graph.inserting_before(output):
        logits = call(graph, aten.clone.default, copies[trace.whole])
    move_selection_up(graph, set(copies.values()))
    batch = shape_of(trace.pixels)[0]
    sizes = [node for node in trace.nodes if target_of(node) is aten.sym_size and node.meta["val"] == batch]
    given = {features, *sizes}  # sizes too, which are multiplied in reshapes
    needed = ancestors(logits, given)
    made = {node for node in needed if node.op == "call_function"}.difference(trace.nodes)  # rows of a constant
    wanted = (needed & dependents(graph.nodes, given) | made) - given
    return LastBlock(features, tuple(node for node in graph.nodes if node in wanted), tuple(sizes), logits)


def reciprocam(trace: Trace, block: LastBlock, values: Values, seed: Tensor, layout: Layout) -> Tensor:
    """The target's logit where the last block sees one neighbourhood of patches only, [batch, targets, h, w].

    Byun & Lee, "ViT-ReciproCAM", 2023: the features of patches are multiplied by a 3 x 3 Gaussian around one patch,
    those of prefix tokens are kept, and what follows is run once for each patch.
    seed: [targets, batch, classes], 1 at the target.
    """
    features: Tensor = values[block.features]
    h, w = layout.patch_grid
    rows, columns = (_neighbourhood(size, features) for size in layout.patch_grid)
    masks = (rows[:, None, :, None] * columns[None, :, None, :]).reshape(h * w, h * w)
    masks = nn.functional.pad(masks, [layout.prefix_tokens, 0], value=1.0)
    masked = (features.unsqueeze(1) * masks.unsqueeze(-1)).flatten(0, 1)
    sizes = dict.fromkeys(block.batch_sizes, masked.shape[0])
    logits: Tensor = computed(block.nodes, {**values, **sizes, block.features: masked}, block.logits)
    scores = logits.reshape(features.shape[0], h * w, -1) @ seed.permute(1, 2, 0)
    return scores.mT.reshape(features.shape[0], -1, h, w)


def _neighbourhood(size: int, like: Tensor) -> Tensor:
    """exp(-d^2 / 2) for neighbours at distance d = 0 or 1 in a row of ``size``, else 0: [size, size]."""
    place = torch.arange(size).to(like)
    distance = (place[:, None] - place).abs()
    return torch.where(distance <= 1, torch.exp(-(distance**2) / 2), 0.0)


def _is_stream(node: fx.Node, tokens: int) -> bool:
    return len(shape_of(node)) == 3 and shape_of(node)[1] == tokens


def _between(trace: Trace, node: fx.Node) -> list[fx.Node]:
    """What of the whole logits depends on ``node``, without it."""
    found = (dependents(trace.nodes, [node]) & ancestors(trace.whole)) - {node}
    return [node for node in trace.nodes if node in found]
