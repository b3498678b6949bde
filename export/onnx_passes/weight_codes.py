"""Weights in int8 stored as initializers; onnxruntime would else compute them each time that it opens the file."""

from __future__ import annotations

import onnx_ir as ir
import torch
from onnx_ir import convenience

from .invariants import require_flat


class WeightCodesPass(ir.passes.InPlacePass):
    """Store the codes of weights, Cast(Round(Div(weight, scale))) to int8, and the scales, as the rules make them.

    They are called as the weight, with ``.int8`` and ``.scale`` behind its name.

    requires: A flat graph.

    ensures: The same outputs, and no node that computes the codes of a weight.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model."""
        casts = [node for node in model.graph if _quotient(node) is not None]
        for cast in casts:
            quotient = _quotient(cast)
            assert quotient is not None
            weight, scale = quotient.inputs
            assert weight is not None and weight.const_value is not None and scale is not None
            codes, scales = torch.ops.onnxplain.weight_codes(torch.from_numpy(weight.const_value.numpy()))
            _store(model.graph, cast.outputs[0], f"{weight.name}.int8", codes)
            _store(model.graph, scale, f"{weight.name}.scale", scales)
        return ir.passes.PassResult(model, modified=bool(casts))

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError unless the graph is flat."""
        require_flat(model.graph)

    def ensures(self, model: ir.Model) -> None:
        """Raise PostconditionError if the codes of a weight are computed."""
        left = next((node for node in model.graph if node.outputs[0].uses() and _quotient(node) is not None), None)
        if left is not None:
            raise ir.passes.PostconditionError(f"{left.name} computes the codes of a weight")


def _quotient(cast: ir.Node) -> ir.Node | None:
    """The division of a weight by its scale of which ``cast`` makes codes, None if it is another node."""
    if cast.op_type != "Cast" or cast.attributes.get_int("to", 0) != ir.DataType.INT8:
        return None
    rounded = _producer(cast)
    quotient = None if rounded is None else _producer(rounded)
    weight = None if quotient is None or quotient.op_type != "Div" else quotient.inputs[0]
    return quotient if weight is not None and weight.is_initializer() else None


def _producer(node: ir.Node) -> ir.Node | None:
    value = node.inputs[0]
    return None if value is None else value.producer()


def _store(graph: ir.Graph, value: ir.Value, name: str, tensor: torch.Tensor) -> None:
    stored = ir.Value(name=name, const_value=ir.tensor(tensor.numpy(), name=name))
    stored.shape, stored.type = value.shape, value.type
    graph.register_initializer(stored)
    convenience.replace_all_uses_with(value, stored)
