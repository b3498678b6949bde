"""Fewer nodes for the same values: each costs time as the file is opened, and some as it runs."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as tidy
from onnx_ir import convenience
from onnx_ir.convenience import get_const_tensor

from .invariants import require_flat

COPIED, COMPUTED = 0, -1
"""What stands in the shape of ``Reshape`` for a length of its input at the same place, and for one that is left."""


class SimplifyPass(ir.passes.InPlacePass):
    """Remove products with the number 1, and let ``Reshape`` take its open lengths from its input.

    requires: A flat graph; values have shapes with names for open lengths.

    ensures: The same outputs, bit for bit.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        graph = model.graph
        for node in list(graph):
            if node.op_type not in {"Mul", "Reshape"}:
                continue
            first, second = node.inputs
            assert first is not None and second is not None
            if node.op_type == "Reshape":
                if get_const_tensor(second) is None:
                    _reshape_by_constant(graph, node, first)
            elif _is_one(second) and not node.outputs[0].is_graph_output():
                convenience.replace_all_uses_with(node.outputs, [first])
        removed = tidy.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified=removed.modified)

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError unless the graph is flat."""
        require_flat(model.graph)


def _is_one(value: ir.Value) -> bool:
    tensor = None if value.is_graph_input() else get_const_tensor(value)
    return tensor is not None and tensor.shape == ir.Shape([]) and tensor.numpy().item() == 1


def _reshape_by_constant(graph: ir.Graph, node: ir.Node, read: ir.Value) -> None:
    """Give a ``Reshape`` a constant shape if there is one that says the same for all lengths, 0 included."""
    before, after = read.shape, node.outputs[0].shape
    if before is None or after is None or node.attributes.get_int("allowzero", 0) == 1:
        return
    shape = []
    for place, length in enumerate(after):
        if isinstance(length, int):
            shape.append(length)
        else:
            same = place < len(before) and length.value is not None and before[place] == length
            shape.append(COPIED if same else COMPUTED)
    if shape.count(COMPUTED) > (COPIED not in shape):
        return
    constant = ir.node("Constant", [], {"value_ints": shape}, name=f"{node.outputs[0].name}/shape")
    constant.outputs[0].name = constant.name
    constant.outputs[0].type, constant.outputs[0].shape = ir.TensorType(ir.DataType.INT64), ir.Shape([len(shape)])
    graph.insert_before(node, constant)
    node.replace_input_with(1, constant.outputs[0])
