"""Reload of cameras, thresholds and gallery: everything is checked first, and applied whole or not at all."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from personsearch.core.bundle import Manifest
from personsearch.core.config import load_settings
from personsearch.core.errors import ConfigError, UserError
from personsearch.core.redaction import redact
from personsearch.runtime.cameras.urls import advice, kind_of, with_secrets, without_secrets
from personsearch.runtime.decisions.calibration import CameraCalibration, calibration_file, load_calibration
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.gallery_file import load_gallery
from personsearch.runtime.decisions.people import check_targets
from personsearch.runtime.operations.audit import AuditLog
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import RELOADABLE, RELOADABLE_PARTS, StreamSettings

log = logging.getLogger("personsearch.reload")
Stamp = tuple[int, int, int] | None


def check_cameras(settings: StreamSettings, path: str | Path, strict: bool = False) -> None:
    """Raises ConfigError with the line of the file if a secret that a URL names is missing.

    strict  also for URLs that cannot work; else their cameras are offline and say so, beside the others
    """
    for camera in settings.cameras:
        for given in filter(None, (camera.url, camera.detail_url)):
            try:
                url = with_secrets(given, camera.name)
                doubt, fatal = advice(url) if kind_of(url) in ("network", "unknown") else ("", False)
                if strict and fatal:
                    raise ConfigError(f"camera {camera.name}: {without_secrets(given)}: {doubt}")
            except ConfigError as error:
                raise ConfigError(f"{path}:{_line_of(path, given)}: {error}") from None


def check_details(settings: StreamSettings, path: str | Path, manifest: Manifest) -> None:
    """Raises ConfigError with the line of the file for a `detail_url` that nothing could be described from."""
    camera = next((c for c in settings.cameras if c.detail_url), None)
    if camera is None:
        return
    where = f"{path}:{_line_of(path, camera.detail_url)}: camera {camera.name}: detail_url"
    if manifest.describe == "all":
        raise ConfigError(
            f"{where} needs a bundle that describes on demand, and this one describes everybody as it finds them; take "
            "another (the shipped models/edge does), or leave detail_url out"
        )
    if importlib.util.find_spec("av") is None:
        raise ConfigError(f"{where} needs PyAV: pip install 'personsearch[record]', or leave detail_url out")


def _line_of(path: str | Path, text: str) -> int:
    """The first line of the file that holds the text, or 1."""
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return next((number for number, line in enumerate(lines, start=1) if text in line), 1)


class Reloader:
    """Looks at the files once a second, and when asked (SIGHUP). Used from the pipeline's thread."""

    def __init__(
        self, cams: str | Path, gallery: str | Path, engine: str, pipeline: Pipeline, audit: AuditLog | None = None
    ) -> None:
        """gallery, engine  what the command line says; empty if the file decides"""
        self.cams, self._gallery, self._engine, self.pipeline = Path(cams), str(gallery), engine, pipeline
        self.audit = audit or AuditLog("")
        self.listeners: list[Callable[[StreamSettings], None]] = []  # of settings that were taken over
        self.applied = self.rejected = 0
        self._asked = False
        self._stamps = self._look_at_files()
        self._applied_stamps = self._stamps

    @property
    def gallery(self) -> Path:
        return Path(self._gallery or self.pipeline.settings.gallery)

    def ask(self) -> None:
        """From a signal handler: reload at the next look."""
        self._asked = True

    def look(self, now: float) -> None:
        """Reload if asked, or if a file has changed and then stayed the same for one look (it was fully written)."""
        stamps = self._look_at_files()
        settled, self._stamps = stamps == self._stamps, stamps
        changed = settled and stamps != self._applied_stamps and self.pipeline.settings.operations.watch_files
        if self._asked or changed:
            self._asked = False
            self._applied_stamps = stamps
            self.reload()

    def _look_at_files(self) -> tuple[Stamp, ...]:
        return _stamp(self.cams), _stamp(self.gallery), _stamp(calibration_file(self.gallery))

    def reload(self) -> bool:
        """True if the files were good. A bad one changes nothing: the old settings go on, and an event says why."""
        pipeline = self.pipeline
        try:
            settings, gallery, calibrations = self._load()
        except UserError as error:
            self.rejected += 1
            reason = redact(str(error))
            log.error("the reload is rejected, the old settings go on: %s", reason)
            pipeline.publish(pipeline.events.settings_state("rejected", reason[:2000], time.time()))
            return False
        earlier = pipeline.settings
        touched = pipeline.apply(settings, gallery, calibrations)
        for listener in self.listeners:
            listener(settings)
        self._record(earlier, settings)
        self.applied += 1
        self._applied_stamps = self._stamps = self._look_at_files()
        reason = f"cameras touched: {', '.join(touched) or 'none'}; {len(gallery.people)} people"
        log.info("reloaded: %s", reason)
        pipeline.publish(pipeline.events.settings_state("applied", reason[:2000], time.time()))
        return True

    def _record(self, earlier: StreamSettings, settings: StreamSettings) -> None:
        """Thresholds decide who is named: on record."""
        old, new = earlier.match.model_dump(), settings.match.model_dump()
        changed = {key: [old[key], value] for key, value in new.items() if value != old[key]}
        if changed:
            try:
                self.audit.add("thresholds", changed=changed)
            except UserError as error:
                log.error("%s", error)

    def _load(self) -> tuple[StreamSettings, Gallery, dict[str, CameraCalibration]]:
        settings = load_settings(self.cams, StreamSettings)
        settings = settings.model_copy(update={"engine": self._engine or settings.engine})
        old = self.pipeline.settings
        for key in StreamSettings.model_fields:
            if key not in RELOADABLE and not _same(getattr(settings, key), getattr(old, key), key):
                raise ConfigError(
                    f"{self.cams}:{_line_of(self.cams, f'{key}:')}: '{key}' cannot be changed while running; "
                    "restart the stream for that"
                )
        path = self._gallery or settings.gallery
        if not path:
            raise ConfigError(f"{self.cams}: 'gallery' is missing")
        gallery, calibrations = _check(settings, self.cams, path, self.pipeline.manifest)
        return settings, gallery, calibrations


def _same(new: Any, old: Any, section: str) -> bool:
    """Are two versions of a section the same but for what a running stream takes over?"""
    parts = RELOADABLE_PARTS.get(section, ())
    return bool(new == old or (parts and new.model_copy(update={part: getattr(old, part) for part in parts}) == old))


def check_files(cams: str | Path, gallery: str | Path, manifest: Manifest) -> None:
    """What a start and a reload check of the files, short of loading the model. Raises UserError."""
    _check(load_settings(cams, StreamSettings), cams, gallery, manifest)


def _check(
    settings: StreamSettings, cams: str | Path, path: str | Path, manifest: Manifest
) -> tuple[Gallery, dict[str, CameraCalibration]]:
    check_cameras(settings, cams)
    check_details(settings, cams, manifest)
    gallery = load_gallery(path, manifest.model_hash, manifest.dimensions, settings.gallery_key)
    calibrations = load_calibration(calibration_file(path), manifest.model_hash)
    check_targets(settings, manifest, gallery, calibrations)
    return gallery, calibrations


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
