"""Broken tracks of one camera become one person; people who share a frame never do."""

import numpy as np

from personsearch.train.teaching.linking import link_tracks


def looks(*angles: float) -> dict[int, np.ndarray]:
    """A direction in the plane for the tracks 1, 2, ..., in degrees."""
    radians = np.deg2rad(angles)
    return dict(enumerate(np.stack([np.cos(radians), np.sin(radians)], 1), start=1))


def test_no_track_and_one_track() -> None:
    assert link_tracks([], {}) == {}
    assert link_tracks([[7], [7]], {7: np.array([1.0, 0.0])}) == {7: 7}


def test_one_look_at_different_times_is_one_person() -> None:
    rows = [[1, 3], [1, 3], [], [2], [2]]
    assert link_tracks(rows, looks(0, 20, 90)) == {1: 1, 2: 1, 3: 3}


def test_people_who_share_a_frame_are_two_however_alike() -> None:
    assert link_tracks([[1], [1, 2], [2]], looks(0, 0)) == {1: 1, 2: 2}


def test_the_most_alike_are_linked_first_and_exclude_the_other() -> None:
    rows = [[1], [2, 3], [2], [3]]  # track 1 is somebody's beginning: 2's or 3's
    assert link_tracks(rows, looks(0, 30, 10)) == {1: 1, 2: 2, 3: 1}
    assert link_tracks([[1], [2, 3]], looks(0, 19, -20)) == {1: 1, 2: 1, 3: 3}  # whoever is 1 now was seen beside 3


def test_where_people_seen_together_look_alike_a_link_takes_more() -> None:
    rows = [[1, 2], [3]]
    assert link_tracks(rows, looks(0, 90, 30)) == {1: 1, 2: 2, 3: 1}
    assert link_tracks(rows, looks(0, 25, -30)) == {1: 1, 2: 2, 3: 3}  # uniforms: 0.87 is not enough beside 0.91


def test_tracks_without_an_embedding_are_left_out() -> None:
    assert link_tracks([[1, 5], [2]], looks(0, 0)) == {1: 1, 2: 1}
