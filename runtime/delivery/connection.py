"""A subscriber's sockets: one that hears a box's events, one that asks it for what is missing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq

from personsearch.core.errors import UserError
from personsearch.core.json_text import parse_json
from personsearch.runtime.delivery.endpoints import connect, needs_ipv6
from personsearch.runtime.delivery.inbox import ROOM
from personsearch.runtime.keys import identify, load_key

ANSWER_S = 2.0  # a replay that is not answered in this time is asked for again later


class Connection:
    """Used from one thread, which may hand the hearing socket to another."""

    def __init__(self, endpoint: str, replay: str = "", key: str | Path = "", server_key: str | Path = "") -> None:
        """replay  endpoint of the replay socket; "" is filled in by `meet`

        Raises UserError for unusable keys.
        """
        self._endpoint, self._replay = endpoint, replay
        self._keys = (*load_key(key, secret=True), load_key(server_key)[0]) if key else None
        self._context = zmq.Context()
        self._ipv6 = needs_ipv6(endpoint)
        self._dealer: zmq.Socket | None = None

    def hear(self, topics: Iterable[str]) -> zmq.Socket:
        """A socket that hears the topics. Raises UserError for an endpoint that is none; nothing is open then."""
        subscriber = self._socket(zmq.SUB)
        try:
            for topic in topics:
                subscriber.setsockopt(zmq.SUBSCRIBE, topic.encode(errors="surrogateescape"))
            connect(subscriber, self._endpoint)
        except UserError:
            self.close()
            raise
        return subscriber

    def _socket(self, kind: int) -> zmq.Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, self._ipv6)
        socket.setsockopt(zmq.RCVHWM, ROOM)
        socket.setsockopt(zmq.MAXMSGSIZE, 4 << 20)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10_000)
        if self._keys:
            identify(socket, self._keys)
        return socket

    def meet(self, beat: dict[str, Any]) -> None:
        """Learn from a heartbeat where the box answers, unless that was given."""
        if self._replay:
            return
        if self._endpoint.startswith("ipc://"):
            self._replay = f"{self._endpoint}.replay"
        else:
            host = urlsplit(self._endpoint).netloc.rpartition(":")[0]
            self._replay = f"tcp://{host}:{beat['replay']}"

    def ask(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]] | None:
        """Head and further parts of the answer; None without one, or before `meet`."""
        if not self._replay:
            return None
        if self._dealer is None:
            dealer = self._socket(zmq.DEALER)
            try:
                connect(dealer, self._replay)
            except UserError:  # what the heartbeat says is no port
                dealer.close()
                return None
            self._dealer = dealer
        try:
            self._dealer.send(json.dumps(question).encode(), zmq.NOBLOCK)
        except zmq.Again:
            return None
        if not self._dealer.poll(round(ANSWER_S * 1000)):
            self._dealer.close()  # an answer that comes later must not be taken for the next one's
            self._dealer = None
            return None
        parts = self._dealer.recv_multipart()
        try:
            head = parse_json(parts[0])
            if head["reply"] == "busy":
                time.sleep(max(0.0, min(1.0, float(head["retry_after_s"]))))
                return ({"next": question["first"], "reply": "busy"}, []) if "first" in question else None
            if head["reply"] == "error":
                return None
            if question["request"] == "range":
                head["next"] = int(head["next"])
        except (ValueError, LookupError, TypeError, AttributeError):  # another program answers
            return None
        return head, parts[1:]

    def close(self) -> None:
        self._context.destroy(linger=0)
