"""The receipt of an erasure, for files and for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from personsearch.core.errors import GalleryError
from personsearch.core.files import replace_file
from personsearch.core.text import json_bytes


def write_receipt(path: str | Path, receipt: dict[str, Any]) -> None:
    """Raises GalleryError; the person is erased all the same."""
    try:
        replace_file(path, json_bytes(receipt, indent=1) + b"\n", 0o600)
    except OSError as error:
        raise GalleryError(f"{path}: the receipt cannot be written ({error.strerror}); the person is erased") from None


def summary(receipt: dict[str, Any]) -> str:
    """A line for people."""
    events = sum(j["deleted"] + j["blotted"] for j in receipt["journals"])
    text = f"forgot {receipt['person'] or 'them'}: {receipt['gallery']['views']} view(s), {events} event(s)"
    problems = [f"{j['file']}: the stream {j['stream']}" for j in receipt["journals"] if " not " in j["stream"]]
    problems += [f"{file}: still holds traces" for file in receipt["traces_left"]]
    return text if receipt["complete"] else "\n".join([f"{text}; not complete:", *problems])
