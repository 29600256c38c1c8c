"""Faults of delivery: slow, frozen and late subscribers, restarts of the publisher, strangers."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import zmq
from harness import HERE, Outcome, folder, free_port, start_python, wait_for

from personsearch.runtime.client import Client
from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.keys import CLIENTS, make_pair
from personsearch.runtime.settings import JournalSettings, PublishSettings


class Producer:
    """producer.py as a process; `go` lets it begin."""

    def __init__(self, place: Path, port: int, first: int, count: int, rate: float) -> None:
        self.process = start_python(
            HERE / "producer.py", f"tcp://127.0.0.1:{port}", place / "events.journal", first, count, rate
        )
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        line = self.process.stdout.readline()
        if "ready" not in line:
            raise RuntimeError("the producer did not start")

    def go(self) -> None:
        self.process.stdin.write("go\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def done(self) -> tuple[float, int]:
        """Seconds it took, and how many events waited for the socket at most."""
        _, seconds, waiting = self.process.stdout.readline().split()  # type: ignore[union-attr]
        return float(seconds), int(waiting)

    def end(self, kill: bool = False) -> None:
        if kill:
            os.kill(self.process.pid, signal.SIGKILL)
        else:
            self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(20)


def slow_subscriber(long: bool) -> Outcome:
    """A caller that needs 10 ms for each event at 1000 events/s, with little room in memory.

    A publisher that waits for it sends the last event when hardly any is left to take; one that does not, long before.
    """
    count, rate = (10_000, 1000.0) if long else (700, 1000.0)
    with folder() as place:
        port = free_port()
        producer = Producer(place, port, 0, count, rate)
        with Client(f"tcp://127.0.0.1:{port}", since="now", inbox=200) as client:
            client.receive(2.5)
            producer.go()
            began = time.monotonic()
            numbers, noticed = [], 0.0
            while len(numbers) < count and time.monotonic() - began < count * 0.02 + 30:
                event = client.receive(2)
                if event is None:
                    break
                numbers.append(int(event["reason"]))
                if not noticed and client.status().gap_noticed:
                    noticed = client.status().gap_noticed - began
                time.sleep(0.01)
            status, taken = client.status(), time.monotonic() - began
        seconds, waiting = producer.done()
        producer.end()
    missing = count - len(set(numbers))
    return Outcome(
        f"10 ms an event, {count} events at {rate:.0f}/s, room for 200",
        f"published in {seconds:.1f} s, taken in {taken:.1f} s; gap noticed after {noticed:.1f} s, "
        f"{status.replayed} replayed, {missing} lost",
        missing == 0 and len(numbers) == count and seconds < taken / 2 and 0 < noticed < 2,
        {"lost": missing, "replayed": status.replayed, "publish_s": seconds, "waiting": waiting},
    )


def frozen_subscriber(long: bool) -> Outcome:
    """A subscriber process halted with SIGSTOP while events go on."""
    freeze, rate = (20.0, 1000.0) if long else (3.0, 10_000.0)
    count = round(rate * (freeze + 2))
    with folder() as place:
        port = free_port()
        producer = Producer(place, port, 0, count, rate)
        reader = start_python(HERE / "reader.py", f"tcp://127.0.0.1:{port}", count, 6)
        assert reader.stdout is not None
        reader.stdout.readline()
        producer.go()
        time.sleep(0.5)
        os.kill(reader.pid, signal.SIGSTOP)
        time.sleep(freeze)
        os.kill(reader.pid, signal.SIGCONT)
        _, waiting = producer.done()
        result = json.loads(reader.stdout.readline())
        reader.wait(20)
        producer.end()
    missing = count - len(set(result["numbers"]))
    return Outcome(
        f"SIGSTOP for {freeze:.0f} s at {rate:.0f} events/s, {count} events",
        f"{missing} lost, {result['replayed']} replayed, {result['duplicates']} duplicates dropped; publisher "
        f"unaffected "
        f"(at most {waiting} events waited for the socket)",
        # A publisher that waits for the frozen one would have rate * freeze events waiting.
        missing == 0 and len(result["numbers"]) == count and waiting < rate * freeze / 2,
        {"lost": missing, "replayed": result["replayed"], "gaps": result["gaps"], "waiting": waiting},
    )


def late_joiner(long: bool) -> Outcome:
    count = 1000
    with folder() as place:
        port = free_port()
        producer = Producer(place, port, 0, count, 0)
        producer.go()
        producer.done()
        began = time.monotonic()
        with Client(f"tcp://127.0.0.1:{port}", since="kept") as client:
            numbers = []
            while len(numbers) < count and (event := client.receive(4)) is not None:
                numbers.append(int(event["reason"]))
            took = time.monotonic() - began
        producer.end()
    missing = count - len(set(numbers))
    return Outcome(
        f"joins after {count} events were sent",
        f"{missing} of {count} lost, all there {took:.1f} s after connecting",
        missing == 0 and numbers == sorted(numbers),
        {"lost": missing, "seconds": round(took, 2)},
    )


def publisher_restarts(long: bool) -> Outcome:
    """kill -9 in the middle of publishing, start again with the same journal; the client stays."""
    rounds, rate = (20, 200.0) if long else (2, 200.0)
    rng = random.Random(1)
    with folder() as place:
        port = free_port()
        with Client(f"tcp://127.0.0.1:{port}", since="kept") as client:
            got: list[tuple[int, str]] = []

            def drain(seconds: float) -> None:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    event = client.receive(0.1)
                    if event is not None:
                        got.append((event["sequence"], event["reason"]))

            for number in range(rounds):
                producer = Producer(place, port, number * 100_000, 100_000, rate)
                producer.go()
                drain(rng.uniform(0.8, 2.0))
                producer.end(kill=True)
            last = Producer(place, port, rounds * 100_000, 1, rate)
            last.go()
            last.done()
            drain(4)
            last.end()
            status = client.status()
        with sqlite3.connect(place / "events.journal") as database:
            kept = [row[0] for row in database.execute("select sequence from events order by sequence")]
    numbers = [sequence for sequence, _ in got]
    missing = len(set(kept) - set(numbers))
    unbroken = kept == list(range(1, len(kept) + 1))
    # What the producers handed over before each kill: their numbers must be without holes up to the last one kept.
    holes = 0
    for number in range(rounds):
        of_round = sorted(int(r) - number * 100_000 for _, r in got if int(r) // 100_000 == number)
        holes += len(of_round) != (of_round[-1] + 1 if of_round else 0)
    return Outcome(
        f"kill -9 {rounds} times at {rate:.0f} events/s, same journal",
        f"{missing} of {len(kept)} events lost, {len(numbers) - len(set(numbers))} twice; numbers go on "
        f"without a hole: "
        f"{unbroken}; {status.boots} boots seen",
        missing == 0 and unbroken and holes == 0 and len(numbers) == len(set(numbers)) and status.boots == rounds + 1,
        {"events": len(kept), "lost": missing, "boots": status.boots, "replayed": status.replayed},
    )


def unknown_subscriber(long: bool) -> Outcome:
    """CURVE is on: a stranger with a key of its own, one without any key, and one of the let-in clients."""
    with folder() as place:
        keys = place / "keys"
        make_pair(keys, "server")
        make_pair(keys, "friend")
        (keys / CLIENTS).mkdir()
        (keys / "friend.key").rename(keys / CLIENTS / "friend.key")
        stranger = make_pair(place / "elsewhere", "stranger")
        publisher = Publisher(
            PublishSettings(endpoint="tcp://127.0.0.1:*", keys=str(keys)), JournalSettings(), "guarded"
        )
        events, heard = EventFactory("guarded"), {}
        context = zmq.Context()
        plain = context.socket(zmq.SUB)
        plain.subscribe(b"")
        plain.connect(publisher.endpoint)
        friend = Client(
            publisher.endpoint, since="kept", key=keys / "friend.key_secret", server_key=keys / "server.key"
        )
        other = Client(publisher.endpoint, since="kept", key=stranger, server_key=keys / "server.key")
        try:
            for number in range(20):
                publisher.publish(events.camera_state("door", "online", "", str(number), time.time()))
            heard["friend"] = sum(friend.receive(3) is not None for _ in range(20))
            assert publisher.guard is not None
            wait_for(lambda: publisher.guard.refused > 0, 5)  # type: ignore[union-attr]
            heard["stranger"] = int(other.receive(1.5) is not None)
            heard["plain"] = plain.poll(100)
            refused = publisher.guard.refused
        finally:
            friend.close()
            other.close()
            context.destroy(linger=0)
            publisher.close()
    exposed = 0
    try:
        PublishSettings(endpoint="tcp://0.0.0.0:5556")
        exposed = 1
    except ValueError:
        pass
    return Outcome(
        "one subscriber with an unknown key, one without a key, one that was let in",
        f"events read: let in {heard['friend']} of 20, unknown {heard['stranger']}, without a key {heard['plain']}; "
        f"{refused} refusals counted; binding off loopback without keys refused: {not exposed}",
        heard == {"friend": 20, "stranger": 0, "plain": 0} and refused > 0 and not exposed,
        {**heard, "refused": refused},
    )


def fuzz_replay(seconds: float) -> tuple[int, int, bool]:
    """Random requests to a replay socket: how many were sent, how many got an answer, and whether it still serves."""
    rng = random.Random(2)
    publisher = Publisher(PublishSettings(endpoint="tcp://127.0.0.1:*"), JournalSettings(), "fuzzed")
    events = EventFactory("fuzzed")
    for number in range(50):
        publisher.publish(events.camera_state("door", "online", "", str(number), time.time()))
    seeds = [
        b'{"request": "snapshot"}',
        b'{"request": "range", "first": 1, "last": 10, "topics": ["camera."]}',
        b"[]",
        b'{"request": "range", "first": -1, "last": 1e99}',
        b"[" * 50_000,
        b'{"request": ["range"]}',
        b"",
        b'{"request": "range", "first": 1, "last": 2, "topics": [1]}',
        b'{"request": "range", "first": true, "last": 2}',
    ]
    context = zmq.Context()
    sent = answered = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        socket = context.socket(zmq.DEALER)  # a new peer each time: otherwise the rate limit would shield the parser
        socket.connect(publisher.replay_endpoint)
        for _ in range(20):
            body = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(4)):
                if body:
                    body[rng.randrange(len(body))] = rng.randrange(256)
            parts = [bytes(body)] if rng.random() < 0.9 else [os.urandom(rng.randrange(50)), bytes(body)]
            socket.send_multipart(parts)
            sent += 1
        while socket.poll(200):
            socket.recv_multipart()
            answered += 1
        socket.close(linger=0)
    socket = context.socket(zmq.REQ)
    socket.connect(publisher.replay_endpoint)
    socket.send(b'{"request": "range", "first": 1, "last": 50}')
    alive = bool(socket.poll(3000)) and len(socket.recv_multipart()) == 51
    context.destroy(linger=0)
    publisher.close()
    return sent, answered, alive
