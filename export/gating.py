"""Pay for what you ask: move each reverse pass into an ``If`` on a flag of its own.

onnxruntime runs every node of a graph even when only some outputs are fetched, so a pass that is not wanted must stand
in a branch that is not taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir


def gate_passes(model: ir.Model, flags: Mapping[str, str]) -> None:
    """Give ``model`` one optional bool input per pass, true by default, and compute the pass only where it is true.

    flags: output name -> name of the flag. What an output needs beyond the other outputs goes into the then-branch; the
    else-branch gives a tensor without elements.

    requires: a flat graph whose outputs are named as in ``flags``.
    ensures: the same outputs in the same order; nodes that only gated outputs need stand in branches.
    """
    graph = model.graph
    gated = {value.name: value for value in graph.outputs if value.name in flags}
    always = _ancestors([value for value in graph.outputs if value.name not in flags])
    private = {name: _ancestors([value]) - always for name, value in gated.items()}
    outputs = list(graph.outputs)
    for name, value in gated.items():
        flag = _optional_flag(graph, flags[name])
        result = ir.Value(name=name, type=value.type, shape=value.shape)
        branches = [
            ir.AttrGraph("then_branch", _then(graph, value, private[name])),
            ir.AttrGraph("else_branch", _else(value)),
        ]
        choice = ir.Node("", "If", [flag], branches, outputs=[result], name=f"{flags[name]}_if")
        graph.append(choice)
        outputs[outputs.index(value)] = result
    graph.outputs[:] = outputs
    graph.remove([node for node in graph if any(node in nodes for nodes in private.values())], safe=True)


def _ancestors(values: Iterable[ir.Value]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    producers = [value.producer() for value in values]
    while producers:
        node = producers.pop()
        if node is not None and node not in found:
            found.add(node)
            producers.extend(value.producer() for value in node.inputs if value is not None)
    return found


def _optional_flag(graph: ir.Graph, name: str) -> ir.Value:
    """A bool input that is true where the caller does not feed it: an input that is an initializer as well."""
    flag = ir.Value(name=name, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    flag.const_value = ir.tensor(np.array(True), name=name)
    graph.inputs.append(flag)
    graph.register_initializer(flag)
    return flag


def _then(graph: ir.Graph, output: ir.Value, nodes: set[ir.Node]) -> ir.Graph:
    """Copies of ``nodes`` in graph order. One that two passes need is copied into both, so neither needs the other."""
    prefix = f"{output.name}/"
    inner: dict[ir.Value, ir.Value] = {}
    copies = []
    for node in graph:
        if node in nodes:
            outs = [ir.Value(name=f"{prefix}{v.name}", type=v.type, shape=v.shape) for v in node.outputs]
            inputs = [inner.get(v, v) if v is not None else None for v in node.inputs]
            inner.update(zip(node.outputs, outs, strict=True))
            copy = ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()), outputs=outs)
            copy.name = f"{prefix}{node.name}"
            copies.append(copy)
    return ir.Graph([], [inner[output]], nodes=copies, name=f"{prefix}then", opset_imports=graph.opset_imports)


def _else(output: ir.Value) -> ir.Graph:
    assert output.shape is not None and output.dtype is not None
    shape = [size if isinstance(size, int) else 0 for size in output.shape]
    empty = ir.tensor(np.zeros(shape, output.dtype.numpy()), name=f"{output.name}/empty")
    result = ir.Value(name=f"{output.name}/none", type=output.type, shape=ir.Shape(shape))
    constant = ir.Node("", "Constant", [], [ir.AttrTensor("value", empty)], outputs=[result])
    return ir.Graph([], [result], nodes=[constant], name=f"{output.name}/else")
