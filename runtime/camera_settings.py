"""One camera of cams.yaml: its source, and what is said of its picture."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from personsearch.core.config import Settings
from personsearch.core.hours import HoursSettings
from personsearch.core.zones import LineSettings, Share, ZoneSettings
from personsearch.runtime.cameras.urls import kind_with_secrets

Rectangle = tuple[Share, Share, Share, Share]  # x, y, width, height as shares of the upright picture
DETAIL = ("detail_url", "detail_within_s")
PLACES = ("ignore", "zones", "lines", "active", "next_to")  # what is said of a camera's picture, not of its source


def _travel_time(value: object) -> object:
    """`2-20s`, or `20s` or 20 for at most so much; seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0.0, value)
    if not isinstance(value, str):
        return value
    low, dash, high = value.strip().removesuffix("s").strip().rpartition("-")
    try:
        return (float(low) if dash else 0.0, float(high))
    except ValueError:
        raise ValueError("expected seconds from leaving to coming, such as 2-20s") from None


def _in_order(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("expected the shorter time first, such as 2-20s")
    return value


Seconds = Annotated[float, Field(ge=0, le=3600)]
TravelTime = Annotated[tuple[Seconds, Seconds], BeforeValidator(_travel_time), AfterValidator(_in_order)]


def _inside(rectangle: Rectangle) -> Rectangle:
    x, y, w, h = rectangle
    if w <= 0 or h <= 0 or x + w > 1 + 1e-9 or y + h > 1 + 1e-9:
        raise ValueError("expected [x, y, width, height] as shares of the picture, inside it and not empty")
    return rectangle


class CameraSettings(Settings):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    url: str = Field(min_length=1, max_length=4096)
    detail_url: str = Field("", max_length=4096)  # another stream of the same view, whose people are described
    detail_within_s: float = Field(0.1, gt=0, le=1)
    end: Literal["stop", "loop"] = "stop"
    pace: Literal["source", "fast"] = "source"
    history: bool = True
    max_fps: float = Field(0.0, ge=0)
    max_size: tuple[Annotated[int, Field(ge=16, le=16384)], Annotated[int, Field(ge=16, le=16384)]] | None = None
    rotate: Literal[0, 90, 180, 270] = 0
    region: Rectangle | None = None
    ignore: tuple[Rectangle, ...] = Field((), max_length=64)
    decoding: Literal["auto", "software", "cuda", "vaapi", "v4l2"] = "auto"
    transport: Literal["tcp", "udp", "auto"] = "tcp"
    open_timeout_s: float = Field(2.5, gt=0, le=60)
    read_timeout_s: float = Field(2.5, gt=0, le=60)
    bad_frames: int = Field(30, ge=1, le=10000)
    zones: tuple[ZoneSettings, ...] = Field((), max_length=64)
    lines: tuple[LineSettings, ...] = Field((), max_length=64)
    active: HoursSettings | None = None
    next_to: dict[str, TravelTime] = Field({}, max_length=64)  # camera -> seconds from leaving here to coming there

    @field_validator("url", mode="before")
    @classmethod
    def _index_is_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("detail_url")
    @classmethod
    def _streams_of_one_kind(cls, value: str, info: ValidationInfo) -> str:
        kinds = kind_with_secrets(info.data.get("url", value)), kind_with_secrets(value)
        if value and (kinds[0] != kinds[1] or kinds[0] not in ("network", "file")):
            raise ValueError(
                "expected two network streams, or two video files, of one view, but url and detail_url are "
                f"{kinds[0]} and {kinds[1]}; leave detail_url out to describe people from url"
            )
        return value

    @field_validator("region")
    @classmethod
    def _region_inside(cls, value: Rectangle | None) -> Rectangle | None:
        return None if value is None else _inside(value)

    @field_validator("ignore")
    @classmethod
    def _zones_inside(cls, value: tuple[Rectangle, ...]) -> tuple[Rectangle, ...]:
        return tuple(_inside(zone) for zone in value)

    def same_source(self, other: CameraSettings) -> bool:
        """Do they differ in places, hours and the main stream only? Those are taken over while the camera runs. (Only a
        source beside a main stream has clocks, so with and without one are different sources.)"""
        same = {key: getattr(other, key) for key in (*PLACES, *DETAIL)}
        return bool(self.detail_url) == bool(other.detail_url) and self.model_copy(update=same) == other

    def same_detail(self, other: CameraSettings) -> bool:
        """Have they the same main stream, read in the same way?"""
        return all(getattr(self, key) == getattr(other, key) for key in DETAIL)

    @model_validator(mode="after")
    def _area_names_differ(self) -> CameraSettings:
        names = [*(zone.name for zone in self.zones), *(line.name for line in self.lines)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names of zones and lines must differ; '{twice[0]}' stands twice")
        return self

    @property
    def live(self) -> bool:
        """A network stream or a webcam: it gives frames when it likes, and may come back after an end."""
        return kind_with_secrets(self.url) in ("network", "webcam")

    @property
    def lossless(self) -> bool:
        """Files at `pace: fast`: every frame is analysed, as fast as possible."""
        return self.pace == "fast" and not self.live
