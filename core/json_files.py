"""JSON files into typed records: an error names the file, the entry, the field and what stands there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from personsearch.core.errors import UserError

M = TypeVar("M", bound=BaseModel)
SHOWN = 10  # faults of one file


def parse_json(data: bytes | str, finite: bool = True) -> Any:
    """Plain values of a JSON text, with or without a byte order mark.

    finite  NaN and Infinity, which are not JSON but often written, are refused here, not by the caller
    Raises ValueError for what is no JSON, for a key that stands twice in one object, and for endless depth.
    """
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    try:
        constants = _no_number if finite else None
        return json.loads(text, parse_constant=constants, object_pairs_hook=_without_twins)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(n for n in names if names.count(n) > 1)}' stands twice in one object")
    return content


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
