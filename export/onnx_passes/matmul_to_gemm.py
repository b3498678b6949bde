"""Products with transposed weights as ``Gemm``, which takes the weight as it is, and adds a bias or matrix on the way.

As ``MatMul``, onnxruntime would first fold the transposed weight into one more copy, and add in a pass of its own.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir import convenience, tape

from .invariants import require_flat


class MatMulToGemmPass(ir.passes.InPlacePass):
    """Write x W', x W' + b and x W' + c M, for a weight W, a bias b, a number c and a matrix M, as one ``Gemm`` each.

    requires: A flat graph, whose values have shapes, of which only the first axis is open where x has rows.

    ensures: The same outputs, to rounding, and no such product with a transposed weight.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        products = [node for node in model.graph if _is_with_transposed(node)]
        for node in products:
            x, transposed = _inputs(node)
            weight = _transposed(transposed)
            assert weight is not None
            _write_as_gemm(model.graph, node, x, weight)
            _remove_unused(model.graph, transposed)
        return ir.passes.PassResult(model, modified=bool(products))

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError unless the graph is flat."""
        require_flat(model.graph)

    def ensures(self, model: ir.Model) -> None:
        """Raise PostconditionError if a product with a transposed weight is left."""
        left = next((node for node in model.graph if _is_with_transposed(node)), None)
        if left is not None:
            raise ir.passes.PostconditionError(f"{left.name} is still a product with a transposed weight")


def _is_with_transposed(node: ir.Node) -> bool:
    """Whether it is a product of rows and a transposed weight."""
    if node.op_type != "MatMul":
        return False
    x, transposed = _inputs(node)
    return _transposed(transposed) is not None and _has_rows(x) and _has_rows(node.outputs[0])


def _write_as_gemm(graph: ir.Graph, product: ir.Node, x: ir.Value, weight: ir.Value) -> None:
    (result,) = product.outputs
    columns = _columns(result)
    old, added, factor = _sum_of(product)
    new = tape.Tape()

    def rows(value: ir.Value) -> ir.Value:
        width = _columns(value)[-1]
        shape = new.op("Constant", [], {"value_ints": [-1, width]}, output=_of(ir.DataType.INT64, [2]))
        return new.op("Reshape", [value, shape], output=_of(result.dtype, [None, width]))

    factors = [rows(x), weight]
    if added is not None:
        factors.append(added if len(_sizes(added)) == 1 else rows(added))
    attributes = {"transB": 1, "beta": factor}
    y = new.op("Gemm", factors, attributes, name=f"{old[-1].name}/gemm", output=_of(result.dtype, [None, columns[-1]]))
    shape = new.op("Constant", [], {"value_ints": [-1, *columns]}, output=_of(ir.DataType.INT64, [1 + len(columns)]))
    reshaped = new.op("Reshape", [y, shape])
    convenience.replace_nodes_and_values(graph, old[-1], old[::-1], new.nodes, old[-1].outputs, [reshaped])


def _remove_unused(graph: ir.Graph, value: ir.Value) -> None:
    producer = value.producer()
    if producer is not None and not value.uses():
        graph.remove(producer, safe=True)


def _sum_of(product: ir.Node) -> tuple[list[ir.Node], ir.Value | None, float]:
    """The nodes that a ``Gemm`` can be in place of, the bias or matrix added to the product, and its factor."""
    (result,) = product.outputs
    total = _only_user(result)
    if total is None or total.op_type != "Add":
        return [product], None, 1.0
    left, right = _inputs(total)
    added = right if left is result else left
    if _is_weight(added) and _sizes(added) == _sizes(result)[-1:]:
        return [product, total], added, 1.0
    if _sizes(added) != _sizes(result):
        return [product], None, 1.0
    scaled = added.producer()
    if scaled is not None and scaled.op_type == "Mul" and _only_user(added) is total:
        left, right = _inputs(scaled)
        for matrix, number in ((left, right), (right, left)):
            constant = convenience.get_const_tensor(number)
            factor = None if constant is None or constant.size != 1 else float(constant.numpy().item())
            if factor is not None and factor == float(np.float32(factor)):  # an attribute can be no other number
                return [scaled, product, total], matrix, factor
    return [product, total], added, 1.0


def _transposed(value: ir.Value) -> ir.Value | None:
    """The weight that ``value`` is transposed, if there is one."""
    node = value.producer()
    if node is None or node.op_type != "Transpose" or len(_sizes(value)) != 2:
        return None
    (weight,) = _inputs(node)
    return weight if _is_weight(weight) else None


def _is_weight(value: ir.Value) -> bool:
    """Whether it is a weight, or what becomes of one weight alone."""
    node = value.producer()
    inputs = [] if node is None else _inputs(node)
    return value.is_initializer() or (len(inputs) == 1 and _is_weight(inputs[0]))


def _has_rows(value: ir.Value) -> bool:
    sizes = _sizes(value)
    return len(sizes) > 2 and len(_columns(value)) == len(sizes) - 1


def _inputs(node: ir.Node) -> list[ir.Value]:
    """Its inputs, without optional ones that are left out."""
    return [value for value in node.inputs if value is not None]


def _columns(value: ir.Value) -> list[int]:
    """The sizes of the axes behind the first, without open ones."""
    return [size for size in _sizes(value)[1:] if isinstance(size, int)]


def _only_user(value: ir.Value) -> ir.Node | None:
    users = value.consumers()
    return users[0] if len(value.uses()) == 1 and not value.is_graph_output() else None


def _sizes(value: ir.Value) -> list[int | str | None]:
    return [] if value.shape is None else [size if isinstance(size, int) else size.value for size in value.shape]


def _of(dtype: ir.DataType | None, sizes: list[int | None]) -> ir.Value:
    return ir.Value(type=None if dtype is None else ir.TensorType(dtype), shape=ir.Shape(sizes))
