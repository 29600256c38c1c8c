"""Typed runtime configuration: `cams.yaml`."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from personsearch.core.config import Settings


class CameraSettings(Settings):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    url: str = Field(min_length=1)
    end: Literal["stop", "loop"] = "stop"
    pace: Literal["source", "fast"] = "source"
    max_fps: float = Field(0.0, ge=0)
    open_timeout_s: float = Field(3.0, gt=0, le=60)
    read_timeout_s: float = Field(3.0, gt=0, le=60)

    @field_validator("url", mode="before")
    @classmethod
    def _index_is_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class TrackingSettings(Settings):
    min_iou: float = Field(0.25, ge=0, le=1)
    min_similarity: float = Field(0.5, ge=-1, le=1)
    lost_after_s: float = Field(1.5, gt=0)
    min_sightings: int = Field(3, ge=1)


class MatchSettings(Settings):
    threshold: float | None = Field(None, ge=-1, le=1)
    false_alarm_rate: float = Field(0.001, gt=0, le=1)
    repeat_s: float = Field(1.0, ge=0)


class PublishSettings(Settings):
    endpoint: str = "tcp://127.0.0.1:5556"
    allow_remote: bool = False

    @model_validator(mode="after")
    def _loopback_unless_allowed(self) -> PublishSettings:
        local = self.endpoint.startswith(("tcp://127.", "tcp://localhost:", "tcp://[::1]", "ipc://", "inproc://"))
        if not local and not self.allow_remote:
            raise ValueError(
                "this endpoint can be reached from other machines without encryption; "
                "use tcp://127.0.0.1:PORT, or set publish.allow_remote: true"
            )
        return self


class StreamSettings(Settings):
    """The whole of `cams.yaml`. Relative paths are relative to the working directory."""

    box: str = Field(default_factory=socket.gethostname)
    bundle: str = ""
    gallery: str = ""
    engine: str = "auto"
    threads: int = Field(0, ge=0)
    min_score: float | None = Field(None, ge=0, le=1)
    status_every_s: float = Field(5.0, gt=0)
    cameras: tuple[CameraSettings, ...] = Field(min_length=1)
    tracking: TrackingSettings = TrackingSettings()
    match: MatchSettings = MatchSettings()
    publish: PublishSettings = PublishSettings()

    @field_validator("cameras")
    @classmethod
    def _names_differ(cls, cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
        names = [camera.name for camera in cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"camera names must differ; '{twice[0]}' stands twice")
        return cameras


def default_bundle() -> Path:
    """The bundle that ships with the project."""
    return Path(__file__).resolve().parent.parent / "models" / "edge"
