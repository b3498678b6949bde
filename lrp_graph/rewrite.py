"""Small tools for reading and writing traced graphs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, fx


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
    fake = next(value for value in values if isinstance(value, Tensor))
    with fake.fake_mode:  # type: ignore[attr-defined]
        node.meta["val"] = op(*values, **kwargs)
    return node


def copy_nodes(graph: fx.Graph, nodes: Iterable[fx.Node], place: fx.Node) -> dict[fx.Node, fx.Node]:
    """Copy ``nodes``, given in execution order, to before ``place``; copies refer to copies where there are some."""
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        with graph.inserting_before(place):
            copies[node] = graph.node_copy(node, lambda arg: copies.get(arg, arg))
    return copies
