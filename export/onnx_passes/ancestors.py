"""What values are computed from, in a graph with branches or without."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir


def ancestors(values: Iterable[ir.Value]) -> set[ir.Node]:
    """The nodes, those of branches included, that these values are computed from."""
    found: set[ir.Node] = set()
    waiting = [value.producer() for value in values]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting.extend(value.producer() for value in reads(node))
    return found


def reads(node: ir.Node) -> Iterable[ir.Value]:
    """All that a node reads, its branches included."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                yield from reads(inner)
            yield from attribute.as_graph().outputs
    yield from (value for value in node.inputs if value is not None)
