"""Products whose results are transposed, with their factors in the other order: (A' S)' is S' A.

That is the gradient or relevance of a transposed factor, as the keys K' of Q K'. onnxruntime transposes factors as it
multiplies, but writes what it makes of a result anew.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir import convenience, tape

from .invariants import require_flat

ELEMENTWISE = {"Mul", "Div"}


class TransposedProductsPass(ir.passes.InPlacePass):
    """Compute a transposed product directly, also where it was multiplied or divided by numbers or a transposed value.

    requires: A flat graph, whose values have shapes.

    ensures: The same outputs, to rounding, and no transposed product A' S which nobody else reads.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        found = _transposed_products(model.graph)
        for node in found:
            (product,) = node.inputs
            assert product is not None
            new = tape.Tape()
            direct = _transpose(product, new)
            convenience.replace_nodes_and_values(model.graph, node, [node], new.nodes, node.outputs, [direct])
            _remove_unused(product)
        return ir.passes.PassResult(model, modified=bool(found))

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError unless the graph is flat."""
        require_flat(model.graph)

    def ensures(self, model: ir.Model) -> None:
        """Raise PostconditionError if a product is transposed."""
        left = _transposed_products(model.graph)
        if left:
            raise ir.passes.PostconditionError(f"{left[0].name} transposes a product")


def _transposed_products(graph: ir.Graph) -> list[ir.Node]:
    """The nodes that transpose such a product."""
    return [node for node in graph if _source(node) is not None and _is_product(node.inputs[0])]


def _is_product(value: ir.Value | None) -> bool:
    """Whether it is A' S, or A' S times or divided by what costs nothing to transpose."""
    node = None if value is None else value.producer()
    if value is None or node is None or len(value.uses()) != 1 or value.is_graph_output():
        return False
    first = node.inputs[0]
    if node.op_type == "MatMul":
        return first is not None and _view(first) is not None
    if node.op_type not in ELEMENTWISE:
        return False
    left, right = node.inputs
    return (_is_product(left) and _is_free(right)) or (node.op_type == "Mul" and _is_free(left) and _is_product(right))


def _is_free(value: ir.Value | None) -> bool:
    return value is not None and (_is_number(value) or _view(value) is not None)


def _is_number(value: ir.Value) -> bool:
    constant = convenience.get_const_tensor(value)
    return constant is not None and constant.size == 1


def _view(value: ir.Value) -> ir.Value | None:
    """What ``value`` is the transpose of, if it is one."""
    node = value.producer()
    return None if node is None else _source(node)


def _source(node: ir.Node) -> ir.Value | None:
    """What ``node`` swaps the last two axes of, None if it does something else."""
    if node.op_type != "Transpose":
        return None
    perm = list(node.attributes["perm"].as_ints())
    rank = len(perm)
    return node.inputs[0] if rank > 1 and perm == [*range(rank - 2), rank - 1, rank - 2] else None


def _transpose(value: ir.Value, new: tape.Tape) -> ir.Value:
    """The transpose of a product, or of what it is multiplied by, by ``new`` nodes."""
    if _is_number(value):
        return value
    view = _view(value)
    if view is not None:
        return view
    node = value.producer()
    assert node is not None
    left, right = node.inputs
    assert left is not None and right is not None
    if node.op_type != "MatMul":
        return new.op(node.op_type, [_transpose(left, new), _transpose(right, new)], output=_swapped(value))
    first = _view(left)
    assert first is not None and right.shape is not None
    rank = len(right.shape)
    perm = [*range(rank - 2), rank - 1, rank - 2]
    second = new.op("Transpose", [right], {"perm": perm}, output=_swapped(right))
    return new.op("MatMul", [second, first], output=_swapped(value))


def _swapped(value: ir.Value) -> ir.Value:
    """A value with the type and shape of the transpose of this one."""
    assert value.shape is not None
    *others, rows, columns = value.shape
    return ir.Value(type=value.type, shape=ir.Shape([*others, columns, rows]))


def _remove_unused(value: ir.Value | None) -> None:
    node = None if value is None else value.producer()
    if value is None or node is None or node.graph is None or value.uses() or value.is_graph_output():
        return
    inputs = list(node.inputs)
    node.graph.remove(node, safe=True)
    for before in inputs:
        _remove_unused(before)
