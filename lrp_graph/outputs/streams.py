"""The residual streams between blocks, found from the graph.

What a block adds to the stream goes through one value. So the stream after a block is the last value that every path
from the block's attention to the logits goes through before the next block reads it.
"""

from __future__ import annotations

import torch
from torch import fx

from ..trace.capture import Trace
from ..trace.rewrite import GraphError, ancestors, dependents, shape_of, target_of

aten = torch.ops.aten


def residual_stream(trace: Trace) -> tuple[fx.Node, ...]:
    """The token stream [batch, tokens, width] after the block of each attention layer.

    Raises:
        GraphError: For some layer, no such value carries all that its block does to the logits.
    """
    needed = ancestors(trace.full_logits)
    stream: list[fx.Node] = []
    for attention in trace.layer_attention:
        after = dependents(trace.nodes, [attention])
        passages = post_dominators([node for node in trace.nodes if node in after and node in needed])
        later = [other for other in trace.layer_attention if other is not attention and other in after]
        if later:
            before = ancestors(later[0])
            passages = [node for node in passages if node in before]
        else:  # what follows the last block is told from it by the op that the blocks before end with
            if trace.pool_attention is not None:
                before = ancestors(trace.pool_attention)
                passages = [node for node in passages if node in before]
            last_op = target_of(stream[-1]) if stream else aten.add
            passages = [node for node in passages if target_of(node) is last_op]
        tokens = shape_of(attention)[-1]
        passages = [node for node in passages if _is_stream(node, tokens)]
        if not passages:
            raise GraphError(
                f"no residual stream [batch, {tokens}, width] found after {attention.name}, which layer_gradient needs"
            )
        stream.append(passages[-1])
    return tuple(stream)


def embedding(trace: Trace) -> frozenset[fx.Node]:
    """The nodes before the first block; those before the first attention where no one value enters that block."""
    attention = trace.layer_attention[0]
    return frozenset(ancestors(stream_before(trace, attention) or attention))


def stream_before(trace: Trace, attention: fx.Node) -> fx.Node | None:
    """The last token stream [batch, tokens, width] before ``attention`` that all paths from pixels to logits meet."""
    after, needed = dependents(trace.nodes, [trace.pixels]), ancestors(trace.full_logits)
    nodes = [trace.pixels, *(node for node in trace.nodes if node in after and node in needed)]
    tokens, before = shape_of(attention)[-1], ancestors(attention)
    passages = [node for node in post_dominators(nodes) if node in before and _is_stream(node, tokens)]
    return passages[-1] if passages else None


def post_dominators(nodes: list[fx.Node]) -> list[fx.Node]:
    """Those of ``nodes``, all that depend on the first of them, that every path from the first to the last meets.

    In execution order, these are the nodes that no edge jumps over.
    """
    place = {node: number for number, node in enumerate(nodes)}
    furthest, found = 0, []  # the place of the last user of any node so far
    for number, node in enumerate(nodes):
        if furthest <= number:
            found.append(node)
        furthest = max(furthest, *(place[user] for user in node.users if user in place), 0)
    return found


def tail_after(trace: Trace, node: fx.Node) -> list[fx.Node]:
    """The nodes between ``node`` and the full logits that depend on it, in execution order, without itself."""
    found = (dependents(trace.nodes, [node]) & ancestors(trace.full_logits)) - {node}
    return [node for node in trace.nodes if node in found]


def _is_stream(node: fx.Node, tokens: int) -> bool:
    return len(shape_of(node)) == 3 and shape_of(node)[1] == tokens
