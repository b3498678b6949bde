"""What several passes require of a graph, or ensure."""

from __future__ import annotations

import onnx_ir as ir


def require_flat(graph: ir.Graph) -> None:
    """Raise PreconditionError if a node has a graph of its own."""
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    for node in graph:
        if any(attribute.type in kinds for attribute in node.attributes.values()):
            raise ir.passes.PreconditionError(f"the graph is not flat: {node.op_type} {node.name} has branches")


def require_order(graph: ir.Graph) -> None:
    """Raise PostconditionError if a value is used before it is computed, in the graph or its branches."""
    seen: set[ir.Node] = set()
    for node in ir.traversal.RecursiveGraphIterator(graph):
        seen.add(node)
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if producer is not None and producer not in seen:
                raise ir.passes.PostconditionError(f"{node.op_type} {node.name} reads {producer.name} too early")
