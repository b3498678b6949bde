"""An ONNX file opened without its weights, which are read from it one at a time as they are needed.

What is read here is the encoding of protocol buffers. A message is a row of fields: a key, which holds the number of
the field and the type of its value, and the value. What has its length before it is a text, bytes or another message.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

import onnx
import onnx_ir as ir
from onnx_ir.external_data import set_base_dir

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""Fields by their numbers: of ModelProto the graph, of GraphProto its weights, of TensorProto the content."""
VARINT, EIGHT_BYTES, DELIMITED, FOUR_BYTES = 0, 1, 2, 5
"""The types of values."""
LARGE = 2**12
"""Bytes of a weight from which on it stays in the file."""


class _Field(NamedTuple):
    """A field's number, and where in the file it starts, its value starts, and it ends."""

    number: int
    start: int
    value: int
    end: int


def load_without_weights(path: Path) -> ir.Model:
    """The ONNX model at ``path``, its large weights as tensors that are stored outside of it: in this very file."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        parts = [
            _delimited(GRAPH, _graph(content, field, path))
            if field.number == GRAPH
            else content[field.start : field.end]
            for field in _fields(content, 0, len(content))
        ]
    model = ir.from_proto(onnx.ModelProto.FromString(b"".join(parts)))
    set_base_dir(model.graph, path.parent)
    return model


def _graph(content: mmap, graph: _Field, path: Path) -> bytes:
    return b"".join(
        _delimited(INITIALIZER, _weight(content, field, path))
        if field.number == INITIALIZER and field.end - field.start > LARGE
        else content[field.start : field.end]
        for field in _fields(content, graph.value, graph.end)
    )


def _weight(content: mmap, weight: _Field, path: Path) -> bytes:
    """A TensorProto, its content replaced by where it is."""
    fields = list(_fields(content, weight.value, weight.end))
    kept = b"".join(content[field.start : field.end] for field in fields if field.number != RAW_DATA)
    tensor = onnx.TensorProto.FromString(kept)
    for raw in (field for field in fields if field.number == RAW_DATA):
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": path.name, "offset": raw.value, "length": raw.end - raw.value}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
    return tensor.SerializeToString()


def _fields(content: mmap, start: int, end: int) -> Iterator[_Field]:
    """The fields of the message that is there."""
    while start < end:
        key, value = _varint(content, start)
        kind = key & 7
        if kind == VARINT:
            _, after = _varint(content, value)
        elif kind == DELIMITED:
            length, value = _varint(content, value)
            after = value + length
        else:
            after = value + {EIGHT_BYTES: 8, FOUR_BYTES: 4}[kind]
        yield _Field(key >> 3, start, value, after)
        start = after


def _varint(content: mmap, place: int) -> tuple[int, int]:
    """The number there, seven bits to a byte, the lowest first; and where it ends."""
    number, shift = 0, 0
    while True:
        byte = content[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place


def _delimited(number: int, value: bytes) -> bytes:
    """A field with its length before it."""
    return _as_varint(number << 3 | DELIMITED) + _as_varint(len(value)) + value


def _as_varint(number: int) -> bytes:
    content = bytearray()
    while number > 127:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes([*content, number])
