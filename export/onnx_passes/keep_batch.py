"""Outputs that are switched off keep the axis of the batch, which servers split outputs along."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as tidy


class KeepBatchPass(ir.passes.InPlacePass):
    """Where an output is switched off, make it [batch, 0, …] in place of [0, 0, …].

    A server that runs several requests as one batch splits every output among them, also those that no request asked
    for. Triton fails all requests where an output has fewer entries than the batch (``ProcessTensor`` in
    backend_output_responder.cc of its backend repository).

    requires: Outputs that an ``If`` gives have their rank and, where they have them, constant lengths; the first axis
    of the first input is the batch.

    ensures: The same model, but for the lengths of outputs without elements.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        batch = model.graph.inputs[0]
        for value in model.graph.outputs:
            node = value.producer()
            if node is not None and node.op_type == "If":
                branch = node.attributes["else_branch"].as_graph()
                branch.outputs[list(node.outputs).index(value)] = _empty(branch, value, batch)
        tidy.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified=True)


def _empty(branch: ir.Graph, value: ir.Value, batch: ir.Value) -> ir.Value:
    """A tensor for `value` in the branch, 0 long where a length other than that of the batch is open."""
    assert value.shape is not None and value.dtype is not None
    rest = [size if isinstance(size, int) else 0 for size in value.shape[1:]]
    zero = ir.tensor(np.zeros(1, value.dtype.numpy()))
    images = ir.node("Shape", [batch], {"start": 0, "end": 1})
    others = ir.node("Constant", [], {"value_ints": rest})
    lengths = ir.node("Concat", [images.outputs[0], others.outputs[0]], {"axis": 0})
    empty = ir.node("ConstantOfShape", [lengths.outputs[0]], {"value": zero})
    nodes = [images, others, lengths, empty]
    for node, kind in zip(nodes, ("images", "others", "lengths", "empty"), strict=True):
        node.name = node.outputs[0].name = f"{value.name}/{kind}"
        node.outputs[0].dtype = ir.DataType.INT64
    empty.outputs[0].dtype, empty.outputs[0].shape = value.dtype, ir.Shape([None, *rest])
    branch.extend(nodes)
    return empty.outputs[0]
