"""Pictures to enrol from: described by a process that is started when one comes and ended after a while."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.boxes import iou
from personsearch.core.errors import UserError
from personsearch.runtime.processes.channel import CannotStart, Channel, Closed, start_process

PROCESS = "personsearch.runtime.page.describing_process"
LOAD_AND_DESCRIBE_S = 240.0  # on a busy box
IDLE_S = 60.0  # a loaded model takes a few hundred MB
LIMITS = {"OPENCV_IO_MAX_IMAGE_PIXELS": str(100 << 20)}  # a small file may claim to be a picture of gigabytes
KEEP_S, MOST_KEPT = 900.0, 20


@dataclass(eq=False)
class Person:
    """Somebody in a picture: box [x, y, w, h] as shares of it, embedding (D,) as the model made it; None: not yet."""

    box: list[float]
    embedding: np.ndarray | None
    quality: float
    complaints: list[str]


@dataclass
class Picture:
    number: str
    jpeg: bytes
    width: int
    height: int
    grey: bool
    camera: str  # empty: from nowhere we know
    people: list[Person]
    tracks: list[int | None] = field(default_factory=list)  # of a live frame: each person's
    made: float = field(default_factory=time.monotonic)

    def shown(self) -> dict[str, Any]:
        people = [
            {"box": p.box, "quality": p.quality, "complaints": p.complaints, "track": track}
            for p, track in zip(self.people, self.tracks or [None] * len(self.people), strict=True)
        ]
        return {"picture": self.number, "width": self.width, "height": self.height, "grey": self.grey,
                "camera": self.camera, "people": people}  # fmt: skip


def new_number() -> str:
    """Of a picture: nobody can guess another's."""
    return secrets.token_hex(8)


def corners(box: list[float]) -> np.ndarray:
    """[x, y, w, h] -> xyxy (4,) float32."""
    x, y, w, h = box
    return np.array([x, y, x + w, y + h], np.float32)


class Describing:
    """Pictures are kept in memory for a quarter of an hour, so that somebody can choose who it is."""

    def __init__(self, bundle: str | Path, engine: str, dimensions: int) -> None:
        self._options, self._dimensions = {"bundle": str(bundle), "engine": engine}, dimensions
        self._lock = asyncio.Lock()
        self._process: Any = None
        self._channel: Channel | None = None
        self._used = 0.0
        self.pictures: dict[str, Picture] = {}

    def keep(self, picture: Picture) -> Picture:
        self.pictures[picture.number] = picture
        self.forget_old()
        return picture

    async def embedding(self, picture: Picture, person: Person) -> np.ndarray:
        """(D,) of somebody in a picture, who is described now if that was left for later."""
        if person.embedding is None:
            found = await self.describe(picture.jpeg, "the picture", boxes=[person.box])
            del self.pictures[found.number]
            overlaps = iou(corners(person.box)[None], np.array([corners(p.box) for p in found.people]))[0]
            person.embedding = found.people[int(overlaps.argmax())].embedding
            assert person.embedding is not None
        return person.embedding

    async def describe(
        self, data: bytes, name: str, camera: str = "", boxes: list[list[float]] | None = None
    ) -> Picture:
        """Raises DataError for what is no picture, UserError if the process fails."""
        async with self._lock:
            head, payload = await asyncio.to_thread(self._ask, data, name, boxes or [])
            self._used = time.monotonic()
        if "error" in head:
            raise UserError(head["error"])
        rows = np.frombuffer(payload[: head["embeddings"]], np.float32).reshape(-1, self._dimensions)
        people = [
            Person(p["box"], row, p["quality"], p["complaints"]) for p, row in zip(head["people"], rows, strict=True)
        ]
        jpeg = payload[head["embeddings"] :]
        return self.keep(Picture(new_number(), jpeg, head["width"], head["height"], head["grey"], camera, people))

    def _ask(self, data: bytes, name: str, boxes: list[list[float]]) -> tuple[dict[str, Any], bytes]:
        try:
            if self._channel is None:
                self._process, self._channel = start_process(PROCESS, threads=1, more=LIMITS)
                self._channel.send(self._options)
            self._channel.send({"name": name, "boxes": boxes}, data)
            answer = self._channel.receive(timeout_s=LOAD_AND_DESCRIBE_S)
            if answer is not None:
                return answer[0], answer[1]
            reason = f"no answer within {LOAD_AND_DESCRIBE_S:g} s"
        except (Closed, CannotStart) as error:
            reason = str(error)
        self._end()
        raise UserError(f"the picture could not be described ({reason}); try again, or another picture")

    def get(self, number: str, person: int) -> tuple[Picture, Person]:
        """Raises UserError for a picture that is gone, and for a person that is not in it."""
        picture = self.pictures.get(number)
        if picture is None:
            raise UserError("the picture is not kept any more; give it again")
        if not 0 <= person < len(picture.people):
            raise UserError(f"there are {len(picture.people)} people in the picture, numbered from 0")
        return picture, picture.people[person]

    def forget_old(self) -> None:
        """Called every few seconds as well: pictures do not stay, and the process neither."""
        now = time.monotonic()
        fresh = {n: p for n, p in self.pictures.items() if now - p.made < KEEP_S}
        self.pictures = dict(list(fresh.items())[-MOST_KEPT:])
        if self._channel is not None and not self._lock.locked() and now - self._used > IDLE_S:
            self._end()

    def _end(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._channel = None

    def close(self) -> None:
        self._end()
