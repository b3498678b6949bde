"""Refuses ONNX files with tensors in other files, which it finds in the file's bytes before onnxruntime reads them.

An artifact is one file. A tensor whose data are external names a file to read, and onnxruntime before 1.24.1 reads any.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxplain.contract.errors import ArtifactError, OnnxplainError

from .onnx_fields import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    TrainingInfoProto,
)
from .wire import BYTES, fields_of

ENTRY = "StringStringEntryProto"  # of TensorProto.external_data
# The fields that lead to tensors, by message: {field number: message}
FIELDS: dict[str, dict[int, str]] = {
    "ModelProto": {
        ModelProto.GRAPH: "GraphProto",
        ModelProto.TRAINING_INFO: "TrainingInfoProto",
        ModelProto.FUNCTIONS: "FunctionProto",
    },
    "TrainingInfoProto": {
        TrainingInfoProto.INITIALIZATION: "GraphProto",
        TrainingInfoProto.ALGORITHM: "GraphProto",
    },
    "FunctionProto": {FunctionProto.NODE: "NodeProto", FunctionProto.ATTRIBUTE_PROTO: "AttributeProto"},
    "GraphProto": {
        GraphProto.NODE: "NodeProto",
        GraphProto.INITIALIZER: "TensorProto",
        GraphProto.SPARSE_INITIALIZER: "SparseTensorProto",
    },
    "NodeProto": {NodeProto.ATTRIBUTE: "AttributeProto"},
    "AttributeProto": {
        AttributeProto.T: "TensorProto",
        AttributeProto.G: "GraphProto",
        AttributeProto.TENSORS: "TensorProto",
        AttributeProto.GRAPHS: "GraphProto",
        AttributeProto.SPARSE_TENSOR: "SparseTensorProto",
        AttributeProto.SPARSE_TENSORS: "SparseTensorProto",
    },
    "SparseTensorProto": {SparseTensorProto.VALUES: "TensorProto", SparseTensorProto.INDICES: "TensorProto"},
    "TensorProto": {TensorProto.EXTERNAL_DATA: ENTRY},
}
WORD = b"location"  # the key under which an external tensor names its file
SHORT = 2**16  # bytes: it is faster to search shorter messages for WORD than to parse them


def refuse_external_data(path: Path) -> None:
    """Raise ArtifactError if the file is no ONNX file by its structure, or has a tensor with external data."""
    with onnx_content(path):
        pass


@contextmanager
def onnx_content(path: Path) -> Iterator[mmap.mmap]:
    """The bytes of an ONNX file.

    Raises:
        ArtifactError: As `refuse_external_data`.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if _has_external_data(content):
                raise ArtifactError(
                    f"{path} has weights in other files, which could be any on this computer; an artifact is one file: "
                    "export it again"
                )
            yield content
    except OnnxplainError:
        raise
    except ValueError as error:
        raise ArtifactError(f"{path} is not an ONNX file, or it is truncated: {error}") from None


def _has_external_data(content: mmap.mmap) -> bool:
    """Walk the messages that may hold tensors; raises ValueError where they are no valid protobuf."""
    waiting = [("ModelProto", 0, len(content))]
    while waiting:
        message, position, end = waiting.pop()
        if end - position < SHORT and content.find(WORD, position, end) < 0:
            continue
        for field in fields_of(content, position, end):
            inner = FIELDS[message].get(field.number) if field.kind == BYTES else None
            if inner == ENTRY:
                return True
            if inner is not None:
                waiting.append((inner, field.start, field.end))
    return False
