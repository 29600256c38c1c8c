"""Typed configuration of the centre: `centre.yaml` (docs/fleet.md)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from personsearch.core.config import SecretDsn, Settings
from personsearch.runtime.camera_settings import TravelTime
from personsearch.runtime.fleet_settings import NATS, Name, NatsSettings, is_loopback, split_url
from personsearch.runtime.page_settings import LOOPBACK_NAMES

Place = Annotated[str, Field(pattern=r"^[^/]{1,64}/[A-Za-z0-9_-]{1,64}$")]  # BOX/CAMERA


class DatabaseSettings(Settings):
    """A server of one's own (`dsn`), or one that the centre brings along and keeps in `folder`."""

    dsn: SecretDsn = Field("", max_length=4096)
    folder: str = "centre.db"
    connections: int = Field(4, ge=2, le=100)


class ListenSettings(Settings):
    address: str = "127.0.0.1"
    port: int = Field(8490, ge=0, le=65535)
    certificate: str = ""
    key: str = ""
    insecure: bool = False

    @property
    def loopback(self) -> bool:
        return self.address in LOOPBACK_NAMES or self.address.startswith("127.")

    @model_validator(mode="after")
    def _safe(self) -> ListenSettings:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key are two files that belong together; give both or none")
        if not self.loopback and not self.certificate and not self.insecure:
            raise ValueError(
                "this address can be reached from other machines, and keys would travel unencrypted; give certificate "
                "and key (PEM), or accept the risk with insecure: true"
            )
        return self


class GroupSettings(Settings):
    """Boxes that share a gallery, and the key that their descriptions are sealed with."""

    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    key: str = Field(min_length=1, max_length=4096)
    boxes: tuple[str, ...] = Field((), max_length=10_000)


class SearchSettings(Settings):
    exact_below: int = Field(50_000, ge=0, le=10_000_000)  # stays that a filter may leave for an exact search
    refined: int = Field(2000, ge=100, le=100_000)  # stays whose codes of one bit are nearest: compared by four
    reranked: int = Field(100, ge=10, le=100_000)  # of these, the nearest, which are compared exactly


class WaySettings(Settings):
    """A way between cameras of boxes, and how long it takes; in both directions."""

    a: Place
    b: Place
    seconds: TravelTime


class FollowSettings(Settings):
    ways: tuple[WaySettings, ...] = Field((), max_length=10_000)
    least_similarity: float = Field(0.5, ge=-1, le=1)
    most: int = Field(50, ge=1, le=1000)  # visits that one way may have


class RetentionSettings(Settings):
    days: int = Field(30, ge=1, le=3660)


class AuditSettings(Settings):
    path: str = "centre.audit"
    keep_days: float = Field(0.0, ge=0)


class CentreSettings(Settings):
    """The whole of `centre.yaml`. Relative paths are relative to the working directory."""

    name: Name = "centre"
    database: DatabaseSettings = DatabaseSettings()
    nats: NatsSettings
    insecure: bool = False
    boxes: tuple[str, ...] = Field((), max_length=10_000)
    groups: tuple[GroupSettings, ...] = Field((), max_length=1000)
    listen: ListenSettings = ListenSettings()
    keys: str = "centre.keys"
    retention: RetentionSettings = RetentionSettings()
    search: SearchSettings = SearchSettings()
    follow: FollowSettings = FollowSettings()
    audit: AuditSettings = AuditSettings()

    @model_validator(mode="after")
    def _can_be_used(self) -> CentreSettings:
        names = [group.group for group in self.groups]
        if len(set(names)) < len(names):
            raise ValueError("names of groups must differ")
        if "${" not in self.nats.url:
            parts = split_url(self.nats.url, NATS)
            if not (NATS[parts.scheme] or self.insecure or is_loopback(parts.hostname or "")):
                raise ValueError(
                    "nats.url: events would travel unencrypted; use tls://, or accept the risk with insecure: true"
                )
        return self
