"""What is true for every request: known hosts only, no other origin may change anything, limits, and strict headers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from personsearch.core.text import whole_number

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 20 << 20  # of a picture; other bodies are read with limits of their own
SAFE = ("GET", "HEAD")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
)
TWO_YEARS = (b"strict-transport-security", b"max-age=63072000")


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: App, hosts: frozenset[str], encrypted: bool) -> None:
        """hosts  names, without port, by which browsers may call the box: another name is DNS rebinding"""
        self.app, self.hosts, self.encrypted = app, hosts, encrypted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if host_name(host) not in self.hosts:
            await self._refuse(scope, receive, send, 421, "called by an unknown name; see page.hosts")
        elif (scope["type"] == "websocket" or scope["method"] not in SAFE) and origin != self._origin(host):
            await self._refuse(scope, receive, send, 403, "Origin must be this page's own")
        elif _length(headers.get(b"content-length", "0")) > MOST_BYTES:
            await self._refuse(scope, receive, send, 413, f"at most {MOST_BYTES >> 20} MB are taken")
        else:
            await self.app(scope, _limited(receive), self._with_headers(scope, send))

    def _origin(self, host: str) -> str:
        return f"{'https' if self.encrypted else 'http'}://{host}"

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        if scope["type"] != "http":
            return send
        more = list(HEADERS) + ([TWO_YEARS] if self.encrypted else [])
        if scope["path"].startswith("/api/"):
            more.append((b"cache-control", b"no-store"))

        async def add(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                known = {key.lower() for key, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in known)]
            await send(message)

        return add

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
            return
        body = json.dumps({"error": reason}).encode()
        kind = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": kind + list(HEADERS)})
        await send({"type": "http.response.body", "body": body})


class TooLong(Exception):
    """A body without a length turned out to be too long."""


def _limited(receive: Receive) -> Receive:
    taken = 0

    async def limited() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > MOST_BYTES:
                raise TooLong
        return message

    return limited


def host_name(host: str) -> str:
    """`box.lan:8480` -> box.lan; `[::1]:8480` -> ::1; lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def _length(text: str) -> int:
    number = whole_number(text, 1 << 53)
    return number if number is not None else 1 << 53 if text else 0
