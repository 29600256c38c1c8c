"""Which tracks are enrolled people, and when to say so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from personsearch.core.tracker import Track
from personsearch.runtime.gallery import Gallery
from personsearch.runtime.settings import MatchSettings


@dataclass(frozen=True)
class Match:
    track: Track
    person: str
    similarity: float


def best_matches(tracks: list[Track], gallery: Gallery, threshold: float) -> list[Match]:
    """Tracks of one frame against the gallery: nobody is in two places at once, so each person gets the most
    similar track, and each track its most similar free person, if the similarity reaches the threshold."""
    if not tracks or not gallery.people:
        return []
    similarity = gallery.similarities(np.array([t.embedding for t in tracks]))
    matches: list[Match] = []
    rows: set[int] = set()
    people: set[int] = set()
    for flat in np.argsort(-similarity, axis=None, kind="stable"):
        row, person = divmod(int(flat), len(gallery.people))
        value = float(similarity[row, person])
        if not value >= threshold:  # also for a value that is not a number
            break
        if row not in rows and person not in people:
            rows.add(row)
            people.add(person)
            matches.append(Match(tracks[row], gallery.people[person], value))
    return matches


class Announcer:
    """Says a match once, and again every `repeat_s` while it lasts; a changed name is said at once."""

    def __init__(self, settings: MatchSettings) -> None:
        self.settings = settings
        self._said: dict[tuple[str, int], tuple[str, float]] = {}

    def due(self, camera: str, match: Match, now: float) -> bool:
        key = (camera, match.track.number)
        person, when = self._said.get(key, ("", -np.inf))
        if person == match.person and now - when < self.settings.repeat_s:
            return False
        self._said[key] = (match.person, now)
        return True

    def forget_before(self, moment: float) -> None:
        self._said = {key: value for key, value in self._said.items() if value[1] >= moment}
