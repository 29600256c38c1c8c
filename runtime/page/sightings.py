"""From events to what an operator reads: one row for each visit, with evidence in words.

A stream that says sightings (schema version 3) gives the rows itself. Of one that says matches and candidates only, the
events of one track and one person are one row. A match of a track that belongs to a sighting counts into that one.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from personsearch.runtime.decisions.person import derived_id
from personsearch.runtime.delivery.events import REVIEWED, from_iso

MOST_ROWS = 20_000
DAYS_A_YEAR = 365.25
CLOSE = 0.02  # similarity above the threshold that is only just enough
Kind = Literal["sighting", "match", "candidate"]
Event = dict[str, Any]


@dataclass
class Stay:
    camera: str
    started: str  # as events say times
    ended: str


@dataclass
class Row:
    """`person` is the id where the stream gives one, `name` what to show, empty for a stranger."""

    id: str
    kind: Kind
    name: str
    started: str
    last_seen: str
    person: str = ""
    stranger: str = ""
    stays: list[Stay] = field(default_factory=list)
    zones: list[str] = field(default_factory=list)
    change: str = ""  # of a sighting: started, updated, ended, corrected
    reason: str = ""
    count: int = 0  # events
    track: int = -1
    camera: str = ""  # the latest
    evidence: dict[str, Any] = field(default_factory=dict)
    sequence: int = 0
    corrected: bool = False  # the stream took a name back once
    previous: str = ""  # which one

    @property
    def duration_s(self) -> float:
        return max(0.0, from_iso(self.last_seen) - from_iso(self.started))

    @property
    def cameras(self) -> list[str]:
        return list(dict.fromkeys(stay.camera for stay in self.stays))

    @property
    def guess(self) -> str:
        """Whose name is to be judged."""
        return self.name or self.previous

    def surprise(self, min_margin: float) -> str:
        """Why somebody should look at this name, in words; empty for a plain case."""
        if self.kind == "candidate":
            return "below the threshold"
        if self.corrected:
            return f"{self.previous} was said first, and taken back" if self.previous else "corrected"
        if not self.name:
            return ""
        margin, above = self.evidence.get("margin"), _difference(self.evidence, "similarity", "threshold")
        if margin is not None and self.evidence.get("runner_up") and margin < 2 * min_margin:
            return f"nearly as like {self.evidence['runner_up']}"
        return "only just above the threshold" if above is not None and above < CLOSE else ""

    def shown(self) -> dict[str, Any]:
        return asdict(self) | {
            "duration_s": round(self.duration_s, 1), "cameras": self.cameras, "words": in_words(self),
        }  # fmt: skip


class Sightings:
    """The latest rows, oldest first, fed event by event."""

    def __init__(self, name_of: Callable[[str], str]) -> None:
        """name_of  a person's id, or name, to the name to show"""
        self.rows: OrderedDict[str, Row] = OrderedDict()
        self._by_track: dict[tuple[str, str, int], str] = {}  # boot, camera, track -> row of a sighting
        self._name_of = name_of

    def add(self, event: Event) -> Row | None:
        """The row that an event belongs to; None for other events."""
        if event["type"] == "sighting":
            row = self._sighting(event)
        elif event["type"] in ("match", "candidate"):
            row = self._named(event)
        else:
            return None
        row.sequence = event["sequence"]
        self.rows[row.id] = row
        self.rows.move_to_end(row.id)
        while len(self.rows) > MOST_ROWS:
            self.rows.popitem(last=False)
        if len(self._by_track) > 2 * MOST_ROWS:
            self._by_track = {key: name for key, name in self._by_track.items() if name in self.rows}
        return row

    def _sighting(self, event: Event) -> Row:
        camera, person = event.get("camera", ""), event.get("person") or ""
        number, began = event["sighting"], event["started"]
        row = self.rows.get(number) or Row(number, "sighting", "", began, event["time"])
        row.person, row.stranger = person, event.get("stranger") or ""
        row.name = self._name_of(person) if person else ""
        row.change, row.reason = event["change"], event.get("reason", "")
        if row.change == "corrected":
            row.previous = self._name_of(event.get("previous") or "")
            row.corrected |= row.reason != REVIEWED
        row.started, row.last_seen = event["started"], event["last_seen"]
        row.stays = [Stay(c["camera"], c["from"], c["to"] or event["last_seen"]) for c in event.get("cameras", ())]
        row.zones, row.camera = list(event.get("zones", ())), camera or row.camera
        if event.get("evidence"):
            row.evidence = _evidence(event["evidence"], self._name_of)
        if isinstance(event.get("track"), int):
            row.track = event["track"]
            self._by_track[event["boot"], camera, row.track] = row.id
            for kind in ("match", "candidate"):  # what was said of this track before belongs here
                earlier = self.rows.pop(_track_row(event["boot"], camera, row.track, row.name, kind), None)
                row.count += earlier.count if earlier else 0
        row.count += 1
        return row

    def _named(self, event: Event) -> Row:
        camera, track, name = event["camera"], event["track"], self._name_of(event["person"])
        seen = event["frame"]["time"]
        known = self.rows.get(self._by_track.get((event["boot"], camera, track), ""))
        if known is not None and known.name == name:
            known.count += 1
            known.evidence = _evidence(event, self._name_of)
            return known
        key = _track_row(event["boot"], camera, track, name, event["type"])
        row = self.rows.get(key) or Row(key, event["type"], name, seen, seen, track=track, camera=camera)
        if event["type"] == "match":  # it was possible first, and is sure now
            earlier = self.rows.pop(_track_row(event["boot"], camera, track, name, "candidate"), None)
            row.started = min(row.started, earlier.started) if earlier else row.started
        row.last_seen = max(row.last_seen, seen)
        row.stays = [Stay(camera, row.started, row.last_seen)]
        row.count += 1
        row.evidence = _evidence(event, self._name_of)
        return row

    def chosen(
        self, person: str = "", camera: str = "", kind: str = "", since: str = "", until: str = "", text: str = ""
    ) -> Iterator[Row]:
        """The rows that fit, newest first. Times are ISO 8601 as events have them."""
        words = text.casefold()
        for row in reversed(self.rows.values()):
            if (kind and row.kind != kind) or (person and person not in (row.name, row.person, row.stranger)):
                continue
            if camera and camera not in row.cameras:
                continue
            if (since and row.last_seen < since) or (until and row.started > until):
                continue
            told = " ".join((row.name, row.stranger, *row.cameras, *row.zones))
            if words not in told.casefold():
                continue
            yield row

    def forget(self, people: Collection[str]) -> list[str]:
        """Drop what is known of people by these ids (of a name its derived one, too); gives the rows."""
        gone = [
            row.id for row in self.rows.values()
            if {row.person, *(derived_id(name) for name in (row.name, row.previous) if name)} & set(people)
        ]  # fmt: skip
        for number in gone:
            del self.rows[number]
        for row in self.rows.values():
            if derived_id(row.evidence.get("runner_up") or "") in people:
                row.evidence["runner_up"], row.evidence["margin"] = "", None
        return gone

    def rename(self) -> None:
        """Ids resolve to other names now."""
        for row in self.rows.values():
            if row.person:
                row.name = self._name_of(row.person)


def _difference(evidence: dict[str, Any], one: str, other: str) -> float | None:
    first, second = evidence.get(one), evidence.get(other)
    return None if first is None or second is None else float(first) - float(second)


def _track_row(boot: str, camera: str, track: int, name: str, kind: str) -> str:
    """A row's id for a stream that says no sightings: the same after the page was restarted."""
    short = hashlib.sha256(f"{boot} {camera} {track} {name} {kind}".encode()).hexdigest()[:16]
    return f"{kind[0]}-{short}"


def _evidence(source: Event, name_of: Callable[[str], str]) -> dict[str, Any]:
    """What matches and sightings say alike."""
    llr = source.get("log_likelihood_ratio", source.get("llr"))
    runner_up = source.get("runner_up") or ""
    keys = ("similarity", "threshold", "margin", "views", "quality", "false_names_per_day")
    return {key: source.get(key) for key in keys} | {
        "log_likelihood_ratio": llr, "runner_up": name_of(runner_up) if runner_up else "",
    }  # fmt: skip


def in_words(row: Row) -> str:
    """`seen 14 times in 40 s, surely Ada: one false name in 3 years at this setting`"""
    where = " and ".join(row.cameras[:3]) + (" and more" if len(row.cameras) > 3 else "")
    what = f"seen for {span(row.duration_s)}" + (f" at {where}" if where else "")
    if row.count > 1 and row.kind != "sighting":
        what = f"seen {row.count} times in {span(row.duration_s)}" + (f" at {where}" if where else "")
    if not row.name:
        return f"{what}, nobody enrolled"
    false_names = row.evidence.get("false_names_per_day")
    if false_names is None:
        return f"{what}, {row.name}"
    return f"{what}, {how_sure(row.kind, false_names)} {row.name}: {odds_in_words(false_names)}"


def how_sure(kind: str, false_names_per_day: float) -> str:
    if kind == "candidate":
        return "possibly"
    return "surely" if false_names_per_day < 1 / DAYS_A_YEAR else "very likely" if false_names_per_day < 1 else "likely"


def odds_in_words(false_names_per_day: float) -> str:
    """How often somebody else would be given a name as surely, in one camera."""
    if false_names_per_day <= 0:
        return "no false name to be expected as sure as this"
    if false_names_per_day >= 1:
        count = f"{false_names_per_day:.0f}" if false_names_per_day < 100 else f"{false_names_per_day:.2g}"
        return f"{float(count):.0f} false name{'s' if count != '1' else ''} a day as sure as this"
    days = 1 / false_names_per_day
    if days < 60:
        return f"one false name in {days:.0f} day{'s' if round(days) != 1 else ''} as sure as this"
    if days < 2 * DAYS_A_YEAR:
        return f"one false name in {days / 30.4:.0f} months as sure as this"
    return f"one false name in {days / DAYS_A_YEAR:,.0f} years as sure as this"


def span(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


COLUMNS = (
    "id", "kind", "name", "person", "stranger", "cameras", "zones", "started", "last_seen", "duration_s", "count",
    "similarity", "threshold", "margin", "runner_up", "views", "quality", "false_names_per_day", "answer", "words",
)  # fmt: skip


def as_csv(rows: Iterable[tuple[Row, str]]) -> str:
    """Rows and what a review answered, with a header line. A cell that a spreadsheet would take for a formula begins
    with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row, answer in rows:
        content = row.shown() | row.evidence | {"answer": answer}
        content |= {"cameras": " ".join(row.cameras), "zones": " ".join(row.zones)}
        writer.writerow([_cell(content.get(column)) for column in COLUMNS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value
