"""Hoist the head's token selection, so that the last block computes only the rows that are read.

A classifier that reads the class token needs one row of everything after the last attention. ``select`` is exchanged
with the ops before it, as long as these treat tokens alike. That spares most of the projection and the MLP of the last
block, forward and backward; no value that is used changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import fx

from .rewrite import call, shape_of, target_of

aten = torch.ops.aten

Node = Any
"""An fx.Node; fx types the arguments of a node so widely that none could be used without a cast."""

Exchange = Callable[[fx.Graph, Node, int, int], fx.Node | None]
"""(graph, node, axis, index) -> a node equal to ``select(node, axis, index)`` that selects earlier, or None."""


def hoist_selection(graph: fx.Graph, nodes: Collection[fx.Node]) -> None:
    """Exchange selections with the ops before them, those in ``nodes``, wherever nothing else of a result is used.

    A result of which two rows are read (distilled models) stays in one piece: split in two, it would get another
    relevance, as Chefer's rule for additions is not additive over the consumers of a value.
    """
    for node in [node for node in reversed(graph.nodes) if node in nodes]:
        exchange = EXCHANGES.get(target_of(node))
        selections = list(node.users)
        if exchange is None or not selections or any(target_of(user) is not aten.select for user in selections):
            continue
        shape = shape_of(node)
        places = {(user.args[1] % len(shape), user.args[2] % shape[user.args[1]]) for user in selections}
        if len(places) > 1:
            continue
        with graph.inserting_before(node):
            earlier = exchange(graph, node, *places.pop())
        if earlier is not None:
            for selection in selections:
                selection.replace_all_uses_with(earlier)
                graph.erase_node(selection)
            graph.erase_node(node)


def _select(graph: fx.Graph, node: Node, axis: int, index: int) -> fx.Node:
    return call(graph, aten.select.int, node, axis, index)


def _elementwise(graph: fx.Graph, node: Node, axis: int, index: int) -> fx.Node:
    """f(a, b)[i] = f(a[i], b[i]), with broadcasting."""
    rank = len(shape_of(node))

    def select(arg: Any) -> Any:
        shape = shape_of(arg) if isinstance(arg, fx.Node) else ()
        own = axis - rank + len(shape)
        if own < 0 or not shape:
            return arg
        return _select(graph, arg, own, 0 if shape[own] == 1 else index)

    return call(graph, node.target, *[select(arg) for arg in node.args], **node.kwargs)


def _last_axis(graph: fx.Graph, node: Node, axis: int, index: int) -> fx.Node | None:
    """Layers that mix the entries of the last axis (normalisations: of the last few), each row by itself."""
    mixed = len(node.args[1]) if isinstance(node.args[1], list) else 1
    if axis >= len(shape_of(node)) - mixed:
        return None
    return call(graph, node.target, _select(graph, node.args[0], axis, index), *node.args[1:], **node.kwargs)


def _reshape(graph: fx.Graph, node: Node, axis: int, index: int) -> fx.Node | None:
    """Where the axes up to the selected one stay as they are."""
    source, sizes = node.args
    before, after = shape_of(source), shape_of(node)
    if before[: axis + 1] != after[: axis + 1]:
        return None
    return call(graph, node.target, _select(graph, source, axis, index), [*sizes[:axis], *sizes[axis + 1 :]])


def _transpose(graph: fx.Graph, node: Node, axis: int, index: int) -> fx.Node:
    source, a, b = node.args
    order = list(range(len(shape_of(node))))
    order[a], order[b] = order[b], order[a]
    origin = order.pop(axis)
    rest = [place - (place > origin) for place in order]
    return call(graph, aten.permute.default, _select(graph, source, origin, index), rest)


def _matmul(graph: fx.Graph, node: Node, axis: int, index: int) -> fx.Node | None:
    """(A B)[i] = A[i] B for a row i."""
    rank = len(shape_of(node))
    a, b = node.args
    if axis != rank - 2 or len(shape_of(a)) != rank:
        return None
    row = call(graph, aten.unsqueeze.default, _select(graph, a, axis, index), axis)
    return call(graph, aten.squeeze.dim, call(graph, node.target, row, b), axis)


ELEMENTWISE = (aten.add, aten.sub, aten.mul, aten.div, aten.gelu, aten.silu, aten.sigmoid, aten.tanh, aten.relu)

EXCHANGES: dict[Any, Exchange] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys((aten.linear, aten.layer_norm, aten.rms_norm), _last_axis),
    **dict.fromkeys((aten.softmax, aten._softmax), _last_axis),
    aten.reshape: _reshape,
    aten.transpose: _transpose,
    aten.matmul: _matmul,
}
