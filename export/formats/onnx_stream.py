"""An ONNX model written with its weights from where they are in memory.

A ModelProto would hold a copy of all weights, and its bytes a second one. So it is made without those that are large,
and they are put in their places in its bytes. In these, fields come in the order of their numbers; a message in a field
is a tag, its length, and its own bytes, and so is raw data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir as ir

from onnxplain.contract import OnnxplainError
from onnxplain.runtime.backends.wire import BYTES, varint

GRAPH = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
INITIALIZER = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
LARGE = 2**12
"""Bytes of a tensor from which on it is written from its place in memory."""
MAX_BYTES = 2**31 - 2**10
"""Of a model: protobuf reads no more than 2 GiB, and the digest comes after it."""


class Stream(Protocol):
    """What bytes can be written to."""

    def write(self, data: Any, /) -> Any:
        """Write bytes, or what has them in memory."""


def write_onnx(model: ir.Model, stream: Stream) -> None:
    """Write the bytes of a model: those of its ModelProto, without types for weights beside their own.

    Args:
        model: The model.
        stream: What to write to.

    Raises:
        OnnxplainError: The file would be too large to be read; nothing is written.
    """
    tensors = _tensors(model.graph).values()
    with _without_large_tensors(model.graph):
        proto = ir.to_proto(model)
    graph = proto.graph
    # Tools that change weights, such as those for int8 and float16, take a type that is declared for that of the weight
    weights = {tensor.name for tensor in graph.initializer}
    declared = [info for info in graph.value_info if info.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(declared)

    heads, data = [], []
    for tensor, written in zip(tensors, graph.initializer, strict=True):
        head, size = written.SerializeToString(), 0
        if tensor.nbytes >= LARGE:
            size = tensor.nbytes
            head = head.removesuffix(varint(0)) + varint(size)  # the raw data is the last field
        heads.append(_head(INITIALIZER, len(head) + size) + head)
        data.append((tensor, size))
    before, behind = _fields(graph, lambda number: number < INITIALIZER), _fields(graph, lambda n: n > INITIALIZER)
    length = len(before) + sum(map(len, heads)) + sum(size for _, size in data) + len(behind)
    first = _fields(proto, lambda number: number < GRAPH) + _head(GRAPH, length) + before
    last = behind + _fields(proto, lambda number: number > GRAPH)
    _check_size(length + len(first) - len(before) + len(last) - len(behind), tensors)

    stream.write(first)
    for head, (tensor, size) in zip(heads, data, strict=True):
        stream.write(head)
        if size:
            tensor.tofile(stream)
    stream.write(last)


def _check_size(size: int, tensors: Iterable[Any]) -> None:
    """Raise OnnxplainError for a file of too many bytes, and say whether weights in float16 would help."""
    if size <= MAX_BYTES:
        return
    saved = sum(tensor.nbytes // 2 for tensor in tensors if tensor.dtype == ir.DataType.FLOAT)
    fits = size - saved <= MAX_BYTES
    help = "export it with `precision='float16'`, which takes half" if fits else "choose a smaller model"
    raise OnnxplainError(f"the file would have {size / 2**30:.1f} GiB, and ONNX files can have 2 GiB at most; {help}")


def _tensors(graph: ir.Graph) -> dict[ir.Value, Any]:
    return {value: value.const_value for value in graph.initializers.values()}


@contextmanager
def _without_large_tensors(graph: ir.Graph) -> Iterator[None]:
    """Have large initializers of a graph no data meanwhile, but their types and shapes."""
    large = {value: tensor for value, tensor in _tensors(graph).items() if tensor.nbytes >= LARGE}
    nothing = ir.tensor(np.zeros(0, np.uint8))
    try:
        for value, tensor in large.items():
            value.const_value = ir.LazyTensor(lambda: nothing, dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)
        yield
    finally:
        for value, tensor in large.items():
            value.const_value = tensor


def _fields(message: Any, wanted: Callable[[int], bool]) -> bytes:
    """The bytes of a message with those of its fields whose numbers are wanted."""
    part = type(message)()
    part.CopyFrom(message)
    for field, _ in message.ListFields():
        if not wanted(field.number):
            part.ClearField(field.name)
    data: bytes = part.SerializeToString()
    return data


def _head(number: int, length: int) -> bytes:
    """What stands before the content of a field."""
    return varint(number << 3 | BYTES) + varint(length)
