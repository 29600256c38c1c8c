"""Whatever tracks, names, cameras and galleries do: every visit begins once, ends once, and leaves nothing behind."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from types import SimpleNamespace

import numpy as np
import pytest
from test_sightings import NAMES, PICTURE, WALL, gallery_of, settings_of

from personsearch.core.tracking.tracker import Track
from personsearch.core.zones import ZoneSettings
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.evidence import NOT_YET, Decision, TrackEvidence, View
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.decisions.sighting import Sighting, SightingChange, Stay
from personsearch.runtime.decisions.sightings import Sightings
from personsearch.runtime.delivery.events import EventFactory

CAMERAS = ("door", "yard", "hall")
ZONE = ZoneSettings(name="till", polygon=((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)), kind="entering")


class Chaos:
    """Recognition of all cameras, made up at random: tracks come, break, are rejoined and change their names."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        cameras = [c.model_copy(update={"next_to": {}}) for c in settings_of(CAMERAS).cameras]
        if seed % 2:
            cameras[0] = cameras[0].model_copy(update={"next_to": {"yard": (1.0, 6.0)}, "zones": (ZONE,)})
        self.settings = settings_of(CAMERAS).model_copy(update={"cameras": tuple(cameras)})
        self.gallery = gallery_of(0, 1, 2)
        self.sightings = Sightings(self.settings, self.gallery)
        self.sightings.listeners.append(self.hear)
        self.sightings.stay_listeners.append(self.stay)
        self.factory = EventFactory("box", "0" * 16)
        self.changes: dict[str, list[str]] = {}
        self.stays: Counter[int] = Counter()
        self.kept: list[Stay] = []  # so that no two have one id()
        self.began, self.now = time.monotonic(), 0.0
        self.evidence: dict[str, dict[int, TrackEvidence]] = {name: {} for name in CAMERAS}

    def hear(self, told: SightingChange) -> None:
        event = self.factory.sighting(told, self.gallery, WALL)
        assert event["duration_s"] >= 0
        assert all(stay["from"] <= stay["to"] for stay in event["cameras"])
        assert event["cameras"] or told.change in ("ended", "corrected")
        assert (event["person"] is None) == (told.sighting.person is None)
        self.changes.setdefault(told.sighting.id, []).append(told.change)

    def stay(self, sighting: Sighting, stay: Stay) -> None:
        self.stays[id(stay)] += 1
        self.kept.append(stay)
        assert stay.started <= stay.ended
        assert len(stay.views) <= 5

    def frame(self, camera: str) -> None:
        moment = self.began + self.now
        known = self.evidence[camera]
        numbers = self.random.sample(range(1, 10), self.random.randint(0, 5))
        tracks, matches, taken = [], [], set()
        for number in sorted(numbers):
            box = np.array([self.random.randint(0, 580), 50, 620, 170], np.float32)
            track = Track(number, box, 0.9, moment - 1, moment, 0, np.zeros((5, 4)), confirmed=True)
            evidence = known.setdefault(number, TrackEvidence())
            evidence.add(View(np.ones(4, np.float32) / 2, self.random.random(), moment, box))
            if self.random.random() < 0.3:
                name = self.random.choice([None, *NAMES.values()])
                evidence.decision = Decision("recognised", name, 0.7, 5.0, "Bo", 0.2) if name else NOT_YET
            tracks.append(track)
            name = evidence.decision.person
            if name and name not in taken and name in self.gallery.people:
                taken.add(name)
                matches.append(Match(track, name, evidence.decision))
        joined: deque[tuple[int, int]] = deque()
        if len(numbers) > 1 and self.random.random() < 0.2:
            joined.append((numbers[0], numbers[1]))
        recognition = SimpleNamespace(tracks=tracks, evidence=known, joined=joined)
        frame = Frame(camera, PICTURE, 0, WALL + self.now, moment, picture_size=(640, 200))
        self.sightings.see(frame, recognition, matches)  # type: ignore[arg-type]

    def outside(self) -> None:
        camera, what = self.random.choice(CAMERAS), self.random.random()
        if what < 0.4:
            state, cause = self.random.choice([("offline", "timeout"), ("online", ""), ("ended", "end")])
            self.sightings.camera_state(camera, state, cause)
        elif what < 0.7:
            self.gallery = gallery_of(*self.random.sample((0, 1, 2), self.random.randint(1, 3)))
            for evidence in self.evidence.values():
                for one in evidence.values():
                    one.decision = one.decision if one.decision.person in self.gallery.people else NOT_YET
            touched = [camera] if self.random.random() < 0.5 else []
            self.sightings.apply(self.settings, self.gallery, touched)
        elif what < 0.75:
            self.sightings.engine_gave_up()
        else:
            self.sightings.tick(self.began + self.now + self.random.choice([0, 0, 5, 200]))


@pytest.mark.parametrize("seed", range(6))
def test_every_visit_begins_once_and_ends_once(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(400):
        chaos.now += chaos.random.choice([0.2, 0.2, 0.2, 1.0, 4.0])
        chaos.frame(chaos.random.choice(CAMERAS))
        if chaos.random.random() < 0.1:
            chaos.outside()
    chaos.sightings.close()
    assert len(chaos.changes) > 3
    for changes in chaos.changes.values():
        assert changes[0] == "started"
        assert changes[-1] == "ended"
        assert (changes.count("started"), changes.count("ended")) == (1, 1)
    assert {change for changes in chaos.changes.values() for change in changes} >= {"updated", "corrected"}
    assert chaos.kept
    assert set(chaos.stays.values()) == {1}
    assert chaos.sightings.open == []
    visits = chaos.sightings._visits
    left = [visits.all, visits.waiting, visits._by_person, *visits.present.values(), *visits.tracks.values()]
    assert not any(left)
