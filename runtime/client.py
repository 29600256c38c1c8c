"""Subscribe without losing events.

    from personsearch.runtime.client import Client

    with Client("tcp://127.0.0.1:5556", topics=["match."], since="kept") as client:
        for event in client:
            print(event["camera"], event["person"], client.status().lost)

`receive` gives events once each, in order within a topic. A gap in a topic's numbers (a slow or frozen subscriber, a
restarted box, a broken network) is asked for again; what the box has kept no longer is counted as lost.
`client.position()` may be stored as JSON and given as `since` later: nothing between is lost.

    for visit in Client(endpoint, topics=["sighting."]).sightings():
        print(visit.name, visit.duration_s, [stay["camera"] for stay in visit.cameras])
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from personsearch.core.errors import UserError
from personsearch.runtime.delivery.connection import Connection
from personsearch.runtime.delivery.events import HEARTBEAT, from_iso, read_event, topic_of
from personsearch.runtime.delivery.inbox import ROOM, Inbox
from personsearch.runtime.delivery.late_names import LateNames, NamedEvent
from personsearch.runtime.delivery.whole_sightings import Visits, WholeSighting

Event = dict[str, Any]
EMPTY_ANSWERS, EMPTY_WAIT_S = 25, 0.2  # to a question for events that the box has numbered, until they count as lost


@dataclass
class Status:
    """What happened so far."""

    delivered: int = 0
    replayed: int = 0  # of the delivered ones, asked for again
    duplicates: int = 0  # came twice, dropped
    gaps: int = 0  # noticed, whether or not they could be filled
    lost: int = 0  # numbers that never came, not even from the journal
    malformed: int = 0
    boots: int = 0  # starts of the box that were seen
    gap_noticed: float = 0.0  # monotonic seconds of the latest gap
    age_s: float = 0.0  # of the latest delivered event, by the wall clocks
    silent_s: float = 0.0  # since anything came, heartbeats included: more than 3 means that the box is away
    behind: int = 0  # events known to exist that were not delivered yet


class Client:
    """One subscriber. Use it from one thread; it runs another that empties the socket."""

    def __init__(
        self,
        endpoint: str,
        topics: Sequence[str] = (),
        since: str | dict[str, list[int]] = "now",
        replay: str = "",
        key: str | Path = "",
        server_key: str | Path = "",
        inbox: int = ROOM,
    ) -> None:
        """topics      prefixes such as `match.` or `match.door`; none means all
        since       "now", "kept" (everything the box still has, first), or an earlier `position()`
        replay      endpoint of the replay socket; default: what the box's heartbeats say
        inbox       events kept in memory for a slow caller; what does not fit is replayed later
        key, server_key  NAME.key_secret and server.key of personsearch-keys, if the box encrypts
        Raises UserError for an endpoint that is none and for unusable keys.
        """
        self.topics = list(topics) or [""]
        self._connection = Connection(endpoint, replay, key, server_key)
        self._counts = Status()
        self._ready: deque[Event] = deque()
        self._last: dict[str, tuple[int, int]] = {}  # topic -> (topic_sequence, sequence) of the latest delivered
        self._done: dict[str, tuple[int, int]] = {}  # the same for what the caller has received
        self._base = 0  # sequence number from which a topic that is new to us may have events
        self._boot = ""
        self._since, self._joined = since, False
        self._fetch: _Fetch | None = None
        self.names = LateNames(self._ask_names)
        # The heartbeat last: when the first one comes, the other subscriptions are in force.
        subscriber = self._connection.hear([*self.topics, HEARTBEAT.decode()])
        self._inbox = Inbox(subscriber, self.topics, inbox)

    # --- for the caller ---------------------------------------------------------------------------------------

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """The next event, or None if none came in time (None: wait for ever). `event["name"]` is the name of the person
        whose id it carries, as the box knows it when it is asked for."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._ready:
                event = self._ready.popleft()
                self._done[topic_of(event)] = (event["topic_sequence"], event["sequence"])
                self._counts.delivered += 1
                self._counts.age_s = max(0.0, time.time() - from_iso(event["time"]))
                return NamedEvent(event, self.names)
            remaining = 0.2 if end is None else min(0.2, end - time.monotonic())
            if self._fetch is not None:
                self._next_page()
                if self._fetch is not None and not self._ready and end is not None and remaining <= 0:
                    return None
                continue
            item = self._inbox.take(remaining)
            if item is not None:
                self._accept(*item)
            elif end is not None and time.monotonic() >= end:
                return None

    def __iter__(self) -> Iterator[Event]:
        while (event := self.receive()) is not None:
            yield event

    def sightings(self, timeout_s: float | None = None) -> Iterator[WholeSighting]:
        """Whole visits, each when it is over, until nothing came for `timeout_s` (None: for ever). Also those that the
        box never ended, because it was killed. Raises UserError if the client's topics leave out sightings."""
        if not any(t.startswith("sighting.") or "sighting.".startswith(t) for t in self.topics):
            raise UserError(f"topics={self.topics}: sightings come under 'sighting.'; add it")
        visits = Visits()
        while (event := self.receive(timeout_s)) is not None:
            for visit in visits.add(event):
                visit.name = None if visit.person is None else self.names.of(visit.person)
                yield visit

    def status(self) -> Status:
        inbox = self._inbox
        behind = sum(max(0, n - self._last.get(t, (n, 0))[0]) for t, n in list(inbox.known.items()))
        return replace(
            self._counts, malformed=inbox.malformed, gap_noticed=max(self._counts.gap_noticed, inbox.full),
            silent_s=time.monotonic() - inbox.heard if inbox.heard else float("inf"), behind=behind + len(self._ready),
        )  # fmt: skip

    def position(self) -> dict[str, list[int]]:
        """Where this client is, for a later `since`. Events that were not received yet are not in it."""
        return {topic: list(place) for topic, place in self._done.items()}

    def close(self) -> None:
        self._inbox.close()
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mine(self, topic: str) -> bool:
        return topic.startswith(tuple(self.topics))

    # --- order, gaps, replays -----------------------------------------------------------------------------------

    def _accept(self, topic: str, event: Event) -> None:
        beat = topic == HEARTBEAT.decode()
        if beat:
            self._connection.meet(event)
        if event["boot"] != self._boot:
            self._counts.boots += 1
            self._boot = event["boot"]
            if event["sequence"] < max([s for _, s in self._last.values()], default=0):
                self._last, self._base = {}, 0  # another journal: its numbers begin anew
        if not self._joined:
            if beat:
                self._join(event)
            return
        if beat:
            late = [t for t, n in event["topics"].items() if self._mine(t) and n > self._last.get(t, (0, 0))[0]]
            if late:
                self._gap(late, event["sequence"], None)
            return
        number, known = event["topic_sequence"], self._last.get(topic, (0, 0))[0]
        if number > known + 1:
            self._gap([topic], event["sequence"] - 1, (topic, event))
        else:
            self._deliver(topic, event)

    def _join(self, beat: Event) -> None:
        """The first heartbeat says where the box is. Everything up to there is old, everything after it comes live."""
        self._joined = True
        now = {t: (n, beat["sequence"]) for t, n in beat["topics"].items() if self._mine(t)}
        if self._since == "now":
            self._last, self._base = now, beat["sequence"]
        elif self._since == "kept":
            self._fetch = _Fetch(list(self.topics), 1, beat["sequence"], None, everything=True)
        elif isinstance(self._since, dict):
            self._last = {t: (int(p[0]), int(p[1])) for t, p in self._since.items()}
            if max([s for _, s in self._last.values()], default=0) > beat["sequence"]:
                self._last = {}  # another journal: its numbers begin anew
            late = [t for t, (n, _) in now.items() if n > self._last.get(t, (0, 0))[0]]
            if late:
                self._gap(late, beat["sequence"], None)
        else:
            raise UserError(f"since={self._since!r}: expected 'now', 'kept' or an earlier position()")
        self._done = dict(self._last)

    def _gap(self, topics: list[str], last: int, then: tuple[str, Event] | None) -> None:
        self._counts.gaps += 1
        self._counts.gap_noticed = time.monotonic()
        first = min(self._last.get(t, (0, self._base))[1] for t in topics) + 1
        self._fetch = _Fetch(topics, first, last, then)

    def _deliver(self, topic: str, event: Event, everything: bool = False) -> bool:
        number, known = event["topic_sequence"], self._last.get(topic, (0, 0))[0]
        if number <= known:
            self._counts.duplicates += 1
            return False
        if not (everything and topic not in self._last):
            self._counts.lost += number - known - 1
        self._last[topic] = (number, event["sequence"])
        self._ready.append(event)
        return True

    def _next_page(self) -> None:
        """Ask for the next part of what is missing; on the last one go on with the live event that showed the gap."""
        fetch = self._fetch
        assert fetch is not None
        if fetch.next <= fetch.last:
            # A question may name 64 topics: for more, ask for all of ours and choose here.
            asked = fetch.topics if len(fetch.topics) <= 64 else self.topics
            question = {"request": "range", "first": fetch.next, "last": fetch.last, "topics": asked}
            answer = self._connection.ask(question)
            if answer is None:
                fetch.failures += 1
                if fetch.failures < 5 or self._silent():
                    return  # the box may be restarting: ask again
                fetch.next = fetch.last + 1
            else:
                head, bodies = answer
                if head["next"] > fetch.next:
                    fetch.failures, fetch.next = 0, head["next"]
                elif head["reply"] != "busy":  # the journal lost its end, or its disk takes nothing just now
                    fetch.failures += 1
                    if fetch.failures < EMPTY_ANSWERS:
                        time.sleep(EMPTY_WAIT_S)
                        return
                    fetch.next = fetch.last + 1
                for body in bodies:
                    try:
                        event = read_event(body)
                    except ValueError:
                        continue  # counted as lost, as its number never comes
                    topic = topic_of(event)
                    wanted = fetch.everything or topic in fetch.topics  # the question's topics are prefixes
                    if wanted and self._deliver(topic, event, fetch.everything):
                        self._counts.replayed += 1
                if fetch.next <= fetch.last:
                    return
        self._fetch = None
        if fetch.then:
            self._deliver(*fetch.then)

    def _silent(self) -> bool:
        return time.monotonic() - self._inbox.heard > 3

    def _ask_names(self) -> dict[str, str] | None:
        answer = self._connection.ask({"request": "names"})
        names = answer[0].get("names") if answer is not None else None
        return names if isinstance(names, dict) else None


@dataclass
class _Fetch:
    """A replay under way."""

    topics: list[str]
    next: int
    last: int
    then: tuple[str, Event] | None
    everything: bool = False
    failures: int = 0
