"""Real sightings reach the history and the recorder: one visit in two cameras, found, filmed, and forgotten."""

import time
from pathlib import Path

import cv2
import pytest
import test_sightings
from test_sightings import MODEL, ODDS, Box, D, looks, settings_of

from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.history.searching import Range, search
from personsearch.runtime.history.store import History
from personsearch.runtime.recording.files import forget_person
from personsearch.runtime.recording.recorder import Recorder
from personsearch.runtime.settings import HistorySettings, RecordSettings


def test_a_visit_in_two_cameras_is_kept_filmed_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_sightings, "WALL", time.time() - 600)
    history = History(HistorySettings(path=str(tmp_path / "history"), crops=True), MODEL, D)
    recorder = Recorder(RecordSettings(mode="sightings", folder=str(tmp_path / "clips"), blur=True, snapshots=True))
    box = Box(settings_of(("door", "yard"), next_to={"yard": "0-60s"}))
    box.sightings.stay_listeners.append(history.add)
    box.sightings.listeners.append(recorder.on_change)
    see = box.sightings.see

    def see_and_watch(frame, recognition, matches) -> None:  # as the pipeline does
        see(frame, recognition, matches)
        history.look(frame, recognition.tracks, matches)
        recorder.write(frame, recognition.tracks, matches)

    monkeypatch.setattr(box.sightings, "see", see_and_watch)
    box.watch("door", 0, 6, {0: 100})
    box.watch("door", 6, 12, {})
    box.watch("yard", 8, 14, {0: 300})
    box.watch("yard", 14, 40, {})
    box.sightings.close()
    history.close()
    recorder.close()
    found = search(
        tmp_path / "history", [EnrolledView(looks(0, 99))], MODEL, Range(), lambda _: None, lambda _: ODDS, 10
    )
    ada = box.gallery.id_of("Ada")
    assert {(hit.camera, hit.person) for hit in found.hits} == {("door", ada), ("yard", ada)}
    assert len({hit.sighting for hit in found.hits}) == 1
    assert all(hit.crop and hit.similarity > 0.9 for hit in found.hits)
    clips = {path.name.partition(".")[0]: path for path in (tmp_path / "clips").glob("*.mp4")}
    assert all(cv2.VideoCapture(str(path)).read()[0] for path in clips.values())
    assert sorted(clips) == ["door", "yard"]
    assert history.forget_person(ada) == 2
    assert forget_person(tmp_path / "clips", ada) >= 2
    assert not any(ada.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
