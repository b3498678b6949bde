"""Nodes that several branches of a gated graph need, and that each computes for itself because they are cheap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import onnx_ir as ir

from .gate_plan import GatePlan, Outputs, size

VIEWS = {"Transpose", "Reshape", "Unsqueeze", "Squeeze"}
"""What costs nothing where it stands beside its user, as onnxruntime then makes it a part of the product it feeds."""

MUCH_LARGER = 8
"""A product this many times as large as its factors, like scores of many tokens, is cheaper to compute than to keep."""

Place = TypeVar("Place")


def duplicate_cheap(graph: ir.Graph, plan: GatePlan) -> GatePlan:
    """Copy what is cheap for each set of outputs that need it, so that it need not be kept for others.

    Returns:
        The plan with the copies.
    """
    needs = dict(plan.needs)
    for node in reversed(list(graph)):
        if _is_cheap(node, needs):
            _copy_to_users(graph, node, needs)
    return replace(plan, needs=needs)


def duplicate_views(graph: ir.Graph, plan: GatePlan) -> GatePlan:
    """Copy views for each branch, which holds what the same outputs need in one level.

    Returns:
        The plan with the copies.
    """
    branches = {node: (plan.needs[node], level) for node, level in plan.levels.items()}
    for node in reversed(list(graph)):
        if node.op_type in VIEWS and node in branches:
            _copy_to_users(graph, node, branches)
    needs = {**plan.needs, **{node: outputs for node, (outputs, _) in branches.items()}}
    return replace(plan, needs=needs, levels={node: level for node, (_, level) in branches.items()})


def _copy_to_users(graph: ir.Graph, node: ir.Node, places: dict[ir.Node, Place]) -> None:
    """Copy a node to each place where its value is used, and add the copies to ``places``; unused, it goes."""
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
        return size(node.outputs[0]) >= MUCH_LARGER * sum(map(size, node.inputs)) > 0
    producers = [value.producer() for value in node.inputs if value is not None]
    return node.op_type in {"Mul", "Softmax"} and any(one is not None and _is_large(one) for one in producers)


def _is_kept(value: ir.Value, needs: Mapping[ir.Node, Outputs]) -> bool:
    """Whether a value is there for all groups in any case."""
    producer = value.producer()
    return producer is None or not needs[producer] or any(needs[u] != needs[producer] for u in value.consumers())
