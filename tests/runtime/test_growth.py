"""A gallery that grows by what the stream is sure of: what it takes, what it refuses, and how it takes it back."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import wait_for

from personsearch.core.bundle import read_manifest
from personsearch.runtime.decisions.evidence import Decision
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import load_gallery, save_gallery, undo
from personsearch.runtime.decisions.people import People
from personsearch.runtime.decisions.sighting import Evidence, SeenView, Sighting, SightingChange, Stay
from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.operations.audit import AuditLog, verify
from personsearch.runtime.operations.growth import GROWN, Growth
from personsearch.runtime.operations.place import Place
from personsearch.runtime.settings import StreamSettings, default_bundle

MANIFEST = read_manifest(default_bundle())
D = MANIFEST.dimensions
BOX = np.array([10, 10, 50, 130], np.float32)
SURE = Decision("recognised", "Ada", 0.8, 9.0, "Bo", 0.6, 8, 0.8, 0.01, 0.4)


def looks(person: int, change: float = 0.0, seed: int = 0) -> np.ndarray:
    """(D,) a person's look; `change` is how much of it is another coat."""
    coat = np.random.default_rng((person, seed, 7)).normal(size=D)
    vector = np.eye(D)[person] + change * coat / np.linalg.norm(coat)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@dataclass
class Grower:
    growth: Growth
    pipeline: Any
    path: Path
    events: list[dict]

    def see(self, number: int = 1, change: float = 0.6, seed: int = 0, camera: str = "door", decision: Decision = SURE,
            person: int = 0, quality: float = 0.8) -> str:  # fmt: skip
        """One visit in one camera, which ends; gives the sighting's id."""
        stay = Stay(camera, 1.0, 9.0, number, [SeenView(looks(person, change, seed), quality, BOX)])
        ada = self.pipeline.people.gallery.id_of("Ada")
        visit = Sighting(f"s-{number:016x}", "Ada", None, 1.0, 9.0, [stay], Evidence(decision, camera, number, BOX),
                         person_id=ada)  # fmt: skip
        for listener in self.pipeline.sightings.stay_listeners:
            listener(visit, stay)
        return visit.id

    def correct(self, sighting: str) -> None:
        ada = self.pipeline.people.gallery.id_of("Ada")
        told = SightingChange(Sighting(sighting, None, None, 1.0, 9.0), "corrected", "doubt", "door", previous=ada)
        for listener in self.pipeline.sightings.listeners:
            listener(told)

    def told(self, count: int) -> list[str]:
        """The states of the events, when there are so many."""
        wait_for(lambda: [job(0.0) for job in self.pipeline.every_second] and len(self.events) >= count, 20)
        return [event["state"] for event in self.events]

    def views(self) -> list[EnrolledView]:
        return load_gallery(self.path, MANIFEST.model_hash, D).views_of("Ada")


@pytest.fixture
def make(tmp_path: Path) -> Any:
    made: list[Growth] = []

    def build(url: str = "rtsp://127.0.0.1/x", **growth: object) -> Grower:
        gallery = Gallery(MANIFEST.model_hash, D)
        for number, name in enumerate(("Ada", "Bo", "Cy")):
            gallery.add(name, EnrolledView(looks(number)))
        path = tmp_path / "people.gallery"
        save_gallery(gallery, path)
        settings = StreamSettings.model_validate({
            "cameras": [{"name": "door", "url": url}, {"name": "yard", "url": url}], "gallery": str(path),
            "growth": {"enabled": True, **growth},
        })  # fmt: skip
        people = People(settings, MANIFEST, gallery)
        for camera in settings.cameras:
            people.add(camera)
        events: list[dict] = []
        listeners = SimpleNamespace(listeners=[], stay_listeners=[])
        pipeline = SimpleNamespace(
            people=people, sightings=listeners, every_second=[], publish=events.append, events=EventFactory("box")
        )
        reload: Callable[[], None] = lambda: people._take(load_gallery(path, MANIFEST.model_hash, D))  # noqa: E731
        place = Place(path, MANIFEST.model_hash, D, audit=AuditLog(f"{path}.audit"))
        made.append(Growth(pipeline, place, reload))
        return Grower(made[-1], pipeline, path, events)

    yield build
    for growth in made:
        growth.close()


def test_a_sure_view_that_says_something_new_is_kept_told_audited_and_undone(make: Callable[..., Grower]) -> None:
    box = make()
    sighting = box.see()
    assert box.told(1) == ["grown"]
    event = box.events[0]
    assert (event["source"], event["person"]) == ("door", load_gallery(box.path, MANIFEST.model_hash, D).id_of("Ada"))
    assert sighting in event["reason"]
    assert "Ada" not in str(event)
    kept = box.views()
    assert len(kept) == 2
    assert (kept[1].origin, kept[1].source) == (f"{GROWN}{sighting}", "door")
    np.testing.assert_allclose(kept[1].embedding, looks(0, 0.6), atol=1e-6)
    assert "gallery-grown" in Path(f"{box.path}.audit").read_text()
    assert not verify(Path(f"{box.path}.audit")).fault
    undo(box.path, MANIFEST.model_hash, D)
    assert len(box.views()) == 1


@pytest.mark.parametrize(
    ("why", "seen"),
    [
        ("nothing new", {"change": 0.1}),
        ("not sure enough", {"decision": replace(SURE, false_names_per_day=5.0)}),
        ("too few views", {"decision": replace(SURE, views=4)}),
        ("a poor picture", {"quality": 0.3}),
        ("this view looks like Bo", {"person": 1}),
        ("this view looks like nobody", {"person": 5}),
        ("a camera that is unknown", {"camera": "attic"}),
    ],
)
def test_what_teaches_nothing(make: Callable[..., Grower], why: str, seen: dict) -> None:
    box = make()
    box.see(1, **seen)
    box.see(2)  # what came before is done when this is
    box.told(1)
    assert [view.origin for view in box.views()][1:] == [f"{GROWN}s-{2:016x}"], why


def test_files_teach_nothing_so_that_they_give_the_same_events_again(make: Callable[..., Grower]) -> None:
    box = make(url="street.mp4")
    box.see()
    box.growth.close()
    assert len(box.views()) == 1


def test_so_many_views_and_no_more_and_never_one_that_was_enrolled(make: Callable[..., Grower]) -> None:
    box = make(most_views=2)
    for number in range(1, 5):
        box.see(number, 0.7, seed=number)
        assert box.told(number) == ["grown"] * number
    kept = box.views()
    assert [view.origin for view in kept] == ["", f"{GROWN}s-{3:016x}", f"{GROWN}s-{4:016x}"]


def test_a_correction_takes_the_view_back_and_the_sighting_teaches_no_more(make: Callable[..., Grower]) -> None:
    box = make()
    one, two = box.see(1, seed=1), box.see(2, seed=2)
    box.told(2)
    box.correct(one)
    assert box.told(3)[-1] == "taken_back"
    assert [view.origin for view in box.views()[1:]] == [f"{GROWN}{two}"]
    box.see(1, seed=1)
    box.correct("s-of-another")
    box.see(3, seed=3)
    assert box.told(4)[-1] == "grown"
    assert len(box.views()) == 3


def test_somebody_forgotten_meanwhile_is_not_enrolled_again(make: Callable[..., Grower]) -> None:
    box = make()
    with box.growth._place.changing("removed") as gallery:
        gallery.remove("Ada")
    box.see()
    box.growth.close()
    assert "Ada" not in load_gallery(box.path, MANIFEST.model_hash, D)


def test_a_gallery_that_cannot_be_written_is_told_and_the_stream_goes_on(make: Callable[..., Grower]) -> None:
    box = make()
    content = box.path.read_bytes()
    box.path.write_bytes(b"damaged")
    box.see()
    assert box.told(1) == ["failed"]
    box.path.write_bytes(content)
    box.see(2)
    assert box.told(2) == ["failed", "grown"]
