"""Who it is: cameras' means, evidence of tracks, looks that are taken once, one place for each person."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from personsearch.core.bundle import read_manifest
from personsearch.core.errors import ConfigError, GalleryError
from personsearch.core.odds import Odds
from personsearch.core.records import Detections
from personsearch.core.tracking.tracker import Tracker, TrackingSettings
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.calibration import (
    CameraCalibration,
    calibration_file,
    load_calibration,
    save_calibration,
)
from personsearch.runtime.decisions.camera_means import load_means, save_means
from personsearch.runtime.decisions.centring import PrototypeMean, StoredMean, centred
from personsearch.runtime.decisions.evidence import LOOKS, SHARES, Decision, TrackEvidence, View
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import FIRST_FORMAT, load_gallery, save_gallery
from personsearch.runtime.decisions.judge import Judge, check_target
from personsearch.runtime.decisions.lineup import Lineup
from personsearch.runtime.decisions.people import Budget, People
from personsearch.runtime.decisions.recognition import Recognition
from personsearch.runtime.operations.measuring import tail_points
from personsearch.runtime.settings import DescribeSettings, MatchSettings, StreamSettings, default_bundle

D, MODEL = 32, "a" * 16
ODDS = Odds.model_validate(
    {
        "impostor": [[0.0, 0.5], [0.2, 0.05], [0.4, 0.001], [0.6, 0.00001]],
        "evidence": [{"views": 1, "slope": 30.0, "offset": -6.0}, {"views": 5, "slope": 32.0, "offset": -9.5}],
        "pairs": 100_000,
    }
)


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def look(person: int, noise: float = 0.0, seed: int = 0, shift: np.ndarray | None = None) -> np.ndarray:
    vector = np.eye(D)[person] + noise * np.random.default_rng((person, seed)).normal(size=D) / np.sqrt(D)
    return unit(vector + (0 if shift is None else shift))


# --- means of cameras ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost_after_s", "every_s"), [(1.5, 0.5), (0.6, 0.2)])
def test_people_who_do_not_move_are_looked_at_before_they_count_as_lost(lost_after_s: float, every_s: float) -> None:
    manifest = read_manifest(default_bundle())
    settings = StreamSettings.model_validate(
        {"cameras": [{"name": "yard", "url": "rtsp://127.0.0.1/x"}], "tracking": {"lost_after_s": lost_after_s}}
    )
    people = People(settings, manifest, Gallery(manifest.model_hash, manifest.dimensions))
    assert people.watch_every_s("yard") == np.inf  # not there yet
    people.add(settings.cameras[0])
    assert people.watch_every_s("yard") == np.inf
    seen = []
    for number in range(22):
        one = Detections(np.array([[10, 10, 50, 130]]), np.array([0.9]), np.zeros((1, 0)))
        people.see(Frame("yard", np.zeros((180, 320, 3), np.uint8), number, 0.0, number / 10, moment=number / 10), one)
        seen.append(people.watch_every_s("yard"))
    assert seen == pytest.approx([0.0] * 20 + [every_s] * 2)


def test_a_camera_that_saw_nobody_changes_nothing() -> None:
    mean = PrototypeMean(D)
    assert not mean.offset(0.0).any()
    assert np.allclose(centred(look(3), mean.offset(0.0)), look(3))


def test_a_person_who_stands_there_for_an_hour_counts_once() -> None:
    mean = PrototypeMean(D)
    for second in range(3600):
        mean.see(1, look(0, 0.3, second), float(second))
    assert mean.state(3600.0)[1] == pytest.approx(1.0, abs=0.1)


def test_a_camera_that_only_ever_sees_two_people_takes_little_off() -> None:
    mean = PrototypeMean(D)
    for track in range(200):
        mean.see(track, look(track % 2, 0.2, track), float(track))
    _, count = mean.state(200.0)
    assert count < 3
    assert np.linalg.norm(mean.offset(200.0)) < 0.35


def test_what_a_camera_does_to_everybody_is_taken_off() -> None:
    shift = 0.8 * unit(np.ones(D))
    mean = PrototypeMean(D)
    for person in range(20):
        mean.see(person, look(person, 0.1, 1, shift), float(person))
    offset = mean.offset(20.0)
    strangers = [look(p, 0.1, 2, shift) for p in range(20, 30)]
    plain = np.mean([a @ b for a in strangers for b in strangers if a is not b])
    after = np.mean([centred(a, offset) @ centred(b, offset) for a in strangers for b in strangers if a is not b])
    assert plain > 0.3
    assert after < plain / 2


def test_a_mean_forgets_slowly() -> None:
    mean = PrototypeMean(D)
    for person in range(10):
        mean.see(person, look(person), 0.0)
    assert mean.state(0.0)[1] == pytest.approx(10)
    assert mean.state(12 * 3600.0)[1] == pytest.approx(5)


def test_what_is_no_number_moves_no_mean() -> None:
    mean = PrototypeMean(D)
    mean.see(1, np.full(D, np.nan), 0.0)
    assert mean.state(0.0)[1] == 0


def test_means_are_kept_and_bad_ones_are_learnt_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "people.gallery.means"
    assert load_means(path, MODEL, D) == {}
    good, bad = StoredMean(look(1) * 0.3, 7.0, 100.0), StoredMean(np.full(D, np.nan, np.float32), 3.0, 100.0)
    save_means(path, {"yard": good, "door": bad}, MODEL)
    assert path.stat().st_mode & 0o077 == 0
    found = load_means(path, MODEL, D)
    assert set(found) == {"yard"}
    assert np.allclose(found["yard"].mean, good.mean)
    assert "door" in caplog.text
    assert load_means(path, "b" * 16, D) == {}
    path.write_bytes(path.read_bytes()[:50])
    assert load_means(path, MODEL, D) == {}


def test_a_restored_mean_counts_as_it_did(tmp_path: Path) -> None:
    mean = PrototypeMean(D)
    for person in range(8):
        mean.see(person, look(person), 0.0)
    again = PrototypeMean(D, mean.to_store(0.0))
    assert np.allclose(again.offset(0.0), mean.offset(0.0))


# --- the gallery --------------------------------------------------------------------------------------------------


def gallery(*people: tuple[str, list[np.ndarray]], source: str = "picture") -> Gallery:
    made = Gallery(MODEL, D)
    for name, views in people:
        for view in views:
            made.add(name, EnrolledView(view, source))
    return made


def test_views_keep_their_camera_and_quality_and_old_galleries_are_upgraded(tmp_path: Path) -> None:
    made = gallery(("Bo", [look(1)]), ("Ada", [look(0), look(2)]), source="yard")
    save_gallery(made, tmp_path / "g")
    again = load_gallery(tmp_path / "g", MODEL, D)
    assert again.names == ["Ada", "Ada", "Bo"]
    assert again.sources == ["yard"] * 3
    with open(tmp_path / "old", "wb") as file:
        np.savez(
            file, format=np.array(FIRST_FORMAT), model_hash=np.array(MODEL), names=np.array(["Ada"]),
            embeddings=look(0)[None],
        )  # fmt: skip
    old = load_gallery(tmp_path / "old", MODEL, D)
    assert old.sources == ["picture"]
    with pytest.raises(GalleryError, match="enrol anew"):
        load_gallery(tmp_path / "old", "b" * 16, D)


def test_a_gallery_with_sources_that_do_not_fit_is_damaged(tmp_path: Path) -> None:
    with open(tmp_path / "g", "wb") as file:
        np.savez(
            file, format=np.array("personsearch-gallery/2"), model_hash=np.array(MODEL), names=np.array(["Ada"]),
            embeddings=look(0)[None], sources=np.array(["a", "b"]), qualities=np.array([1.0]),
        )  # fmt: skip
    with pytest.raises(GalleryError, match="damaged"):
        load_gallery(tmp_path / "g", MODEL, D)


def test_a_person_enrolled_from_two_sides_is_known_from_each() -> None:
    front, back = look(0), look(1)
    made = gallery(("Ada", [front, back]), ("Bo", [look(2)]), source="yard")
    lineup = Lineup(made, lambda _: np.zeros(D, np.float32))
    similarity = lineup.similarities(np.array([front, back, look(2), look(9)]))
    assert similarity.shape == (4, 2)
    assert similarity[0, 0] > 0.8
    assert similarity[1, 0] > 0.8
    assert similarity[2, 1] == pytest.approx(1.0)
    assert similarity[3].max() < 0.1


def test_an_empty_gallery_has_no_similarities() -> None:
    assert Lineup(Gallery(MODEL, D), lambda _: None).similarities(look(0)[None]).shape == (1, 0)


# --- looks and decisions ------------------------------------------------------------------------------------------


def evidence(views: list[np.ndarray]) -> TrackEvidence:
    made = TrackEvidence()
    for number, view in enumerate(views):
        made.add(View(view, 0.8, float(number)))
    return made


def judge(made: Gallery, **settings: object) -> Judge:
    return Judge(MatchSettings.model_validate(settings), ODDS, Lineup(made, lambda _: np.zeros(D, np.float32)))


def test_the_error_budget_is_spent_once() -> None:
    assert len(LOOKS) == len(SHARES)
    assert sum(SHARES) == pytest.approx(1.0)
    track = TrackEvidence()
    taken = []
    for number in range(40):
        track.add(View(look(0, 0.5, number), 0.5, float(number)))
        if (due := track.due()) is not None:
            taken.append((track.described, due))
            track.looks = due + 1
    assert taken == [(count, number) for number, count in enumerate(LOOKS)]


def test_nobody_enrolled_decides_nothing() -> None:
    track = evidence([look(0)] * 5)
    judge(Gallery(MODEL, D)).look([track], np.zeros(D))
    assert track.decision.state == "not_yet"


def test_a_person_is_recognised_a_stranger_is_not_and_the_decision_says_why() -> None:
    decide = judge(gallery(("Ada", [look(0)]), ("Bo", [look(1)])))
    ada, stranger = evidence([look(0, 0.4, n) for n in range(5)]), evidence([look(7, 0.4, n) for n in range(5)])
    decide.look([ada, stranger], np.zeros(D))
    assert (ada.decision.state, ada.decision.person, ada.decision.runner_up) == ("recognised", "Ada", "Bo")
    assert ada.decision.views == 5
    assert ada.decision.log_likelihood_ratio > 5
    assert ada.decision.margin > 0.5
    assert 0 < ada.decision.false_names_per_day < 1
    assert ada.decision.quality == pytest.approx(0.8)
    assert stranger.decision.state == "unknown"


def test_somebody_who_looks_like_two_people_is_neither() -> None:
    decide = judge(gallery(("Ada", [look(0)]), ("Bo", [look(1)])))
    between = evidence([unit(look(0) + look(1))] * 5)
    decide.look([between], np.zeros(D))
    assert between.decision.state == "possible"


def test_a_name_stays_while_nobody_else_fits_better() -> None:
    decide = judge(gallery(("Ada", [look(0)]), ("Bo", [look(1)])))
    track = evidence([look(0)] * 5)
    decide.look([track], np.zeros(D))
    for number in range(5):  # turned round
        track.add(View(look(9, 0.1, number), 0.9, 5.0 + number))
    decide.look([track], np.zeros(D))
    assert (track.decision.state, track.decision.person) == ("recognised", "Ada")


def test_fewer_false_names_ask_for_more_similarity() -> None:
    made = gallery(*((f"P{n}", [look(n)]) for n in range(20)))
    thresholds = [judge(made, false_names_per_day=wanted).threshold() for wanted in (100, 10, 1)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[2]
    assert judge(made, threshold=0.7).threshold() == 0.7


def test_a_target_that_the_data_cannot_support_is_refused_with_what_can_be_had() -> None:
    with pytest.raises(ConfigError, match=r"at least .* or measure on your own cameras"):
        check_target(MatchSettings(false_names_per_day=0.001), ODDS, 20)
    check_target(MatchSettings(), ODDS, 100_000)  # nobody asked: the strictest is taken
    check_target(MatchSettings(threshold=0.5), ODDS, 20)


# --- one camera ---------------------------------------------------------------------------------------------------


class Scene:
    """A camera of people with known looks, who are described as soon as they are wanted."""

    def __init__(self, made: Gallery, **describe: object) -> None:
        settings = DescribeSettings.model_validate({"min_quality": 0} | describe)
        tracker = Tracker(TrackingSettings(), 0.3)
        self.recognition = Recognition(tracker, settings, PrototypeMean(D), judge(made))
        rng = np.random.default_rng(0)
        self.image = rng.integers(0, 255, (400, 600, 3), np.uint8)
        self.asked = 0

    def frame(self, number: int, people: dict[int, tuple[float, float]], scores: float = 0.9) -> list[tuple[str, int]]:
        """people: who -> centre. Gives the names and tracks of the matches."""
        moment = number / 10
        boxes = np.array([[x - 20, y - 60, x + 20, y + 60] for x, y in people.values()], np.float32).reshape(-1, 4)
        found = Detections(boxes, np.full(len(boxes), scores), np.zeros((len(boxes), 0)))
        self.recognition.see(self.image, found, moment, moment)
        for want in list(self.recognition.wants.values()):
            centre = (want.track.box[:2] + want.track.box[2:]) / 2
            who = min(people, key=lambda p: float(np.hypot(*(np.array(people[p]) - centre))))
            self.asked += 1
            self.recognition.learn(want, look(who, 0.3, number), moment)
        return [(m.person, m.track.number) for m in self.recognition.decide(moment)]


def test_an_empty_frame_matches_nobody() -> None:
    assert Scene(gallery(("Ada", [look(0)]))).frame(0, {}) == []


def test_a_track_is_described_a_few_times_and_not_in_each_frame() -> None:
    scene = Scene(gallery(("Ada", [look(0)])))
    said = [scene.frame(n, {0: (100 + 2 * n, 200)}) for n in range(100)]
    assert said[-1] == [("Ada", 1)]
    first = next(n for n, names in enumerate(said) if names)
    assert first <= 10
    assert scene.asked <= 12


def test_whoever_was_lost_for_seconds_goes_on_under_the_same_number() -> None:
    scene = Scene(gallery(("Ada", [look(0)])))
    for n in range(30):
        scene.frame(n, {0: (100 + 2 * n, 200)})
    for n in range(30, 60):
        scene.frame(n, {})
    said = [scene.frame(n, {0: (180 + 2 * (n - 60), 200)}) for n in range(60, 90)]
    assert said[-1] == [("Ada", 1)]
    assert scene.recognition.reunited == 1


def test_a_track_that_moves_onto_somebody_else_loses_the_name() -> None:
    scene = Scene(gallery(("Ada", [look(0)])))
    for n in range(30):
        scene.frame(n, {0: (200, 200)})
    assert scene.frame(30, {0: (200, 200)}) == [("Ada", 1)]
    for n in range(31, 45):  # nobody for a moment, then another person in the same place
        scene.frame(n, {} if n < 40 else {5: (200, 200)})
    said = [scene.frame(n, {5: (200, 200)}) for n in range(45, 80)]
    assert said[-1] == []
    assert scene.recognition.split == 1


def test_each_person_is_in_one_place() -> None:
    scene = Scene(gallery(("Ada", [look(0)])))
    for n in range(40):
        scene.recognition.see(scene.image, two_boxes(), n / 10, n / 10)
        for want in list(scene.recognition.wants.values()):
            scene.recognition.learn(want, look(0, 0.3 if want.track.box[0] < 200 else 0.8, n), n / 10)
        matches = scene.recognition.decide(n / 10)
    assert [m.person for m in matches] == ["Ada"]
    assert matches[0].track.box[0] < 200


def two_boxes() -> Detections:
    boxes = np.array([[100, 100, 140, 220], [400, 100, 440, 220]], np.float32)
    return Detections(boxes, np.array([0.9, 0.9]), np.zeros((2, 0)))


def test_poor_boxes_are_followed_but_not_named() -> None:
    scene = Scene(gallery(("Ada", [look(0)])))
    for n in range(20):
        scene.frame(n, {0: (200, 200)})
    assert scene.frame(20, {0: (200, 200)}, scores=0.2) == []
    assert scene.recognition.tracks[0].number == 1
    assert scene.frame(21, {0: (200, 200)}) == [("Ada", 1)]


def test_an_embedding_that_is_no_number_is_left_out() -> None:
    scene = Scene(gallery(("Ada", [look(0)])))
    for n in range(5):
        scene.recognition.see(scene.image, two_boxes(), n / 10, n / 10)
        for want in list(scene.recognition.wants.values()):
            scene.recognition.learn(want, np.full(D, np.nan), n / 10)
        assert scene.recognition.decide(n / 10) == []


# --- budget, calibration ------------------------------------------------------------------------------------------


def test_the_budget_is_a_rate_with_two_seconds_in_store() -> None:
    budget = Budget(4.0)
    assert budget.available(0.0) == 8
    budget.spend(8)
    assert budget.available(0.0) == 0
    assert budget.available(1.0) == 4
    assert budget.available(100.0) == 8
    assert budget.available(0.5) == 8  # a clock that went back


def test_a_calibration_is_bound_to_its_model_and_kept_whole(tmp_path: Path) -> None:
    path = calibration_file(tmp_path / "people.gallery")
    assert load_calibration(path, MODEL) == {}
    save_calibration(path, MODEL, {"yard": CameraCalibration(odds=ODDS, passers_by_per_day=312.0)})
    assert load_calibration(path, MODEL)["yard"].passers_by_per_day == 312
    with pytest.raises(GalleryError, match="was measured with model"):
        load_calibration(path, "b" * 16)
    content = json.loads(path.read_text())
    content["cameras"]["yard"]["odds"]["impostor"][0][1] = -1
    path.write_text(json.dumps(content))
    with pytest.raises(GalleryError, match="measure again"):
        load_calibration(path, MODEL)
    path.write_text("{")
    with pytest.raises(GalleryError, match="not valid JSON"):
        load_calibration(path, MODEL)


def test_the_tail_of_a_camera_is_a_curve_that_ends_where_its_pairs_do() -> None:
    scores = np.random.default_rng(0).normal(0, 0.1, 1000)
    points = tail_points(scores)
    assert Odds.model_validate({**ODDS.model_dump(), "impostor": points, "pairs": 1000})
    assert points[-1][1] >= 1e-4
    assert 0.25 < dict((rate, s) for s, rate in points)[0.001] < 0.4


def test_a_decision_before_the_first_look_names_nobody() -> None:
    assert TrackEvidence().decision == Decision("not_yet")
