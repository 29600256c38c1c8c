"""Live pictures: one question at a time for each camera that somebody looks at, shared by all who do.

A message is `<I` the length of a JSON head, the head, and a JPEG: the boxes belong to exactly this picture. A viewer
answers each message with "ok"; one who does not is sent nothing more, so a slow phone skips pictures instead of
falling behind. Pictures are no wider than the largest screen among a camera's viewers shows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from personsearch.runtime.page.link import Control, StreamError

UNANSWERED = 4  # messages on their way to a viewer
WAIT_S = 3.0  # for a frame
PAUSE_S = 1.0  # after a camera had none
WIDTHS = 80  # widths are multiples of it, so that similar screens share pictures


class Viewer:
    """One browser: the latest message of each camera that it has not been sent yet."""

    def __init__(self) -> None:
        self.cameras: set[str] = set()
        self.width = 0  # pixels of a camera on the screen; 0 for as many as there are
        self._latest: dict[str, bytes] = {}
        self._room = UNANSWERED
        self._changed = asyncio.Event()

    def offer(self, camera: str, message: bytes) -> None:
        self._latest[camera] = message
        self._changed.set()

    def answered(self) -> None:
        self._room = min(UNANSWERED, self._room + 1)
        self._changed.set()

    @property
    def open(self) -> bool:
        """Would it be sent another picture now?"""
        return self._room > 0

    async def next(self) -> bytes:
        """The next message, when there is one and the viewer keeps up."""
        while not (self._latest and self._room):
            self._changed.clear()
            await self._changed.wait()
        self._room -= 1
        return self._latest.pop(next(iter(self._latest)))


class Feeds:
    def __init__(self, control: Control, pictures_per_s: float, width: int) -> None:
        self.control, self.every_s, self.width = control, 1 / pictures_per_s, width
        self._viewers: dict[str, set[Viewer]] = defaultdict(set)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, viewer: Viewer, cameras: set[str], width: int = 0) -> None:
        """From now on the viewer looks at these cameras, and no others, and shows them so wide."""
        viewer.width = width
        for name in viewer.cameras - cameras:
            self._viewers[name].discard(viewer)
            if not self._viewers[name]:
                del self._viewers[name]  # its feed ends
        for name in cameras - viewer.cameras:
            self._viewers[name].add(viewer)
            if name not in self._tasks or self._tasks[name].done():
                self._tasks[name] = asyncio.create_task(self._feed(name))
        viewer.cameras = cameras

    async def _feed(self, camera: str) -> None:
        while viewers := self._viewers.get(camera):
            began = time.monotonic()
            if any(viewer.open for viewer in viewers):
                try:
                    found = await self.control.picture(camera, width=self._width(viewers), wait_s=WAIT_S)
                except StreamError:  # removed by a reload, or the stream is ending
                    found = None
                if found is None:
                    await asyncio.sleep(PAUSE_S)
                    continue
                message = packed(*found)
                for viewer in list(viewers):
                    viewer.offer(camera, message)
            await asyncio.sleep(max(0.0, self.every_s - (time.monotonic() - began)))

    def _width(self, viewers: Iterable[Viewer]) -> int:
        """What the largest screen needs, at most what the settings say."""
        widest = max(viewer.width or self.width for viewer in viewers)
        return min(self.width, -(-widest // WIDTHS) * WIDTHS)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def packed(head: dict[str, Any], picture: bytes) -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    return struct.pack("<I", len(text)) + text + picture
