"""What is asked and answered, for OpenAPI. Times are ISO 8601 with a zone; similarities are cosines, -1 to 1."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

Person = Annotated[str, Field(pattern=r"^p-[0-9a-f]{12}$")]
Sighting = Annotated[str, Field(pattern=r"^s-[0-9a-f]{16}$")]
Place = Annotated[str, Field(pattern=r"^[^/\x00-\x1f]{1,64}/[A-Za-z0-9_-]{1,64}$", description="BOX/CAMERA")]
BoxName = Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,64}$")]  # Postgres keeps no NUL
YEARS = range(1970, 9999)


def _of_our_time(moment: datetime.datetime) -> datetime.datetime:
    if moment.year not in YEARS:
        raise ValueError(f"expected a year from {YEARS[0]} to {YEARS[-1]}")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_of_our_time)]
MOST_HITS = 1000


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Search(Asked):
    """Whom to look for: a visit, or a picture's embedding with the model that made it and, if one of the fleet's
    cameras took it, the camera."""

    sighting: Sighting | None = None
    embedding: list[float] | None = Field(None, min_length=1, max_length=4000)
    model: str | None = Field(None, pattern=r"^[0-9a-f]{16}$")
    camera: Place | None = None
    since: Moment | None = None
    until: Moment | None = None
    boxes: list[BoxName] = Field([], max_length=1000)
    cameras: list[Place] = Field([], max_length=1000)
    limit: int = Field(20, ge=1, le=MOST_HITS)
    least_similarity: float = Field(-1.0, ge=-1, le=1)
    exact: bool | None = Field(None, description="true or false: do not choose between exact search and one by codes")

    @model_validator(mode="after")
    def _one_question(self) -> Search:
        if (self.sighting is None) == (self.embedding is None):
            raise ValueError("give either a sighting or an embedding")
        if self.embedding is not None and self.model is None:
            raise ValueError("an embedding needs the model that made it")
        return self


class Hit(BaseModel):
    similarity: float
    box: str
    camera: str
    sighting: str
    person: str | None
    name: str | None = None
    stranger: str | None
    started: datetime.datetime
    ended: datetime.datetime
    track: int
    views: int
    quality: float
    video: str | None = Field(None, description="of an archive's visits: the file with the best view")
    video_s: float | None = Field(None, description="where the view is in it, in seconds")


class Searched(BaseModel):
    hits: list[Hit]
    exact: bool
    among: int = Field(description="stays that the filter's days, boxes and cameras leave")
    parameters: dict[str, Any]


class Visit(BaseModel):
    sighting: str
    box: str
    person: str | None
    name: str | None = None
    stranger: str | None
    change: str | None
    reason: str | None
    started: datetime.datetime
    last_seen: datetime.datetime
    cameras: list[dict[str, Any]]
    zones: list[str]
    evidence: dict[str, Any] | None
    model: str


class Stay(BaseModel):
    box: str
    camera: str
    person: str | None
    stranger: str | None
    started: datetime.datetime
    ended: datetime.datetime
    track: int
    views: int
    quality: float
    model: str


class WholeVisit(Visit):
    stays: list[Stay]


class Part(BaseModel):
    """One visit of a way; `from` and `to` are its first and last place (BOX/CAMERA)."""

    model_config = ConfigDict(populate_by_name=True)
    sighting: str
    box: str
    person: str | None
    name: str | None = None
    from_: str = Field(alias="from")
    to: str
    started: datetime.datetime
    ended: datetime.datetime
    asked: bool = False
    similarity: float | None = None
    by: str | None = Field(None, description="name or looks")
    after_s: float | None = Field(None, description="seconds between the two visits")


class Camera(BaseModel):
    camera: str
    state: str
    cause: str
    since: datetime.datetime | None


class Box(BaseModel):
    box: str
    boot: str
    sequence: int
    model: str
    first_heard: datetime.datetime
    heard: datetime.datetime = Field(description="when the centre took the latest event")
    event_time: datetime.datetime = Field(description="when the box made it")
    engine: str
    engine_reason: str
    storage: str
    settings: str
    settings_reason: str
    cameras: list[Camera]


class Holder(BaseModel):
    """state  here, not here, erased, erasing (asked for and not confirmed), anew (has another model, and no pictures
    came along), silent (never reported)"""

    box: str
    state: str
    version: int | None
    reported: float | None = Field(description="unix seconds")
    model: str | None


class SharedRecord(BaseModel):
    model: str
    version: int
    box: str
    time: float
    views: int


class SharedPerson(BaseModel):
    id: str
    group: str
    name: str
    labels: list[str]
    note: str
    expires: str | None
    records: list[SharedRecord]
    holders: list[Holder]


class Forgetting(BaseModel):
    id: str
    complete: bool
    not_confirmed: list[str]
    holders: list[Holder]


class Fault(BaseModel):
    detail: str
