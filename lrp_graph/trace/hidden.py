"""Hidden layers whose columns are computed apart from one another, from one linear layer to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import fx

from ..rules.vjp import DERIVATIVES
from .capture import Trace
from .rewrite import shape_of, target_of

aten = torch.ops.aten

ELEMENTWISE = {*DERIVATIVES, aten.mul, aten.neg}


@dataclass(frozen=True)
class HiddenLayer:
    """One hidden layer, with the paths of its parameters in the model.

    Attributes:
        width: How many columns it has.
        in_weight: [width, before], the weight of the linear layer that gives it.
        in_bias: [width], the bias of that layer, if there is one.
        out_weight: [after, width], the weight of the linear layer that reads it.
    """

    width: int
    in_weight: str
    in_bias: str | None
    out_weight: str


def hidden_layers(trace: Trace) -> list[HiddenLayer]:
    """Those whose parameters have no other use."""
    calls = set(trace.nodes)
    found: Counter[HiddenLayer] = Counter()  # more than once where the last block is there twice
    for reader in trace.nodes:
        source = _source(reader, calls) if target_of(reader) is aten.linear else None
        if source is not None:
            # A weight that is computed has no path
            in_weight, *bias = (trace.weights.get(node) for node in source.all_input_nodes[1:])
            out_weight = trace.weights.get(reader.all_input_nodes[1])
            if in_weight is not None and out_weight is not None and None not in bias:
                found[HiddenLayer(shape_of(source)[-1], in_weight, bias[0] if bias else None, out_weight)] += 1
    uses = Counter(trace.weights[arg] for node in trace.nodes for arg in node.all_input_nodes if arg in trace.weights)
    return [
        layer
        for layer, count in found.items()
        if all(uses[path] == count for path in (layer.in_weight, layer.in_bias, layer.out_weight) if path is not None)
    ]


def _source(reader: fx.Node, calls: Collection[fx.Node]) -> fx.Node | None:
    """The one linear layer, if it is one, from which elementwise ops alone make what the linear layer ``reader`` reads.

    Nothing but ``reader`` may read any of these values.
    """
    between: set[fx.Node] = set()
    sources: set[fx.Node] = set()
    pending = [reader.all_input_nodes[0]]
    while pending:
        node = pending.pop()
        if target_of(node) is aten.linear:
            sources.add(node)
        elif target_of(node) in ELEMENTWISE:
            between.add(node)
            pending.extend(node.all_input_nodes)
        else:
            return None
    users = {user for node in between | sources for user in node.users if user in calls}
    return sources.pop() if len(sources) == 1 and users <= between | {reader} else None
