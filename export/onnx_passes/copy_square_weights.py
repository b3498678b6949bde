"""Square weights that are read both ways, as in x W' and in y W, get a copy for one of them.

OpenVINO, up to 2026.4 at least, keeps the packed form of a weight by its place in memory and the packed shape. Where
both are the same, it multiplies by the transposed weight and says nothing; docs/runtimes.md has ten lines that show it.
The copy is made at load, by a ``Clip`` without bounds: OpenVINO does not remove it, and onnxruntime computes it once.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from .gate_plan import constants_of
from .invariants import require_flat

PRODUCTS = {"MatMul", "Gemm", "Conv", "ConvTranspose"}


class CopySquareWeightsPass(ir.passes.InPlacePass):
    """Where products read a square matrix or kernel both as it is and transposed, have those of one way read a copy.

    requires: A flat graph; weights have shapes.

    ensures: The same outputs, bit for bit, and no square constant that products read both ways.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        uses = _read_both_ways(model.graph)
        copies: dict[ir.Value, ir.Value] = {}
        for product in uses:
            weight = product.inputs[1]
            assert weight is not None
            if weight not in copies:
                copies[weight] = _copy(model.graph, weight, product)
            product.replace_input_with(1, copies[weight])
        return ir.passes.PassResult(model, modified=bool(uses))

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError unless the graph is flat."""
        require_flat(model.graph)

    def ensures(self, model: ir.Model) -> None:
        """Raise PostconditionError if products read a square constant both ways."""
        left = _read_both_ways(model.graph)
        if left:
            raise ir.passes.PostconditionError(f"{left[0].name} reads a square weight that others read transposed")


def _read_both_ways(graph: ir.Graph) -> list[ir.Node]:
    """The products that read a square constant as it is, where others read it transposed."""
    as_it_is: dict[ir.Value, list[ir.Node]] = {}
    transposed: set[ir.Value] = set()
    for product, weight, is_transposed in _reads(graph):
        if is_transposed:
            transposed.add(weight)
        else:
            as_it_is.setdefault(weight, []).append(product)
    return [product for weight, products in as_it_is.items() if weight in transposed for product in products]


def _reads(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value, bool]]:
    """Each product with a square constant, the constant before it is transposed, and whether it is read transposed.

    x W' and a convolution are what a layer does with its weight; y W and a transposed convolution are the way back.
    """
    constants = constants_of(graph)
    for node in graph:
        weight = node.inputs[1] if node.op_type in PRODUCTS else None
        if weight is None or weight not in constants or not _is_square(weight, node):
            continue
        there = node.op_type == "Conv" or bool(node.attributes.get_int("transB", 0))
        while (before := weight.producer()) is not None and before.op_type == "Transpose":
            weight, there = before.inputs[0], not there
            assert weight is not None
        yield node, weight, there


def _is_square(weight: ir.Value, product: ir.Node) -> bool:
    assert weight.shape is not None
    if len(weight.shape) < 2:
        return False
    rows, columns = weight.shape[:2]
    return rows == columns * product.attributes.get_int("group", 1)


def _copy(graph: ir.Graph, weight: ir.Value, reader: ir.Node) -> ir.Value:
    copy = ir.Value(name=f"{weight.name}/copy", type=weight.type, shape=weight.shape)
    graph.insert_before(reader, ir.Node("", "Clip", [weight], outputs=[copy], name=copy.name))
    return copy
