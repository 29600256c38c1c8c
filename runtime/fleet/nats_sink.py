"""Events to NATS JetStream: subject `ps.BOX.TYPE.CAMERA`, message id = event id, place read back from the stream."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from nats.aio.client import Client as Connection
from nats.errors import Error as NatsError
from nats.js.api import StreamConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError

from personsearch.runtime.fleet.nats_connection import ANSWER_S, Hub, close_quietly
from personsearch.runtime.fleet.sink import Outgoing, SinkDown, plain
from personsearch.runtime.fleet_settings import NatsSettings

ROOT = "ps"
DUPLICATES_S = 3600.0  # a stream that we make drops what comes twice within this time


class NatsSink:
    """Goes on where the stream ends, which it asks for at each connection."""

    name = "nats"
    window = 500

    def __init__(self, settings: NatsSettings, box: str) -> None:
        """Raises UserError for TLS files that cannot be used."""
        self.settings = settings
        self.subject = f"{ROOT}.{plain(box)}"
        self._hub = Hub(settings, plain(box))
        self._connection: Connection | None = None
        self._lost: asyncio.Future[str] | None = None
        self._error = ""
        self._torn = False  # the server refused a message in the midst of others: its last one tells nothing

    async def open(self) -> str:
        self._lost = asyncio.get_running_loop().create_future()
        self._error = ""
        try:
            self._connection = await self._hub.connect(self._on_error, self._on_lost)
            self._stream = self._connection.jetstream(timeout=ANSWER_S)
            last = asyncio.ensure_future(self._last())
            await asyncio.wait([last, self._lost], return_when=asyncio.FIRST_COMPLETED)
            if not last.done():
                last.cancel()
                raise SinkDown(self._error or "the connection was lost")
            return last.result()
        except SinkDown:
            raise
        except Exception as error:  # the libraries for keys and the protocol raise all kinds of things
            raise SinkDown(self._reason(error)) from None

    async def _create(self) -> None:
        wanted = StreamConfig(
            name=self.settings.stream, subjects=[f"{ROOT}.>"], duplicate_window=DUPLICATES_S, allow_direct=True
        )
        with contextlib.suppress(BadRequestError):  # it is there, with settings of its own
            await self._stream.add_stream(wanted)

    async def _last(self) -> str:
        """Asked directly, because a box may be given the right to ask for its own subjects alone."""
        if self.settings.create_stream:
            await self._create()
        try:
            last = await self._stream._jsm.get_msg(self.settings.stream, subject=f"{self.subject}.>", direct=True)
        except NotFoundError:
            return ""
        return "" if self._torn else (last.headers or {}).get("Nats-Msg-Id", "")

    async def send(self, events: list[Outgoing]) -> None:
        assert self._connection is not None
        assert self._lost is not None
        acks: list[asyncio.Future[Any]] = []
        refused = ""
        try:
            for event in events:
                headers = {
                    "Nats-Msg-Id": event.id, "ce-specversion": "1.0", "ce-id": event.id, "ce-source": self.subject,
                    "ce-type": f"personsearch.{event.event['type']}", "ce-time": event.event["time"],
                }  # fmt: skip
                parts = [plain(part) for part in event.topic.split(".", 1)]
                subject = ".".join([self.subject, *parts])
                acks.append(
                    await self._stream.publish_async(
                        subject, event.body, stream=self.settings.stream, headers=headers, wait_stall=ANSWER_S
                    )
                )
        except Exception as error:
            refused = self._reason(error)
        everything = asyncio.ensure_future(asyncio.wait(acks)) if acks else self._lost
        await asyncio.wait([everything, self._lost], timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        accepted = 0
        for ack in acks:
            if not ack.done() or ack.cancelled() or ack.exception():
                break
            accepted += 1
        if accepted == len(events):
            self._torn = False
            return
        failures = [a.exception() for a in acks if a.done() and not a.cancelled() and a.exception()]
        failed = failures[0] if failures else None
        self._torn = self._torn or isinstance(failed, APIError)
        for ack in acks:
            ack.cancel()
        reason = self._reason(failed) if failed else refused or self._error or "the connection was lost"
        raise SinkDown(reason, accepted)

    async def close(self) -> None:
        if self._connection is not None:
            await close_quietly(self._connection)
            self._connection = None

    async def _on_error(self, error: Exception) -> None:
        self._error = str(error)
        if "permissions violation" in self._error.lower():  # the server drops what it forbids, and answers nothing
            await self._on_lost()

    async def _on_lost(self) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result("")

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, APIError) and error.description:
            return f"the server refuses: {error.description}"
        if type(error).__name__ in ("NoRespondersError", "NoStreamResponseError"):
            return (
                f"no stream {self.settings.stream} takes {self.subject}.>, or its `allow_direct` is off; make it, "
                "or set fleet.nats.create_stream"
            )
        text = self._error or str(error) or type(error).__name__
        if isinstance(error, OSError | asyncio.TimeoutError | NatsError) and not self._error:
            return f"cannot reach the server ({text})"
        return text
