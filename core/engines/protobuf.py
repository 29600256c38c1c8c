"""Fields of a protocol-buffer message, read without its schema: enough to look into an ONNX file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Field(NamedTuple):
    """One field: where it starts with its key, and where its content (of varints: the number) begins and ends."""

    number: int
    start: int
    begin: int
    end: int


def fields(data: bytes, at: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message data[at:end], in order. Raises IndexError or ValueError for what is none."""
    end = len(data) if end is None else end
    while at < end:
        start = at
        key, at = varint(data, at)
        begin, kind = at, key & 7
        if kind == 0:
            _, at = varint(data, at)
        elif kind == 2:
            length, begin = varint(data, at)
            at = begin + length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not a protocol-buffer message")
        yield Field(key >> 3, start, begin, at)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
