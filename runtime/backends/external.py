"""Refuses ONNX files with tensors in other files, which it finds in the file's bytes before onnxruntime reads them.

An artifact is one file. A tensor whose data are external names a file to read, and onnxruntime before 1.24.1 reads any.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxplain.contract.errors import ArtifactError

from .wire import BYTES, fields_of

# The fields that lead to tensors, by message of onnx.proto: {field number: message}
FIELDS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto", 22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}  # fmt: skip
EXTERNAL = "StringStringEntryProto"  # of TensorProto.external_data
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
            if inner == EXTERNAL:
                return True
            if inner is not None:
                waiting.append((inner, field.start, field.end))
    return False
