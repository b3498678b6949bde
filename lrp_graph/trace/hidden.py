"""Hidden layers, of which each column goes its own way from one linear layer to the next."""

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

BY_ENTRY = {*DERIVATIVES, aten.mul, aten.neg}


@dataclass(frozen=True)
class HiddenLayer:
    """The paths of its parameters: ``into`` [width, before] and, if there is one, ``bias`` [width] give it, ``out``
    [after, width] reads it.
    """

    width: int
    into: str
    bias: str | None
    out: str


def hidden_layers(trace: Trace) -> list[HiddenLayer]:
    """Those whose parameters have no other use."""
    calls = set(trace.nodes)
    places: Counter[HiddenLayer] = Counter()  # more than one where the last block is there twice
    for out in trace.nodes:
        into = _source(out, calls) if target_of(out) is aten.linear else None
        if into is not None:
            paths = [trace.weights.get(node) for node in (*into.all_input_nodes[1:], out.all_input_nodes[1])]
            weight, bias, reader = paths[0], paths[1] if len(paths) == 3 else None, paths[-1]
            if weight is not None and reader is not None and (len(paths) == 2 or bias is not None):
                places[HiddenLayer(shape_of(into)[-1], weight, bias, reader)] += 1
    uses = Counter(trace.weights[arg] for node in trace.nodes for arg in node.all_input_nodes if arg in trace.weights)
    return [
        layer
        for layer, count in places.items()
        if all(uses[path] == count for path in (layer.into, layer.bias, layer.out) if path is not None)
    ]


def _source(out: fx.Node, calls: Collection[fx.Node]) -> fx.Node | None:
    """The linear layer that alone, entry by entry, gives what the linear layer ``out`` alone reads, if there is one."""
    between: set[fx.Node] = set()
    sources: set[fx.Node] = set()
    ahead = [out.all_input_nodes[0]]
    while ahead:
        node = ahead.pop()
        if target_of(node) is aten.linear:
            sources.add(node)
        elif target_of(node) in BY_ENTRY:
            between.add(node)
            ahead.extend(node.all_input_nodes)
        else:
            return None
    users = {user for node in between | sources for user in node.users if user in calls}
    return sources.pop() if len(sources) == 1 and users <= between | {out} else None
