"""The page's process: gets its options and the listening socket from the stream, and ends when the stream does."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import socket
import threading
from typing import Any

import uvicorn

from personsearch.core.errors import UserError
from personsearch.runtime.operations.console import Console
from personsearch.runtime.operations.logs import set_up_logs
from personsearch.runtime.page.parts import Options
from personsearch.runtime.page.server import application, prepare
from personsearch.runtime.page_settings import PageSettings
from personsearch.runtime.processes.channel import Channel, Closed, channel_of_child

log = logging.getLogger("personsearch.page")
MOST_CONNECTIONS = 200


def main() -> None:
    channel = channel_of_child()
    try:
        first = channel.receive()
    except Closed:
        return
    assert first is not None
    header, _, descriptors = first
    console = Console()
    set_up_logs(header["log"], console)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    listening = socket.socket(fileno=descriptors[0])
    try:
        _serve(channel, header, listening)
    except UserError as error:
        log.error("the page cannot be served: %s", error)
    finally:
        console.close()
    os._exit(0)


def _serve(channel: Channel, header: dict[str, Any], listening: socket.socket) -> None:
    options = options_of(header)
    parts = prepare(options)
    lock = threading.Lock()

    def revoked(number: str) -> None:
        with lock, contextlib.suppress(Closed):
            channel.send({"kind": "revoked", "session": number})

    parts.on_revoked = revoked
    settings = options.settings
    config = uvicorn.Config(
        application(options, parts), lifespan="on", ws="websockets-sansio", ws_max_size=65536, log_config=None,
        access_log=False, server_header=False, date_header=True, proxy_headers=False, timeout_keep_alive=30,
        limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=1, ws_per_message_deflate=False,
        ssl_certfile=settings.certificate or None, ssl_keyfile=settings.key or None,
    )  # fmt: skip
    server = uvicorn.Server(config)
    threading.Thread(target=_end_with_the_stream, args=(channel, server), daemon=True).start()
    asyncio.run(server.serve(sockets=[listening]))


def _end_with_the_stream(channel: Channel, server: uvicorn.Server) -> None:
    with contextlib.suppress(Closed):
        while True:
            channel.receive()
    server.should_exit = True
    threading.Timer(3.0, os._exit, (0,)).start()  # whatever hangs


def header_of(options: Options) -> dict[str, Any]:
    """Options as JSON, for the channel."""
    plain = {key: getattr(options, key) for key in _TEXTS}
    return plain | {
        "settings": options.settings.model_dump(mode="json"), "secret": base64.b64encode(options.secret).decode(),
        "revoked": list(options.revoked),
    }  # fmt: skip


def options_of(header: dict[str, Any]) -> Options:
    return Options(
        **{key: header[key] for key in _TEXTS}, settings=PageSettings.model_validate(header["settings"]),
        secret=base64.b64decode(header["secret"]), revoked=tuple(header["revoked"]),
    )  # fmt: skip


_TEXTS = (
    "control", "events", "replay", "cams", "gallery", "bundle", "engine", "gallery_key", "audit", "journal", "history",
    "recordings", "console_key", "key", "server_key",
)  # fmt: skip

if __name__ == "__main__":
    main()
