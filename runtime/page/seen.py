"""What people look at, on record: once an hour for each session and thing, so that the log tells and does not drown."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from personsearch.runtime.page.access import Session

EVERY_S, MOST = 3600.0, 20_000


class Seen:
    def __init__(self, audit: Callable[..., None]) -> None:
        self._audit = audit
        self._noted: OrderedDict[tuple[str, ...], float] = OrderedDict()

    async def note(self, session: Session, what: str, **facts: str) -> None:
        """what  live, still, sightings, sighting, people, ...; facts: ids of people, names of cameras and rows

        Raises UserError if it cannot be put on record: then it is not shown.
        """
        key, now = (session.number, what, *(f"{k}={v}" for k, v in sorted(facts.items()))), time.monotonic()
        if now - self._noted.get(key, -EVERY_S) < EVERY_S:
            return
        self._noted[key] = now
        self._noted.move_to_end(key)
        while len(self._noted) > MOST:
            self._noted.popitem(last=False)
        try:
            told = {k: v for k, v in facts.items() if v}
            await asyncio.to_thread(self._audit, "page.seen", user=session.name, what=what, **told)
        except BaseException:
            self._noted.pop(key, None)
            raise
