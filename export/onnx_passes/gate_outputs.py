"""Pay for what you ask: move what only some outputs need into ``If`` nodes on the flags of these outputs.

onnxruntime runs every node of a graph even when only some outputs are fetched, so what is not wanted must stand in a
branch that is not taken. Nodes that the same outputs need form one group, and what of a group lies between two products
with weights becomes one ``If``, so nothing is computed twice. Along an edge the set of outputs can only shrink: groups
of larger sets come first, and a group that runs finds all that it takes from them computed. Only what is cheap to
compute again is, to keep less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from .branch_levels import Outputs, levels, products_of_weights, views_of_products
from .duplicate_cheap import copy_cheap, copy_views


def gate_outputs(model: ir.Model, flags: Mapping[str, str]) -> None:
    """Give ``model`` one optional bool input per flag, true by default, and compute each output only where it is true.

    flags: output name -> name of the flag. Where the flag is false, the output is a tensor without elements.

    requires: a flat graph whose outputs are named as in ``flags``, with types and shapes of its values.
    ensures: the same outputs in the same order; what only gated outputs need stands in branches, each node once,
    but for products with large weights, which have no rows where nobody wants them.
    """
    graph = model.graph
    _separate_outputs(graph, flags)
    needs = _needs(graph, flags)
    copy_cheap(graph, needs)
    products = products_of_weights(graph, needs, _constants(graph))
    level = levels(graph, needs, products)
    copy_views(graph, needs, level)
    apart = {node: node for node in products} | views_of_products(graph, needs, products)
    branches: dict[tuple[int, Outputs], list[ir.Node]] = {}
    between: dict[int, list[ir.Node]] = {}
    for node in graph:
        if node in apart:
            between.setdefault(level[apart[node]], []).append(node)
        elif needs[node]:
            branches.setdefault((level[node], needs[node]), []).append(node)
    groups = sorted({outputs for _, outputs in branches}, key=len, reverse=True)
    conditions = {frozenset([name]): _optional_flag(graph, flag) for name, flag in flags.items()}
    for outputs in reversed(groups):
        _add_condition(graph, outputs, conditions)
    for step in range(max(level.values(), default=-1) + 1):
        for number, outputs in enumerate(groups):
            if (step, outputs) in branches:
                name = flags[min(outputs)] if len(outputs) == 1 else f"shared_{number}"
                _gate(graph, f"{name}_{step}", branches[step, outputs], conditions[outputs])
        for node in between.get(step, []):
            graph.remove(node)
            graph.append(node)
            for value in node.outputs:
                value.shape = _nameless(value)


def _separate_outputs(graph: ir.Graph, flags: Mapping[str, str]) -> None:
    """Give an output that other nodes use, or that no node computes, a node of its own, so that it can be empty."""
    for place, value in enumerate(graph.outputs):
        if value.name in flags and (value.uses() or value.producer() is None or graph.outputs.count(value) > 1):
            result = ir.Value(name=value.name, type=value.type, shape=value.shape)
            value.name = f"{value.name}/shared"
            graph.append(ir.Node("", "Identity", [value], outputs=[result], name=f"{result.name}_own"))
            graph.outputs[place] = result


def _needs(graph: ir.Graph, flags: Mapping[str, str]) -> dict[ir.Node, Outputs]:
    """For each node, in graph order, the gated outputs that need it; none where it always runs."""
    always = _ancestors([value for value in graph.outputs if value.name not in flags])
    always |= _cheap(graph, always)
    needs: dict[ir.Node, Outputs] = {}
    for node in reversed(graph):
        own = [value.name for value in node.outputs if value.is_graph_output() and value.name]
        users = [needs[user] for value in node.outputs for user in value.consumers()]
        needs[node] = Outputs() if node in always else Outputs(own).union(*users)
    return needs


def _ancestors(values: Iterable[ir.Value]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    producers = [value.producer() for value in values]
    while producers:
        node = producers.pop()
        if node is not None and node not in found:
            found.add(node)
            producers.extend(value.producer() for value in node.inputs if value is not None)
    return found


def _constants(graph: ir.Graph) -> set[ir.Value]:
    """Weights, and what arithmetic makes of them alone."""
    constants = {value for value in graph.initializers.values() if not value.is_graph_input()}
    for node in graph:
        if all(value in constants for value in node.inputs if value is not None):
            constants.update(node.outputs)
    return constants


def _cheap(graph: ir.Graph, always: set[ir.Node]) -> set[ir.Node]:
    """Arithmetic on weights, which onnxruntime does once, at load, and on the shapes of what is always computed.

    Either is used all over the graph, and would else have to cross from ``If`` to ``If``.
    """
    constants = _constants(graph)
    shapes: set[ir.Value] = set()
    cheap = set()
    for node in graph:
        inputs = {value for value in node.inputs if value is not None}
        small = all(value.shape is not None and len(value.shape) <= 1 for value in node.outputs)
        if inputs <= constants:
            cheap.add(node)
        elif (small and inputs <= constants | shapes) or (
            node.op_type == "Shape" and {inputs.pop().producer()} <= always
        ):
            shapes.update(node.outputs)
            cheap.add(node)
    return cheap


def _optional_flag(graph: ir.Graph, name: str) -> ir.Value:
    """A bool input that is true where the caller does not feed it: an input that is an initializer as well."""
    flag = _bool(name)
    flag.const_value = ir.tensor(np.array(True), name=name)
    graph.inputs.append(flag)
    graph.register_initializer(flag)
    return flag


def _bool(name: str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))


def _add_condition(graph: ir.Graph, outputs: Outputs, conditions: dict[Outputs, ir.Value]) -> None:
    """Add to ``conditions`` whether any of ``outputs`` is wanted, made of the largest conditions that are there."""
    parts, rest = [], outputs
    for known in sorted(conditions, key=len, reverse=True):
        if known <= outputs and rest & known:
            parts.append(conditions[known])
            rest -= known
    condition = parts[0]
    for part in parts[1:]:
        either = _bool(f"{condition.name}_or_{part.name}")
        graph.append(ir.Node("", "Or", [condition, part], outputs=[either], name=f"{either.name}_node"))
        condition = either
    conditions[outputs] = condition


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
    branches = [
        ir.AttrGraph("then_branch", ir.Graph([], inner, nodes=nodes, name=f"{name}/then")),
        ir.AttrGraph("else_branch", _nothing(name, results)),
    ]
    graph.append(ir.Node("", "If", [condition], branches, outputs=results, name=f"{name}_if"))


def _nameless(value: ir.Value) -> ir.Shape:
    assert value.shape is not None, value
    return ir.Shape([size if isinstance(size, int) else None for size in value.shape])


def _crosses(value: ir.Value, group: set[ir.Node]) -> bool:
    return value.is_graph_output() or any(user not in group for user in value.consumers())


def _nothing(name: str, results: list[ir.Value]) -> ir.Graph:
    """A graph that gives for each of ``results`` a tensor of its type and rank, 0 long where the length is open."""
    nodes = []
    for result in results:
        assert result.shape is not None and result.dtype is not None
        shape = [size if isinstance(size, int) else 0 for size in result.shape]
        empty = ir.tensor(np.zeros(shape, result.dtype.numpy()), name=f"{name}/empty/{result.name}")
        value = ir.Value(name=f"{name}/none/{result.name}", type=result.type, shape=ir.Shape(shape))
        nodes.append(ir.Node("", "Constant", [], [ir.AttrTensor("value", empty)], outputs=[value]))
    return ir.Graph([], [node.outputs[0] for node in nodes], nodes=nodes, name=f"{name}/else")
