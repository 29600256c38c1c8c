"""Networks of others in OpenVINO's or ONNX's form (.xml with its .bin, .onnx)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from personsearch.core.errors import UserError
from personsearch.core.openvino_core import openvino_core

if TYPE_CHECKING:
    import openvino


def read_network(path: str | Path, expected: str, error: type[UserError]) -> openvino.Model:
    """Raises `error`, in one line that says what was `expected`, for a file that is missing or damaged."""
    if not Path(path).is_file():
        raise error(f"{path}: not found; expected {expected}")
    try:
        return openvino_core().read_model(path)
    except (RuntimeError, UnicodeError) as fault:
        lines = [line for line in str(fault).splitlines() if line and not line.startswith(("Exception from", "Check "))]
        raise error(f"{path}: not a readable network ({(lines or [''])[0][:120]}); expected {expected}") from None
