"""Write the fused graph down as a flat program.

torch.export finds the same program in fifty times the time, as each call goes through several of its layers and
computes with open sizes. Here the fused graph runs on tensors that have a shape and no values, and every call is
written down, equal ones once. Two primes stand for the numbers of images and targets: a size that is a multiple of one
is so many times that number. The graph runs twice, with other primes; the programs differ where anything else depends
on these numbers, or where a size is a multiple by chance.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from onnxplain.contract import OnnxplainError
from onnxplain.contract.precisions import FLOAT32
from onnxplain.lrp_graph import FusedGraph
from onnxplain.lrp_graph.in_double import in_double
from onnxplain.lrp_graph.torch_internals import TorchDispatchMode, is_mutable

from .arithmetic import ARITHMETIC, Arithmetic
from .double_ops import DOUBLE_OPS, rms_norm
from .exact_numbers import ExactNumbers
from .padding import paddings
from .program import MODEL, NUMBER, FlatProgram, Sizes, Weight, calls_of, exported_program, factors
from .rounding import narrowed

aten = torch.ops.aten

NO_OPS = {aten.detach.default, aten.detach_.default, aten.alias.default, aten.lift_fresh.default}
"""What changes nothing where there is no autograd and no value is written to."""

COMPOSITE = {
    *(aten.linear, aten.matmul, aten.einsum, aten.conv2d, aten.max_pool2d, aten.softmax, aten.layer_norm),
    *(aten.group_norm, aten.reshape, aten.flatten, aten.expand_as, aten.pad, aten.where, aten.sym_size),
}
"""Composite ops that are recorded as one call, as ONNX has them; others are recorded as what they are made of."""

DECOMPOSED = {aten.conv2d.padding}
"""Those of them that are recorded as what they are made of, as PyTorch has no translation to ONNX for them."""

REPLACED = {
    aten.rsub.Scalar: lambda x, number, alpha=1: x * -alpha + number,
    aten.rms_norm.default: rms_norm,  # PyTorch's own form writes to a value
}
"""Ops that are recorded as others, which ONNX has."""

PRIMES: tuple[Sizes, Sizes] = ((10007, 10009), (10037, 10039))
"""What stands for them, in two runs: so large that hardly any other size is a multiple, for which PyTorch is asked."""


class _CannotRecordError(Exception):
    """Sizes are computed in a way not known here, a value is changed, or an op has no form for the precision."""


@contextmanager
def _recordable() -> Iterator[None]:
    """Where an op has no form in float64, which is a NotImplementedError, the program cannot be recorded."""
    try:
        yield
    except NotImplementedError as error:
        raise _CannotRecordError(str(error)) from error


def flat_program(graph: FusedGraph, size: tuple[int, int], precision: str = FLOAT32) -> FlatProgram:
    """Record the fused graph as one program.

    Args:
        graph: The fused graph.
        size: (height, width) of the images; their number, and that of the targets, stay open.
        precision: One of PRECISIONS.

    Returns:
        The program, its outputs in the order of ``graph.names``.

    Raises:
        OnnxplainError: The model has an op that has no form for the precision.
    """
    arithmetic = ARITHMETIC[precision]
    try:
        first, second = (_Recorder(sizes, arithmetic).record(graph, size) for sizes in PRIMES)
        if calls_of(first) == calls_of(second):
            return first
        reason = "it depends on the number of images or classes in a way that a file cannot have"
    except _CannotRecordError as error:
        reason = str(error)
    require_float32(precision, reason)
    return exported_program(graph, size)


def require_float32(precision: str, reason: str) -> None:
    """Raise OnnxplainError, with the reason, if PyTorch's own program would be of another precision."""
    if ARITHMETIC[precision] != ARITHMETIC[FLOAT32]:
        raise OnnxplainError(f"the model has no form in {precision}: {reason}; leave out `precision`")


class _Recorder(TorchDispatchMode):
    """Writes down the calls made under it."""

    def __init__(self, sizes: Sizes, arithmetic: Arithmetic) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes = sizes
        self.arithmetic = arithmetic
        self.replaced = {**REPLACED, **DOUBLE_OPS} if arithmetic.in_double else REPLACED
        self.graph = fx.Graph()
        self.weights: dict[fx.Node, Weight] = {}
        self.nodes: dict[int, fx.Node] = {}  # by the identity of the tensor
        self.held: list[Any] = []  # so that no other tensor gets its identity
        self.numbers: list[Tensor] = []
        self.exact = ExactNumbers(min(sizes))
        self.known: dict[str, Any] = {}
        self.results: dict[str, Any] = {}
        self.lengths: dict[int, fx.Node] = {}

    def record(self, graph: FusedGraph, size: tuple[int, int]) -> FlatProgram:
        """The program that gives the outputs of ``graph``."""
        with torch.inference_mode():  # in which composite ops stay in one piece
            stand_ins = self._stand_ins(graph)
            batch, targets = self.sizes
            pixels = torch.empty(batch, 3, *size, device="meta")
            target = torch.empty(batch, targets, dtype=torch.int64, device="meta")
            self.pixels = self._placeholder("pixels", pixels)
            given = self.pixels, self._placeholder("target", target)
            self.lengths = {
                length: self._call(aten.sym_size.int, (node, axis), length)
                for length, node, axis in zip(self.sizes, given, (0, 1), strict=True)
            }
            computed = self.arithmetic.computed
            inputs = self._cast(pixels, computed), target
            stand_ins = {path: self._cast(tensor, computed) for path, tensor in stand_ins.items()}
            with self, in_double(exact=True) if self.arithmetic.in_double else nullcontext():
                outputs = torch.func.functional_call(graph, stand_ins, inputs, tie_weights=False)
        results: list[fx.Node] = []
        for name in graph.names:
            output = self._cast(outputs[name], torch.float32)
            node = self.nodes[id(output)]
            results.append(self._call(aten.clone.default, (node,), output) if node in results else node)
        self.graph.output(tuple(results))
        self.graph.eliminate_dead_code()
        return FlatProgram(self.graph, *given, self.weights, self.sizes)

    def _stand_ins(self, graph: FusedGraph) -> dict[str, Tensor]:
        """Tensors without values for all parameters and buffers, by path; one for parameters that are tied."""
        padding = {MODEL + path: zeros for path, zeros in paddings(graph).items()}
        found: dict[str, Tensor] = {}
        tied: dict[nn.Parameter, Tensor] = {}
        for path, parameter in graph.named_parameters(remove_duplicate=False):
            if parameter not in tied:
                stored = narrowed(parameter, self.arithmetic.stored)
                tied[parameter] = self._stand_in(Weight(path, stored, padding.get(path, ())))
            found[path] = tied[parameter]
        buffers = graph.named_buffers(remove_duplicate=False)
        return found | {path: self._stand_in(Weight(path, buffer)) for path, buffer in buffers}

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op.namespace == "prim":  # the device of a tensor
            return op(*args, **kwargs)
        if op in NO_OPS:
            return args[0]
        if op.overloadpacket not in COMPOSITE or op in DECOMPOSED or op in self.replaced:
            with self:
                result = self._written_as(op, args, kwargs)
            if result is not NotImplemented:
                return result
        if is_mutable(op):
            raise _CannotRecordError(f"{op} changes a value in place")
        given = self._exactly(op, args, kwargs) if self.arithmetic.in_double else (tuple(args), kwargs)
        recorded = fx.node.map_aggregate(given, self._recorded)
        call = f"{op} {recorded}"
        if call not in self.known:
            self.known[call] = self._result(op, args, kwargs)
            self._hold(self.known[call], self._call(op, recorded[0], self.known[call], recorded[1]))
        return self.known[call]

    def _written_as(self, op: Any, args: Any, kwargs: Any) -> Any:
        """The result of an op by others, NotImplemented if it is recorded as it is."""
        if op not in self.replaced:
            return op.decompose(*args, **kwargs)
        with _recordable():
            return self.replaced[op](*args, **kwargs)

    def _exactly(self, op: Any, args: Any, kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an op for float64."""
        with _recordable():
            return self.exact.arguments(op, args, kwargs, lambda: self._result(op, args, kwargs).dtype)

    def _cast(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """The same in another dtype, if it is of floating-point numbers."""
        if tensor.dtype == dtype or not tensor.is_floating_point():
            return tensor
        node = self.nodes[id(tensor)]
        call = f"cast of {node} to {dtype}"
        if call not in self.known:
            self.known[call] = tensor.to(dtype)
            self._hold(self.known[call], self._call(aten._to_copy.default, (node,), self.known[call], {"dtype": dtype}))
        cast: Tensor = self.known[call]
        return cast

    def _result(self, op: Any, args: Any, kwargs: Any) -> Any:
        """What a call returns, without values; found once for arguments of the same shapes."""
        given = fx.node.map_aggregate((tuple(args), kwargs), self._without_values)
        kind = f"{op} {fx.node.map_aggregate(given, _kind)}"
        if kind in self.results:
            return fx.node.map_aggregate(self.results[kind], _another)
        self.results[kind] = op(*given[0], **given[1])
        return self.results[kind]

    def _stand_in(self, weight: Weight) -> Tensor:
        """A tensor without values for one that the program takes."""
        tensor = replace(weight, tensor=torch.empty_like(weight.tensor, device="meta")).padded()
        self.weights[self._placeholder(weight.name, tensor)] = weight
        return tensor

    def _placeholder(self, name: str, tensor: Tensor) -> fx.Node:
        node: fx.Node = self.graph.placeholder(name.replace(".", "_"))
        node.meta["val"] = tensor
        self._hold(tensor, node)
        return node

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

    def _recorded(self, arg: Any) -> Any:
        """An argument as it stands in the graph."""
        if isinstance(arg, Tensor):
            return self.nodes[id(arg)] if id(arg) in self.nodes else self._constant(arg)
        if isinstance(arg, torch.device):
            return torch.device("cpu")
        return self._length(arg) if type(arg) is int else arg

    def _without_values(self, arg: Any) -> Any:
        """An argument as it is computed with."""
        if isinstance(arg, Tensor):
            return self.nodes[id(arg)].meta["val"]
        return torch.device("meta") if isinstance(arg, torch.device) else arg

    def _constant(self, tensor: Tensor) -> fx.Node:
        """A tensor that a rule has made of numbers."""
        if tensor.is_meta:  # which PyTorch has made, and of which the numbers are lost
            raise _CannotRecordError("PyTorch makes a tensor within an op, of which the numbers are not known")
        with self.graph.inserting_before(self.pixels):
            stand_in = self._stand_in(Weight(f"{NUMBER}{len(self.numbers)}", tensor))
        self.numbers.append(tensor)
        self.nodes[id(tensor)] = self.nodes[id(stand_in)]
        return self.nodes[id(tensor)]

    def _length(self, length: int) -> Any:
        """A number of images or targets, or so many times these, as a node; all others as they are."""
        if length in self.lengths or length < min(self.sizes):
            return self.lengths.get(length, length)
        number, *powers = factors(length, self.sizes)
        if not any(powers):
            return length
        powers_of = zip(self.sizes, powers, strict=True)
        parts: list[Any] = [self.lengths[size] for size, power in powers_of for _ in range(power)]
        node, *rest = parts if number == 1 else [number, *parts]
        for part in rest:
            number = part.meta["val"] * (node.meta["val"] if isinstance(node, fx.Node) else node)
            node = self._call(operator.mul, (node, part), number)
        self.lengths[length] = node
        return node


def _kind(value: Any) -> Any:
    """What of an argument decides on the shape of a result."""
    return (value.shape, value.stride(), value.dtype) if isinstance(value, Tensor) else value


def _another(value: Any) -> Any:
    """Another tensor of the same shape."""
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
