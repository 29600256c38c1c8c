"""A connection to the hub, as a box's events, its shared gallery and the centre need it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import nats
from nats.aio.client import Client as Connection

from personsearch.runtime.fleet.sink import tls_context
from personsearch.runtime.fleet_settings import NATS, NatsSettings, split_url

ANSWER_S = 10.0
Told = Callable[[], Awaitable[None]]


class Hub:
    """How to reach the server. The library's own reconnection is off: it would go on where the connection broke, and to
    servers that a server names, however they are reached."""

    def __init__(self, settings: NatsSettings, name: str, key: str = "fleet.nats") -> None:
        """name  of this program: its inbox is `_INBOX_NAME`. key: the section, for errors.
        Raises UserError for TLS files that cannot be used."""
        self.settings, self.name = settings, name
        self._tls = tls_context(settings, key) if NATS[split_url(settings.url, NATS).scheme] else None

    async def connect(self, on_error: Callable[[Exception], Awaitable[None]], on_lost: Told) -> Connection:
        """Raises all kinds of things: the libraries for keys and the protocol do."""
        options: dict[str, Any] = {"tls": self._tls} if self._tls else {}
        if self.settings.credentials:
            options["user_credentials"] = self.settings.credentials
        if self.settings.nkey:
            options["nkeys_seed"] = self.settings.nkey
        return await asyncio.wait_for(
            nats.connect(
                self.settings.url, name=self.name, allow_reconnect=False, connect_timeout=5,
                inbox_prefix=f"_INBOX_{self.name}", error_cb=on_error, disconnected_cb=on_lost, closed_cb=on_lost,
                **options,
            ),
            ANSWER_S,
        )  # fmt: skip


async def close_quietly(connection: Connection) -> None:
    """Whatever state it is in. Never raises, and waits for two seconds at most."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(connection.close(), 2)
