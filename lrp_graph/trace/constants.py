"""What a model computes from its weights alone, such as interpolated positions: once, in float64, rounded to its type.

Left in the graph, each program that runs it would compute it in its own way and type: an exporter rounds to float32
what a comparison in float64 does not, which relevance can make a thousand times larger.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from ..in_double import in_double
from .canonicalize import is_view
from .rewrite import ancestors, interpret


def fold_weights(graph: fx.Graph, known: Mapping[fx.Node, Tensor]) -> dict[fx.Node, Tensor]:
    """Put placeholders in place of what is computed from ``known`` alone; what they stand for.

    known: the weights and constants. Views of them stay, as they compute nothing.
    """
    fixed: list[fx.Node] = []
    worked: set[fx.Node] = set()
    given = set(known)
    for node in graph.nodes:
        if node.op == "call_function" and given.issuperset(node.all_input_nodes):
            given.add(node)
            fixed.append(node)
            made = bool(node.all_input_nodes) and not is_view(node)
            if made or not worked.isdisjoint(node.all_input_nodes):
                worked.add(node)
    ends = [node for node in fixed if node in worked and not given.issuperset(node.users)]
    needed = set[fx.Node]().union(*map(ancestors, ends))
    values = _computed(
        [node for node in fixed if node in needed], {node: known[node] for node in needed & known.keys()}
    )
    found = {}
    for node in ends:
        if isinstance(values[node], Tensor):
            with graph.inserting_before(next(iter(graph.nodes))):
                stand_in = graph.placeholder(f"{node.name}_of_weights")
            stand_in.meta.update(node.meta)
            node.replace_all_uses_with(stand_in, lambda user: user not in given)
            found[stand_in] = values[node].detach().to(node.meta["val"].dtype, copy=True)
    return found


def _computed(nodes: list[fx.Node], known: dict[fx.Node, Tensor]) -> dict[fx.Node, Tensor]:
    """The values of the nodes, in float64; as they are written where weights are in float64 already."""
    if any(tensor.dtype == torch.float64 for tensor in known.values()):
        with torch.no_grad():
            return interpret(nodes, dict(known))
    wide = {node: tensor.double() if tensor.is_floating_point() else tensor for node, tensor in known.items()}
    with torch.no_grad(), in_double():
        return interpret(nodes, wide)
