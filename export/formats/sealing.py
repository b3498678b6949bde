"""The digest that an artifact ends with: 64 hexadecimal characters, the SHA-256 of all bytes before them.

Each format has a place for it at the very end, so that it remains a valid file: in ONNX an entry of the model's
metadata, in TorchScript the comment of the zip archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from onnxplain.contract.digest import LENGTH, file_digest

from .onnx_stream import Stream

KEY = "onnxplain_sha256"
METADATA_PROPS, ENTRY_KEY, ENTRY_VALUE = b"\x72", b"\x0a", b"\x12"
"""The field of ModelProto, and those of its entries, as protobuf writes them before a length (one byte below 128)."""


@contextmanager
def sealed_onnx(path: Path) -> Iterator[Stream]:
    """What to write an ONNX file to that gets its digest behind all else.

    Protobuf's fields may come in any order, so the entry can be the last.
    """
    with path.open("wb") as file:
        stream = _Digesting(file)
        yield stream
        entry = ENTRY_KEY + bytes([len(KEY)]) + KEY.encode() + ENTRY_VALUE + bytes([LENGTH])
        stream.write(METADATA_PROPS + bytes([len(entry) + LENGTH]) + entry)
        file.write(stream.digest.hexdigest().encode())


class _Digesting:
    """Writes to a file, and computes the digest of what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        flat = np.frombuffer(data, np.uint8).data  # of tensors with several axes as well
        self.digest.update(flat)
        return self.file.write(flat)


def seal_torchscript(path: Path) -> None:
    """Add the digest to a zip archive without a comment: its last two bytes are the length of one."""
    with path.open("r+b") as file:
        file.seek(-2, 2)
        file.write(LENGTH.to_bytes(2, "little"))
    _append(path, file_digest(path).encode())


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
