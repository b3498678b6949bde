"""Small tools for reading, writing and running traced graphs."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, fx

aten = torch.ops.aten


class GraphError(ValueError):
    """The model's graph is not that of a transformer that can be explained; the message says what is missing."""


def target_of(node: fx.Node) -> Any:
    """What a node calls, overloads of one ATen op not distinguished."""
    return getattr(node.target, "overloadpacket", node.target)


def shape_of(node: fx.Node) -> tuple[Any, ...]:
    """The traced shape of a node's value (the batch is a symbol); () where it is not one tensor."""
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def call(graph: fx.Graph, op: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """Insert a call together with its traced value, as torch.export would have."""
    node = graph.call_function(op, args, kwargs)
    values = fx.node.map_arg(args, lambda arg: arg.meta["val"])
    node.meta["val"] = op(*values, **kwargs)
    return node


def copy_nodes(graph: fx.Graph, nodes: Iterable[fx.Node], before: fx.Node) -> dict[fx.Node, fx.Node]:
    """Copy ``nodes``, in execution order, to just before another; copies take copies as arguments where there are."""
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        with graph.inserting_before(before):
            copies[node] = graph.node_copy(node, lambda arg: copies.get(arg, arg))
    return copies


def ancestors(node: fx.Node, known: Collection[fx.Node] = ()) -> set[fx.Node]:
    """``node`` and all it is computed from; what nodes in ``known`` are computed from is left out."""
    found, pending = {node}, [node]
    while pending:
        new = set(pending.pop().all_input_nodes) - found
        found |= new
        pending.extend(new.difference(known))
    return found


VALUE_ARGUMENTS = {
    **dict.fromkeys((aten.sym_size, aten.zeros_like, aten.ones_like, aten.full_like), 0),
    **dict.fromkeys((aten.new_zeros, aten.new_ones, aten.new_full), 0),
    **dict.fromkeys((aten.to, aten.type_as, aten.expand_as, aten.view_as, aten.reshape_as), 1),
}
"""How many leading arguments an op takes the values of, where it takes only the shape or dtype of the others."""


def value_inputs(node: fx.Node) -> list[fx.Node]:
    """The nodes whose values it takes, not just their shape or dtype, in the order of its arguments."""
    return node.all_input_nodes[: VALUE_ARGUMENTS.get(target_of(node))]


def dependents(nodes: Iterable[fx.Node], roots: Iterable[fx.Node]) -> set[fx.Node]:
    """``roots`` and those of ``nodes``, given in execution order, whose values depend on theirs."""
    found = set(roots)
    for node in nodes:
        if not found.isdisjoint(value_inputs(node)):
            found.add(node)
    return found


Values = TypeVar("Values", bound=MutableMapping[fx.Node, Any])


def interpret(nodes: Sequence[fx.Node], values: Values) -> Values:
    """Run ``nodes``, in order, and add their values to ``values``, which has those of all that they need.

    Returns:
        ``values``.
    """
    for node in nodes:
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
        values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return values


def interpret_for(
    wanted: Collection[fx.Node], nodes: Sequence[fx.Node], values: Mapping[fx.Node, Any]
) -> dict[fx.Node, Any]:
    """Run ``nodes``, in order, for the values of those in ``wanted``; the others are freed after their last use.

    Returns:
        The values of ``wanted`` among the nodes.
    """
    last_use = {needed: node for node in nodes for needed in node.all_input_nodes}
    found: dict[fx.Node, Any] = {}
    known = with_others(values, found)
    for node in nodes:
        interpret([node], known)
        for needed in (node, *node.all_input_nodes):
            if last_use.get(needed, node) is node and needed not in wanted:
                found.pop(needed, None)
    return found


def with_others(values: Mapping[fx.Node, Any], others: dict[fx.Node, Any]) -> ChainMap[fx.Node, Any]:
    """What is read is looked for in ``others`` first, then in ``values``; what is written goes to ``others``."""
    return ChainMap(others, cast(MutableMapping[fx.Node, Any], values))
