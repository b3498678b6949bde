"""Nodes that several branches of a gated graph need, and that each computes for itself because they are cheap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from .branch_levels import Outputs

VIEWS = {"Transpose", "Reshape", "Unsqueeze", "Squeeze"}
"""What costs nothing where it stands beside its user, as onnxruntime then makes it a part of the product it feeds."""

MUCH_LARGER = 8
"""A product this many times as large as its factors, like scores of many tokens, is cheaper to compute than to keep."""


def copy_cheap(graph: ir.Graph, needs: dict[ir.Node, Outputs]) -> None:
    """Give the nodes that the same outputs need their own of what is cheap, so that it need not be kept for others."""
    for node in reversed(list(graph)):
        if _is_cheap(node, needs):
            _give_each_its_own(graph, node, needs)


def copy_views(graph: ir.Graph, needs: dict[ir.Node, Outputs], level: dict[ir.Node, int]) -> None:
    """Give each branch, which holds what the same outputs need in one level, its own views."""
    branch = {node: (needs[node], level[node]) for node in level}
    for node in reversed(list(graph)):
        if node.op_type in VIEWS and node in branch:
            _give_each_its_own(graph, node, branch)
    for node, place in branch.items():
        needs[node], level[node] = place


def _give_each_its_own(graph: ir.Graph, node: ir.Node, places: dict[ir.Node, Any]) -> None:
    """Copy ``node`` to each place, as ``places`` calls it, where its value is used."""
    (value,) = node.outputs
    elsewhere = dict.fromkeys(places[user] for user, _ in value.uses() if places[user] != places[node])
    for number, place in enumerate(elsewhere):
        own = ir.Value(name=f"{value.name}/{number}", type=value.type, shape=value.shape)
        copy = ir.Node(node.domain, node.op_type, node.inputs, list(node.attributes.values()), outputs=[own])
        copy.name = f"{node.name}/{number}"
        graph.insert_after(node, copy)
        places[copy] = place
        for user, index in list(value.uses()):
            if places[user] == place:
                user.replace_input_with(index, own)
    if not value.uses() and not value.is_graph_output():
        del places[node]
        graph.remove(node, safe=True)


def _is_cheap(node: ir.Node, needs: Mapping[ir.Node, Outputs]) -> bool:
    """Whether to compute it anew for each group: a view, what is large, or a product of values that are kept."""
    if _is_large(node):
        return node.op_type == "MatMul" or not needs[node]
    if node.op_type == "Mul":
        return bool(needs[node]) and all(value is not None and _is_kept(value, needs) for value in node.inputs)
    return node.op_type in VIEWS and bool(needs[node])


def _is_large(node: ir.Node) -> bool:
    """Whether it is a product much larger than its factors, or the attention that a layer's scores become."""
    if node.op_type == "MatMul":
        return _size(node.outputs[0]) >= MUCH_LARGER * sum(map(_size, node.inputs)) > 0
    producers = [value.producer() for value in node.inputs if value is not None]
    return node.op_type in {"Mul", "Softmax"} and any(one is not None and _is_large(one) for one in producers)


def _is_kept(value: ir.Value, needs: Mapping[ir.Node, Outputs]) -> bool:
    """Whether a value is there for all groups in any case."""
    producer = value.producer()
    return producer is None or not needs[producer] or any(needs[u] != needs[producer] for u in value.consumers())


def _size(value: ir.Value | None) -> int:
    """How many numbers, for one picture and target; 0 if that is not known."""
    if value is None or value.shape is None:
        return 0
    return math.prod(size for size in value.shape if isinstance(size, int))
