"""Who waits for whom at the engine: frames in which something moves, looks at still scenes, people to describe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from personsearch.core.bundle import read_manifest
from personsearch.core.cut_out import CutOut
from personsearch.core.quality import Quality
from personsearch.core.records import Detections
from personsearch.core.tracking.tracker import Tracker, TrackingSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.cameras.rhythm import Rhythm
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.recognition import Want
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.processes.inference import Found, Inference
from personsearch.runtime.processes.scheduler import Scheduler
from personsearch.runtime.settings import SchedulingSettings, StreamSettings, default_bundle

PICTURE = np.zeros((40, 20, 3), np.uint8)


def stream(*cameras: dict[str, Any]) -> StreamSettings:
    return StreamSettings.model_validate({"cameras": cameras, "box": "test"})


def waiting(name: str, moment: float, look: bool = False) -> Camera:
    (settings,) = stream({"name": name, "url": "film.avi"}).cameras
    camera = Camera(settings, lambda *_: None)
    camera.state = "online"
    camera.pending.append(Frame(name, PICTURE, 0, 0.0, moment, look=look))
    return camera


def test_looks_that_fall_due_together_let_a_busy_camera_through() -> None:
    scheduler = Scheduler(SchedulingSettings(), batch=1)
    busy = waiting("busy", 10.2)
    cameras = [*(waiting(f"still{number}", 9.9, look=True) for number in range(4)), busy]
    busy.last_served, served = 10.1, []
    for turn in range(8):
        now = 10.25 + 0.03 * turn
        served += [frame.camera for frame in scheduler.choose(cameras, False, 0.03, now)]
        if not busy.pending and turn < 5:
            busy.pending.append(Frame("busy", PICTURE, 0, 0.0, now))
    assert ["busy" if name == "busy" else "look" for name in served[:6]] == ["look", "busy"] * 3
    assert len(set(served) - {"busy"}) == 4  # each had its look,
    assert not any(camera.counters.dropped for camera in cameras)  # and in time


def test_a_look_waits_for_a_gap_between_frames_in_which_something_moves() -> None:
    scheduler, still, busy = Scheduler(SchedulingSettings(), batch=1), waiting("still", 10.0, look=True), busy_camera()
    assert [f.camera for f in scheduler.choose([still, busy], False, 0.05, 10.0)] == ["busy"]
    assert scheduler.choose([still, busy], False, 0.05, 10.08) == []  # its next frame comes in 20 ms
    assert [f.camera for f in scheduler.choose([still, busy], False, 0.05, 10.05)] == ["still"]


def test_a_look_for_which_no_gap_comes_is_not_put_off_for_long_and_never_dropped_before_the_next() -> None:
    scheduler, still, busy = Scheduler(SchedulingSettings(), batch=1), waiting("still", 9.6, look=True), busy_camera()
    assert [f.camera for f in scheduler.choose([still, busy], False, 0.2, 10.0)] == ["still"]
    late, later = waiting("late", 9.0, look=True), waiting("later", 7.9, look=True)
    assert [f.camera for f in scheduler.choose([late, later], False, 0.2, 10.0)] == ["late"]
    assert later.counters.dropped == {"stale": 1}


def busy_camera() -> Camera:
    """Ten frames a second, of which the latest waits since 10.0."""
    camera = waiting("busy", 10.0)
    for moment in (9.8, 9.9, 10.0):
        camera.rhythm.note(moment, look=False)
    return camera


def test_a_rhythm_is_known_from_two_frames_on_and_ends_with_a_look_or_a_pause() -> None:
    rhythm = Rhythm()
    rhythm.note(1.0, look=False)
    assert not rhythm.due(1.1, 10)
    rhythm.note(1.1, look=False)
    assert rhythm.expected == pytest.approx(1.2)
    assert rhythm.due(1.19, 0.02)
    assert not rhythm.due(1.1, 0.05)
    assert rhythm.due(1.25, 0.02)  # it is late
    assert not rhythm.due(1.35, 0.02)  # it does not come any more
    rhythm.note(1.2, look=True)
    assert not rhythm.due(1.29, 0.02)
    rhythm.note(1.3, look=False)
    assert not rhythm.due(1.39, 0.02)
    rhythm.note(1.4, look=False)
    assert rhythm.due(1.49, 0.02)
    rhythm.note(4.0, look=False)
    assert not rhythm.due(4.1, 10)


class Calm(Inference):
    """An engine that never answers by itself: what it is given is noted."""

    def __init__(self) -> None:
        super().__init__({"bundle": "", "engine": "", "threads": 1}, read_manifest(default_bundle()), None, print)  # type: ignore[arg-type]

    def tick(self, now: float) -> None:
        pass

    @property
    def idle(self) -> bool:
        return not self.batch and not self.describing

    def submit(self, frames: Sequence[Frame], min_score: float | None, now: float) -> None:
        self.batch = list(frames)

    def describe(self, views: Sequence[tuple[np.ndarray, np.ndarray]], now: float) -> None:
        self.describing = len(views)


@pytest.fixture
def pipeline() -> Pipeline:
    manifest = read_manifest(default_bundle())
    cameras = {"name": "street", "url": "film.avi"}, {"name": "tape", "url": "film.avi", "pace": "fast"}
    gallery = Gallery(manifest.model_hash, manifest.dimensions)
    made = Pipeline(stream(*cameras), default_bundle(), manifest, gallery, lambda _event: None)
    made.inference = made.describing.inference = Calm()
    return made


def wish_for(pipeline: Pipeline, camera: str, views: Sequence[int]) -> None:
    """People in a camera who should be described, each with so many views already."""
    boxes = np.array([[50.0 * n, 10, 50 * n + 40, 110] for n in range(len(views))], np.float32)
    found = Detections(boxes, np.full(len(boxes), 0.9), np.zeros((len(boxes), 0)))
    tracks = Tracker(TrackingSettings(), 0.3).update(found, 0.0)
    box, quality = np.array([0, 0, 20, 40], np.float32), Quality(1, 1, 1, 1, 1)
    pipeline.people.of(camera).moment = 0.0
    pipeline.people.of(camera).wants = {
        track.number: Want(track, CutOut(PICTURE, box, box), box, quality, 0.0, 0.0, False, count)
        for track, count in zip(tracks, views, strict=True)
    }


@pytest.mark.parametrize(
    ("views", "moment", "overdue_s", "chosen"),
    [
        ((5, 0, 1, 0, 5), 0.1, 1.0, [0]),  # one who is hardly known,
        ((5, 5, 5), 0.1, 1.0, []),  # of the others nobody,
        ((5, 5, 5), 1.0, 1.0, [5]),  # unless it is overdue
        ((5, 5, 5), 0.1, 0.0, [5]),
        ((5, 0, 5), 0.1, 0.0, [0]),
        ((), 0.1, 0.0, []),
    ],
)
def test_of_live_cameras_one_is_described_who_is_hardly_known_or_overdue(
    pipeline: Pipeline, views: Sequence[int], moment: float, overdue_s: float, chosen: list[int]
) -> None:
    wish_for(pipeline, "street", views)
    pipeline.people.of("street").moment = moment
    assert [want.views for _, want in pipeline.people.choose(["street"], 0.0, overdue_s)] == chosen
    assert len(pipeline.people.of("street").wants) == len(views) - len(chosen)  # the others wait on


@pytest.mark.parametrize(("load", "waited", "begins"), [(0.2, 0.0, True), (0.8, 0.2, False), (0.8, 0.3, True)])
def test_between_frames_a_busy_engine_describes_those_who_have_waited(
    pipeline: Pipeline, load: float, waited: float, begins: bool
) -> None:
    wish_for(pipeline, "street", (5, 5))
    pipeline.people.of("street").moment = waited
    pipeline.describing.meanwhile(pipeline.cameras, load, 0.0)
    assert pipeline.inference.describing == begins


def test_frames_of_a_file_at_full_pace_wait_for_descriptions_and_live_ones_do_not(pipeline: Pipeline) -> None:
    for name, waits in (("street", False), ("tape", True)):
        wish_for(pipeline, name, (0, 0))
        assert pipeline.describing.after([pipeline.camera(name)], looks=False, now=0.0) == waits
        assert pipeline.inference.describing == 1 + waits
        pipeline.inference.describing = 0


def test_a_file_at_full_pace_is_described_four_at_a_time(pipeline: Pipeline) -> None:
    wish_for(pipeline, "tape", (5, 5, 0, 1, 0, 5))
    assert [want.views for _, want in pipeline.people.choose(["tape"], 0.0)] == [0, 1, 0, 5]


def test_whoever_is_left_is_described_while_no_frame_waits(pipeline: Pipeline) -> None:
    engine, street = pipeline.inference, pipeline.camera("street")
    wish_for(pipeline, "street", (0, 0, 0, 5))
    wish_for(pipeline, "tape", (0, 0))  # its frames wait for these themselves
    street.pending.append(Frame("street", PICTURE, 0, 0.0, 1e9))
    pipeline.turn()
    assert engine.batch
    assert not engine.describing  # the frame comes first,
    engine.batch = []
    described = []
    while not described or described[-1]:
        pipeline.describing.learn(np.zeros((engine.describing, pipeline.manifest.dimensions), np.float32))
        engine.describing = 0
        pipeline.turn()
        described.append(engine.describing)
    assert described == [1, 1, 1, 1, 0]  # then the others
    assert len(pipeline.people.of("tape").wants) == 2


def test_after_a_look_nobody_is_described_while_something_moves_behind_it(pipeline: Pipeline) -> None:
    engine, street = pipeline.inference, pipeline.camera("street")
    nobody = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
    wish_for(pipeline, "street", (0, 0))

    def looked(moment: float) -> None:
        found = Found([Frame("street", PICTURE, 0, 0.0, moment, look=True)], [nobody])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "read", lambda: found)
            pipeline._read_results()

    moving = Frame("street", PICTURE, 1, 0.0, 1e9)
    street.pending.append(moving)
    looked(1e9 - 1)
    assert (engine.batch, engine.describing) == ([moving], 0)
    engine.batch = []
    street.rhythm.note(1e9, False)
    street.rhythm.note(1e9 + 1, False)
    engine.mean_s = 0.05
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: 1e9 + 1.98)  # the next one is due in 20 ms,
        looked(1e9 + 1)
        assert (engine.batch, engine.describing) == ([], 0)
        patch.setattr(time, "monotonic", lambda: 1e9 + 1.5)  # in half a second
        looked(1e9 + 1)
        assert (engine.batch, engine.describing) == ([], 1)
