"""Boxes that share a gallery over a real hub, each with files of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
from centre_parts import DIMENSIONS, MODEL, SECRET

from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import enrol, load_or_begin
from personsearch.runtime.fleet.bucket import Bucket
from personsearch.runtime.fleet.ending import end
from personsearch.runtime.fleet.gallery_sync import GallerySync
from personsearch.runtime.fleet.nats_connection import Hub
from personsearch.runtime.fleet.sealing import GroupKey
from personsearch.runtime.fleet.sink import plain
from personsearch.runtime.fleet.translation import Embed
from personsearch.runtime.fleet_settings import NatsSettings
from personsearch.runtime.operations.forget import Eraser
from personsearch.runtime.operations.place import Place

GROUP = "site"


class SharingBox:
    """A box's gallery, and what keeps it in step with the group while `online`."""

    def __init__(
        self, folder: Path, name: str, url: str, model: str = MODEL, pictures: bool = False, secret: bytes = SECRET,
        engine: Callable[[], Embed] | None = None, erasers: tuple[Eraser, ...] = (),
    ) -> None:  # fmt: skip
        (folder / name).mkdir(parents=True, exist_ok=True)
        self.name, self.url, self.model = name, url, model
        self.place = Place(
            folder / name / "people.gallery", model, DIMENSIONS, journal=str(folder / name / "events.journal")
        )
        self._options: dict[str, Any] = {"pictures": pictures, "engine": engine, "erasers": erasers, "make": True}
        self._secret = secret
        self.sync: GallerySync | None = None

    @contextlib.asynccontextmanager
    async def online(self) -> AsyncIterator[GallerySync]:
        bucket = Bucket(Hub(NatsSettings(url=self.url), plain(self.name)), GROUP)
        self.sync = GallerySync(self.place, self.name, bucket, GroupKey(self._secret), **self._options)
        task = asyncio.create_task(self.sync.run())
        try:
            yield self.sync
        finally:
            await end(task)
            await bucket.close()

    def gallery(self) -> Gallery:
        return load_or_begin(self.place.gallery, self.model, DIMENSIONS)

    def names(self) -> list[str]:
        return self.gallery().people

    def enrol(self, name: str, *views: np.ndarray, source: str = "picture", **more: Any) -> None:
        enrol(self.place.gallery, self.model, DIMENSIONS, name, [EnrolledView(view, source, **more) for view in views])

    def change(self, change: Callable[[Gallery], object]) -> None:
        with self.place.changing("test") as gallery:
            change(gallery)
