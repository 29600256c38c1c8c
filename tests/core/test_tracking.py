"""People are followed by motion alone, in seconds of the stream; looks rejoin and split tracks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from personsearch.core.records import Detections
from personsearch.core.tracking import motion
from personsearch.core.tracking.association import assign, covered
from personsearch.core.tracking.reunite import reunite
from personsearch.core.tracking.tracker import Track, Tracker, TrackingSettings

FPS = 10.0
NOBODY = Detections.empty(0)


def person(x: float, y: float = 100, height: float = 100) -> list[float]:
    return [x, y, x + height * 0.4, y + height]


def found(*boxes: list[float], scores: float | list[float] = 0.9) -> Detections:
    scores = [scores] * len(boxes) if isinstance(scores, float) else scores
    return Detections(np.array(boxes), np.array(scores), np.zeros((len(boxes), 0)))


def walk(tracker: Tracker, frames: list[Detections], start: float = 0.0, step: float = 1 / FPS) -> list[list[Track]]:
    return [tracker.update(detections, start + i * step) for i, detections in enumerate(frames)]


def numbers(tracks: list[Track]) -> list[int]:
    return [t.number for t in tracks]


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(TrackingSettings())


def test_empty_frames_give_no_tracks_and_end_none_too_early(tracker: Tracker) -> None:
    assert walk(tracker, [NOBODY] * 3) == [[], [], []]
    walk(tracker, [found(person(0))] * 3, start=1.0)
    assert walk(tracker, [NOBODY] * 5, start=1.3) == [[]] * 5
    assert numbers(tracker.update(found(person(0)), 1.8)) == [1]


def test_one_person_keeps_one_number_and_is_confirmed_after_some_sightings(tracker: Tracker) -> None:
    seen, confirmed = [], []
    for i in range(20):
        (track,) = tracker.update(found(person(10 * i)), i / FPS)
        confirmed.append(track.confirmed)
        seen.append(track.number)
    assert set(seen) == {1}
    assert confirmed == [False, False] + [True] * 18
    assert (track.first_seen, track.last_seen, track.sightings) == (0.0, 1.9, 20)
    assert np.allclose(track.predicted(2.0), person(200), atol=2)
    assert not track.doubt


def test_a_person_whom_the_detector_never_was_sure_of_is_not_confirmed(tracker: Tracker) -> None:
    tracks = walk(tracker, [found(person(0), scores=0.4)] * 20)[-1]
    assert [t.confirmed for t in tracks] == [False]
    assert tracker.update(found(person(0), scores=0.65), 2.0)[0].confirmed


def test_people_who_cross_keep_their_numbers(tracker: Tracker) -> None:
    doubts = []
    for i in range(26):
        one, other = tracker.update(found(person(12 * i), person(300 - 12 * i, y=110)), i / FPS)
        assert (one.number, one.box[0]) == (1, 12 * i)
        assert (other.number, other.box[0]) == (2, 300 - 12 * i)
        doubts.append(one.doubt and other.doubt)
    assert any(doubts[10:16])  # where they met
    assert not any(doubts[:8])
    assert not any(doubts[18:])


def test_whoever_walks_behind_somebody_is_covered_then_lost_then_found_again_in_doubt(tracker: Tracker) -> None:
    standing = person(150, y=110, height=110)
    shares, doubts = [], []
    for i in range(40):
        walker = person(10 * i)
        hidden = 110 < walker[0] < 190
        tracks = {t.number: t for t in tracker.update(found(standing, *([] if hidden else [walker])), i / FPS)}
        assert set(tracks) == ({1} if hidden else {1, 2})
        shares.append(tracks[2].covered if 2 in tracks else np.nan)
        doubts.append(tracks[2].doubt if 2 in tracks else False)
        assert tracks[1].covered == 0  # the one in front
    assert shares[0] == 0
    assert np.nanmax(shares) > 0
    assert doubts[19]  # found again
    assert not any(doubts[:10]) and not any(doubts[30:])  # noqa: PT018


@pytest.mark.parametrize(("gap", "same"), [(1.2, True), (5.0, False), (30.0, False)])
def test_motion_bridges_a_short_gap_and_no_long_one(tracker: Tracker, gap: float, same: bool) -> None:
    walk(tracker, [found(person(2 * i)) for i in range(10)])
    (track,) = tracker.update(found(person(20 + 20 * gap * same)), 0.9 + gap)
    assert (track.number == 1) is same
    assert track.doubt is same  # nothing is doubtful about somebody new


def test_low_scores_continue_a_track_but_start_none(tracker: Tracker) -> None:
    low = walk(tracker, [found(person(0), scores=0.2)] * 5)
    assert low == [[]] * 5
    walk(tracker, [found(person(0))] * 3, start=1.0)
    (track,) = tracker.update(found(person(1), scores=0.2), 1.3)
    assert (track.number, track.low, track.sightings) == (1, True, 4)
    assert not tracker.update(found(person(1), scores=0.05), 1.4)  # below every use
    assert not tracker.update(found(person(1), scores=0.2), 1.5)  # nor do low scores find anybody again
    (track,) = tracker.update(found(person(2)), 1.6)
    assert (track.number, track.low) == (1, False)


@pytest.mark.parametrize("fps", [2, 5, 30])
def test_the_frame_rate_does_not_matter(tracker: Tracker, fps: int) -> None:
    """Two people who walk towards each other at one body width a second and pass."""
    for i in range(8 * fps):
        now = i / fps
        tracks = tracker.update(found(person(40 * now), person(320 - 40 * now, y=130)), now)
        assert numbers(tracks) == [1, 2]


def test_frames_at_uneven_times_are_no_trouble(tracker: Tracker) -> None:
    moments = np.cumsum(np.random.default_rng(0).choice([0.033, 0.1, 0.4, 0.8], 60))
    for now in moments:
        assert numbers(tracker.update(found(person(30 * now), person(30 * now, y=400)), float(now))) == [1, 2]


def test_a_clock_that_goes_back_begins_anew_and_uses_no_number_twice(tracker: Tracker) -> None:
    walk(tracker, [found(person(0))] * 5, start=100.0)
    assert numbers(tracker.update(found(person(0)), 0.0)) == [2]
    assert tracker.lost(0.0) == []


def test_a_box_inside_a_person_is_no_second_person(tracker: Tracker) -> None:
    walk(tracker, [found(person(0))] * 3)
    head = [5.0, 105.0, 35.0, 135.0]
    assert numbers(tracker.update(found(person(0), head, scores=[0.9, 0.5]), 0.3)) == [1]


def test_ambiguous_frames_are_in_doubt(tracker: Tracker) -> None:
    walk(tracker, [found(person(0), person(300))] * 3)
    near, far = tracker.update(found(person(0), person(8), person(300), scores=[0.9, 0.8, 0.9]), 0.3)[:2]
    assert near.doubt
    assert not far.doubt


def test_lost_people_rejoin_under_their_old_number(tracker: Tracker) -> None:
    walk(tracker, [found(person(0), person(300))] * 5)
    walk(tracker, [found(person(300))] * 30, start=0.5)  # the first one went away
    (gone,) = tracker.lost(3.4)
    assert (gone.number, gone.last_seen) == (1, 0.4)
    tracks = walk(tracker, [found(person(100), person(300))] * 4, start=3.5)[-1]
    assert numbers(tracks) == [2, 3]
    back = tracker.rejoin(tracks[1], gone)
    assert back is gone
    assert (back.number, back.sightings, back.first_seen, back.last_seen) == (1, 9, 0.0, 3.8)
    assert np.allclose(back.box, person(100))
    assert tracker.lost(3.8) == []
    assert numbers(tracker.update(found(person(100), person(300)), 3.9)) == [1, 2]
    with pytest.raises(ValueError, match="still remembered"):
        tracker.rejoin(tracks[1], gone)  # is gone
    with pytest.raises(ValueError, match="at the same time"):
        tracker.rejoin(tracks[0], back)


def test_nobody_is_remembered_for_ever(tracker: Tracker) -> None:
    walk(tracker, [found(person(0))] * 5)
    tracker.update(NOBODY, 19.0)
    assert numbers(tracker.lost(19.0)) == [1]
    tracker.update(NOBODY, 21.0)
    assert tracker.lost(21.0) == []


def test_a_track_that_moved_onto_somebody_else_goes_on_under_a_new_number(tracker: Tracker) -> None:
    walk(tracker, [found(person(0))] * 5)
    tracker.update(NOBODY, 0.5)
    tracks = walk(tracker, [found(person(5 + 5 * i)) for i in range(4)], start=1.0)[-1]  # in doubt since 1.0
    (track,) = tracks
    other = tracker.split(track)
    assert (other.number, other.first_seen, other.sightings) == (2, 1.0, 4)
    assert (track.number, track.last_seen, track.sightings) == (1, 0.4, 5)
    assert np.allclose(track.box, person(0))
    assert tracker.lost(1.3) == [track]
    assert numbers(tracker.update(found(person(25)), 1.4)) == [2]
    assert tracker.rejoin(other, track) is track  # and it may turn out that they were the same
    assert track.sightings == 10


def test_a_track_without_doubt_can_be_split_too(tracker: Tracker) -> None:
    (track,) = walk(tracker, [found(person(0))] * 5)[-1]
    other = tracker.split(track)
    assert (track.sightings, other.sightings) == (4, 1)
    assert numbers(tracker.update(found(person(0)), 0.5)) == [2]


def test_reuniting_takes_the_most_alike_that_is_possible() -> None:
    def track(number: int, box: list[float], first: float, last: float) -> Track:
        return Track(number, np.array(box), 0.9, first, last, 0, np.zeros((5, 4)))

    axes = np.eye(3)
    gone = [track(1, person(0), 0, 3), track(2, person(50), 0, 3), track(3, person(60), 0, 6)]
    new = [track(4, person(20), 5, 5.3), track(5, person(40), 5, 5.3)]
    assert reunite([], gone, axes[:0], axes, 0.5) == []
    assert reunite(new, [], axes[:2], axes[:0], 0.5) == []
    assert reunite(new, gone[:2], axes[[1, 0]], axes[:2], 0.5) == [(new[0], gone[1]), (new[1], gone[0])]
    assert reunite(new, gone, axes[[2, 2]], axes, 0.5) == []  # that one was still there
    assert reunite(new, gone, np.full((2, 3), np.nan), axes, 0.5) == []
    assert len(reunite(new, gone[:1], axes[[0, 0]], axes[:1], 0.5)) == 1  # nobody becomes two
    far, tall = track(6, person(2000), 5, 5.3), track(7, person(0, height=300), 5, 5.3)
    assert reunite([far, tall], gone[:1], axes[[0, 0]], axes[:1], 0.5) == []


@limits(max_examples=60, deadline=None)
@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 10_000))
def test_the_assignment_is_the_best_one(rows: int, columns: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    value = generator.random((rows, columns)) * (generator.random((rows, columns)) < 0.7)
    pairs = assign(value, 0.2)
    gain = np.where(value >= 0.2, value - 0.2, 0)
    best = gain[linear_sum_assignment(-gain)].sum()
    assert sum(gain[p] for p in pairs) == pytest.approx(best)
    assert all(value[p] >= 0.2 for p in pairs)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)


def test_covered_counts_who_stands_nearer() -> None:
    assert covered(np.zeros((0, 4))).shape == (0,)
    boxes = np.array([[0, 0, 10, 20], [5, 0, 15, 22], [0, 10, 10, 21], [50, 50, 50, 50]], float)
    assert np.allclose(covered(boxes), [0.75, 0, 0.5, 0])


def test_variances_stay_positive_over_long_and_no_gaps() -> None:
    states = motion.begin(np.array([person(0)]))
    for elapsed in itertools.chain([0.0, 0.0, 1000.0], [0.04] * 200):
        states = motion.correct(motion.predict(states, np.array([elapsed])), np.array([person(0)]))
        assert np.isfinite(states).all()
        assert (states[:, [2, 4]] > 0).all()
    assert np.allclose(motion.boxes_of(states), person(0), atol=1)


BOX = st.builds(person, st.integers(0, 300), st.integers(0, 200), st.integers(1, 150))
FRAME = st.lists(st.tuples(BOX, st.floats(0.0, 1.0, width=16)), max_size=6)


@limits(max_examples=60, deadline=None)
@given(st.lists(st.tuples(FRAME, st.sampled_from([0.0, 0.04, 0.5, 5.0, 20.0])), max_size=15))
def test_whatever_comes_numbers_and_detections_are_used_once_and_the_same_again(frames: list) -> None:
    def run() -> list[list[tuple]]:
        tracker, now, rows = Tracker(TrackingSettings()), 0.0, []
        for people, elapsed in frames:
            now += elapsed
            tracks = tracker.update(found(*(b for b, _ in people), scores=[s for _, s in people]), now)
            assert len(set(numbers(tracks))) == len({t.row for t in tracks}) == len(tracks)
            for track in tracks:
                assert np.array_equal(track.box, np.float32(people[track.row][0]))
                assert track.last_seen == now
                assert 0 <= track.covered <= 1
                assert track.sightings > 1 or track.score >= tracker.start_score
            assert not set(numbers(tracks)) & set(numbers(tracker.lost(now)))
            rows.append([(t.number, t.row, t.sightings, t.doubt, t.covered, *t.predicted(now + 1)) for t in tracks])
        return rows

    assert run() == run()
