"""What operators look at: whether the box is healthy and ready, by HTTP (metrics.py) and systemd's notifications, and
events about the disk."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING

from personsearch.core.errors import UserError
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import OperationsSettings

if TYPE_CHECKING:
    from personsearch.runtime.operations.metrics import MetricsServer

log = logging.getLogger("personsearch.operations")
STUCK_S = 5.0


class Operations:
    """Serves in threads of its own, and only reads. Raises UserError if the port is taken."""

    def __init__(self, settings: OperationsSettings, pipeline: Pipeline, publisher: Publisher) -> None:
        self.pipeline, self.publisher = pipeline, publisher
        self.address, self._storage, self._ready_told = "", "", False
        self._server: MetricsServer | None = None
        if settings.port is None:
            return
        # With an HTTP server and Prometheus' library: loaded only where they are asked for.
        from personsearch.runtime.operations.metrics import MetricsServer

        try:
            checks = {"/healthz": self.healthy, "/readyz": self.ready}
            self._server = MetricsServer(settings.port, pipeline, publisher, checks)
        except OSError as error:
            raise UserError(
                f"operations.port {settings.port}: {error.strerror}; choose another, or leave it out for none"
            ) from None
        self.address = self._server.address

    def healthy(self) -> str:
        """Empty if the loop and the publisher live, else what does not."""
        now = time.monotonic()
        if self.pipeline.ticked and now - self.pipeline.ticked > STUCK_S:
            return f"the pipeline has not moved for {now - self.pipeline.ticked:.0f} s"
        if now - self.publisher.alive > STUCK_S:
            return f"the publisher has not moved for {now - self.publisher.alive:.0f} s"
        return ""

    def ready(self) -> str:
        """Empty if frames are analysed, else what is missing."""
        if self.pipeline.inference.state != "ready":
            return f"the inference engine is {self.pipeline.inference.state}: {self.pipeline.inference.reason}"
        if not any(camera.state == "online" for camera in self.pipeline.cameras):
            return "no camera is online"
        return self.healthy()

    def watch_storage(self, now: float) -> None:
        """Once a second from the pipeline: an event when the journal cannot be written, and when it can again."""
        failing = self.publisher.journal.failing
        if bool(failing) != bool(self._storage):
            state = "failing" if failing else "ok"
            self.pipeline.publish(self.pipeline.events.storage_state(state, failing, time.time()))
        self._storage = failing
        if not self._ready_told and not self.ready():
            self._ready_told = True
            tell_systemd("READY=1")

    def close(self) -> None:
        if self._server:
            self._server.close()


def tell_systemd(message: str) -> None:
    """READY=1, WATCHDOG=1 or STOPPING=1 to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.sendall(message.encode())
    except OSError as error:
        log.debug("systemd cannot be told %s: %s", message, error)
