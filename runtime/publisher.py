"""The PUB socket. Sending never blocks: a slow subscriber loses its own events, nobody else's."""

from __future__ import annotations

from typing import Any

import zmq

from personsearch.core.errors import UserError
from personsearch.runtime.events import encode, topic_of

HIGH_WATER_MARK = 10_000  # events kept for a slow subscriber


class Publisher:
    """Binds at once and raises UserError if the port is taken. `endpoint` is the one really bound (port 0, `*`)."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, 500)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise UserError(
                f"cannot publish on {endpoint}: {error.strerror}; is another stream running? "
                "Choose another publish.endpoint, for example tcp://127.0.0.1:5557"
            ) from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.sent = 0

    def publish(self, event: dict[str, Any]) -> None:
        self._socket.send_multipart([topic_of(event), encode(event)])
        self.sent += 1

    def close(self) -> None:
        self._context.destroy(linger=500)
