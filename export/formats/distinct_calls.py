"""The distinct calls of a flat program, as a program of their own that PyTorch's exporter takes.

Of a call only the op counts, its numbers, and the shapes and types of the tensors that it takes: it has a placeholder
of its own for each of these, and its results are outputs of the program. Open sizes are computed from two inputs, as in
the flat program.
"""

from __future__ import annotations

import operator
from collections import ChainMap
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, InputSpec, OutputKind, OutputSpec, TensorArgument

from onnxplain.lrp_graph.torch_internals import fake_mode_of

from .program import EXAMPLE_SIZES, OPEN_SIZES, FlatProgram, factors
from .promotion import may_promote, with_floats

Nodes = tuple[fx.Node, ...]


class Call(NamedTuple):
    """A distinct call: the placeholders of the tensors that it takes, and its results."""

    inputs: Nodes
    results: Nodes


class Use(NamedTuple):
    """A place where the flat program has a call: what it takes there, and what it gives."""

    call: Call
    inputs: Nodes
    results: Nodes


class _Outline(nn.Module):
    """A program that has the inputs of a fused graph."""

    def forward(self, pixels: Tensor, target: Tensor) -> Tensor:
        return pixels.sum() + target.sum()


class DistinctCalls:
    """The distinct calls of a flat program.

    Attributes:
        program: The calls, as a program; its outputs are ``results``.
        pixels: The placeholder of the images, from which the calls have their number.
        target: That of the targets.
        inputs: Those of the calls.
        results: What the calls give.
        uses: For each call of the flat program, in its order, which of the distinct calls it is.
        may_promote: Whether PyTorch may promote the types of what a call takes.
    """

    def __init__(self, source: FlatProgram) -> None:
        """Find them."""
        shape = source.pixels.meta["val"].shape[1:]
        example = torch.zeros(EXAMPLE_SIZES[0], *shape), torch.zeros(EXAMPLE_SIZES, dtype=torch.int64)
        self.program = torch.export.export(_Outline(), example, dynamic_shapes=OPEN_SIZES, strict=False)
        self.graph = self.program.graph
        self.pixels, self.target = self.graph.find_nodes(op="placeholder")
        self.inputs: list[fx.Node] = []
        self.uses: list[Use] = []
        self.may_promote = False
        self._sizes = source.sizes
        self._open_sizes = self.pixels.meta["val"].shape[0], self.target.meta["val"].shape[1]
        self._values: dict[Any, Tensor] = {}
        self._calls: dict[str, Call] = {}
        self._known = {source.pixels: self.pixels, source.target: self.target}  # and open sizes
        (output,) = self.graph.find_nodes(op="output")
        self._first = self.target.next  # of what is no placeholder
        with fake_mode_of(self.pixels.meta["val"]), self.graph.inserting_before(output):
            for node in source.graph.nodes:
                if node.op == "call_function" and node.target is not operator.getitem:
                    self._add(node)
        self.results = tuple(node for call in self._calls.values() for node in call.results)
        output.args = (self.results,)
        outputs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in self.results]
        self.program.graph_signature.output_specs[:] = outputs
        self.graph.eliminate_dead_code()
        self.program.graph_module.recompile()

    def _add(self, node: fx.Node) -> None:
        """Note a call of the flat program, and make it one of the distinct calls if it is new."""
        inputs: dict[fx.Node, int] = {}

        def described(arg: fx.Node) -> Any:
            if arg in self._known:
                return self._known[arg]
            value = arg.meta["val"]
            return inputs.setdefault(arg, len(inputs)), tuple(value.shape), value.dtype

        results = tuple(node.users) if isinstance(node.meta["val"], list | tuple) else (node,)
        places = [result.args[1] for result in results if result is not node]
        given = with_floats(node), node.kwargs
        kind = f"{node.target} {fx.node.map_arg(given, described)} {places}"
        if kind not in self._calls:
            self._calls[kind] = self._copied(node, given, tuple(inputs), results)
            self.may_promote |= may_promote(node)
        if isinstance(node.meta["val"], int):
            (self._known[node],) = self._calls[kind].results
        self.uses.append(Use(self._calls[kind], tuple(inputs), results))

    def _copied(self, node: fx.Node, given: Any, inputs: Nodes, results: Nodes) -> Call:
        """A call of the flat program, given these arguments, with placeholders in place of these inputs."""
        own = {arg: self._placeholder(arg.meta["val"]) for arg in inputs}
        args, kwargs = fx.node.map_arg(given, ChainMap(own, self._known).__getitem__)
        call = self._call(node, args, kwargs)
        copies = [call if result is node else self._call(result, (call, result.args[1])) for result in results]
        return Call(tuple(own.values()), tuple(copies))

    def _call(self, node: fx.Node, args: Any, kwargs: Any = None) -> fx.Node:
        """The call of `node` with these arguments."""
        call: fx.Node = self.graph.call_function(node.target, args, kwargs)
        call.meta["val"] = self._value(node.meta["val"])
        return call

    def _placeholder(self, value: Tensor) -> fx.Node:
        with self.graph.inserting_before(self._first):
            node: fx.Node = self.graph.placeholder(f"input_{len(self.inputs)}")
        node.meta["val"] = self._value(value)
        spec = InputSpec(InputKind.USER_INPUT, TensorArgument(node.name), None)
        self.program.graph_signature.input_specs.append(spec)
        self.inputs.append(node)
        return node

    def _value(self, value: Any) -> Any:
        """A value of the flat program with open sizes; tensors of one shape and type are the same tensor."""
        if isinstance(value, list | tuple):
            return [self._value(item) for item in value]
        if isinstance(value, int):
            return self._size(value)
        key = value.shape, value.dtype
        if key not in self._values:
            self._values[key] = torch.empty([self._size(size) for size in value.shape], dtype=value.dtype)
        return self._values[key]

    def _size(self, size: int) -> Any:
        number, *powers = factors(size, self._sizes)
        for open_size, power in zip(self._open_sizes, powers, strict=True):
            for _ in range(power):
                number = number * open_size
        return number
