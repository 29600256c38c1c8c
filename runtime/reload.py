"""Reload of cameras, thresholds and gallery: everything is checked first, and applied whole or not at all."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from personsearch.core.config import load_settings
from personsearch.core.errors import ConfigError, UserError
from personsearch.runtime.gallery import Gallery, load_gallery
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import RELOADABLE, StreamSettings
from personsearch.runtime.urls import scrub, with_secrets

log = logging.getLogger("personsearch.reload")
Stamp = tuple[int, int, int] | None


def check_cameras(settings: StreamSettings, path: str | Path) -> None:
    """Raises ConfigError with the line of the file if a secret that a URL names is missing."""
    for camera in settings.cameras:
        try:
            with_secrets(camera.url, camera.name)
        except ConfigError as error:
            raise ConfigError(f"{path}:{_line_of(path, camera.url)}: {error}") from None


def _line_of(path: str | Path, text: str) -> int:
    """The first line of the file that holds the text, or 1."""
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return next((number for number, line in enumerate(lines, start=1) if text in line), 1)


class Reloader:
    """Looks at the files once a second, and when asked (SIGHUP). Used from the pipeline's thread."""

    def __init__(self, cams: str | Path, gallery: str | Path, engine: str, pipeline: Pipeline) -> None:
        """gallery, engine  what the command line says; empty if the file decides"""
        self.cams, self._gallery, self._engine, self.pipeline = Path(cams), str(gallery), engine, pipeline
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

    def _look_at_files(self) -> tuple[Stamp, Stamp]:
        return _stamp(self.cams), _stamp(self.gallery)

    def reload(self) -> bool:
        """True if the files were good. A bad one changes nothing: the old settings go on, and an event says why."""
        pipeline = self.pipeline
        try:
            settings, gallery = self._load()
        except UserError as error:
            self.rejected += 1
            reason = scrub(str(error))
            log.error("the reload is rejected, the old settings go on: %s", reason)
            pipeline.publish(pipeline.events.settings_state("rejected", reason[:2000], time.time()))
            return False
        touched = pipeline.apply(settings, gallery)
        self.applied += 1
        self._applied_stamps = self._stamps = self._look_at_files()
        reason = f"cameras touched: {', '.join(touched) or 'none'}; {len(gallery.people)} people"
        log.info("reloaded: %s", reason)
        pipeline.publish(pipeline.events.settings_state("applied", reason[:2000], time.time()))
        return True

    def _load(self) -> tuple[StreamSettings, Gallery]:
        settings = load_settings(self.cams, StreamSettings)
        settings = settings.model_copy(update={"engine": self._engine or settings.engine})
        old = self.pipeline.settings
        for key in StreamSettings.model_fields:
            if key not in RELOADABLE and getattr(settings, key) != getattr(old, key):
                raise ConfigError(
                    f"{self.cams}:{_line_of(self.cams, f'{key}:')}: '{key}' cannot be changed while running; "
                    "restart the stream for that"
                )
        check_cameras(settings, self.cams)
        path = self._gallery or settings.gallery
        if not path:
            raise ConfigError(f"{self.cams}: 'gallery' is missing")
        manifest = self.pipeline.manifest
        return settings, load_gallery(path, manifest.model_hash, manifest.dimensions)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
