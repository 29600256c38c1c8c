"""What the page is made of, and what it was told when it was started."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from personsearch.core.bundle import Manifest
from personsearch.core.errors import GalleryError, UserError
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.delivery.events import from_iso
from personsearch.runtime.history.lookback import Lookback
from personsearch.runtime.history.searching import views_of_sighting
from personsearch.runtime.operations.audit import AuditLog
from personsearch.runtime.page.access import Attempts, Session, Sessions, Users
from personsearch.runtime.page.cams import Cams
from personsearch.runtime.page.describing import Describing
from personsearch.runtime.page.feeds import Feeds
from personsearch.runtime.page.kept import Keeper, Views, facts
from personsearch.runtime.page.link import Control, Event, Events
from personsearch.runtime.page.people import People
from personsearch.runtime.page.remembered import Remembered, Searched
from personsearch.runtime.page.reviewing import Reviewing
from personsearch.runtime.page.seen import Seen
from personsearch.runtime.page.sightings import Row, Sightings
from personsearch.runtime.page_settings import LOOPBACK_NAMES, PageSettings

log = logging.getLogger("personsearch.page")
HISTORY = 720  # samples of the stream's state: an hour
SIGHTING = re.compile(r"s-[0-9a-f]{16}")
ERASED_S = 120.0  # after somebody was erased, events that name him may still be under way
FRESH_S = 30.0  # an event that is older came from the journal


@dataclass(frozen=True)
class Options:
    """Given by the stream to each page process."""

    control: str  # endpoints
    events: str
    replay: str
    cams: str  # files
    gallery: str
    bundle: str
    engine: str
    gallery_key: str  # where the box's key is, not the key
    audit: str  # file
    journal: str  # file, and the folders of visits and of clips; empty for none
    history: str
    recordings: str
    settings: PageSettings
    secret: bytes  # that signs sessions
    console_key: str
    revoked: tuple[str, ...] = ()  # numbers of sessions that were logged out
    key: str = ""  # of a subscriber, if the box encrypts
    server_key: str = ""

    @property
    def hosts(self) -> frozenset[str]:
        own = {self.settings.address, *self.settings.hosts} - {"0.0.0.0", "::", "*", ""}
        return frozenset(name.lower() for name in (*LOOPBACK_NAMES, *own))


def audit_by(path: str) -> Audit:
    """Who saw and changed what: an entry of the audit log, or, without a file for it, a line of the log; quoted,
    because what a stranger types could look like a line."""
    if path:
        return Audit(AuditLog(path).add, AuditLog(path).check)
    return Audit(lambda kind, **facts: log.info("audit: %s %s", kind, " ".join(f"{k}={v!r}" for k, v in facts.items())))


@dataclass(frozen=True)
class Audit:
    """`check` raises UserError if nothing could be put on record now: ask before something is changed."""

    add: Callable[..., None]
    check: Callable[[], None] = lambda: None

    def __call__(self, kind: str, **facts: Any) -> None:
        self.add(kind, **facts)


@dataclass
class Parts:
    """`control` and what follows it are there from `start` to `close`, in the event loop."""

    options: Options
    manifest: Manifest
    users: Users
    sessions: Sessions
    attempts: Attempts
    people: People
    cams: Cams
    describing: Describing
    reviewing: Reviewing
    audit: Audit
    seen: Seen
    suggested: Remembered[list[EnrolledView]] = field(default_factory=lambda: Remembered("these views are"))
    searches: Remembered[Searched] = field(default_factory=lambda: Remembered("what was found is"))
    on_revoked: Callable[[str], None] = lambda _number: None
    samples: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    control: Control = field(init=False)
    events: Events = field(init=False)
    feeds: Feeds = field(init=False)
    views: Views = field(init=False)
    keeper: Keeper = field(init=False)
    sightings: Sightings = field(init=False)
    min_margin: float = 0.0  # of the running stream, once it has told it
    _erased: set[str] = field(default_factory=set)  # people whom this process has forgotten

    async def start(self) -> None:
        options, settings = self.options, self.options.settings
        self.control = Control(options.control)
        self.feeds = Feeds(self.control, settings.pictures_per_s, settings.picture_width)
        self.views = Views(options.replay, self.manifest.model_hash, options.key, options.server_key)
        self.keeper = Keeper(self.control, self.views, 60 * settings.keep_pictures_min)
        self.sightings = Sightings(self.people.name_of)
        await asyncio.to_thread(self.people.renew)
        self._erased = set(self.people.forgotten)
        self.events = Events(options.events, options.replay, options.key, options.server_key)
        self.events.listeners.append(self._hear)
        self.events.start()

    def _hear(self, event: Event) -> None:
        row = self.sightings.add(event)
        if row is not None:
            fresh = abs(time.time() - from_iso(event["time"])) < FRESH_S
            self.keeper.see(row.id, event, fresh)

    def shown(self, row: Row) -> dict[str, Any]:
        """A row as the page gets it: what is kept of it, and what a review answered."""
        return row.shown() | facts(self.keeper.get(row.id)) | {"answer": self.answer_word(row.id)}

    def answer_word(self, row: str) -> str:
        """yes, no, or who it is instead; empty for none."""
        try:
            answer = self.reviewing.all().get(row)
        except GalleryError:  # a damaged file is said where answers are given
            answer = None
        return (
            "" if answer is None else self.people.name_of(answer.person) if answer.answer == "name" else answer.answer
        )

    async def views_of_row(self, row: str) -> list[EnrolledView]:
        """Of a sighting: those that are kept, else what the history has of it. Raises UserError if there are none."""
        kept = self.keeper.get(row)
        if kept is not None and kept.views:
            return list(kept.views)
        root, known = self.options.history, self.sightings.rows.get(row)
        if root and SIGHTING.fullmatch(row):
            since = from_iso(known.started) if known else float("-inf")
            found = await asyncio.to_thread(views_of_sighting, root, row, self.manifest.model_hash, since)
            if found:
                return found
        raise UserError("no views of this sighting are kept (any more): `history:` in cams.yaml keeps them longer")

    def lookback(self, gallery: Gallery | None = None) -> Lookback:
        """Means, calibration and gallery as they stand. Reads files; for a thread. Raises GalleryError."""
        return Lookback(self.manifest, self.people.path, gallery or self.people.gallery(), self.options.engine)

    def forget_erased(self) -> None:
        """Of people who were erased: also what this process has in its memory, and what events that were under way
        brought back."""
        now, erased = time.time(), self.people.forgotten
        lately = {person for person, when in erased.items() if now - when < ERASED_S} | (set(erased) - self._erased)
        if lately:
            self.keeper.forget(self.sightings.forget(lately))
            self.events.forget(lately)
        if lately - self._erased:
            self.describing.pictures.clear()  # nobody knows who is in them
            self.suggested.clear()
            self.searches.clear()
        self._erased = set(erased)

    async def control_state(self) -> dict[str, Any]:
        state = (await self.control.ask("state"))[0]
        self.min_margin = float(state["min_margin"])
        return state

    def sample(self, state: dict[str, Any]) -> None:
        """What the plots of health show, every few seconds for an hour."""
        cameras = state["cameras"]
        self.samples.append({
            "time": state["now"], "p50_ms": state["latency"]["p50_ms"], "p99_ms": state["latency"]["p99_ms"],
            "analysed": sum(c.get("analysed", 0) for c in cameras),
            "captured": sum(c.get("captured", 0) for c in cameras),
            "dropped": _sum([c.get("dropped", {}) for c in cameras]), "memory_mb": state["memory_mb"],
            "cpu_s": round(sum(state["cpu_s"].values()), 2), "up_s": state["up_s"],
        })  # fmt: skip

    async def reload(self) -> None:
        """The stream looks at its files; it would by itself within two seconds, unless that is switched off."""
        try:
            await self.control.ask("reload")
        except UserError as error:
            log.warning("the stream could not be told to reload: %s", error)

    def revoke(self, session: Session) -> None:
        self.sessions.revoked.add(session.number)
        self.on_revoked(session.number)

    async def chores(self) -> None:
        """What is due every few seconds: forgetting what was kept long enough, and who was erased meanwhile."""
        self.describing.forget_old()
        self.keeper.forget_old()
        self.suggested.forget_old()
        self.searches.forget_old()
        if await asyncio.to_thread(self.people.renew):
            self.sightings.rename()
        self.forget_erased()

    async def close(self) -> None:
        await self.feeds.close()
        await self.keeper.close()
        await asyncio.to_thread(self.events.close)
        await self.control.close()
        self.describing.close()


def _sum(counts: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for cause, number in count.items():
            total[cause] = total.get(cause, 0) + number
    return total
