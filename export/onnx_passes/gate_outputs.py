"""Pay for what you ask: move what only some outputs need into ``If`` nodes on the flags of these outputs.

onnxruntime runs every node of a graph even when only some outputs are fetched, so what is not wanted must stand in a
branch that is not taken. Nodes that the same outputs need form one group, and what of a group lies between two products
with weights becomes one ``If``, so nothing is computed twice. Along an edge the set of outputs can only shrink: groups
of larger sets come first, and a group that runs finds all that it takes from them computed. Only what is cheap to
compute again is, to keep less.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import count

import numpy as np
import onnx_ir as ir

from .branch_levels import assign_levels, views_of_products
from .duplicate_cheap import duplicate_cheap, duplicate_views
from .gate_plan import GatePlan, Outputs, plan_gates
from .invariants import require_flat, require_order

MakeFlag = Callable[[ir.Graph, str], ir.Value]
"""(graph, name of a flag) -> its scalar truth, for a new input."""


class GateOutputsPass(ir.passes.InPlacePass):
    """Give a model one bool input per flag, and compute each output only where it is true.

    An optional flag is a number of its own, true by default; a required one has an entry for each image, [batch], and
    is true where any of these is.

    requires: A flat graph that has the outputs; values have types, and those that cross from branch to branch shapes.

    ensures: The same outputs in the same order, each from an ``If`` on its flag; where the flag is false, the output is
    a tensor without elements. What only gated outputs need stands in branches, each node once, but for products with
    large weights, which have no rows where nobody wants them, and for what is cheap to compute again. No node reads an
    output of the graph, which OpenVINO refuses in a branch.
    """

    def __init__(self, flags: Mapping[str, str], required: bool = False) -> None:
        """Make the pass.

        Args:
            flags: By output, the name of its flag.
            required: Whether flags have to be fed.
        """
        super().__init__()
        self.flags = flags
        self.required = required

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; its values' names stay unique."""
        graph = model.graph
        _separate_outputs(graph, self.flags.keys())
        plan = plan_gates(graph, self.flags)
        plan = duplicate_cheap(graph, plan)
        plan = assign_levels(graph, plan)
        plan = duplicate_views(graph, plan)
        _move_into_branches(graph, plan, self.flags, _required_flag if self.required else _optional_flag)
        return ir.passes.PassResult(model, modified=True)

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError unless the graph is flat and has the outputs."""
        require_flat(model.graph)
        missing = self.flags.keys() - {value.name for value in model.graph.outputs}
        if missing:
            raise ir.passes.PreconditionError(f"the graph has no output {', '.join(sorted(missing))}")

    def ensures(self, model: ir.Model) -> None:
        """Raise PostconditionError unless each output is behind its flag, and values are computed before they are used.

        That an output's own flag is among the conditions of its ``If`` is for the tests.
        """
        graph = model.graph
        require_order(graph)
        optional = {value.name for value in graph.initializers.values() if value.is_graph_input()}
        inputs = {value.name for value in graph.inputs}
        for value in graph.outputs:
            producer = value.producer()
            if value.uses():
                raise ir.passes.PostconditionError(f"a node reads the output {value.name}")
            if value.name in self.flags and (producer is None or producer.op_type != "If"):
                raise ir.passes.PostconditionError(f"the output {value.name} is in no branch")
        if not set(self.flags.values()) <= (inputs - optional if self.required else optional):
            raise ir.passes.PostconditionError(f"a flag is no {'required' if self.required else 'optional'} input")


def _separate_outputs(graph: ir.Graph, gated: Collection[str]) -> None:
    """Give an output that other nodes use, or that is to be empty but no node computes, a node of its own."""
    for place, value in enumerate(graph.outputs):
        shared = value.uses() or graph.outputs.count(value) > 1
        if shared or (value.producer() is None and value.name in gated):
            result = ir.Value(name=value.name, type=value.type, shape=value.shape)
            value.name = f"{value.name}/shared"
            graph.append(ir.Node("", "Identity", [value], outputs=[result], name=f"{result.name}_own"))
            graph.outputs[place] = result


def _move_into_branches(graph: ir.Graph, plan: GatePlan, flags: Mapping[str, str], make_flag: MakeFlag) -> None:
    """Do what the plan says: level by level, groups of more outputs first, products behind the branches."""
    apart = {node: node for node in plan.products} | views_of_products(graph, plan)
    branches: dict[tuple[int, Outputs], list[ir.Node]] = {}
    between: dict[int, list[ir.Node]] = {}
    for node in graph:
        if node in apart:
            between.setdefault(plan.levels[apart[node]], []).append(node)
        elif plan.needs[node]:
            branches.setdefault((plan.levels[node], plan.needs[node]), []).append(node)
    groups = sorted(dict.fromkeys(outputs for _, outputs in branches), key=len, reverse=True)
    conditions = _conditions(graph, groups, flags, make_flag)
    for level in range(max(plan.levels.values(), default=-1) + 1):
        for number, outputs in enumerate(groups):
            if (level, outputs) in branches:
                name = flags[min(outputs)] if len(outputs) == 1 else f"shared_{number}"
                _gate(graph, f"{name}_{level}", branches[level, outputs], conditions[outputs])
        for node in between.get(level, []):
            graph.remove(node)
            graph.append(node)
            for value in node.outputs:
                value.shape = _nameless(value)


def _conditions(
    graph: ir.Graph, groups: list[Outputs], flags: Mapping[str, str], make_flag: MakeFlag
) -> dict[Outputs, ir.Value]:
    """By group whether any of its outputs is wanted: the flag of one, and of several made of the largest there are."""
    numbers = count()
    conditions = {Outputs([name]): make_flag(graph, flag) for name, flag in flags.items()}
    for outputs in reversed(groups):
        parts, rest = [], outputs
        for known in sorted(conditions, key=len, reverse=True):
            if known <= outputs and rest & known:
                parts.append(conditions[known])
                rest -= known
        condition = parts[0]
        for part in parts[1:]:
            either = _value(f"any_{next(numbers)}", ir.DataType.BOOL, [])
            graph.append(ir.Node("", "Or", [condition, part], outputs=[either], name=either.name))
            condition = either
        conditions[outputs] = condition
    return conditions


def _optional_flag(graph: ir.Graph, name: str) -> ir.Value:
    """A bool input that is true where the caller does not feed it: an input that is an initializer as well."""
    flag = _value(name, ir.DataType.BOOL, [])
    flag.const_value = ir.tensor(np.array(True), name=name)
    graph.inputs.append(flag)
    graph.register_initializer(flag)
    return flag


def _required_flag(graph: ir.Graph, name: str) -> ir.Value:
    """Whether any entry is true of a bool input [batch]."""
    images = graph.inputs[0].shape
    assert images is not None
    flag = _value(name, ir.DataType.BOOL, [images[0]])
    graph.inputs.append(flag)
    numbers = _value(f"{name}/numbers", ir.DataType.INT32, [images[0]])
    most = _value(f"{name}/most", ir.DataType.INT32, [])
    wanted = _value(f"{name}/any", ir.DataType.BOOL, [])
    graph.append(ir.node("Cast", [flag], {"to": ir.DataType.INT32}, outputs=[numbers], name=numbers.name))
    graph.append(ir.node("ReduceMax", [numbers], {"keepdims": 0}, outputs=[most], name=most.name))
    graph.append(ir.node("Cast", [most], {"to": ir.DataType.BOOL}, outputs=[wanted], name=wanted.name))
    return wanted


def _value(name: str, dtype: ir.DataType, shape: Sequence[int | ir.SymbolicDim]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def _gate(graph: ir.Graph, name: str, nodes: list[ir.Node], condition: ir.Value) -> None:
    """Move ``nodes``, which stand in ``graph`` in this order, into an ``If``; it gives what others use of them."""
    group = set(nodes)
    inner = [value for node in nodes for value in node.outputs if _crosses(value, group)]
    results = []
    for value in inner:
        # Not with the lengths' names: onnxruntime would put it into a buffer that held an empty tensor of that shape.
        shape = value.shape if value.is_graph_output() else _nameless(value)
        result = ir.Value(name=value.name, type=value.type, shape=shape)
        value.name = f"{name}/{value.name}"
        for user, place in list(value.uses()):
            if user not in group:
                user.replace_input_with(place, result)
        if value.is_graph_output():
            graph.outputs[graph.outputs.index(value)] = result
        results.append(result)
    graph.remove(nodes)
    ordered = _depth_first(nodes, inner)
    branches = [
        ir.AttrGraph("then_branch", ir.Graph([], inner, nodes=ordered, name=f"{name}/then")),
        ir.AttrGraph("else_branch", _nothing(graph, name, results)),
    ]
    graph.append(ir.Node("", "If", [condition], branches, outputs=results, name=name))


def _depth_first(nodes: Collection[ir.Node], results: Iterable[ir.Value]) -> list[ir.Node]:
    """The nodes, each right before the first that reads it: of several layers, one is done before the next begins."""
    waiting, ordered = dict.fromkeys(nodes), []
    stack = [value.producer() for value in reversed(list(results))]
    while stack:
        node = stack[-1]
        before = [value.producer() for value in node.inputs if value is not None] if node in waiting else []
        missing = [one for one in before if one in waiting]
        if missing:
            stack.extend(reversed(missing))
            continue
        stack.pop()
        if node in waiting:
            del waiting[node]
            ordered.append(node)
    return ordered


def _nameless(value: ir.Value) -> ir.Shape:
    assert value.shape is not None, value
    return ir.Shape([size if isinstance(size, int) else None for size in value.shape])


def _crosses(value: ir.Value, group: set[ir.Node]) -> bool:
    return value.is_graph_output() or any(user not in group for user in value.consumers())


def _nothing(graph: ir.Graph, name: str, results: list[ir.Value]) -> ir.Graph:
    """A branch that gives for each of ``results`` a tensor of its type and rank, 0 long where the length is open.

    It computes them, as OpenVINO reads no constant without elements; what it computes them from is an initializer of
    ``graph``, the same for all branches.
    """
    nodes = []
    for result in results:
        assert result.shape is not None and result.dtype is not None
        shape = tuple(size if isinstance(size, int) else 0 for size in result.shape)
        zero = ir.AttrTensor("value", ir.tensor(np.zeros(1, result.dtype.numpy())))
        empty = _value(f"{name}/empty/{result.name}", result.dtype, shape)
        nodes.append(ir.Node("", "ConstantOfShape", [_lengths(graph, shape)], [zero], outputs=[empty]))
    return ir.Graph([], [node.outputs[0] for node in nodes], nodes=nodes, name=f"{name}/else")


def _lengths(graph: ir.Graph, shape: tuple[int, ...]) -> ir.Value:
    """The initializer that has these lengths."""
    name = "/".join(["lengths", *map(str, shape)])
    if name not in graph.initializers:
        lengths = _value(name, ir.DataType.INT64, [len(shape)])
        lengths.const_value = ir.tensor(np.array(shape, np.int64), name=name)
        graph.register_initializer(lengths)
    return graph.initializers[name]
