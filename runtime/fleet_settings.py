"""The section `fleet:` of cams.yaml: where a box sends its events (docs/fleet.md)."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, model_validator

from personsearch.core.config import Secret, Settings
from personsearch.runtime.cameras.urls import with_secrets

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Topics = Annotated[tuple[str, ...], Field(max_length=64)]
# Schemes: True for those that encrypt.
NATS = {"nats": False, "tls": True}
MQTT = {"mqtt": False, "mqtts": True}
HTTP = {"http": False, "https": True}


def split_url(url: str, schemes: dict[str, bool]) -> SplitResult:
    """Raises ValueError, without the URL in it, for one that cannot be used."""
    expected = f"expected {' or '.join(f'{scheme}://HOST:PORT' for scheme in schemes)}"
    try:
        parts = urlsplit(url)
        odd = any(c.isspace() or not c.isprintable() for c in url)  # urlsplit drops some of these in silence
        if odd or parts.scheme not in schemes or not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError(expected) from None
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its written form: a name may lead anywhere, except localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class TlsSettings(Settings):
    """What the sinks share; empty paths mean the machine's own authorities, and no client certificate."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    topics: Topics = ()

    @model_validator(mode="after")
    def _key_with_certificate(self) -> TlsSettings:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("a client certificate needs both `certificate` and `key`")
        return self

    def wants(self, topic: str) -> bool:
        return not self.topics or topic.startswith(self.topics)


class NatsSettings(TlsSettings):
    url: str = Field(min_length=1, max_length=4096)
    stream: Name = "PS"
    create_stream: bool = False
    credentials: str = ""
    nkey: str = ""

    @model_validator(mode="after")
    def _one_identity(self) -> NatsSettings:
        if self.credentials and self.nkey:
            raise ValueError("expected `credentials` or `nkey`, not both")
        return self


class MqttSettings(TlsSettings):
    url: str = Field(min_length=1, max_length=4096)
    prefix: Name = "ps"
    home_assistant: Name | None = None
    names: bool = False


class WebhookSettings(TlsSettings):
    name: Name
    url: str = Field(min_length=1, max_length=4096)
    secret: Secret = Field(min_length=16, max_length=4096)
    batch: int = Field(100, ge=1, le=500)


class SharingSettings(Settings):
    """One gallery for a group of boxes; see `fleet/gallery_sync.py`."""

    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    pictures: bool = False  # also the pictures that were kept of views, for boxes with another model


class FleetSettings(Settings):
    nats: NatsSettings | None = None
    mqtt: MqttSettings | None = None
    webhooks: tuple[WebhookSettings, ...] = Field((), max_length=16)
    rate: float = Field(2000.0, gt=0, le=1e6)
    state: str = ""
    insecure: bool = False
    group_key: str = ""  # where the group's key is: file:PATH, env:NAME or credential:NAME
    embeddings: bool = False  # also a sealed event of each stay, for the centre's search by looks
    gallery: SharingSettings | None = None

    @property
    def configured(self) -> bool:
        return bool(self.nats or self.mqtt or self.webhooks)

    def places(self) -> list[tuple[str, str, dict[str, bool]]]:
        """Key, URL and schemes of each sink."""
        found = [("nats.url", self.nats.url, NATS)] if self.nats else []
        found += [("mqtt.url", self.mqtt.url, MQTT)] if self.mqtt else []
        return found + [(f"webhooks.{hook.name}.url", hook.url, HTTP) for hook in self.webhooks]

    @model_validator(mode="after")
    def _can_be_used(self) -> FleetSettings:
        names = [hook.name for hook in self.webhooks]
        if len(set(names)) < len(names):
            raise ValueError("names of webhooks must differ")
        if (self.embeddings or self.gallery) and not self.group_key:
            raise ValueError("embeddings and gallery leave the box sealed only; set fleet.group_key: file:PATH")
        if self.gallery and not self.nats:
            raise ValueError("gallery is shared over NATS; set fleet.nats")
        for key, url, schemes in self.places():
            if "${" in url:
                continue  # checked once it is filled in
            try:
                parts = split_url(url, schemes)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
            if not (schemes[parts.scheme] or self.insecure or is_loopback(parts.hostname or "")):
                secure = next(scheme for scheme, encrypts in schemes.items() if encrypts)
                raise ValueError(
                    f"{key}: events would leave this machine unencrypted; use {secure}://, "
                    "or accept the risk with fleet.insecure: true"
                )
        return self

    def filled(self) -> FleetSettings:
        """With the values of `${env:...}` and `${file:...}`. Raises ConfigError if one is missing, else ValueError."""

        def fill(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: fill(part) for key, part in value.items()}
            if isinstance(value, list | tuple):
                return [fill(part) for part in value]
            return with_secrets(value) if isinstance(value, str) and "${" in value else value

        return FleetSettings.model_validate(fill(self.model_dump()))
