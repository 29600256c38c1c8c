"""The files of a box that hold people: the gallery, for which model, its key, the journal, and the audit log."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.gallery_file import changing, load_gallery
from personsearch.runtime.operations.audit import AuditLog


@dataclass(frozen=True)
class Place:
    """key  where the box's key is (see `box_key`); journal  "" if streams keep theirs for as long as they run"""

    gallery: Path
    model_hash: str
    dimensions: int
    key: str = ""
    journal: str = ""
    audit: AuditLog = field(default_factory=lambda: AuditLog(""))

    def load(self) -> Gallery:
        return load_gallery(self.gallery, self.model_hash, self.dimensions, self.key)

    def changing(self, kind: str) -> AbstractContextManager[Gallery]:
        return changing(self.gallery, self.model_hash, self.dimensions, kind, self.key)


def audit_file(gallery: str | Path) -> Path:
    """people.gallery -> people.gallery.audit"""
    return Path(f"{gallery}.audit")


def audit_of(gallery: str | Path, path: str) -> AuditLog:
    """The log at `path`; if none is named, the one beside the gallery, if somebody began one there."""
    beside = audit_file(gallery)
    return AuditLog(path or (beside if beside.exists() else ""))
