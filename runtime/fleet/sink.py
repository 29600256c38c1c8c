"""What a place that events go to has to offer, and what it is given."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from personsearch.core.errors import UserError
from personsearch.runtime.fleet_settings import TlsSettings


@dataclass(frozen=True)
class Outgoing:
    """A numbered event as the journal keeps it."""

    sequence: int
    id: str  # BOOT-SEQUENCE, unique for ever
    topic: str
    body: bytes  # JSON, exactly as it was published
    event: dict[str, Any]


class SinkDown(Exception):
    """The other side cannot take events now; says why in a few words. `accepted` events of the batch were taken."""

    def __init__(self, reason: str, accepted: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.accepted, self.retry_after_s = accepted, retry_after_s


class Sink(Protocol):
    """Every call may raise SinkDown; `close` and `open` follow then, after a pause."""

    name: str  # in logs, and of the file with its position
    window: int  # events a call of `send` is given at most

    async def open(self) -> str:
        """Connect; gives the id of the last event that the other side has, "" if it cannot tell."""

    async def send(self, events: list[Outgoing]) -> None:
        """Returns once all were accepted, in this order."""

    async def close(self) -> None:
        """Never raises."""


def plain(name: str) -> str:
    """A name as one part of a subject or topic: everything but letters, digits, - and _ is percent-encoded."""
    return quote(name, safe="").replace(".", "%2E").replace("~", "%7E")


def tls_context(settings: TlsSettings, key: str) -> ssl.SSLContext:
    """TLS as the settings ask for. Raises UserError that names the section `key` if a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.key)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or str(error)
        raise UserError(f"{key}: ca, certificate or key cannot be used ({reason}); expected files in PEM") from None
    return context
