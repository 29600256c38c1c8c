"""The page's process as the stream sees it: started, looked at once a second, and replaced when it has ended.

The stream keeps what has to outlive a killed page: the listening socket, so that browsers wait instead of being
refused, the secret that signs sessions, and which of them were ended.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from personsearch.core.errors import UserError
from personsearch.runtime.delivery.endpoints import reachable
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.keys import CLIENTS, SERVER, make_pair
from personsearch.runtime.operations.control import Control
from personsearch.runtime.page.access import Users, new_secrets
from personsearch.runtime.page.certificate import make_certificate
from personsearch.runtime.page.page_process import header_of
from personsearch.runtime.page.parts import Options
from personsearch.runtime.page_settings import PageSettings
from personsearch.runtime.processes.channel import CannotStart, Channel, Closed, start_process
from personsearch.runtime.settings import StreamSettings

log = logging.getLogger("personsearch.page")
PROCESS = "personsearch.runtime.page.page_process"
LONGEST_PAUSE_S = 3.0
HEALTHY_S = 30.0
SUBSCRIBER = "page"  # the page's own key, where the box encrypts


class PageProcess:
    """`look` belongs into the pipeline's jobs of every second. Nothing here blocks for long, and nothing raises."""

    def __init__(
        self, settings: StreamSettings, cams: str | Path, gallery: str | Path, bundle: str | Path,
        control: Control, publisher: Publisher,
    ) -> None:  # fmt: skip
        """Raises UserError if the page may not be reached as configured, or its port is taken."""
        page, self.restarts = settings.page, 0
        check_page(page)
        secret, key = new_secrets()
        own, server = _own_key(settings.publish.keys) if publisher.guard else ("", "")
        self._options = Options(
            control=control.endpoint, events=reachable(publisher.endpoint), replay=reachable(publisher.replay_endpoint),
            cams=str(cams), gallery=str(gallery), bundle=str(bundle), engine=settings.engine,
            gallery_key=settings.gallery_key, audit=settings.audit.path, journal=settings.journal.path,
            history=settings.history.path, recordings=settings.record.folder, settings=page, secret=secret,
            console_key=key, key=own, server_key=server,
        )  # fmt: skip
        if page.self_signed and not Path(page.certificate).exists():
            make_certificate(page.certificate, page.key, self._options.hosts)
        self._log = settings.operations.log
        self._socket = _listen(page)
        port = self._socket.getsockname()[1]
        host = page.address if page.address not in ("0.0.0.0", "::", "*", "") else page.hosts[0]
        self.address = f"http{'s' if page.encrypted else ''}://{f'[{host}]' if ':' in host else host}:{port}/"
        self.link = self.address if Users(page.users).all() else f"{self.address}#key={key}"
        self._channel: Channel | None = None
        self.process: Any = None
        self._revoked: list[str] = []
        self._pause, self._retry_at, self._since = 0.0, 0.0, 0.0
        self._start(time.monotonic())

    def look(self, now: float) -> None:
        """Start it anew if it has ended, or talks nonsense."""
        try:
            self._read()
        except Exception as error:  # whatever it says, the stream goes on
            log.warning("the page's process sent nonsense (%s)", type(error).__name__)
            self._drop()
            self._retry_at = now + LONGEST_PAUSE_S
        if self.process is not None and self.process.poll() is not None:
            log.warning("the page's process ended (status %s); it is started anew", self.process.returncode)
            self._drop()
            self._pause = 0.0 if now - self._since > HEALTHY_S else min(LONGEST_PAUSE_S, self._pause + 0.5)
            self._retry_at = now + self._pause
        if self.process is None and now >= self._retry_at:
            self.restarts += 1
            self._start(now)

    def _start(self, now: float) -> None:
        self._since = now
        try:
            self.process, self._channel = start_process(PROCESS, threads=1)
            header = header_of(replace(self._options, revoked=tuple(self._revoked)))
            self._channel.send({**header, "log": self._log, "descriptors": 1}, descriptors=[self._socket.fileno()])
        except (CannotStart, Closed) as error:
            log.warning("the page's process cannot be started now: %s", error)
            self._drop()
            self._retry_at = now + LONGEST_PAUSE_S

    def _read(self) -> None:
        """Which sessions were ended."""
        with contextlib.suppress(Closed):
            while self._channel is not None and (message := self._channel.receive(wait=False)) is not None:
                self._revoked = [*self._revoked[-999:], str(message[0].get("session", ""))]

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._channel = self.process = None

    def close(self) -> None:
        """The page ends when its channel closes; what does not is killed."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self.process is not None:
            with contextlib.suppress(Exception):
                self.process.wait(5)
            self._drop()
        self._socket.close()


def check_page(page: PageSettings) -> None:
    """Raises UserError if it may not be reached as configured."""
    if not Users(page.users).all() and not page.loopback:
        raise UserError(
            f"page.address {page.address}: nobody has a password yet, so the page may listen on loopback only; "
            f"set one with personsearch-page-password NAME --users {page.users}"
        )
    for file in filter(None, (page.certificate, page.key)):
        if not Path(file).is_file() and not page.self_signed:
            raise UserError(f"{file}: no such file; page.self_signed: true makes certificate and key")


def _listen(page: PageSettings) -> socket.socket:
    host = "" if page.address == "*" else page.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, page.port), family=family, backlog=100)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"page: cannot listen on {page.address}:{page.port} ({reason}); choose another page.port, or an address of "
            "this machine"
        ) from None


def _own_key(folder: str) -> tuple[str, str]:
    """The page is a subscriber like any other: its key is made at the first start."""
    keys = Path(folder)
    secret = keys / f"{SUBSCRIBER}.key_secret"
    if not secret.exists():
        make_pair(keys, SUBSCRIBER)
        (keys / CLIENTS).mkdir(exist_ok=True)
        (keys / f"{SUBSCRIBER}.key").replace(keys / CLIENTS / f"{SUBSCRIBER}.key")
    return str(secret), str(keys / f"{SERVER}.key")
