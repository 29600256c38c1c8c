"""What a box remembers of a shared gallery: how each person was when box and group last agreed. If that is lost,
everything is compared anew, and nobody is lost.

`people.gallery.shared` beside the gallery, JSON without names and embeddings. It belongs to one group and one model:
with another it begins anew, but for who was forgotten.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personsearch.core.files import real_path, replace_file
from personsearch.runtime.decisions.gallery_record import Id
from personsearch.runtime.fleet.reconcile import Known
from personsearch.runtime.fleet.shared_record import Stamp

log = logging.getLogger("personsearch.fleet")
FORMAT = "personsearch-shared-state/1"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Known(_Part):
    version: int = Field(ge=0)
    box: str
    digest: str = ""
    details: str = ""
    views: tuple[str, ...] = ()


class _Forgotten(_Part):
    time: float
    complete: bool


class _File(_Part):
    format: str
    group: str
    model: str
    people: dict[Id, _Known]
    forgotten: dict[Id, _Forgotten]


@dataclass
class Erased:
    """When somebody was forgotten here (unix seconds), and whether nothing is left."""

    time: float
    complete: bool


@dataclass
class SharedState:
    path: Path
    group: str
    model: str
    people: dict[str, Known] = field(default_factory=dict)
    forgotten: dict[str, Erased] = field(default_factory=dict)

    def save(self) -> None:
        """Replace the file in one step. Raises OSError."""
        content = _File(
            format=FORMAT, group=self.group, model=self.model,
            people={i: _written(known) for i, known in sorted(self.people.items())},
            forgotten={i: _Forgotten(time=e.time, complete=e.complete) for i, e in sorted(self.forgotten.items())},
        )  # fmt: skip
        replace_file(self.path, content.model_dump_json(exclude_defaults=True).encode() + b"\n", 0o600)


def state_file(gallery: str | Path) -> Path:
    """people.gallery -> people.gallery.shared"""
    return Path(f"{real_path(gallery)}.shared")


def load_state(gallery: str | Path, group: str, model: str) -> SharedState:
    """Empty where there is none, or none that can be read, with a line in the log."""
    state = SharedState(state_file(gallery), group, model)
    try:
        content = _File.model_validate_json(state.path.read_bytes())
        if content.format != FORMAT:
            raise ValueError(f"format {content.format[:40]}")
    except FileNotFoundError:
        return state
    except (OSError, ValueError, ValidationError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        log.warning("%s: cannot be read (%s); the shared gallery is compared anew", state.path, reason)
        return state
    state.forgotten = {i: Erased(e.time, e.complete) for i, e in content.forgotten.items()}
    if (content.group, content.model) == (group, model):
        state.people = {i: _read(known) for i, known in content.people.items()}
    return state


def _written(known: Known) -> _Known:
    return _Known(
        version=known.stamp.version, box=known.stamp.box, digest=known.digest, details=known.details,
        views=tuple(sorted(known.views)),
    )  # fmt: skip


def _read(known: _Known) -> Known:
    return Known(Stamp(known.version, known.box), known.digest, known.details, frozenset(known.views))
