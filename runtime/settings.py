"""Typed runtime configuration: `cams.yaml`."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from personsearch.core.config import Settings
from personsearch.core.resources import shipped
from personsearch.core.tracking.tracker import TrackingSettings
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.fleet_settings import FleetSettings
from personsearch.runtime.page_settings import PageSettings

MAX_CAMERAS = 256


class MatchSettings(Settings):
    former: ClassVar[Mapping[str, str]] = {"false_alarm_rate": "give 'false_names_per_day', or leave it out"}

    false_names_per_day: float = Field(10.0, gt=0)
    passers_by_per_day: float = Field(1000.0, gt=0)
    threshold: float | None = Field(None, ge=-1, le=1)
    min_margin: float = Field(0.03, ge=0, le=1)
    repeat_s: float = Field(1.0, ge=0)
    candidates: bool = False


class SightingSettings(Settings):
    """What makes a visit; see `decisions/sightings.py`."""

    enabled: bool = True
    grace_s: float = Field(10.0, gt=0, le=3600)
    correct_after_s: float = Field(2.0, ge=0, le=600)
    strangers: bool = False
    remember_hours: float = Field(12.0, gt=0, le=24 * 31)


class DescribeSettings(Settings):
    """Which people are described when; see `decisions/recognition.py`."""

    per_second: float = Field(16.0, gt=0, le=1000)
    first_views: int = Field(5, ge=1, le=20)
    first_every_s: float = Field(0.1, ge=0)
    better_every_s: float = Field(2.0, ge=0)
    again_every_s: float = Field(10.0, gt=0)
    doubt_every_s: float = Field(0.2, ge=0)
    min_quality: float = Field(0.2, ge=0, le=1)
    same_similarity: float = Field(0.25, ge=-1, le=1)
    reunite_similarity: float = Field(0.6, ge=-1, le=1)


class SchedulingSettings(Settings):
    max_age_s: float = Field(0.5, gt=0, le=60)
    batch_window_s: float = Field(0.02, ge=0, le=1)
    motion: bool = False
    rest: bool = True
    look_every_s: float = Field(2.0, gt=0, le=60)


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
    names: bool = True

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


class HistorySettings(Settings):
    """Visits for searching back; see `history/store.py`."""

    path: str = ""
    keep_hours: float = Field(24.0, gt=0, le=24 * 366)
    crops: bool = False


class RecordSettings(Settings):
    """Video; see `recording/recorder.py`."""

    mode: Literal["all", "sightings"] = "sightings"
    folder: str = ""
    before_s: float = Field(3.0, ge=0, le=30)
    after_s: float = Field(3.0, ge=0, le=60)
    keep_hours: float = Field(72.0, gt=0, le=24 * 366)
    max_mb: float = Field(2000.0, gt=0)
    blur: bool = False
    snapshots: bool = False


class OperationsSettings(Settings):
    port: int | None = Field(None, ge=0, le=65535)
    log: Literal["text", "json"] = "text"
    watch_files: bool = True
    record_min_free_mb: int = Field(200, ge=0)


class AuditSettings(Settings):
    path: str = ""
    keep_days: float = Field(0.0, ge=0)


class RetentionSettings(Settings):
    """Of what the gallery keeps; events: `journal.keep_hours`."""

    expired_days: float = Field(30.0, ge=0)


class GrowthSettings(Settings):
    """Views that the stream is sure of are added to the gallery; see docs/recognition.md."""

    enabled: bool = False
    most_views: int = Field(4, ge=1, le=50)
    surer: float = Field(10.0, ge=1)
    least_views: int = Field(5, ge=1)
    min_quality: float = Field(0.5, ge=0, le=1)


class StreamSettings(Settings):
    """The whole of `cams.yaml`. Relative paths are relative to the working directory."""

    box: str = Field(default_factory=socket.gethostname, min_length=1, max_length=64)
    bundle: str = ""
    gallery: str = ""
    gallery_key: str = ""
    engine: str = "auto"
    threads: int = Field(0, ge=0)
    min_score: float | None = Field(None, ge=0, le=1)
    status_every_s: float = Field(5.0, gt=0)
    cameras: tuple[CameraSettings, ...] = Field(min_length=1, max_length=MAX_CAMERAS)
    tracking: TrackingSettings = TrackingSettings()
    match: MatchSettings = MatchSettings()
    describe: DescribeSettings = DescribeSettings()
    sightings: SightingSettings = SightingSettings()
    scheduling: SchedulingSettings = SchedulingSettings()
    inference: InferenceSettings = InferenceSettings()
    publish: PublishSettings = PublishSettings()
    journal: JournalSettings = JournalSettings()
    history: HistorySettings = HistorySettings()
    record: RecordSettings = RecordSettings()
    operations: OperationsSettings = OperationsSettings()
    audit: AuditSettings = AuditSettings()
    retention: RetentionSettings = RetentionSettings()
    growth: GrowthSettings = GrowthSettings()
    page: PageSettings = PageSettings()
    fleet: FleetSettings = FleetSettings()

    @field_validator("fleet")
    @classmethod
    def _fleet_has_a_journal(cls, value: FleetSettings, info: ValidationInfo) -> FleetSettings:
        if value.configured and not info.data.get("journal", JournalSettings(path="bad")).path:
            raise ValueError("events that are sent onwards have to be kept until they arrive; set journal.path")
        return value

    @field_validator("cameras")
    @classmethod
    def _names_differ(cls, cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
        names = [camera.name for camera in cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"camera names must differ; '{twice[0]}' stands twice")
        for camera in cameras:
            strange = sorted(set(camera.next_to) - (set(names) - {camera.name}))
            if strange:
                raise ValueError(f"next_to of camera '{camera.name}': '{strange[0]}' is no other camera of this file")
        return cameras


# What a reload may change; the rest needs a restart and is refused before anything is applied.
RELOADABLE = (
    "cameras", "tracking", "match", "describe", "sightings", "scheduling", "min_score", "status_every_s", "gallery",
)  # fmt: skip

# ... and of sections that else need a restart: how long things are kept.
RELOADABLE_PARTS = {
    "journal": ("keep_hours", "max_mb"), "history": ("keep_hours",), "record": ("keep_hours", "max_mb"),
    "retention": ("expired_days",), "audit": ("keep_days",),
}  # fmt: skip


def default_bundle() -> Path:
    """The bundle that ships with the project."""
    return shipped("models/edge")
