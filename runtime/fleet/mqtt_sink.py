"""Events to an MQTT 5 broker: topic PREFIX/BOX/TYPE/CAMERA at QoS 1, the event's id as a user property."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from urllib.parse import unquote

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from personsearch.runtime.fleet.feed import Feed
from personsearch.runtime.fleet.home_assistant import HomeAssistant, Message
from personsearch.runtime.fleet.sink import Outgoing, SinkDown, plain, tls_context
from personsearch.runtime.fleet_settings import MQTT, MqttSettings, split_url

ANSWER_S = 10.0
logging.getLogger("mqtt").setLevel(logging.CRITICAL)  # aiomqtt's own; what matters is said once by the forwarder


class MqttSink:
    """The broker keeps no place for us: it is in the file, and after a broken connection an event may come twice (QoS
    1); its id tells."""

    name = "mqtt"
    window = 100

    def __init__(self, settings: MqttSettings, box: str, cameras: list[str], feed: Feed) -> None:
        """Raises UserError for TLS files that cannot be used."""
        self.settings, self._feed = settings, feed
        self.root = f"{settings.prefix}/{plain(box)}"
        url = split_url(settings.url, MQTT)
        tls = tls_context(settings, "fleet.mqtt") if MQTT[url.scheme] else None
        self._where = (url.hostname or "", url.port or (8883 if tls else 1883))
        self._user = unquote(url.username) if url.username is not None else None
        self._password = unquote(url.password) if url.password is not None else None
        self._tls, self._client = tls, contextlib.AsyncExitStack()
        self._home = (
            HomeAssistant(settings.home_assistant, self.root, box, cameras, settings.names)
            if settings.home_assistant
            else None
        )

    async def open(self) -> str:
        status = f"{self.root}/status"
        client = aiomqtt.Client(
            *self._where, username=self._user, password=self._password, tls_context=self._tls, timeout=ANSWER_S,
            protocol=aiomqtt.ProtocolVersion.V5, identifier=f"personsearch-{self.root.replace('/', '-')}",
            max_inflight_messages=self.window, will=aiomqtt.Will(status, "offline", 1, True),
        )  # fmt: skip
        client.pending_calls_threshold = 10 * self.window
        try:
            self._mqtt = await self._client.enter_async_context(client)
            await self._mqtt.publish(status, "online", 1, True)
            if self._home:
                self._home.learn(await self._feed.names())
                await self._publish(self._home.discovery())
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise SinkDown(f"the broker does not let us in or cannot be reached ({error})") from None
        return ""

    async def send(self, events: list[Outgoing]) -> None:
        if self._home and any(self._home.unknown(event.event) for event in events):
            self._home.learn(await self._feed.names())
        accepted = 0
        try:
            calls = []
            for event in events:
                calls.append(self._event(event))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
                accepted += 1
            if self._home:
                await self._publish([m for event in events for m in self._home.states(event.event)])
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise SinkDown(f"the connection to the broker failed ({error})", accepted) from None

    async def _event(self, event: Outgoing) -> None:
        topic = "/".join([self.root, *(plain(part) for part in event.topic.split(".", 1))])
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("id", event.id)]
        properties.ContentType = "application/json"
        await self._mqtt.publish(topic, event.body, 1, properties=properties)

    async def _publish(self, messages: list[Message]) -> None:
        for message in messages:
            await self._mqtt.publish(message.topic, message.payload, 1, message.retain)

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self._mqtt.publish(f"{self.root}/status", "offline", 1, True, timeout=1)
        with contextlib.suppress(Exception):
            await self._client.aclose()
        self._client = contextlib.AsyncExitStack()
