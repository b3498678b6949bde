"""An ONNX file as a small model that finds its large weights where they lie in the file.

onnxruntime reads a whole file into memory and copies the weights out of that. Weights outside of the model it maps
instead: nothing is copied, and processes that open the same file share the memory.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .external import onnx_content
from .onnx_fields import GraphProto, ModelProto, TensorProto
from .onnx_fields import StringStringEntryProto as Entry
from .wire import BYTES, VARINT, Field, bytes_field, fields_of, values_of, varint

LEAST_IN_PLACE = 2**12  # bytes of a weight that is left in the file: what onnxruntime computes shapes from is smaller


class InPlace(NamedTuple):
    """What onnxruntime opens in place of a file.

    Attributes:
        model: The ONNX model without its large weights.
        folder: Where the file is that these are in.
    """

    model: bytes
    folder: Path


def in_place(path: Path) -> InPlace:
    """Read an artifact without its large weights.

    Raises:
        ArtifactError: If it is no ONNX file by its structure, or has a tensor with external data, see `external.py`.
    """
    file = path.resolve()  # onnxruntime follows no link to another folder
    with onnx_content(path) as content:
        return InPlace(b"".join(_model(content, os.fsencode(file.name))), file.parent)


def metadata_text(path: Path, key: str) -> str:
    """The text under a key of an ONNX file's metadata; empty if there is none, or if it is no ONNX file."""
    with suppress(ValueError), path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for entry in values_of(content, {ModelProto.METADATA_PROPS}):
            if key.encode() in values_of(entry, {Entry.KEY}):
                return b"".join(values_of(entry, {Entry.VALUE})).decode(errors="replace")
    return ""


def _model(content: mmap.mmap, name: bytes) -> Iterator[bytes]:
    for field in fields_of(content, 0, len(content)):
        if field.number == ModelProto.GRAPH and field.kind == BYTES:
            yield bytes_field(ModelProto.GRAPH, b"".join(_graph(content, field, name)))
        else:
            yield content[field.begin : field.end]


def _graph(content: mmap.mmap, graph: Field, name: bytes) -> Iterator[bytes]:
    for field in fields_of(content, graph.start, graph.end):
        large = (
            field.number == GraphProto.INITIALIZER and field.kind == BYTES and field.end - field.start >= LEAST_IN_PLACE
        )
        yield (
            bytes_field(GraphProto.INITIALIZER, b"".join(_tensor(content, field, name)))
            if large
            else content[field.begin : field.end]
        )


def _tensor(content: mmap.mmap, tensor: Field, name: bytes) -> Iterator[bytes]:
    for field in fields_of(content, tensor.start, tensor.end):
        size = field.end - field.start
        if field.number != TensorProto.RAW_DATA or field.kind != BYTES or size < LEAST_IN_PLACE:
            yield content[field.begin : field.end]
            continue
        place = {"location": name, "offset": str(field.start).encode(), "length": str(size).encode()}
        for key, value in place.items():
            entry = bytes_field(Entry.KEY, key.encode()) + bytes_field(Entry.VALUE, value)
            yield bytes_field(TensorProto.EXTERNAL_DATA, entry)
        yield varint(TensorProto.DATA_LOCATION << 3 | VARINT) + varint(TensorProto.EXTERNAL)
