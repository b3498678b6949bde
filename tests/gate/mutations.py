"""Wrong files: one thing changed at random in a right one, or in the rules that it is made by."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.random import Generator

from onnxplain.export.verify.op_by_op import OnnxOpByOp
from onnxplain.lrp_graph import FusedGraph
from onnxplain.lrp_graph.trace.rewrite import target_of

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
OTHERS = {
    **{"Add": "Sub", "Sub": "Add", "Mul": "Add", "Div": "Mul", "Max": "Min", "Min": "Max", "Sin": "Cos", "Cos": "Sin"},
    **{"Sigmoid": "Tanh", "Erf": "Tanh", "Tanh": "Sigmoid", "Gelu": "Relu", "Sqrt": "Abs", "Abs": "Relu"},
    **{"Reciprocal": "Neg", "Neg": "Abs", "Exp": "Relu", "Relu": "Abs"},
    **{"ReduceSum": "ReduceMean", "ReduceMean": "ReduceSum", "ReduceMax": "ReduceMin", "ReduceMin": "ReduceMax"},
}
ONE_INPUT = ("Neg", "Sqrt", "Abs", "Relu", "Exp", "Reciprocal", "Sigmoid", "Erf", "Softmax", "LeakyRelu", "Gelu")
Mutate = Callable[[ir.Model, Generator], str | None]
"""Changes the model; says what it did, or None if there was nothing to do it to."""


def nodes_of(model: ir.Model, *kinds: str) -> list[ir.Node]:
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return [node for node in nodes if not kinds or node.op_type in kinds]


def pick(rng: Generator, items: Any) -> Any:
    items = list(items)
    return items[rng.integers(len(items))] if items else None


def constant(model: ir.Model, rng: Generator) -> str | None:
    """A weight, or a number in the graph, 2 % larger."""
    values = [value for value in model.graph.initializers.values() if value.const_value.dtype in FLOATS]
    numbers = [
        attribute
        for node in nodes_of(model, "Constant")
        for attribute in node.attributes.values()
        if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in FLOATS and attribute.value.size
    ]
    chosen = pick(rng, values if rng.random() < 0.5 else numbers)
    if chosen is None:
        return None
    tensor = chosen.const_value if isinstance(chosen, ir.Value) else chosen.value
    larger = ir.tensor(tensor.numpy() * np.float32(1.02), name=tensor.name)
    if isinstance(chosen, ir.Value):
        chosen.const_value = larger
    else:
        (node,) = (node for node in nodes_of(model, "Constant") if chosen in node.attributes.values())
        node.attributes[chosen.name] = ir.Attr(chosen.name, ir.AttributeType.TENSOR, larger)
    return f"{chosen.name} of {list(tensor.shape)} times 1.02"


def operand(model: ir.Model, rng: Generator) -> str | None:
    """A square operand of a product transposed, or its operands in the other order."""

    def square(value: ir.Value) -> bool:
        shape = value.shape
        return shape is not None and len(shape) >= 2 and isinstance(shape[-1], int) and shape[-1] == shape[-2]

    node = pick(rng, [node for node in nodes_of(model, "MatMul", "Gemm") if any(map(square, node.inputs[:2]))])
    if node is None:
        return None
    place = pick(rng, [place for place in (0, 1) if square(node.inputs[place])])
    if node.op_type == "Gemm":
        name = "transB" if place else "transA"
        before = node.attributes.get_int(name, 0)
        node.attributes[name] = ir.AttrInt64(name, 1 - before)
        return f"{node.name}: {name}"
    rank = len(node.inputs[place].shape)
    perm = [*range(rank - 2), rank - 1, rank - 2]
    put_before(node, place, "Transpose", {"perm": perm})
    return f"{node.name}: operand {place} transposed"


def axis(model: ir.Model, rng: Generator) -> str | None:
    """Another axis: of a softmax or reduction, or two of a permutation exchanged."""
    node = pick(rng, nodes_of(model, "Softmax", "Transpose", "Concat"))
    if node is None:
        return None
    if node.op_type == "Transpose":
        perm = list(node.attributes.get_ints("perm"))
        a, b = rng.permutation(len(perm))[:2]
        perm[a], perm[b] = perm[b], perm[a]
        node.attributes["perm"] = ir.AttrInt64s("perm", perm)
        return f"{node.name}: perm {perm}"
    if node.op_type == "Concat":
        values = list(node.inputs)
        for place, value in enumerate(reversed(values)):
            node.replace_input_with(place, value)
        return f"{node.name}: parts in the other order"
    node.attributes["axis"] = ir.AttrInt64("axis", -2)
    return f"{node.name}: axis -2"


def other_op(model: ir.Model, rng: Generator) -> str | None:
    """One op in place of another."""
    node = pick(rng, [node for node in nodes_of(model, *OTHERS) if is_float(node.outputs[0])])
    if node is None:
        return None
    before, node.op_type = node.op_type, OTHERS[node.op_type]
    if before == "Gelu":
        node.attributes.clear()
    return f"{node.name}: {before} became {node.op_type}"


def dropped(model: ir.Model, rng: Generator) -> str | None:
    """A factor, a divisor, a bias or a function left out."""
    found = [node for node in nodes_of(model, *ONE_INPUT) if is_float(node.outputs[0])]
    found += [
        node
        for node in nodes_of(model, "Mul", "Div", "Add")
        if is_float(node.outputs[0]) and str(node.inputs[0].shape) == str(node.outputs[0].shape) != "None"
    ]
    node = pick(rng, found)
    if node is None:
        return None
    before, node.op_type = node.op_type, "Identity"
    node.attributes.clear()
    node.resize_inputs(1)
    return f"{node.name}: {before} left out"


class _Watching(OnnxOpByOp):
    """Keeps what one node gives, named by its output."""

    watched, seen = "", None

    def _results(self, node: ir.Node, values: dict[ir.Value, torch.Tensor]) -> Any:
        results = super()._results(node, values)
        if node.outputs[0].name == self.watched:
            self.seen = results[0]
        return results


def baked_in(model: ir.Model, rng: Generator) -> str | None:
    """A value that a pass computes as the constant that it is for one image and class, twice."""
    found = [node for node in nodes_of(model) if node.op_type not in ("If", "Constant") and is_open(node.outputs[0])]
    node = pick(rng, found)
    if node is None:
        return None
    sizes = [size for size in next(value for value in model.graph.inputs if value.name == "pixels").shape][1:]
    pixels = torch.from_numpy(rng.normal(size=[1, *sizes])).expand(2, -1, -1, -1)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        ir.save(model, file.name)
        watching = _Watching(Path(file.name))
        watching.watched = node.outputs[0].name
        watching.run(pixels, torch.zeros(2, 2, dtype=torch.int64), [value.name for value in model.graph.outputs])
    if watching.seen is None:
        return None
    new = ir.node("Constant", [], {"value": ir.tensor(watching.seen.numpy().astype(np.float32))})
    new.outputs[0].name, new.outputs[0].type = f"{watching.watched}/baked", node.outputs[0].type
    node.graph.insert_after(node, [new])
    for place, value in enumerate(node.graph.outputs):
        if value is node.outputs[0]:
            node.graph.outputs[place] = new.outputs[0]
    node.outputs[0].replace_all_uses_with(new.outputs[0])
    return f"{node.name} ({node.op_type}) baked in"


def is_float(value: ir.Value) -> bool:
    return value.dtype in FLOATS


def is_open(value: ir.Value) -> bool:
    shape = value.shape
    return is_float(value) and shape is not None and len(shape) > 1 and not isinstance(shape[0], int)


def put_before(node: ir.Node, place: int, op: str, attributes: dict[str, Any]) -> None:
    value = node.inputs[place]
    new = ir.node(op, [value], attributes)
    new.outputs[0].name = f"{value.name}/mutated"
    new.outputs[0].type = value.type
    node.graph.insert_before(node, [new])
    node.replace_input_with(place, new.outputs[0])


FILE: tuple[Mutate, ...] = (constant, operand, axis, other_op, dropped, baked_in)


def rule(graph: FusedGraph, rng: Generator) -> str | None:
    """Spoil one rule of one propagator: scale its result, or take another op's rule, or pass on what comes."""
    name = list(graph._propagators)[int(rng.integers(len(graph._propagators)))]
    right = graph._propagators[name]
    used = {target_of(node) for node in graph._nodes if node.op == "call_function"}
    op = pick(rng, sorted((op for op in used if op in right.table), key=str))
    kind = pick(rng, ("scaled", "another", "passed on"))
    other = pick(rng, sorted((one for one in used if one in right.table and one != op), key=str))
    wrong = {
        "scaled": lambda g, call: [None if one is None else one * 1.02 for one in right.table[op](g, call)],
        "another": right.table[other],
        "passed on": lambda g, call: [g, *[None] * (len(call.args) - 1)],
    }[kind]
    table = {**right.table, op: wrong}
    graph._propagators = {**graph._propagators, name: replace(right, table=table, special={**right.special, op: wrong})}
    return f"propagator {name}: the rule of {op} {kind}{f' ({other})' if kind == 'another' else ''}"
