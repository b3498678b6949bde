"""More wrong files: weights in their places, nodes that get what is meant for others, images that feel each other."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.random import Generator

from .mutations import FLOATS, Mutate, is_float, is_open, nodes_of, pick, put_before

SHARE = 1e-3
"""By how much an image feels its neighbours."""


def _weight(change: Callable[[np.ndarray, Generator], None], name: str) -> Mutate:
    """Change one weight, which has at least two entries."""

    def mutate(model: ir.Model, rng: Generator) -> str | None:
        values = [value for value in model.graph.initializers.values() if value.const_value.dtype in FLOATS]
        value = pick(rng, [value for value in values if value.const_value.size > 1])
        if value is None:
            return None
        array = value.const_value.numpy().copy()
        change(array, rng)
        value.const_value = ir.tensor(array, name=value.name)
        return f"{value.name} of {list(array.shape)}: {name}"

    return mutate


def _entry(array: np.ndarray, rng: Generator) -> None:
    place = tuple(rng.integers(array.shape))
    array[place] += 0.1 * np.abs(array).max() + 0.01


def _sign(array: np.ndarray, rng: Generator) -> None:
    array[tuple(rng.integers(array.shape))[:1]] *= -1


def _permuted(array: np.ndarray, rng: Generator) -> None:
    array[...] = np.roll(array, 1, int(rng.integers(array.ndim)))


def exchanged(model: ir.Model, rng: Generator) -> str | None:
    """The two inputs of a node whose order matters."""
    found = [node for node in nodes_of(model, "Sub", "Div", "Pow", "MatMul") if is_float(node.outputs[0])]
    node = pick(rng, [node for node in found if str(node.inputs[0].shape) == str(node.inputs[1].shape) != "None"])
    if node is None:
        return None
    first, second = node.inputs
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)
    return f"{node.name} ({node.op_type}): inputs exchanged"


def epsilon(model: ir.Model, rng: Generator) -> str | None:
    """Another small constant, or another factor, of a node."""
    names = ("epsilon", "alpha", "beta")
    found = [(node, name) for node in nodes_of(model) for name in names if name in node.attributes]
    if not found:
        return None
    node, name = found[rng.integers(len(found))]
    value = node.attributes[name].value
    node.attributes[name] = ir.AttrFloat32(name, value * 2 + 1e-3)
    return f"{node.name}: {name} {value:g} became {value * 2 + 1e-3:g}"


def outputs_exchanged(model: ir.Model, rng: Generator) -> str | None:
    """Two results of the same shape, one in the place of the other."""
    results = [graph.outputs[0] for graph in _branches(model)]
    pairs = [(a, b) for a in results for b in results if a is not b and str(a.shape) == str(b.shape) and a.producer()]
    pairs = [(a, b) for a, b in pairs if b.producer() is not None and b.graph is not a.graph]
    if not pairs:
        return None
    first, second = pairs[rng.integers(len(pairs))]
    outer = [_switch(model, one) for one in (first.graph, second.graph)]
    if None in outer:
        return None
    names = [node.outputs[0].name for node in outer]
    places = [next(i for i, value in enumerate(model.graph.outputs) if value.name == name) for name in names]
    values = [node.outputs[0] for node in outer]
    model.graph.outputs[places[0]], model.graph.outputs[places[1]] = values[1], values[0]
    values[0].name, values[1].name = names[1], names[0]
    return f"{names[0]} and {names[1]} exchanged"


def other_weight(model: ir.Model, rng: Generator) -> str | None:
    """A product with the weight of another."""
    weights = [value for value in model.graph.initializers.values() if len(value.shape or ()) == 2 and is_float(value)]
    found = []
    for node in nodes_of(model, "MatMul", "Gemm"):
        for place, value in enumerate(node.inputs[:2]):
            others = [other for other in weights if other is not value and other.shape == value.shape]
            if value in weights and others:
                found.append((node, place, others))
    if not found:
        return None
    node, place, others = found[rng.integers(len(found))]
    other = pick(rng, others)
    before = node.inputs[place].name
    node.replace_input_with(place, other)
    return f"{node.name}: {other.name} in place of {before}"


def neighbour(model: ir.Model, rng: Generator) -> str | None:
    """A value that depends a little on those of other images, or other classes, and not where there is but one."""
    found = [node for node in nodes_of(model) if node.op_type not in ("If", "Constant") and is_open(node.outputs[0])]
    node = pick(rng, [node for node in found if node.outputs[0].uses()])
    if node is None:
        return None
    value = node.outputs[0]
    users = list(value.uses())
    axes = ir.node("Constant", [], {"value_ints": [0]})
    share = ir.node("Constant", [], {"value": ir.tensor(np.float32(SHARE), name="share")})
    mean = ir.node("ReduceMean", [value, axes.outputs[0]], {"keepdims": 1})
    difference = ir.node("Sub", [value, mean.outputs[0]])
    part = ir.node("Mul", [difference.outputs[0], share.outputs[0]])
    mixed = ir.node("Add", [value, part.outputs[0]])
    new = [axes, share, mean, difference, part, mixed]
    for place, one in enumerate(new):
        one.outputs[0].name = f"{value.name}/mixed{place}"
        one.outputs[0].type = ir.TensorType(ir.DataType.INT64) if one is axes else value.type
    node.graph.insert_after(node, new)
    for user, place in users:
        user.replace_input_with(place, mixed.outputs[0])
    return f"{node.name} ({node.op_type}): feels the others along its first axis"


def one_for_all(model: ir.Model, rng: Generator) -> str | None:
    """What is the first's or the last's, for all images or classes: right where there is but one."""
    found = [node for node in nodes_of(model) if node.op_type not in ("If", "Constant") and is_open(node.outputs[0])]
    node = pick(rng, [node for node in found if node.outputs[0].uses()])
    if node is None:
        return None
    value, index = node.outputs[0], int(rng.integers(-1, 1))
    users = list(value.uses())
    axis = int(rng.integers(2)) if not isinstance(value.shape[1], int) else 0
    place = ir.node("Constant", [], {"value_ints": [index]})
    shape = ir.node("Shape", [value])
    one = ir.node("Gather", [value, place.outputs[0]], {"axis": axis})
    spread = ir.node("Expand", [one.outputs[0], shape.outputs[0]])
    new = [place, shape, one, spread]
    for number, other in enumerate(new):
        other.outputs[0].name = f"{value.name}/spread{number}"
        other.outputs[0].type = ir.TensorType(ir.DataType.INT64) if other in (place, shape) else value.type
    node.graph.insert_after(node, new)
    for user, number in users:
        user.replace_input_with(number, spread.outputs[0])
    return f"{node.name} ({node.op_type}): entry {index} of axis {axis} for all"


def wrong_perm(model: ir.Model, rng: Generator) -> str | None:
    """A transpose before a product that is not meant to be there: of the two last axes where they are as long."""
    found = []
    for node in nodes_of(model, "Add", "Mul", "Sub"):
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        if shape is not None and len(shape) >= 2 and isinstance(shape[-1], int) and shape[-1] == shape[-2] > 1:
            found.append(node)
    node = pick(rng, found)
    if node is None:
        return None
    rank = len(node.inputs[0].shape)
    put_before(node, 0, "Transpose", {"perm": [*range(rank - 2), rank - 1, rank - 2]})
    return f"{node.name} ({node.op_type}): first input transposed"


def _branches(model: ir.Model) -> list[ir.Graph]:
    return [node.attributes["then_branch"].as_graph() for node in nodes_of(model, "If")]


def _switch(model: ir.Model, branch: ir.Graph) -> ir.Node | None:
    """The If of an output that has this branch."""
    outputs = set(model.graph.outputs)
    nodes = [node for node in nodes_of(model, "If") if node.outputs[0] in outputs]
    return next((node for node in nodes if node.attributes["then_branch"].as_graph() is branch), None)


MORE: tuple[Mutate, ...] = (
    _weight(_entry, "one entry larger"),
    _weight(_sign, "the sign of a row"),
    _weight(_permuted, "rolled by one"),
    exchanged,
    epsilon,
    outputs_exchanged,
    other_weight,
    neighbour,
    one_for_all,
    wrong_perm,
)
