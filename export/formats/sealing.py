"""The digest that an artifact ends with: 64 hexadecimal characters, the SHA-256 of all bytes before them.

Each format has a place for it at the very end, so that it remains a valid file: in ONNX an entry of the model's
metadata, in TorchScript the comment of the zip archive.
"""

from __future__ import annotations

from pathlib import Path

from onnxplain.contract.digest import LENGTH, file_digest

KEY = "onnxplain_sha256"
METADATA_PROPS, ENTRY_KEY, ENTRY_VALUE = b"\x72", b"\x0a", b"\x12"
"""The field of ModelProto, and those of its entries, as protobuf writes them before a length (one byte below 128)."""


def seal_onnx(path: Path) -> None:
    """Add the digest to an ONNX file: protobuf's fields may come in any order, so the entry can be the last."""
    entry = ENTRY_KEY + bytes([len(KEY)]) + KEY.encode() + ENTRY_VALUE + bytes([LENGTH])
    _append(path, METADATA_PROPS + bytes([len(entry) + LENGTH]) + entry)
    _append(path, file_digest(path).encode())


def seal_torchscript(path: Path) -> None:
    """Add the digest to a zip archive without a comment: its last two bytes are the length of one."""
    with path.open("r+b") as file:
        file.seek(-2, 2)
        file.write(LENGTH.to_bytes(2, "little"))
    _append(path, file_digest(path).encode())


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
