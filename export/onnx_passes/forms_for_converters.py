"""Other forms of what onnxruntime's converters to int8 and float16 fail on, or get wrong; they cost nothing.

``quantize_dynamic`` transposes the weight of a ``Gemm`` in its place, also for all others that read it. It leaves it
alone behind an ``Identity``, which onnxruntime removes when it opens the file. It refuses a convolution with a bias and
a computed weight. ``convert_float_to_float16`` keeps ``Max`` and ``Min`` in float32, and gives two nodes one name where
both read a weight.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir import convenience
from onnx_ir.convenience import get_const_tensor

BOUNDS = {"Max": 1, "Min": 2}
"""By op, which input of ``Clip`` its number is."""


class FormsForConvertersPass(ir.passes.InPlacePass):
    """Write bounds as ``Clip``, no biases of zeros, and an ``Identity`` between a ``Gemm`` and a weight read by others.

    An ``Identity`` stands in the graph of its ``Gemm``: onnxruntime keeps one whose value is read in a branch.

    ensures: The same outputs, bit for bit.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            if node.op_type in BOUNDS:
                _write_as_clip(node)
            elif node.op_type in {"Conv", "ConvTranspose"}:
                _drop_bias_of_zeros(model.graph, node)
            elif node.op_type == "Gemm":
                _separate_weight(node)
        return ir.passes.PassResult(model, modified=True)


def _write_as_clip(node: ir.Node) -> None:
    """In place of the greater or lesser of a value and a number."""
    value, bound = node.inputs if len(node.inputs) == 2 else (None, None)
    if bound is None or get_const_tensor(bound) is None or bound.shape != ir.Shape([]):
        return
    inputs: list[ir.Value | None] = [value, None, None]
    inputs[BOUNDS[node.op_type]] = bound
    clip = ir.Node("", "Clip", inputs, name=node.name)
    assert node.graph is not None
    convenience.replace_nodes_and_values(node.graph, node, [node], [clip], node.outputs, clip.outputs)


def _drop_bias_of_zeros(graph: ir.Graph, convolution: ir.Node) -> None:
    bias = convolution.inputs[2] if len(convolution.inputs) == 3 else None
    numbers = None if bias is None else get_const_tensor(bias)
    if bias is not None and numbers is not None and not numbers.numpy().any():
        convolution.resize_inputs(2)
        if not bias.uses() and bias.name is not None:
            graph.initializers.pop(bias.name, None)


def _separate_weight(gemm: ir.Node) -> None:
    weight = gemm.inputs[1]
    if weight is not None and len(weight.uses()) > 1 and gemm.attributes.get_int("transB", 0) == 1:
        own = ir.Value(name=f"{gemm.name}/weight", type=weight.type, shape=weight.shape)
        assert gemm.graph is not None
        gemm.graph.insert_before(gemm, ir.Node("", "Identity", [weight], outputs=[own], name=own.name))
        gemm.replace_input_with(1, own)
