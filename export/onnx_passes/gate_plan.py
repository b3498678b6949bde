"""The plan of a gated graph: which nodes which outputs need, and in which level each runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from .ancestors import ancestors

Outputs = frozenset[str]
"""Names of gated outputs."""


@dataclass(frozen=True)
class GatePlan:
    """Where the nodes of a flat graph are to stand; each step takes a plan and returns another.

    Attributes:
        needs: By node, the gated outputs that need it; none where it always runs.
        products: The gated products with large weights, which stand between the branches of two levels.
        levels: By gated node, its level: levels run one after another, in each first the branches, then the products.
    """

    needs: Mapping[ir.Node, Outputs]
    products: frozenset[ir.Node] = frozenset()
    levels: Mapping[ir.Node, int] = field(default_factory=dict)


def plan_gates(graph: ir.Graph, outputs: Iterable[str]) -> GatePlan:
    """Begin a plan: find for each node of the graph the outputs, of these, that need it."""
    gated = set(outputs)
    always = ancestors([value for value in graph.outputs if value.name not in gated])
    always |= _cheap(graph, always)
    needs: dict[ir.Node, Outputs] = {}
    for node in reversed(graph):
        own = [value.name for value in node.outputs if value.is_graph_output() and value.name]
        users = [needs[user] for value in node.outputs for user in value.consumers()]
        needs[node] = Outputs() if node in always else Outputs(own).union(*users)
    return GatePlan(needs)


def constants_of(graph: ir.Graph) -> set[ir.Value]:
    """Weights, and what arithmetic makes of them alone."""
    constants = {value for value in graph.initializers.values() if not value.is_graph_input()}
    for node in graph:
        if all(value in constants for value in node.inputs if value is not None):
            constants.update(node.outputs)
    return constants


def size(value: ir.Value | None) -> int:
    """How many numbers a value has for one image and target; 0 if that is not known."""
    if value is None or value.shape is None:
        return 0
    return math.prod(length for length in value.shape if isinstance(length, int))


def _cheap(graph: ir.Graph, always: set[ir.Node]) -> set[ir.Node]:
    """Arithmetic on weights, which onnxruntime does once, at load, and on the shapes of what is always computed.

    Either is used all over the graph, and would else have to cross from ``If`` to ``If``.
    """
    constants = constants_of(graph)
    shapes: set[ir.Value] = set()
    cheap = set()
    for node in graph:
        inputs = {value for value in node.inputs if value is not None}
        small = all(value.shape is not None and len(value.shape) <= 1 for value in node.outputs)
        if inputs <= constants:
            cheap.add(node)
        elif (small and inputs <= constants | shapes) or (
            node.op_type == "Shape" and {inputs.pop().producer()} <= always
        ):
            shapes.update(node.outputs)
            cheap.add(node)
    return cheap
