"""The operator-set version of an ONNX file, read without the onnx package: for errors that a user understands."""

from __future__ import annotations

from pathlib import Path

from personsearch.core.engines.protobuf import Field, fields, varint

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
        return max(_version(data, field) for field in fields(data) if field.number == 8)
    except (OSError, IndexError, ValueError):
        return 0


def _version(data: bytes, opset: Field) -> int:
    """An OperatorSetIdProto: 1 = domain, 2 = version."""
    domain, version = b"", 0
    for field in fields(data, opset.begin, opset.end):
        if field.number == 1:
            domain = data[field.begin : field.end]
        elif field.number == 2:
            version, _ = varint(data, field.begin)
    return version if domain in (b"", b"ai.onnx") else 0
