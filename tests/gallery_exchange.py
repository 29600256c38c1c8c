#!/usr/bin/env python
"""How long until the boxes of a group have a large gallery, over a real NATS server, and until somebody is out of it?

  PYTHONPATH=tests python tests/gallery_exchange.py [--people 10000] [--views 5] [--dimensions 256] [--json FILE]

One box has everybody in its file and joins the group; a second, new one joins when the hub has all. Then one person is
removed on the first. Each box is a process of its own. Prints seconds by the clock, and of each box processor time and
the most memory it held until then, and bytes at the hub.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import shared_parts
from fleet_parts import hub_in
from shared_parts import SharingBox

from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.person import EnrolledView, Person
from personsearch.runtime.fleet.gallery_sync import GallerySync

PAUSE_S, LIMIT_S = 0.05, 3000.0
REMOVED = f"p-{0:012x}"


def enrolled(count: int, views: int) -> list[Person]:
    random = np.random.default_rng(5)
    found = []
    for n in range(count):
        rows = random.standard_normal((views, shared_parts.DIMENSIONS)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        own = tuple(EnrolledView(row, "door", 0.9, 1.7e9, f"picture{i}.jpg") for i, row in enumerate(rows))
        found.append(Person(f"p-{n:012x}", f"Person {n}", enrolled=1.7e9, views=own))
    return found


def cost(before_s: float) -> dict[str, float]:
    """What the process has taken since it had taken so many seconds of processor time; its memory at most, ever."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": round(time.process_time() - before_s, 1), "most_mb": round(own.ru_maxrss / 1024)}


def box_process(folder: str, name: str, url: str, dimensions: int, given: Any, told: Any) -> None:
    """Answers each question (a number of people, whom to remove first or None) once it has so many, told to the hub."""
    shared_parts.DIMENSIONS = dimensions

    async def story() -> None:
        box = SharingBox(Path(folder), name, url)
        before_s = 0.0
        async with box.online() as sync:
            while (asked := await asyncio.to_thread(given.get)) is not None:
                people, removed = asked
                if removed:
                    box.change(functools.partial(_drop, removed))
                await until(functools.partial(settled, sync, people))
                told.put(cost(before_s))
                before_s = time.process_time()

    asyncio.run(story())


def _drop(person: str, gallery: Gallery) -> None:
    gallery.drop(person)


def settled(sync: GallerySync, people: int) -> bool:
    """So many are in the gallery, and group and gallery agree on them."""
    agreed = sum(bool(known.digest) for known in list(sync.state.people.values()))
    return len(sync.held) == people == agreed


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("not in time")
        await asyncio.sleep(PAUSE_S)


class Box:
    def __init__(self, *options: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._given, self._told = context.Queue(), context.Queue()
        self._process = context.Process(target=box_process, args=(*options, self._given, self._told), daemon=True)
        self._process.start()

    def ask(self, people: int, removed: str = "") -> None:
        self._given.put((people, removed))

    def answer(self) -> dict[str, float]:
        return self._told.get(timeout=LIMIT_S)

    def end(self) -> None:
        self._given.put(None)
        self._process.join(30)


async def hub_bytes(url: str) -> int:
    import nats

    connection = await nats.connect(url)
    found = (await connection.jetstream().stream_info(f"KV_ps-gallery-{shared_parts.GROUP}")).state.bytes
    await connection.close()
    return found


def run(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    shared_parts.DIMENSIONS = given.dimensions
    with hub_in(folder / "hub") as hub:
        url = f"nats://127.0.0.1:{hub.port}"
        first = SharingBox(folder, "first", url)
        people = enrolled(given.people, given.views)
        first.change(lambda gallery: [gallery.put(person) for person in people])
        result: dict[str, Any] = {"people": given.people, "gallery_bytes": first.place.gallery.stat().st_size}
        boxes = []
        for name in ("first", "second"):
            start = time.monotonic()
            boxes.append(Box(str(folder), name, url, given.dimensions))
            boxes[-1].ask(given.people)
            result[name] = boxes[-1].answer() | {"s": round(time.monotonic() - start, 1)}
            print(json.dumps({name: result[name]}), flush=True)
        result["hub_bytes"] = asyncio.run(hub_bytes(url))
        start = time.monotonic()
        for box, removed in zip(boxes, (REMOVED, ""), strict=True):
            box.ask(given.people - 1, removed)
        result["removal"] = [box.answer() for box in boxes] + [{"s": round(time.monotonic() - start, 1)}]
        for box in boxes:
            box.end()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--json", default="", metavar="FILE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ps-exchange-") as folder:
        result = run(given, Path(folder))
    print(json.dumps(result))
    if given.json:
        content = {"command": f"python {' '.join(sys.argv)}", **result}
        Path(given.json).write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
