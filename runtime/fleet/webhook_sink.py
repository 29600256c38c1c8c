"""Events to a web server: POST of a JSON array, signed with HMAC-SHA256 over `TIMESTAMP.BODY` (docs/fleet.md)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import http.client
import time
from base64 import b64encode
from urllib.parse import unquote, urlunsplit

from personsearch.core import __version__
from personsearch.runtime.fleet.sink import Outgoing, SinkDown, tls_context
from personsearch.runtime.fleet_settings import HTTP, WebhookSettings, split_url

ANSWER_S = 10.0
LONGEST_WAIT_S = 300.0


class WebhookSink:
    """One connection, kept open. Any answer but 2xx means: not accepted, try again later. Redirections are not
    followed: they could lead to where nobody agreed to send events."""

    def __init__(self, settings: WebhookSettings) -> None:
        """Raises UserError for TLS files that cannot be used."""
        self.settings, self.window, self.name = settings, settings.batch, f"webhook-{settings.name}"
        url = split_url(settings.url, HTTP)
        tls = tls_context(settings, f"fleet.webhooks.{settings.name}") if HTTP[url.scheme] else None
        host = url.hostname or ""
        self._connection = (
            http.client.HTTPSConnection(host, url.port, timeout=ANSWER_S, context=tls)
            if tls
            else http.client.HTTPConnection(host, url.port, timeout=ANSWER_S)
        )
        self._target = urlunsplit(("", "", url.path or "/", url.query, ""))
        self._headers = {"Content-Type": "application/json", "User-Agent": f"personsearch/{__version__}"}
        if url.username is not None:
            pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"

    async def open(self) -> str:
        return ""

    async def send(self, events: list[Outgoing]) -> None:
        await asyncio.to_thread(self._post, b"[" + b",".join(event.body for event in events) + b"]", events[-1].id)

    def _post(self, body: bytes, delivery: str) -> None:
        now = str(int(time.time()))
        headers = {
            **self._headers, "X-Personsearch-Timestamp": now, "X-Personsearch-Delivery": delivery,
            "X-Personsearch-Signature": signature(self.settings.secret, now, body),
        }  # fmt: skip
        try:
            for attempt in (1, 2):
                fresh = self._connection.sock is None
                try:
                    self._connection.request("POST", self._target, body, headers)
                    answer = self._connection.getresponse()
                    break
                except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                    self._connection.close()
                    if fresh or attempt == 2:  # else the server had closed a connection that lay idle
                        raise
            answer.read(65536)
            if answer.will_close or not answer.isclosed():
                self._connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            raise SinkDown(f"cannot reach the receiver ({error or type(error).__name__})") from None
        if not 200 <= answer.status < 300:
            asked = answer.getheader("Retry-After", "")
            wait = min(LONGEST_WAIT_S, float(asked)) if asked.isdecimal() else 0.0
            raise SinkDown(f"the receiver answers {answer.status} {answer.reason}", retry_after_s=wait)

    async def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.close()


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a receiver computes and compares, in constant time, before it trusts a body."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
