"""Changes to an ONNX file that a parser accepts: to its graph, its weights, its metadata."""

import json
from collections.abc import Callable, Iterator
from random import Random

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxplain.runtime import METADATA_KEY
from tests.fuzz.mutators import mutate_json

Change = Callable[[ModelProto, Random], str]
ODD_SIZES = (0, 1, -1, 2**31, 2**40, 2**62)


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all branches below."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def _nodes(model: ModelProto) -> list[tuple[GraphProto, NodeProto]]:
    return [(graph, node) for graph in graphs(model.graph) for node in graph.node]


def _op(model: ModelProto, rng: Random) -> str:
    _, node = rng.choice(_nodes(model))
    before, node.op_type = (
        node.op_type,
        rng.choice(("Add", "Mul", "Softmax", "Identity", "Loop", "Nothing", "", "Exp", "Cos")),
    )
    return f"{before} made {node.op_type}"


def _domain(model: ModelProto, rng: Random) -> str:
    _, node = rng.choice(_nodes(model))
    node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "x", "\x1b[31m"))
    return f"{node.op_type} of domain {node.domain!r}"


def _input(model: ModelProto, rng: Random) -> str:
    _, node = rng.choice([(graph, node) for graph, node in _nodes(model) if node.input])
    names = [name for _, other in _nodes(model) for name in other.output] + [
        item.name for item in model.graph.initializer
    ]
    index = rng.randrange(len(node.input))
    node.input[index] = rng.choice(("", "nothing", rng.choice(names), rng.choice(names)))
    return f"{node.op_type} reads {node.input[index]!r}"


def _output(model: ModelProto, rng: Random) -> str:
    graph, node = rng.choice(_nodes(model))
    other = rng.choice(graph.node)
    node.output[0] = rng.choice(("", "x", other.output[0], *(item.name for item in model.graph.output[:2])))
    return f"{node.op_type} gives {node.output[0]!r}"


def _drop(model: ModelProto, rng: Random) -> str:
    graph, node = rng.choice(_nodes(model))
    graph.node.remove(node)
    return f"no {node.op_type}"


def _copy(model: ModelProto, rng: Random) -> str:
    graph, node = rng.choice(_nodes(model))
    graph.node.append(node)
    return f"{node.op_type} twice"


def _reorder(model: ModelProto, rng: Random) -> str:
    graph = rng.choice([graph for graph in graphs(model.graph) if len(graph.node) > 1])
    nodes = list(graph.node)
    rng.shuffle(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    return "nodes in another order"


def _attribute(model: ModelProto, rng: Random) -> str:
    nodes = [node for _, node in _nodes(model) if any(item.type != AttributeProto.GRAPH for item in node.attribute)]
    node = rng.choice(nodes)
    attribute = rng.choice([item for item in node.attribute if item.type != AttributeProto.GRAPH])
    change = rng.randrange(4)
    if change == 0:
        node.attribute.remove(attribute)
    elif change == 1:
        attribute.name = "x"
    elif change == 2:
        attribute.type = rng.choice((AttributeProto.FLOAT, AttributeProto.STRING, AttributeProto.TENSOR))
    else:
        attribute.i = rng.choice((0, 1, -1, 7, 2**40))
        for index in range(len(attribute.ints)):
            attribute.ints[index] = rng.choice((0, 1, -1, 2, 2**40))
    return f"attribute of {node.op_type} changed"


def _dims(model: ModelProto, rng: Random) -> str:
    value = rng.choice([*model.graph.input, *model.graph.output])
    dims = value.type.tensor_type.shape.dim
    if dims and rng.random() < 0.8:
        rng.choice(dims).dim_value = rng.choice(ODD_SIZES)
    else:
        dims.add().dim_value = rng.choice(ODD_SIZES)
    return f"{value.name} of another shape"


def _type(model: ModelProto, rng: Random) -> str:
    value = rng.choice([*model.graph.input, *model.graph.output])
    value.type.tensor_type.elem_type = rng.choice((0, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING, 99))
    return f"{value.name} of another type"


def _interface(model: ModelProto, rng: Random) -> str:
    values = rng.choice((model.graph.input, model.graph.output))
    value = rng.choice(values)
    name = value.name
    if rng.random() < 0.5:
        values.remove(value)
        return f"no {name}"
    value.name = rng.choice(("x", "logits", "pixels", "\x1b[31m"))
    return f"{name} named {value.name!r}"


def _weights(model: ModelProto, rng: Random) -> str:
    tensor = rng.choice(model.graph.initializer)
    array = numpy_helper.to_array(tensor).copy()
    odd = (0, -1, 10**9) if array.dtype.kind in "iub" else (np.nan, np.inf, 1e38, 1e-40, 0, -1)
    flat = array.reshape(-1)
    flat[rng.randrange(flat.size)] = np.array(rng.choice(odd)).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return f"{tensor.name} with another value"


def _flipped(model: ModelProto, rng: Random) -> str:
    tensor = rng.choice([item for item in model.graph.initializer if item.raw_data])
    data = bytearray(tensor.raw_data)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    tensor.raw_data = bytes(data)
    return f"{tensor.name} with a bit flipped"


def _tensor_shape(model: ModelProto, rng: Random) -> str:
    tensor = rng.choice(model.graph.initializer)
    change = rng.randrange(4)
    if change == 0:
        del tensor.dims[:]
        tensor.dims.extend(rng.choice(([], [0], [2**62, 2], [-1], [3])))
    elif change == 1:
        tensor.raw_data = tensor.raw_data[:-1]
    elif change == 2:
        tensor.data_type = rng.choice((0, TensorProto.DOUBLE, TensorProto.STRING, TensorProto.BFLOAT16, 99))
    else:
        model.graph.initializer.remove(tensor)
    return f"{tensor.name} of another shape or type"


def _external(model: ModelProto, rng: Random) -> str:
    tensor = rng.choice(model.graph.initializer)
    where = rng.choice(
        ("../../../etc/passwd", "/etc/passwd", "secret", "*/_ORT_MEM_ADDR_/*", "", "/dev/zero", "tiny.onnx", "nothing")
    )
    tensor.data_location = TensorProto.EXTERNAL
    entries = {
        "location": where,
        "offset": rng.choice(("0", "-1", "16", "x", str(2**63))),
        "length": str(len(tensor.raw_data)),
    }
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    if rng.random() < 0.8:
        tensor.ClearField("raw_data")
    return f"{tensor.name} lies in {where!r}"


def _version(model: ModelProto, rng: Random) -> str:
    if rng.random() < 0.5:
        model.opset_import[0].version = rng.choice((0, -1, 1, 7, 17, 22, 999, 2**62))
        return f"opset {model.opset_import[0].version}"
    model.ir_version = rng.choice((0, -1, 1, 3, 99, 2**62))
    return f"IR version {model.ir_version}"


def _forever(model: ModelProto, rng: Random) -> str:
    """A loop that would not end."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["again"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, [])],
    )
    model.graph.node.append(helper.make_node("Loop", ["", "with_attention"], [], body=body))
    return "a loop without end"


def metadata_changed(model: ModelProto, rng: Random) -> str:
    """The document damaged, missing, twice, or changed in one field."""
    props = model.metadata_props
    index = next(index for index, item in enumerate(props) if item.key == METADATA_KEY)
    choice = rng.random()
    if choice < 0.03:
        del props[index]
        return "no metadata"
    if choice < 0.06:
        props.add(key=METADATA_KEY, value=rng.choice(("{}", props[index].value.replace("tiny", "other"))))
        return "metadata twice"
    data, about = mutate_json(json.loads(props[index].value), rng)
    try:
        props[index].value = data.decode()
    except UnicodeDecodeError:  # the file is made by hand below: protobuf's text is UTF-8
        props[index].value = PLACE
        model.doc_string = data.hex()
    return f"metadata: {about}"


PLACE = "<metadata that are no UTF-8>" * 10


def written(model: ModelProto) -> bytes:
    """The file; with metadata that are not UTF-8, where they are to be, in as many bytes as stand in for them."""
    raw = bytes.fromhex(model.doc_string) if model.doc_string else b""
    model.ClearField("doc_string")
    data = model.SerializeToString()
    return data.replace(PLACE.encode(), raw[: len(PLACE)].ljust(len(PLACE))) if raw else data


def _message(field: int, body: bytes) -> bytes:
    """A field of a protobuf message that is a message itself, or text."""
    length, size = bytearray(), len(body)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([field << 3 | 2, *length, size]) + body


def nested(depth: int) -> bytes:
    """What makes an ONNX file that it is appended to hold a node with a graph with a node with a graph, and so on."""
    graph = b""
    for _ in range(depth):
        attribute = _message(1, b"then_branch") + b"\xa0\x01\x05" + _message(6, graph)  # name, type GRAPH, g
        graph = _message(1, _message(4, b"If") + _message(5, attribute))  # node: op_type, attribute
    return _message(7, graph)


GRAPH: tuple[Change, ...] = (
    _op, _domain, _input, _output, _drop, _copy, _reorder, _attribute, _dims, _type, _interface, _weights, _weights,
    _flipped, _flipped, _tensor_shape, _external, _version, _forever,
)  # fmt: skip
