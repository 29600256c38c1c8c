"""Typed runtime configuration: `cams.yaml`."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from personsearch.core.config import Settings
from personsearch.core.tracker import TrackingSettings
from personsearch.runtime.urls import kind_of

Share = Annotated[float, Field(ge=0, le=1)]
Rectangle = tuple[Share, Share, Share, Share]  # x, y, width, height as shares of the upright picture
MAX_CAMERAS = 256


def _inside(rectangle: Rectangle) -> Rectangle:
    x, y, w, h = rectangle
    if w <= 0 or h <= 0 or x + w > 1 + 1e-9 or y + h > 1 + 1e-9:
        raise ValueError("expected [x, y, width, height] as shares of the picture, inside it and not empty")
    return rectangle


class CameraSettings(Settings):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    url: str = Field(min_length=1, max_length=4096)
    end: Literal["stop", "loop"] = "stop"
    pace: Literal["source", "fast"] = "source"
    max_fps: float = Field(0.0, ge=0)
    max_size: tuple[Annotated[int, Field(ge=16, le=16384)], Annotated[int, Field(ge=16, le=16384)]] | None = None
    rotate: Literal[0, 90, 180, 270] = 0
    region: Rectangle | None = None
    ignore: tuple[Rectangle, ...] = Field((), max_length=64)
    transport: Literal["tcp", "udp", "auto"] = "tcp"
    open_timeout_s: float = Field(2.5, gt=0, le=60)
    read_timeout_s: float = Field(2.5, gt=0, le=60)
    bad_frames: int = Field(30, ge=1, le=10000)

    @field_validator("url", mode="before")
    @classmethod
    def _index_is_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("region")
    @classmethod
    def _region_inside(cls, value: Rectangle | None) -> Rectangle | None:
        return None if value is None else _inside(value)

    @field_validator("ignore")
    @classmethod
    def _zones_inside(cls, value: tuple[Rectangle, ...]) -> tuple[Rectangle, ...]:
        return tuple(_inside(zone) for zone in value)

    @property
    def live(self) -> bool:
        """A network stream or a webcam: it gives frames when it likes, and may come back after an end."""
        return kind_of(self.url) in ("network", "webcam")

    @property
    def lossless(self) -> bool:
        """Files at `pace: fast`: every frame is analysed, as fast as possible."""
        return self.pace == "fast" and not self.live


class MatchSettings(Settings):
    threshold: float | None = Field(None, ge=-1, le=1)
    false_alarm_rate: float = Field(0.001, gt=0, le=1)
    repeat_s: float = Field(1.0, ge=0)


class SchedulingSettings(Settings):
    max_age_s: float = Field(0.5, gt=0, le=60)
    batch_window_s: float = Field(0.02, ge=0, le=1)


class InferenceSettings(Settings):
    timeout_s: float = Field(4.0, gt=0, le=600)
    load_timeout_s: float = Field(120.0, gt=0, le=3600)
    max_memory_mb: int = Field(0, ge=0)
    give_up_after: int = Field(5, ge=1, le=1000)
    after_giving_up: Literal["drain", "exit"] = "drain"


class PublishSettings(Settings):
    endpoint: str = "tcp://127.0.0.1:5556"
    replay: str = ""
    keys: str = ""
    insecure: bool = False

    @property
    def loopback(self) -> bool:
        local = ("tcp://127.", "tcp://localhost:", "tcp://[::1]", "ipc://")
        return all(e.startswith(local) for e in (self.endpoint, self.replay) if e)

    @model_validator(mode="after")
    def _encrypted_unless_insecure(self) -> PublishSettings:
        if not self.loopback and not self.keys and not self.insecure:
            raise ValueError(
                "this endpoint can be reached from other machines without encryption; make keys with "
                "personsearch-keys and set publish.keys: FOLDER, or use tcp://127.0.0.1:PORT, "
                "or accept the risk with publish.insecure: true"
            )
        return self


class JournalSettings(Settings):
    path: str = ""
    keep_hours: float = Field(72.0, gt=0)
    max_mb: float = Field(256.0, gt=0)
    power_safe: bool = False


class OperationsSettings(Settings):
    port: int | None = Field(None, ge=0, le=65535)
    log: Literal["text", "json"] = "text"
    watch_files: bool = True
    record_min_free_mb: int = Field(200, ge=0)


class StreamSettings(Settings):
    """The whole of `cams.yaml`. Relative paths are relative to the working directory."""

    box: str = Field(default_factory=socket.gethostname, min_length=1, max_length=64)
    bundle: str = ""
    gallery: str = ""
    engine: str = "auto"
    threads: int = Field(0, ge=0)
    min_score: float | None = Field(None, ge=0, le=1)
    status_every_s: float = Field(5.0, gt=0)
    cameras: tuple[CameraSettings, ...] = Field(min_length=1, max_length=MAX_CAMERAS)
    tracking: TrackingSettings = TrackingSettings()
    match: MatchSettings = MatchSettings()
    scheduling: SchedulingSettings = SchedulingSettings()
    inference: InferenceSettings = InferenceSettings()
    publish: PublishSettings = PublishSettings()
    journal: JournalSettings = JournalSettings()
    operations: OperationsSettings = OperationsSettings()

    @field_validator("cameras")
    @classmethod
    def _names_differ(cls, cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
        names = [camera.name for camera in cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"camera names must differ; '{twice[0]}' stands twice")
        return cameras


# What a reload may change; the rest needs a restart and is refused before anything is applied.
RELOADABLE = ("cameras", "tracking", "match", "scheduling", "min_score", "status_every_s", "gallery")


def default_bundle() -> Path:
    """The bundle that ships with the project."""
    return Path(__file__).resolve().parent.parent / "models" / "edge"
