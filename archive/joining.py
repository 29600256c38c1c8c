"""Visits that cross the border of two segments are one: by the boxes that both saw, else by what a tracker goes by.

A segment is followed a little beyond its end, so that both sides have boxes of the same pictures. Who was hidden just
then, or left and came back within the grace time, is joined as a lost track is: near enough to walk there, and alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from personsearch.archive.parts import Part, Row
from personsearch.core.boxes import iou
from personsearch.core.tracking.reunite import reunite
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.decisions.centring import SHRINK, centred

SAME_BOX = 0.5  # IoU of two boxes of one person in one picture


@dataclass(eq=False)
class _Open:
    """A visit that may go on. `row` is its number in the latest part that saw it."""

    visit: Row
    segment: str
    row: int


def joined(parts: Iterable[Part], grace_s: float, reunite_similarity: float) -> Iterator[Row]:
    """The visits of one camera's parts, which come in the order of their times; in the order in which they end."""
    waiting: list[_Open] = []
    before: Part | None = None
    for part in parts:
        begin = part.about["started"] + part.about["begin"]
        going_on = []
        for known in waiting:
            if known.visit.ended >= begin - grace_s:
                going_on.append(known)
            else:
                yield known.visit
        pairs = _by_boxes(before, part, going_on) if before is not None and _follows(before, part) else {}
        pairs |= _by_looks(part, going_on, pairs, begin, grace_s, reunite_similarity)
        waiting = going_on
        for number, row in enumerate(part.rows):
            known_before = pairs.get(number)
            if known_before is None:
                waiting.append(_Open(row, part.segment, number))
            else:
                known_before.visit.join(row)
                known_before.segment, known_before.row = part.segment, number
        before = part
    yield from (known.visit for known in sorted(waiting, key=lambda k: k.visit.ended))


def _follows(before: Part, part: Part) -> bool:
    """Is this the next segment of the same video?"""
    same = before.segment.partition("/")[0] == part.segment.partition("/")[0]
    return bool(same and part.about["number"] == before.about["number"] + 1)


def _by_boxes(before: Part, part: Part, waiting: list[_Open]) -> dict[int, _Open]:
    """Number of a row -> the visit that it continues: those whose boxes agree in the most pictures."""
    border = part.about["begin"]
    seen: dict[float, list[tuple[int, np.ndarray]]] = {}
    for edge in before.edges:
        if edge.moment >= border:
            seen.setdefault(round(edge.moment, 3), []).append((edge.row, edge.box))
    votes: Counter[tuple[int, int]] = Counter()
    for edge in part.edges:
        here = seen.get(round(edge.moment, 3))
        if here:
            overlap = iou(edge.box[None], np.array([box for _, box in here]))[0]
            best = int(overlap.argmax())
            if overlap[best] >= SAME_BOX:
                votes[here[best][0], edge.row] += 1
    known = {w.row: w for w in waiting if w.segment == before.segment}
    pairs: dict[int, _Open] = {}
    taken: set[int] = set()
    for (earlier, later), _ in votes.most_common():
        if earlier in known and earlier not in taken and later not in pairs:
            pairs[later] = known[earlier]
            taken.add(earlier)
    return pairs


def _by_looks(
    part: Part, waiting: list[_Open], pairs: dict[int, _Open], begin: float, grace_s: float, threshold: float
) -> dict[int, _Open]:
    taken = {id(known) for known in pairs.values()}
    lost = [known for known in waiting if id(known) not in taken]
    new = [n for n, row in enumerate(part.rows) if n not in pairs and row.started <= begin + grace_s]
    if not lost or not new:
        return {}
    everybody = [known.visit for known in waiting] + part.rows
    total = np.sum([row.embedding for row in everybody], axis=0)
    offset = (total / (len(everybody) + SHRINK)).astype(np.float32)
    looks = centred(np.array([part.rows[n].embedding for n in new]), offset)
    lost_looks = centred(np.array([known.visit.embedding for known in lost]), offset)
    tracks = [_track(n, part.rows[n].first_box, part.rows[n].started, part.rows[n].started) for n in new]
    earlier = [_track(n, k.visit.last_box, k.visit.started, k.visit.ended) for n, k in enumerate(lost)]
    found = reunite(tracks, earlier, looks, lost_looks, threshold)
    return {a.number: lost[b.number] for a, b in found if a.first_seen - b.last_seen <= grace_s}


def _track(number: int, box: np.ndarray, first: float, last: float) -> Track:
    return Track(number, np.asarray(box, np.float32), 1.0, first, last, -1, np.zeros((5, 4)))


def order_of(about: dict[str, float]) -> tuple[float, float]:
    """Of parts of one camera: by time, and within a video by number."""
    return about["started"] + (0.0 if math.isinf(about["begin"]) else about["begin"]), about["number"]
