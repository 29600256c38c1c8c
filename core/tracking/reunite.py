"""Who has come back: new tracks that look like tracks that were lost. Pure; `Tracker.rejoin` does what it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personsearch.core.tracking.tracker import Track

SPEED, SLACK = 2.0, 1.0  # how far a person may have come: body heights a second, and body heights besides
GROWN = 2.0  # nor does he look so many times as tall


def reunite(
    new: Sequence[Track], lost: Sequence[Track], new_looks: np.ndarray, lost_looks: np.ndarray, threshold: float
) -> list[tuple[Track, Track]]:
    """Pairs of a new track and the lost one that it continues, the most similar first, each track at most once.

    new_looks   (N, D) mean embeddings of the new tracks, rows of L2 norm 1; best after a few sightings
    lost_looks  (M, D) the same of the lost ones, of `Tracker.lost`
    threshold   cosine from which two means are one person

    A lost track must have ended before the new one began, near enough to walk there, and of a similar height.
    """
    if not new or not lost:
        return []
    similarity = np.where(possible(new, lost), new_looks @ lost_looks.T, -np.inf)
    pairs: list[tuple[Track, Track]] = []
    while True:
        row, column = divmod(int(similarity.argmax()), len(lost))
        if not similarity[row, column] >= threshold:  # also for a value that is not a number
            return pairs
        pairs.append((new[row], lost[column]))
        similarity[row], similarity[:, column] = -np.inf, -np.inf


def possible(new: Sequence[Track], lost: Sequence[Track]) -> np.ndarray:
    """(N, M) bool: may these be the same people, as far as place and time go?"""
    boxes, others = np.array([t.box for t in new], float), np.array([t.box for t in lost], float)
    height, other = boxes[:, None, 3] - boxes[:, None, 1], (others[:, 3] - others[:, 1])[None]
    tall = np.maximum(height, other)
    away = np.linalg.norm((boxes[:, None, :2] + boxes[:, None, 2:] - others[:, :2] - others[:, 2:]) / 2, axis=-1)
    ended = np.array([t.last_seen for t in lost])
    apart = np.array([t.last_seen for t in new])[:, None] - ended
    before = np.array([t.first_seen for t in new])[:, None] > ended
    return before & (away <= tall * (SPEED * apart + SLACK)) & (tall <= GROWN * np.minimum(height, other))
