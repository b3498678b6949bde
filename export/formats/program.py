"""The fused graph as one flat ATen program, with the numbers of images and targets left open.

torch.export finds the same program in ten times the time, as each call goes through several of its layers. So it is
given the weights and inputs only, and what is computed is written into its program call by call, with tensors that have
a shape and no values; equal calls are made once.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import sympy
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument

from onnxplain.contract import OnnxplainError
from onnxplain.contract.precisions import FLOAT32
from onnxplain.lrp_graph import FusedGraph
from onnxplain.lrp_graph.in_double import in_double
from onnxplain.lrp_graph.torch_internals import (
    TorchDispatchMode,
    enable_python_dispatcher,
    fake_mode_of,
    is_mutable,
    schema_of,
    size_expression,
)

from .arithmetic import ARITHMETIC, Arithmetic
from .double_ops import DOUBLE_OPS, is_single
from .padding import padded_parameters
from .rounding import narrowed

aten = torch.ops.aten

MODEL = "model."
"""What stands before the path of a parameter of the model in the program."""

NO_OPS = {aten.detach.default, aten.detach_.default, aten.alias.default, aten.lift_fresh.default}
"""What changes nothing where there is no autograd and no value is written to."""

COMPOSITE = {
    *(aten.linear, aten.matmul, aten.einsum, aten.conv2d, aten.max_pool2d, aten.softmax, aten.layer_norm),
    *(aten.group_norm, aten.reshape, aten.flatten, aten.expand_as, aten.pad, aten.where, aten.sym_size),
}
"""Composite ops that are recorded as one call, as ONNX has them; others are recorded as what they are made of."""

REPLACED = {aten.rsub.Scalar: lambda x, number, alpha=1: x * -alpha + number}
"""Ops that are recorded as others, which ONNX has."""

SIZES = {sympy.Add: operator.add, sympy.Mul: operator.mul}
"""Arithmetic of sizes."""


class _Outline(nn.Module):
    """What goes into a fused graph, and how many tensors come out."""

    def __init__(self, graph: FusedGraph) -> None:
        super().__init__()
        self.model = graph.model
        self.outputs = len(graph.names)
        for name, buffer in graph.named_buffers(recurse=False):
            self.register_buffer(name, buffer)

    def forward(self, pixels: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        return tuple(pixels.sum() + target.sum() for _ in range(self.outputs))


class _CannotRecordError(Exception):
    """An op takes an open size for a number, sizes are computed in a way not known here, or a value is changed."""


def flat_program(graph: FusedGraph, size: tuple[int, int], precision: str = FLOAT32) -> ExportedProgram:
    """Record the fused graph as one program.

    Args:
        graph: The fused graph.
        size: (height, width) of the images; their number, and that of the targets, stay open.
        precision: One of PRECISIONS.

    Returns:
        The program, its outputs in the order of ``graph.names``.
    """
    # Sizes of 1 would be taken for constants, and equal ones for the same.
    example = torch.zeros(2, 3, *size), torch.zeros(2, 3, dtype=torch.int64)
    shapes = {0: Dim("batch")}, {0: Dim("batch"), 1: Dim("targets")}
    program = torch.export.export(_Outline(graph), example, dynamic_shapes=shapes, strict=False)
    arithmetic = ARITHMETIC[precision]
    try:
        _replace(program, _stored_parameters(graph, arithmetic))
        _Recorder(program, arithmetic).record(graph)
    except (_CannotRecordError, NotImplementedError) as error:
        if arithmetic != ARITHMETIC[FLOAT32]:
            reason = f", {error}" if str(error) else ""
            raise OnnxplainError(
                f"the model cannot be written in {precision}{reason}; leave out `precision`"
            ) from error
        if isinstance(error, NotImplementedError):
            raise
        program = torch.export.export(graph, example, dynamic_shapes=shapes, strict=False)
    return program


def _stored_parameters(graph: FusedGraph, arithmetic: Arithmetic) -> dict[str, Tensor]:
    """The parameters that are stored in another form than the model has them in, by their paths there."""
    stored = padded_parameters(graph)
    if arithmetic.stored != torch.float32:
        every = {path: tensor.detach() for path, tensor in graph.model.named_parameters(remove_duplicate=False)}
        stored = {path: narrowed(tensor, arithmetic.stored) for path, tensor in {**every, **stored}.items()}
        stored = {path: tensor for path, tensor in stored.items() if tensor is not every[path]}
    return stored


def _replace(program: ExportedProgram, padded: Mapping[str, Tensor]) -> None:
    """Give ``program`` other parameters, by their paths in the model, before anything is recorded with them."""
    names = {path: name for name, path in program.graph_signature.inputs_to_parameters.items()}
    nodes = {node.name: node for node in program.graph.find_nodes(op="placeholder")}
    for path, tensor in padded.items():
        node = nodes[names[MODEL + path]]
        node.meta["val"] = fake_mode_of(node.meta["val"]).from_tensor(tensor, static_shapes=True)
        program.state_dict[MODEL + path] = nn.Parameter(tensor, requires_grad=False)


class _Recorder(TorchDispatchMode):
    """Records the calls made under it in the graph of ``program``, before its outputs."""

    def __init__(self, program: ExportedProgram, arithmetic: Arithmetic) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.program = program
        self.arithmetic = arithmetic
        self.replaced = {**REPLACED, **DOUBLE_OPS} if arithmetic.in_double else REPLACED
        self.graph = program.graph
        self.signature = program.graph_signature
        (self.output,) = self.graph.find_nodes(op="output")
        self.pixels, self.target = (
            node for node in self.graph.find_nodes(op="placeholder") if node.name in self.signature.user_inputs
        )
        self.fake_mode = fake_mode_of(self.pixels.meta["val"])
        self.nodes: dict[int, fx.Node] = {}  # by the identity of the tensor
        self.held: list[Any] = []  # so that no other tensor gets its identity
        self.known: dict[str, Any] = {}
        self.numbers: dict[tuple[float, tuple[int, ...]], Tensor] = {}
        self.sizes: dict[sympy.Expr, fx.Node] = {}

    def record(self, graph: FusedGraph) -> None:
        """Make the outputs of ``graph`` those of the program."""
        paths = {**self.signature.inputs_to_parameters, **self.signature.inputs_to_buffers}
        # In inference mode composite ops stay in one piece; without the dispatcher some would fix open sizes.
        with torch.inference_mode(), enable_python_dispatcher(), self.fake_mode:
            given: dict[fx.Node, Tensor] = {}
            tied: dict[Any, fx.Node] = {}
            for node in self.graph.find_nodes(op="placeholder"):
                path = self.signature.inputs_to_parameters.get(node.name)
                key = node if path is None else (graph.get_parameter(path), node.meta["val"].shape)
                first = tied.setdefault(key, node)
                given[node] = given[first] if first in given else torch.empty_like(node.meta["val"])
                if first is node:
                    self._hold(given[node], node)
            lengths = [self._open(node, axis) for node, axis in ((self.pixels, 0), (self.target, 1))]
            given = {node: self._cast(tensor, self.arithmetic.computed) for node, tensor in given.items()}
            weights = {paths[node.name]: tensor for node, tensor in given.items() if node.name in paths}
            with self, in_double(exact=True) if self.arithmetic.in_double else nullcontext():
                inputs = given[self.pixels], given[self.target]
                outputs = torch.func.functional_call(graph, weights, inputs, tie_weights=False)  # all are given
        if any(size_expression(length).is_number for length in lengths):
            raise _CannotRecordError
        self._finish([self._cast(outputs[name], torch.float32) for name in graph.names])

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op.namespace == "prim":  # the device of a tensor
            return op(*args, **kwargs)
        if op in NO_OPS:
            return args[0]
        if op in self.replaced or op.overloadpacket not in COMPOSITE:
            with self:
                result = self.replaced.get(op, op.decompose)(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if is_mutable(op):
            raise _CannotRecordError
        with self.graph.inserting_before(self.output):
            given = self._exact(op, args, kwargs) if self.arithmetic.in_double else (tuple(args), kwargs)
            recorded = fx.node.map_aggregate(given, self._recorded)
            call = f"{op} {recorded}"
            if call not in self.known:
                self.known[call] = op(*args, **kwargs)
                self._hold(self.known[call], self._call(op, recorded[0], self.known[call], recorded[1]))
        return self.known[call]

    def _open(self, node: fx.Node, axis: int) -> torch.SymInt:
        """Note where an open size comes from."""
        length: torch.SymInt = node.meta["val"].shape[axis]
        with self.graph.inserting_before(self.output):
            self.sizes[size_expression(length)] = self._call(aten.sym_size.int, (node, axis), length)
        return length

    def _cast(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """The same in another dtype, if it is of floating-point numbers."""
        if tensor.dtype == dtype or not tensor.is_floating_point():
            return tensor
        node = self.nodes[id(tensor)]
        call = f"cast of {node} to {dtype}"
        if call not in self.known:
            self.known[call] = tensor.to(dtype)
            with self.graph.inserting_before(self.output):
                cast = self._call(aten._to_copy.default, (node,), self.known[call], {"dtype": dtype})
            self._hold(self.known[call], cast)
        result: Tensor = self.known[call]
        return result

    def _finish(self, outputs: list[Tensor]) -> None:
        for (number, shape), tensor in self.numbers.items():
            self.program.constants[self.nodes[id(tensor)].name] = torch.full(shape, number, dtype=torch.float64)
        results: list[fx.Node] = []
        with self.graph.inserting_before(self.output):
            for tensor in outputs:
                node = self.nodes[id(tensor)]
                results.append(self._call(aten.clone.default, (node,), tensor) if node in results else node)
        self.output.args = (tuple(results),)
        for spec, node in zip(self.signature.output_specs, results, strict=True):
            spec.arg = TensorArgument(node.name)
        self.graph.eliminate_dead_code()
        self.program.graph_module.recompile()

    def _call(self, op: Any, args: Any, value: Any, kwargs: Any = None) -> fx.Node:
        node: fx.Node = self.graph.call_function(op, args, kwargs)
        node.meta["val"] = value
        return node

    def _hold(self, value: Any, node: fx.Node) -> None:
        """Note where a value comes from, a tensor or a list of tensors."""
        self.held.append(value)
        if isinstance(value, Tensor):
            self.nodes[id(value)] = node
        elif isinstance(value, list | tuple):
            for place, item in enumerate(value):
                self._hold(item, self._call(operator.getitem, (node, place), item))

    def _exact(self, op: Any, args: Any, kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an op for float64: the exporter rounds numbers to float32, which tensors stand for here.

        To ops that make a tensor of nothing it gives float32 as well, unless they say another dtype.
        """
        arguments = schema_of(op).arguments
        types = [str(argument.type) for argument in arguments]
        shape = next((tuple(value.shape[-1:]) for value in args if isinstance(value, Tensor)), ())
        exact = [value if is_single(value) else self._number(value, shape) for value in args]
        changed = [kind for kind, before, after in zip(types, args, exact, strict=False) if after is not before]
        if set(changed) - {"Tensor"} or not all(map(is_single, kwargs.values())):
            raise _CannotRecordError(f"{op} of numbers that float32 does not have")
        if "Tensor" not in types and "dtype" in {argument.name for argument in arguments}:
            kwargs = {**kwargs, "dtype": op(*args, **kwargs).dtype}
        return tuple(exact), kwargs

    def _recorded(self, arg: Any) -> Any:
        """An argument as it stands in the graph."""
        if isinstance(arg, Tensor):
            return self.nodes[id(arg)] if id(arg) in self.nodes else self._constant(arg)
        return self._length(size_expression(arg)) if isinstance(arg, torch.SymInt) else arg

    def _constant(self, tensor: Tensor) -> fx.Node:
        """A tensor that a rule has made of numbers."""
        node = self._new_constant(self.fake_mode.from_tensor(tensor, static_shapes=True))
        self.program.constants[node.name] = tensor
        self._hold(tensor, node)
        return node

    def _number(self, number: float, shape: tuple[Any, ...]) -> Tensor:
        """A tensor of float64 that stands for a number; it gets its value in the end, as none is a value here.

        Where it can be, it is a row of equal numbers: a factor that is one number, onnxruntime makes an attribute of a
        product of matrices, which is float32.
        """
        shape = shape if all(isinstance(size, int) for size in shape) else ()
        if (number, shape) not in self.numbers:
            self.numbers[number, shape] = torch.empty(shape, dtype=torch.float64)
            self._hold(self.numbers[number, shape], self._new_constant(self.numbers[number, shape]))
        return self.numbers[number, shape]

    def _new_constant(self, value: Tensor) -> fx.Node:
        name = f"number_{len(self.signature.input_specs)}"
        with self.graph.inserting_before(self.pixels):
            node: fx.Node = self.graph.placeholder(name)
        node.meta["val"] = value
        place = [spec.arg.name for spec in self.signature.input_specs].index(self.pixels.name)
        self.signature.input_specs.insert(place, InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(node.name), name))
        return node

    def _length(self, length: sympy.Expr) -> Any:
        """A number of images or targets, or what is computed from these."""
        if length.is_Integer:
            return int(length)
        if length not in self.sizes:
            if length.func not in SIZES:
                raise _CannotRecordError
            combine = SIZES[length.func]
            node, *rest = map(self._length, length.args)
            for part in rest:
                value = combine(*(item.meta["val"] if isinstance(item, fx.Node) else item for item in (node, part)))
                node = self._call(combine, (node, part), value)
            self.sizes[length] = node
        return self.sizes[length]
