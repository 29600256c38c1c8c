"""JSON files into typed records: an error names the file, the entry, the field and what stands there."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from personsearch.core.errors import UserError
from personsearch.core.json_text import parse_json

M = TypeVar("M", bound=BaseModel)
SHOWN = 10  # faults of one file


def read_record(path: Path, data: bytes, model: type[M], error: type[UserError]) -> M:
    """The content of a JSON file as a record. Raises `error` that names each bad entry (the first ten)."""
    try:
        return model.model_validate(parse_json(data, finite=False))
    except ValidationError as faults:
        raise error(faults_of(path, faults)) from None
    except ValueError as fault:
        raise error(f"{path}: not valid JSON ({fault})") from None


def faults_of(path: str | Path, error: ValidationError) -> str:
    """A line for each of the first ten faults: file, entry, field, what was expected and what came."""
    lines = [
        f"{path}: {'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}, "
        f"got {str(fault['input'])[:60]!r}"
        for fault in error.errors()
    ]
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n       ".join(lines[:SHOWN] + more)
