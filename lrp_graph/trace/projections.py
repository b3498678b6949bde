"""The linear layers of attention, found from the graph: what makes queries, keys and values, and what reads its output.

They have a gamma of their own, since the recipe that AttnLRP's authors publish for ViTs (LXT's examples/vit_torch.py)
has none there: zennit's gamma rule is on every nn.Conv2d and nn.Linear that is called, and nn.MultiheadAttention calls
none for its projections. So it reaches patch embedding, MLP and head, with CP-LRP in attention. LXT's earlier composite
for ViTs names the projections and gives them the epsilon rule.

Where there are none, as in an attention without an output projection, the walk over the graph must not go on to the
layers of another block. So it ends where a residual is added.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import fx

from .capture import MATMUL, Trace
from .rewrite import ancestors, dependents, target_of, value_inputs

aten = torch.ops.aten


def attention_projections(trace: Trace) -> frozenset[fx.Node]:
    """The linear layers that are projections of attention, those of an attention pool included.

    Such a layer's output becomes queries, keys or values, or its input comes from attention times values, and no other
    linear layer and no residual is between. A layer that makes more than these in one product, as of blocks whose
    attention and MLP are parallel, is one as well.
    """
    products = {product for attention in trace.attention_nodes for product in _products(trace, attention)}
    varying = dependents(trace.nodes, [trace.pixels])
    past_attention = ancestors(trace.logits, {*trace.attention_nodes, *products})

    def is_residual(node: fx.Node) -> bool:
        """Whether it adds two values, and reaches the logits also on a way that no attention is on."""
        both = len(varying.intersection(node.all_input_nodes)) > 1
        return target_of(node) is aten.add and both and node in past_attention

    def sources(starts: Iterable[fx.Node]) -> set[fx.Node]:
        """Where the walk back from ``starts`` ends: linear layers, attention times values, residuals."""
        found: set[fx.Node] = set()
        seen = set(starts)
        pending = list(seen)
        while pending:
            node = pending.pop()
            if target_of(node) is aten.linear or node in products or is_residual(node):
                found.add(node)
            else:
                new = varying.intersection(node.all_input_nodes) - seen
                seen |= new
                pending.extend(new)
        return found

    layers = [node for node in trace.nodes if target_of(node) is aten.linear and node in varying]
    values = [product.all_input_nodes[1] for product in products]
    before = sources([*trace.attention_nodes, *values])
    met = {layer: sources(layer.all_input_nodes[:1]) for layer in layers}
    after = {layer for layer in layers if met[layer] & products and not any(map(is_residual, met[layer]))}
    return frozenset(before.intersection(layers) | after)


def _products(trace: Trace, attention: fx.Node) -> list[fx.Node]:
    """The products of an attention matrix, or of rows of it, with values."""
    found, same = [], {attention}
    for node in trace.nodes:
        if not same.isdisjoint(value_inputs(node)):
            if target_of(node) in MATMUL:
                found.append(node)
            else:
                same.add(node)
    return found
