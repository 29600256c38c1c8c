"""Changes of cams.yaml from the page: comments stay, the same checks as `--validate` and a reload, and undo.

Only what a running stream takes over may be changed, and of that what the page shows. The file is replaced as a whole;
the earlier ones are kept beside it, readable by the owner, so that a change can be taken back after a restart too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from personsearch.core.bundle import Manifest
from personsearch.core.config import Settings, load_settings
from personsearch.core.errors import ConfigError, UserError
from personsearch.core.files import replace_file
from personsearch.core.json_text import parse_json
from personsearch.core.zones import LineSettings, ZoneSettings
from personsearch.runtime.cameras.urls import without_secrets
from personsearch.runtime.operations.reload import check_files
from personsearch.runtime.settings import RELOADABLE_PARTS, StreamSettings

MOST_UNDO = 20
MATCH = ("false_names_per_day", "passers_by_per_day", "min_margin", "repeat_s", "candidates")
CAMERA = ("region", "ignore", "zones", "lines", "max_fps")
PLACES = ("ignore", "zones", "lines")
AREAS: dict[str, type[ZoneSettings] | type[LineSettings]] = {"zones": ZoneSettings, "lines": LineSettings}
Box = tuple[float, float, float, float]
_INDENTED = re.compile(r"^ +- ", re.MULTILINE)  # how the file writes lists


class CameraChange(Settings):
    """What is left out stays. `region: null` looks at the whole picture."""

    region: Box | None = None
    ignore: list[Box] | None = Field(None, max_length=64)
    zones: list[ZoneSettings] | None = Field(None, max_length=64)
    lines: list[LineSettings] | None = Field(None, max_length=64)
    max_fps: float | None = None


class MatchChange(Settings):
    false_names_per_day: float | None = None
    passers_by_per_day: float | None = None
    min_margin: float | None = None
    repeat_s: float | None = None
    candidates: bool | None = None


class Change(Settings):
    """version  of the file that the change was made for, as `GET /api/settings` gave it"""

    version: str
    cameras: dict[Annotated[str, Field(max_length=64)], CameraChange] = Field(default_factory=dict, max_length=256)
    match: MatchChange | None = None
    keeping: dict[str, dict[str, float]] = Field(default_factory=dict)  # section -> key -> hours, days, MB

    @field_validator("keeping")
    @classmethod
    def _known(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for section, parts in value.items():
            if strange := sorted(set(parts) - set(RELOADABLE_PARTS.get(section, ()))):
                raise ValueError(f"{section}.{strange[0]} cannot be changed here")
        return value


class Cams:
    """One cams.yaml. Raises UserError (ConfigError) with the line of the file for what would not be valid."""

    def __init__(self, path: str | Path, gallery: str | Path, manifest: Manifest) -> None:
        self.path, self.gallery, self.manifest = Path(path), Path(gallery), manifest

    @property
    def _history(self) -> Path:
        return self.path.with_name(f".{self.path.name}.page-undo.json")

    def text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None

    def shown(self) -> dict[str, Any]:
        """What the page may see and change; URLs without their secrets."""
        text = self.text()
        settings = load_settings(self.path, StreamSettings)
        return {
            "version": version_of(text), "undo": [change["what"] for change in self._changes()],
            "match": {key: getattr(settings.match, key) for key in (*MATCH, "threshold")},
            "cameras": [
                {"name": c.name, "url": without_secrets(c.url), "rotate": c.rotate,
                 "detail_url": without_secrets(c.detail_url),
                 **c.model_dump(mode="json", include=set(CAMERA))}
                for c in settings.cameras
            ],
            "keeping": {
                section: {key: getattr(getattr(settings, section), key) for key in keys}
                for section, keys in RELOADABLE_PARTS.items()
            },
            "kept": {
                "journal": bool(settings.journal.path), "history": bool(settings.history.path),
                "record": bool(settings.record.folder), "retention": True, "audit": bool(settings.audit.path),
            },
            "file": self.path.name,
        }  # fmt: skip

    def change(self, change: Change, who: str) -> str:
        """Write a change; gives in words what was changed, empty for nothing."""
        text = self.text()
        if version_of(text) != change.version:
            raise UserError("the file was changed meanwhile; look at it again, then repeat the change")
        new, what = edited(text, change)
        if not what:
            return ""
        self._replace(text, new, f"{what} ({who}, {time.strftime('%Y-%m-%d %H:%M')})")
        return what

    def undo(self) -> str:
        """Take the latest change back; gives in words which. The file must be as that change left it."""
        changes = self._changes()
        if not changes:
            raise UserError("there is nothing to take back")
        latest = changes[-1]
        if version_of(self.text()) != latest["after"]:
            raise UserError("the file was changed by hand since; edit it there")
        self._check(latest["before"])
        self._write(latest["before"])
        self._keep(changes[:-1])
        return str(latest["what"])

    def _replace(self, old: str, new: str, what: str) -> None:
        self._check(new)
        self._keep([*self._changes(), {"what": what, "before": old, "after": version_of(new)}])
        self._write(new)

    def _check(self, text: str) -> None:
        """As a reload will: in a file beside it, since messages name lines and relative paths stay right."""
        trial = self.path.with_name(f".{self.path.name}.{os.getpid()}.trial")
        try:
            replace_file(trial, text.encode(), 0o600)
            check_files(trial, self.gallery, self.manifest)
        except UserError as error:
            raise ConfigError(str(error).replace(str(trial), str(self.path))) from None
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written ({error.strerror}); nothing was changed") from None
        finally:
            trial.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        try:
            replace_file(self.path, text.encode())
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written ({error.strerror}); nothing was changed") from None

    def _changes(self) -> list[dict[str, str]]:
        try:
            content = parse_json(self._history.read_bytes())
            return [{key: str(change[key]) for key in ("what", "before", "after")} for change in content]
        except (OSError, ValueError, KeyError, TypeError):
            return []  # nothing to take back

    def _keep(self, changes: list[dict[str, str]]) -> None:
        try:
            replace_file(self._history, json.dumps(changes[-MOST_UNDO:], ensure_ascii=False).encode(), 0o600)
        except OSError as error:
            raise ConfigError(f"{self._history}: cannot be written ({error.strerror}); nothing was changed") from None


def version_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def edited(text: str, change: Change) -> tuple[str, str]:
    """The file's text with the change in it, and the change in words. Raises ConfigError."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    if _INDENTED.search(text):
        yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        content = yaml.load(text)
    except YAMLError as error:
        raise ConfigError(f"the file cannot be read as YAML ({str(error).splitlines()[0]})") from None
    _keep_anchors(content)
    told: list[str] = []
    cameras = {camera["name"]: camera for camera in content.get("cameras", ())}
    for name, wanted in change.cameras.items():
        if name not in cameras:
            raise ConfigError(f"there is no camera '{name}' in the file")
        for key in (k for k in CAMERA if k in wanted.model_fields_set):
            told += _set(cameras[name], key, getattr(wanted, key), f"{name}: ")
    if change.match is not None:
        for key in (k for k in MATCH if k in change.match.model_fields_set):
            told += _set(_section(content, "match"), key, getattr(change.match, key), "")
    for name, parts in sorted(change.keeping.items()):
        for key, value in sorted(parts.items()):
            told += _set(_section(content, name), key, value, f"{name}.")
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue(), ", ".join(told)


def _section(content: CommentedMap, name: str) -> CommentedMap:
    if content.get(name) is None:
        content[name] = CommentedMap()
    section: CommentedMap = content[name]
    return section


def _set(section: CommentedMap, key: str, value: Any, where: str) -> list[str]:
    """Change a key in place, so that its comment stays; gives what was done in words."""
    old = section.get(key)
    value = _written(value)
    if _plain(old) == value or (value in (None, []) and key not in section):
        return []
    if key in AREAS and isinstance(value, list):  # what stays as it was keeps its comments
        same = {AREAS[key].model_validate(_plain(item)): item for item in old or ()}
        value = [same.get(AREAS[key].model_validate(item), item) for item in value]
        if len(value) == len(old or ()) and all(one is other for one, other in zip(value, old or (), strict=True)):
            return []
    if value is None:
        try:
            del section[key]
        except KeyError:  # it comes from a merged section
            section[key] = None
        return [f"{where}{key} removed"]
    if key in section:
        section[key] = _flow(value)
    else:  # not at the end: the empty line or comment there belongs to what follows
        section.insert(list(section).index("url") if "url" in section else 0, key, _flow(value))
    count = f" ({len(value)})" if key in PLACES else f" {value}" if not isinstance(value, list) else ""
    return [f"{where}{key}{count}"]


def _keep_anchors(value: Any) -> None:
    """Also those that nothing refers to."""
    if isinstance(value, CommentedMap | CommentedSeq):
        if value.anchor.value:
            value.yaml_set_anchor(value.anchor.value, always_dump=True)
        for item in value.values() if isinstance(value, CommentedMap) else value:
            _keep_anchors(item)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return float(value) if isinstance(value, float) else value


def _flow(value: Any) -> Any:
    """Lists in brackets on one line; what was in the file stays as it was."""
    if isinstance(value, CommentedMap | CommentedSeq) or not isinstance(value, dict | list):
        return value
    if isinstance(value, dict):
        content: CommentedMap | CommentedSeq = CommentedMap({key: _flow(item) for key, item in value.items()})
    else:
        content = CommentedSeq([_flow(item) for item in value])
        if any(isinstance(item, CommentedMap) and not item.fa.flow_style() for item in content):
            return content  # an item of the file that has lines of its own
    content.fa.set_flow_style()
    return content


def _written(value: Any) -> Any:
    """As it stands in a file: short numbers, and of zones and lines only what is no default."""
    if isinstance(value, Settings):
        return _written(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    return _short(value) if isinstance(value, float) else value


def _short(value: float) -> float | int:
    """1.0 as 1, and shares with four digits: a pixel of 8K."""
    rounded = round(float(value), 4)
    return int(rounded) if rounded.is_integer() else rounded
