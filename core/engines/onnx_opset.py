"""The operator-set version of an ONNX file, read without the onnx package: for errors that a user understands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

OPSET = 17  # what export writes: every engine of the last years reads it


def load_problem(path: Path, error: Exception | None = None) -> str:
    """One line on why an engine cannot load a graph: its opset if that is the cause, else the reason given."""
    opset = onnx_opset(path)
    if opset > OPSET:
        return f"{path}: it has ONNX opset {opset}, this project writes {OPSET}; export the bundle again"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith(("Exception from", "Check ", "FrontEnd API"))]
    return f"{path}: {(reasons or lines or [type(error).__name__])[0][:300]}"


def onnx_opset(path: Path) -> int:
    """Version of the standard operators; 0 if the file is not readable as ONNX."""
    try:
        data = path.read_bytes()
        return max((_version(data, begin, end) for number, begin, end in _fields(data, 0, len(data)) if number == 8))
    except (OSError, IndexError, ValueError):
        return 0


def _version(data: bytes, begin: int, end: int) -> int:
    """An OperatorSetIdProto: 1 = domain, 2 = version."""
    domain, version = b"", 0
    for number, start, stop in _fields(data, begin, end):
        if number == 1:
            domain = data[start:stop]
        elif number == 2:
            version, _ = _varint(data, start)
    return version if domain in (b"", b"ai.onnx") else 0


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, begin, end) of a protocol-buffer message's fields."""
    while at < end:
        key, at = _varint(data, at)
        if key & 7 == 2:
            length, at = _varint(data, at)
            yield key >> 3, at, at + length
            at += length
        elif key & 7 == 0:
            start = at
            _, at = _varint(data, at)
            yield key >> 3, start, at
        elif key & 7 in (1, 5):
            at += 8 if key & 7 == 1 else 4
        else:
            raise ValueError("not a protocol-buffer message")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
