"""The features of the last layer's tokens, found from the graph."""

from __future__ import annotations

import torch
from torch import fx

from ..trace.capture import Trace
from ..trace.rewrite import GraphError, ancestors, dependents, shape_of, target_of
from .streams import post_dominators

aten = torch.ops.aten

STILL_TOKENS = {
    *(aten.layer_norm, aten.rms_norm, aten.add, aten.sub, aten.mul, aten.div),  # norms, also those written out
    *(aten.to, aten._to_copy, aten.type_as, aten.clone),
}
"""The ops behind which there still is what the model has of its tokens. Others are what a head makes of it."""


def token_features(trace: Trace) -> fx.Node:
    """The last value [batch, tokens, width] that is all the model has of its tokens, before the head reads some of it.

    That is the residual stream behind the last block, behind the final norm if that is one of tokens; a norm of what a
    head has pooled is none.

    Raises:
        GraphError: No such value stands behind the last attention layer.
    """
    attention = trace.layer_attention[-1]
    tokens, after = shape_of(attention)[-1], dependents(trace.nodes, [attention])
    end = trace.full_logits if trace.pool_attention is None else trace.pool_attention
    before = ancestors(end)
    passages = post_dominators([node for node in trace.nodes if node in after and node in before])
    skipped = dependents(trace.nodes, [trace.pixels]) - after
    found: fx.Node | None = None
    stream = [place for place, node in enumerate(passages) if _joins(node, tokens, skipped)]
    for node in passages[stream[-1] :] if stream else ():
        if found is not None and (shape_of(node) != shape_of(found) or target_of(node) not in STILL_TOKENS):
            break
        found = node
    if found is None:
        raise GraphError(
            f"no residual stream [batch, {tokens}, width] found after {attention.name}, which features needs"
        )
    return found


def _joins(node: fx.Node, tokens: int, skipped: set[fx.Node]) -> bool:
    """Whether what the block reads, past its attention, is added to what that gives [batch, tokens, width]."""
    shape = shape_of(node)
    return (
        len(shape) == 3
        and shape[1] == tokens
        and any(one in skipped and shape_of(one) == shape for one in node.all_input_nodes)
    )
