"""The order of a graph's nodes in which what is large lives shortest: each output's own computation, depth first.

The graph is recorded pass by pass: first the gradients of all layers, then the relevance of all. What a heatmap adds up
from the top needs both of one layer at a time, so in its order a layer's matrices are free before those of the next.
onnxruntime keeps to the order of the file (see runtime/backends/onnx.py).
"""

from __future__ import annotations

import onnx_ir as ir

from .invariants import require_flat, require_order


class DepthFirstOrderPass(ir.passes.InPlacePass):
    """Order the nodes so that each stands right behind what it reads, that of its first input first.

    requires: A flat graph.

    ensures: The same nodes, and values are computed before they are used.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        graph = model.graph
        order = _depth_first(graph)
        graph.remove(order)
        graph.extend(order)
        return ir.passes.PassResult(model, modified=True)

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError unless the graph is flat."""
        require_flat(model.graph)

    def ensures(self, model: ir.Model) -> None:
        """Raise PostconditionError unless values are computed before they are used."""
        require_order(model.graph)


def _depth_first(graph: ir.Graph) -> list[ir.Node]:
    """All nodes that the outputs need, those that the first output needs first."""
    order: dict[ir.Node, None] = {}
    waiting = [value.producer() for value in reversed(graph.outputs)]
    while waiting:
        node = waiting[-1]
        before = [] if node is None or node in order else _producers(node, order)
        if before:
            waiting.extend(reversed(before))
        else:
            waiting.pop()
            if node is not None:
                order.setdefault(node)
    return list(order)


def _producers(node: ir.Node, done: dict[ir.Node, None]) -> list[ir.Node]:
    """The nodes that compute its inputs, but those in `done`."""
    found = (value.producer() for value in node.inputs if value is not None)
    return [producer for producer in found if producer is not None and producer not in done]
