"""Small pictures, and views, of people who were named or nearly so: in memory, for some minutes, never on a disk.

They let an operator compare, answer "yes, that is Ada" after the person has left, enrol from a sighting, and search for
who it was. Of each track one picture is cut out by the stream, and the views are taken that the stream keeps of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from personsearch.core.errors import UserError
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.delivery.views import ask_views
from personsearch.runtime.page.link import Control, Event, StreamError
from personsearch.runtime.page.people import best_views

log = logging.getLogger("personsearch.page")
MOST, AT_ONCE = 500, 4
HEIGHT_WIDTH = 160  # of a picture, pixels
AGAIN_S, TIMES = 3.0, 3  # a track is asked for again, because its views become more and better


@dataclass
class Kept:
    jpeg: bytes = b""
    views: list[EnrolledView] = field(default_factory=list)
    asked: int = 0
    latest: float = -1e9  # monotonic
    made: float = field(default_factory=time.monotonic)


class Views:
    """Asks the stream's replay socket for the views of tracks, as `enroll.py --track` does."""

    def __init__(self, endpoint: str, model: str, key: str = "", server_key: str = "") -> None:
        self._endpoint, self._model, self._keys = endpoint, model, (key, server_key)

    async def of(self, camera: str, track: int) -> list[EnrolledView]:
        """The few best; empty if the stream keeps none (any more). Raises UserError if it gives none to the page."""
        rows, qualities, model = await asyncio.to_thread(ask_views, self._endpoint, camera, track, *self._keys)
        return best_views(rows, qualities, camera) if len(rows) and model == self._model else []


class Keeper:
    def __init__(self, control: Control, views: Views, keep_s: float) -> None:
        """keep_s  0 keeps nothing"""
        self.control, self.views, self.keep_s = control, views, keep_s
        self.rows: OrderedDict[str, Kept] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def see(self, row: str, event: Event, fresh: bool) -> None:
        """An event that belongs to a row; `fresh` if it is of now and not of the journal."""
        track, camera = event.get("track"), event.get("camera")
        if not fresh or not self.keep_s or not isinstance(track, int) or not camera:
            return
        if not event.get("person") and not event.get("stranger"):
            return
        kept = self.rows.setdefault(row, Kept())
        now = time.monotonic()
        if kept.asked >= TIMES or now - kept.latest < AGAIN_S or len(self._tasks) >= AT_ONCE:
            return
        kept.asked, kept.latest = kept.asked + 1, now
        task = asyncio.create_task(self._fetch(kept, camera, track))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, kept: Kept, camera: str, track: int) -> None:
        await asyncio.gather(self._fetch_picture(kept, camera, track), self._fetch_views(kept, camera, track))

    async def _fetch_picture(self, kept: Kept, camera: str, track: int) -> None:
        with contextlib.suppress(StreamError):
            found = await self.control.picture(camera, track=track, width=HEIGHT_WIDTH, quality=80, wait_s=2.0)
            if found is not None:
                kept.jpeg = found[1]

    async def _fetch_views(self, kept: Kept, camera: str, track: int) -> None:
        with contextlib.suppress(UserError):
            kept.views = await self.views.of(camera, track) or kept.views

    def get(self, row: str) -> Kept | None:
        return self.rows.get(row)

    def forget(self, rows: Iterable[str]) -> None:
        for row in rows:
            self.rows.pop(row, None)

    def forget_old(self) -> None:
        now = time.monotonic()
        while self.rows and (len(self.rows) > MOST or now - next(iter(self.rows.values())).made > self.keep_s):
            self.rows.popitem(last=False)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def facts(kept: Kept | None) -> dict[str, Any]:
    """What a row's answer says about what is kept of it."""
    return {"picture": bool(kept and kept.jpeg), "views": len(kept.views) if kept else 0}
