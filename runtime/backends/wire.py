"""Protobuf messages as bytes: their fields, found without reading what is in them, and written again."""

import mmap
from collections.abc import Container, Iterator
from typing import NamedTuple

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # wire types
Content = bytes | mmap.mmap


class Field(NamedTuple):
    """A field of a message, and where it lies in the bytes.

    Attributes:
        number: Its number in the message.
        kind: Its wire type.
        begin: Where it begins, with its number.
        start: Where its value does.
        end: Where it ends.
    """

    number: int
    kind: int
    begin: int
    start: int
    end: int


def fields_of(content: Content, position: int, end: int) -> Iterator[Field]:
    """The fields of the message that lies from `position` to `end`; raises ValueError where it is no valid one."""
    while position < end:
        begin = position
        tag, position = _read_varint(content, position)
        number, kind = tag >> 3, tag & 7
        if tag >= 2**32 or number == 0:
            raise ValueError(f"a field with the number {number}")
        start = position
        size, position = _read_varint(content, position) if kind in {VARINT, BYTES} else (0, position)
        if kind == BYTES:
            start = position
            position += size
        elif kind in {EIGHT_BYTES, FOUR_BYTES}:
            position += 8 if kind == EIGHT_BYTES else 4
        elif kind != VARINT:
            raise ValueError(f"a field of the wire type {kind}")
        if position > end:
            raise ValueError("a field that goes beyond its message")
        yield Field(number, kind, begin, start, position)


def values_of(message: Content, numbers: Container[int]) -> Iterator[bytes]:
    """The values of the message's fields with these numbers, which are texts or messages."""
    for field in fields_of(message, 0, len(message)):
        if field.number in numbers and field.kind == BYTES:
            yield message[field.start : field.end]


def _read_varint(content: Content, position: int) -> tuple[int, int]:
    """Protobuf's integer of seven bits a byte at `position`, and the position behind it."""
    value = shift = 0
    while True:
        if position >= len(content) or shift > 63:
            raise ValueError("a number without an end")
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7


def bytes_field(number: int, value: bytes) -> bytes:
    """A field of the wire type BYTES, as protobuf writes it."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """Protobuf's integer of seven bits a byte."""
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)
