"""The fused graph as an ONNX model, as PyTorch's exporter translates it, but each distinct call once.

A Vision Transformer makes the same few hundred calls in every layer. They are written as a program of their own, in
which each call has inputs of its own; what the exporter makes of a call is then copied to every place where the fused
graph has it.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor
from torch import fx
from torch.export import ExportedProgram

from onnxplain.contract.errors import OnnxplainError, one_line
from onnxplain.contract.precisions import FLOAT32
from onnxplain.lrp_graph import FusedGraph

from ..onnx_passes.ancestors import ancestors
from .distinct_calls import Call, DistinctCalls
from .op_translations import translations
from .program import FlatProgram, Weight, exported_program
from .recording import flat_program, require_float32
from .silent import silent

INPUTS = ("pixels", "target")
AXES = ({0: "batch"}, {0: "batch", 1: "targets"})
"""The names of the open axes of the inputs."""


class _BranchesError(Exception):
    """The exporter has written a call with branches, which are not copied here."""


def to_onnx(graph: FusedGraph, size: tuple[int, int], opset: int, precision: str = FLOAT32) -> ir.Model:
    """Translate the fused graph.

    Args:
        graph: The fused graph.
        size: (height, width) of the images; their number, and that of the targets, stay open.
        opset: Of ONNX.
        precision: One of PRECISIONS.

    Returns:
        The model. Weights share their memory with the fused graph, and have their names in the flat program.

    Raises:
        OnnxplainError: PyTorch cannot translate the model, or not in this precision.
    """
    program = flat_program(graph, size, precision)
    if program.exported is None:
        try:
            return _repeated(program, graph, opset)
        except (torch.onnx.errors.OnnxExporterError, _BranchesError) as error:  # an op that has to be decomposed
            require_float32(precision, f"PyTorch does not translate an op by itself: {one_line(_cause(error))}")
            program = exported_program(graph, size)
    assert program.exported is not None
    try:
        return _export(_decomposed_if_need_be(program.exported), opset, output_names=list(graph.names))
    except torch.onnx.errors.OnnxExporterError as error:
        raise OnnxplainError(f"PyTorch cannot translate the model to ONNX: {one_line(_cause(error))}") from error


def _repeated(program: FlatProgram, graph: FusedGraph, opset: int) -> ir.Model:
    calls = DistinctCalls(program)
    calls.program.run_decompositions = lambda table: calls.program
    if not calls.may_promote:
        calls.program.graph_module.modules = lambda: ()  # in which the exporter looks for what to promote
    model = _export(calls.program, opset)
    for node in model.graph:
        if any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()):
            raise _BranchesError(f"it writes one with branches ({node.op_type})")
    repeated = _Repeater(program, calls, model.graph).graph
    for value, name in zip(repeated.outputs, graph.names, strict=True):
        value.name = name
    return ir.Model(
        repeated,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
    )


def _cause(error: BaseException) -> BaseException:
    """What an error comes from in the end."""
    return error if error.__cause__ is None else _cause(error.__cause__)


def _export(program: ExportedProgram, opset: int, **names: Any) -> ir.Model:
    """PyTorch's translation of a program whose first inputs are INPUTS."""
    further = [dict[int, str]() for _ in program.graph_signature.user_inputs[len(INPUTS) :]]
    with silent(), torch.inference_mode():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=INPUTS,
            dynamic_shapes=(*AXES, *further),
            custom_translation_table=translations(opset),
            optimize=False,  # it would fold the transposed weights into second copies
            verbose=False,
            **names,
        )
    assert exported is not None
    model: ir.Model = exported.model
    return model


def _decomposed_if_need_be(program: ExportedProgram) -> ExportedProgram:
    """Have the exporter trace the program once more only if there are ops that it has no translation for."""
    decompose = program.run_decompositions

    def run_decompositions(table: Mapping[Any, Any], **options: Any) -> ExportedProgram:
        known = all(node.target not in table for node in program.graph.nodes)
        return program if known else decompose(table, **options)

    program.run_decompositions = run_decompositions
    return program


class _Repeater:
    """Copies the translations of distinct calls to where a program has them.

    Attributes:
        graph: The translation of the whole program.
    """

    def __init__(self, program: FlatProgram, calls: DistinctCalls, translated: ir.Graph) -> None:
        self.order = {node: place for place, node in enumerate(translated)}
        self.graph = ir.Graph([], [], nodes=[], name=translated.name, opset_imports=translated.opset_imports)
        self.values: dict[fx.Node, ir.Value] = {}  # of the program
        self.shared: dict[ir.Value, ir.Value] = {}  # by value of the translation, what all calls read in its place
        inputs = dict(zip((calls.pixels, calls.target, *calls.inputs), translated.inputs, strict=True))
        results = dict(zip(calls.results, translated.outputs, strict=True))
        for node, own in ((program.pixels, calls.pixels), (program.target, calls.target)):
            known = inputs[own]
            value = ir.Value(name=known.name, type=known.type, shape=known.shape)
            self.graph.inputs.append(value)
            self.values[node] = self.shared[known] = value
        for node, weight in program.weights.items():
            tensor = _tensor(weight, ir.Shape(node.meta["val"].shape))
            value = ir.Value(name=weight.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
            self.graph.register_initializer(value)
            self.values[node] = value
        bodies: dict[Call, list[ir.Node]] = {}
        for use in calls.uses:
            if use.call not in bodies:
                nodes = ancestors(results[node] for node in use.call.results)
                bodies[use.call] = sorted(nodes, key=self.order.__getitem__)
            read = {inputs[own]: self.values[node] for own, node in zip(use.call.inputs, use.inputs, strict=True)}
            copies = self._copy(bodies[use.call], read)
            for node, own in zip(use.results, use.call.results, strict=True):
                self.values[node] = copies[results[own]]
        self.graph.outputs.extend(self.values[node] for node in program.outputs)

    def _copy(self, nodes: Iterable[ir.Node], read: Mapping[ir.Value, ir.Value]) -> Mapping[ir.Value, ir.Value]:
        """Copy a call's translation into the graph.

        Args:
            nodes: The translation.
            read: By input of the call, the value of the graph that is in its place.

        Returns:
            By value of the translation, that of the graph.
        """
        own = ChainMap(dict(read), self.shared)
        for node in nodes:
            if node.outputs[0] not in self.shared:
                values = [ir.Value(type=value.type, shape=value.shape) for value in node.outputs]
                given = [None if value is None else own[value] for value in node.inputs]
                copy = ir.Node(node.domain, node.op_type, given, node.attributes.values(), outputs=values)
                self.graph.append(copy)
                # Constants are not repeated, and neither are open sizes, which are computed from the inputs
                alone = not read or not node.inputs
                (self.shared if alone else own).update(zip(node.outputs, values, strict=True))
        return own


def _tensor(weight: Weight, shape: ir.Shape) -> TorchTensor | ir.LazyTensor:
    """The tensor of a weight; one that is padded is made when it is written, as it needs memory of its own."""
    tensor = TorchTensor(weight.tensor.detach(), name=weight.name)
    if not weight.padding:
        return tensor
    return ir.LazyTensor(lambda: TorchTensor(weight.padded()), dtype=tensor.dtype, shape=shape, name=weight.name)
