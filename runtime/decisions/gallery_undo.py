"""The last changes of a gallery, so that they can be taken back: what each person was before, sealed with his key.

Names stand in it only sealed. `people.gallery.undo` is replaced in one step before the gallery is; a change that the
gallery never took (the process was killed between) is recognised by the gallery's revision and left out.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from personsearch.core.errors import GalleryError
from personsearch.core.files import replace_file
from personsearch.core.json_files import read_record
from personsearch.core.wall_clock import LATEST

FORMAT = "personsearch-undo/1"
MOST, KEEP_DAYS, MAX_BYTES = 20, 30.0, 256 << 20


@dataclass(frozen=True)
class Change:
    """One change. `before` and `after` are revisions of the gallery; `people` is id -> sealed record, None for somebody
    who was not there before; `time` is unix seconds."""

    kind: str
    time: float
    before: str
    after: str
    people: dict[str, bytes | None]


class _Change(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    kind: str = Field(max_length=64)
    time: float = Field(ge=0, le=LATEST)
    before: str
    after: str
    people: dict[str, str | None]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: str
    changes: tuple[_Change, ...]


def undo_file(gallery: str | Path) -> Path:
    """people.gallery -> people.gallery.undo"""
    return Path(f"{gallery}.undo")


def read_changes(path: Path, revision: str) -> list[Change]:
    """Changes that lead to this revision of the gallery, the oldest first. Raises GalleryError for a damaged file."""
    changes = _read(path)
    while changes and changes[-1].after != revision:
        changes.pop()
    return changes


def _read(path: Path) -> list[Change]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GalleryError(f"{path}: larger than {MAX_BYTES} bytes; remove it, and undo begins anew")
        content = read_record(path, path.read_bytes(), _File, GalleryError)
        if content.format != FORMAT:
            raise GalleryError(f"{path}: expected format {FORMAT}, got {content.format[:40]!r}")
        return [
            Change(c.kind, c.time, c.before, c.after, {i: _bytes(text) for i, text in c.people.items()})
            for c in content.changes
        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read ({error.strerror})") from None
    except binascii.Error:
        raise GalleryError(f"{path}: damaged; remove it, and undo begins anew") from None


def _bytes(text: str | None) -> bytes | None:
    return base64.b64decode(text, validate=True) if text is not None else None


def write_changes(path: Path, changes: Iterable[Change], now: float) -> None:
    """The latest of them, as many and as long as they are kept. Raises OSError; the old file is then as it was."""
    kept = [c for c in changes if now - c.time <= KEEP_DAYS * 86400][-MOST:]
    if not kept:
        path.unlink(missing_ok=True)
        return
    rows = [
        {"kind": c.kind, "time": c.time, "before": c.before, "after": c.after,
         "people": {i: base64.b64encode(b).decode() if b is not None else None for i, b in c.people.items()}}
        for c in kept
    ]  # fmt: skip
    text = json.dumps({"format": FORMAT, "changes": rows})
    if len(text) > MAX_BYTES:
        return write_changes(path, kept[1:], now)
    replace_file(path, text.encode(), 0o600)
    return None


def forget_in_changes(path: Path, person_id: str, now: float) -> int:
    """Take a person out of all changes; gives in how many there was one. Raises OSError and GalleryError."""
    changes = _read(path)
    held = sum(person_id in c.people for c in changes)
    rest = [
        Change(c.kind, c.time, c.before, c.after, {i: b for i, b in c.people.items() if i != person_id})
        for c in changes
    ]
    if held:
        write_changes(path, rest, now)
    return held
