#!/usr/bin/env python
"""Send a box's events onwards as `fleet:` says: `runtime/forward.py --cams cams.yaml`, on the machine of the stream.

The stream starts this program by itself; start it by hand where it shall run apart. It reads what the journal has
through the replay socket, so nothing is lost while a receiver, this program or the stream is down. See docs/fleet.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from personsearch.core.commands import command_line
from personsearch.core.config import load_settings
from personsearch.core.errors import ConfigError, UserError, run_main
from personsearch.runtime.fleet_settings import FleetSettings, TlsSettings
from personsearch.runtime.settings import StreamSettings

log = logging.getLogger("personsearch.fleet")
LAST_S = 3.0  # at the end, so long to send what is left
KEY = "fleet"  # the name of our key, where the box encrypts


def main() -> int:
    return run_main(_main)


def _main() -> int:
    from personsearch.runtime.delivery.endpoints import reachable
    from personsearch.runtime.operations.console import Console
    from personsearch.runtime.operations.logs import set_up_logs

    parser = command_line(__doc__)
    parser.add_argument("--cams", required=True, metavar="FILE", help="the stream's YAML file, with `fleet:`")
    parser.add_argument("--connect", default="", help="where the stream publishes (default: publish.endpoint)")
    parser.add_argument("--replay", default="", help="its replay socket (default: publish.replay, or the next port)")
    parser.add_argument("--gallery", default="", help="the stream's gallery (default: `gallery` in the file)")
    parser.add_argument("--bundle", default="", help="its bundle (default: `bundle` in the file, else models/edge)")
    parser.add_argument("--attached", action="store_true", help="end when standard input closes; the stream uses this")
    arguments = parser.parse_args()
    settings = load_settings(arguments.cams, StreamSettings)
    if not settings.fleet.configured:
        raise ConfigError(f"{arguments.cams}: nothing to forward to; set fleet.nats, fleet.mqtt or fleet.webhooks")
    endpoint = arguments.connect or reachable(settings.publish.endpoint)
    replay = arguments.replay or reachable(settings.publish.replay) or _next(endpoint)
    settings = settings.model_copy(
        update={"gallery": arguments.gallery or settings.gallery, "bundle": arguments.bundle or settings.bundle}
    )
    if settings.fleet.gallery and not settings.gallery:
        raise ConfigError(f"{arguments.cams}: fleet.gallery: there is no gallery to share; set gallery: FILE")
    console = Console()
    set_up_logs(settings.operations.log, console)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each TLS connection that ends
    try:
        asyncio.run(_forward(settings, endpoint, replay, arguments.attached))
    finally:
        console.close()
    return 0


def check_fleet(settings: StreamSettings) -> FleetSettings:
    """The section with its secrets filled in. Raises UserError for what cannot work, also if a package is missing."""
    from personsearch.runtime.fleet.sealing import load_group_key

    try:
        fleet = settings.fleet.filled()
    except ValidationError as error:
        raise ConfigError(f"fleet: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    if settings.publish.keys and not (Path(settings.publish.keys) / f"{KEY}.key_secret").exists():
        raise UserError(
            f"{settings.publish.keys}: the forwarder needs a key to read the events of this box; "
            f"run personsearch-keys client {KEY} --keys {settings.publish.keys}"
        )
    try:
        if fleet.group_key:
            load_group_key(fleet.group_key)
        if fleet.nats:
            import nats  # noqa: F401
        if fleet.mqtt:
            import aiomqtt  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"fleet needs the package {error.name}; install personsearch[fleet]") from None
    return fleet


def state_folder(settings: StreamSettings) -> Path:
    """Where the positions are kept: beside the journal, if nothing else is said."""
    return Path(settings.fleet.state or f"{settings.journal.path}.fleet")


def _next(endpoint: str) -> str:
    from personsearch.runtime.delivery.publisher import next_endpoint

    try:
        return next_endpoint(endpoint, endpoint)
    except ValueError:
        raise UserError(f"{endpoint}: not an endpoint; expected tcp://HOST:PORT or ipc://PATH") from None


async def _forward(settings: StreamSettings, endpoint: str, replay: str, attached: bool) -> None:
    from personsearch.runtime.fleet.cursor import Cursor, only_forwarder
    from personsearch.runtime.fleet.ending import end
    from personsearch.runtime.fleet.feed import Feed
    from personsearch.runtime.fleet.forwarder import Forwarder
    from personsearch.runtime.fleet.sink import Sink
    from personsearch.runtime.fleet.webhook_sink import WebhookSink
    from personsearch.runtime.keys import load_key

    fleet, keys, folder = check_fleet(settings), None, state_folder(settings)
    if settings.publish.keys:
        place = Path(settings.publish.keys)
        keys = (*load_key(place / f"{KEY}.key_secret", secret=True), load_key(place / "server.key")[0])
    with only_forwarder(folder), contextlib.closing(Feed(endpoint, replay, keys)) as feed:
        sinks: list[tuple[Sink, TlsSettings]] = []
        if fleet.nats:
            from personsearch.runtime.fleet.nats_sink import NatsSink

            sinks.append((NatsSink(fleet.nats, settings.box), fleet.nats))
        if fleet.mqtt:
            from personsearch.runtime.fleet.mqtt_sink import MqttSink

            cameras = [camera.name for camera in settings.cameras]
            sinks.append((MqttSink(fleet.mqtt, settings.box, cameras, feed), fleet.mqtt))
        sinks += [(WebhookSink(hook), hook) for hook in fleet.webhooks]
        forwarders = [Forwarder(sink, section, feed, Cursor(folder, sink.name), fleet.rate) for sink, section in sinks]
        sharing = [asyncio.create_task(_share(settings, fleet))] if fleet.gallery and fleet.nats else []
        log.info("events of %s go to %s", settings.box, ", ".join(sink.name for sink, _ in sinks))
        listening = asyncio.create_task(feed.listen())
        running = asyncio.gather(*(forwarder.run() for forwarder in forwarders))
        stop = _until_told(attached)
        either: list[asyncio.Future[Any]] = [running, asyncio.ensure_future(stop.wait()), *sharing]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for task in sharing:
            if task.done():
                task.result()  # a bug raises here
        for forwarder in forwarders:
            forwarder.ending = True
        await asyncio.wait([running], timeout=LAST_S)
        if running.done():
            running.result()  # a bug raises here
        else:
            running.cancel()
            log.info("some events are left for the next start")
        await end(listening, *sharing)
        await asyncio.gather(*(sink.close() for sink, _ in sinks))


async def _share(settings: StreamSettings, fleet: FleetSettings) -> None:
    """The shared gallery, until cancelled."""
    from personsearch.core.bundle import read_manifest
    from personsearch.runtime.fleet.bucket import Bucket
    from personsearch.runtime.fleet.gallery_sync import GallerySync
    from personsearch.runtime.fleet.nats_connection import Hub
    from personsearch.runtime.fleet.sealing import load_group_key
    from personsearch.runtime.fleet.sink import plain
    from personsearch.runtime.fleet.translation import Embed
    from personsearch.runtime.operations.erasers import erasers_of
    from personsearch.runtime.operations.place import Place, audit_of
    from personsearch.runtime.settings import default_bundle

    assert fleet.nats is not None
    assert fleet.gallery is not None
    bundle = settings.bundle or default_bundle()
    manifest = read_manifest(bundle)

    def engine() -> Embed:
        from personsearch.core.engines.searcher import BundleSearcher

        return BundleSearcher(bundle, settings.engine).embed

    place = Place(
        Path(settings.gallery), manifest.model_hash, manifest.dimensions, settings.gallery_key, settings.journal.path,
        audit_of(settings.gallery, settings.audit.path),
    )  # fmt: skip
    sync = GallerySync(
        place, settings.box, Bucket(Hub(fleet.nats, plain(settings.box)), fleet.gallery.group),
        load_group_key(fleet.group_key), fleet.gallery.pictures,
        erasers_of(settings.gallery, settings.history.path, settings.record.folder), engine, fleet.nats.create_stream,
    )  # fmt: skip
    await sync.run()


def _until_told(attached: bool) -> asyncio.Event:
    """Set by SIGINT and SIGTERM, and when the stream that started us ends, however it does."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if attached:

        def closed() -> None:
            if not os.read(sys.stdin.fileno(), 1024):
                loop.remove_reader(sys.stdin.fileno())
                stop.set()

        loop.add_reader(sys.stdin.fileno(), closed)
    return stop


if __name__ == "__main__":
    sys.exit(main())
