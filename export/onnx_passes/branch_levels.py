"""In which order the branches run: products with weights stand between them, in levels.

Unless told otherwise, onnxruntime packs a weight for each product and lets go of the original once all
products have theirs, but not before the end of opening where one stands in a branch: a file of 0.35 GB took 0.6 GB
more. So products with large weights run always, and have no rows where nobody wants them. What is between two of them
forms a level, and levels alternate with products. Gradient and relevance then walk back side by side, and what they
leave of a layer is free before the next; without levels, they hold 0.2 GB more for a ViT-B/16.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor

from .gate_plan import GatePlan, Outputs, constants_of, size

MIN_WEIGHT = 2**18
"""Entries of a weight, 1 MB, from which on this is worth the time that more branches take to open."""

MANY = 2**21
"""Entries of a value for one image and class, 8 MB, from which on not to keep it is worth more branches."""

TARGET = "target"
"""The input that says which classes are asked about."""


def assign_levels(graph: ir.Graph, plan: GatePlan) -> GatePlan:
    """Add the products to the plan, and the level of each gated node.

    A product follows the branches of its level, and its users are of later ones. What depends on the target and reads
    large values comes as early as it can, as what it makes of them is small; but the products that the same outputs
    need keep their order, so that one layer is done before the next. All else waits for its first user.
    """
    products = _products_of_weights(graph, plan)
    gated = [node for node in graph if plan.needs[node]]
    level = _earliest(gated, plan.needs, products)
    asking, constants = _dependents(graph, TARGET), constants_of(graph)
    for node in reversed(gated):
        users = [level[user] for value in node.outputs for user in value.consumers() if user in level]
        large = any(size(value) >= MANY for value in node.inputs if value not in constants)
        if users and not (large and node in asking):
            level[node] = min(users) - (node in products)
    return replace(plan, products=products, levels=level)


def views_of_products(graph: ir.Graph, plan: GatePlan) -> dict[ir.Node, ir.Node]:
    """What only reshapes a product or its rows, and the product: in a branch, it would be a copy."""
    found: dict[ir.Node, ir.Node] = {}
    for node in graph:
        inputs = [value for value in node.inputs if value is not None]
        if node.op_type == "Reshape" and get_const_tensor(inputs[1]) is not None:
            before, after = inputs[0].producer(), set(node.outputs[0].consumers())
            if before in plan.products:
                found[node] = before
            elif (
                before is not None
                and plan.needs[before] == plan.needs[node]
                and len(after) == 1
                and after <= plan.products
            ):
                (found[node],) = after
    return found


def _products_of_weights(graph: ir.Graph, plan: GatePlan) -> frozenset[ir.Node]:
    """The gated products of rows and a large constant that have no rows where their outputs are not wanted."""
    constants = constants_of(graph)

    def empty_with(node: ir.Node, value: ir.Value | None) -> bool:
        producer = value.producer() if value is not None else None
        return value in constants or (producer is not None and plan.needs[producer] == plan.needs[node])

    return frozenset(
        node
        for node in graph
        if node.op_type in {"MatMul", "Gemm", "MatMulInteger"}
        and plan.needs[node]
        and node.inputs[0] not in constants
        and _is_large_matrix(node.inputs[1])
        and node.inputs[1] in constants
        and all(empty_with(node, value) for value in node.inputs)
    )


def _earliest(
    gated: Sequence[ir.Node], needs: Mapping[ir.Node, Outputs], products: frozenset[ir.Node]
) -> dict[ir.Node, int]:
    level: dict[ir.Node, int] = {}
    reached: dict[Outputs, int] = {}
    for node in gated:
        before = [value.producer() for value in node.inputs if value is not None]
        level[node] = max((level[one] + (one in products) for one in before if one in level), default=0)
        if node in products:
            level[node] = reached[needs[node]] = max(level[node], reached.get(needs[node], 0))
    return level


def _dependents(nodes: Iterable[ir.Node], name: str) -> set[ir.Node]:
    """Those of the nodes, of which each follows what it reads, that depend on this input."""
    found: set[ir.Node] = set()
    for node in nodes:
        inputs = [value for value in node.inputs if value is not None]
        if any(value.name == name or value.producer() in found for value in inputs):
            found.add(node)
    return found


def _is_large_matrix(value: ir.Value | None) -> bool:
    shape = None if value is None else value.shape
    return shape is not None and len(shape) == 2 and shape.is_static() and math.prod(shape.numpy()) >= MIN_WEIGHT
