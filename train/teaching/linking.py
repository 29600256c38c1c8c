"""Broken tracks of one camera become one person again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

LEAST_SIMILARITY = 0.6
SURE = 0.95  # quantile of the similarities of people who are seen together


def link_tracks(rows: Sequence[Sequence[int]], embeddings: Mapping[int, np.ndarray]) -> dict[int, int]:
    """Which tracks are one person: track -> the first track of that person.

    rows        the tracks in each frame
    embeddings  a mean embedding (D,) for each track to consider, L2-normalised

    The most similar come first. Tracks that share a frame are two people and never linked, and their similarities say
    how alike two people look here: linking takes more than nearly all of them.
    """
    numbers = sorted(embeddings)
    if len(numbers) < 2:
        return {number: number for number in numbers}
    place = {number: i for i, number in enumerate(numbers)}
    apart = np.eye(len(numbers), dtype=bool)
    sizes = np.zeros((len(numbers), 1))
    for row in rows:
        seen = [place[number] for number in row if number in place]
        apart[np.ix_(seen, seen)] = True
        sizes[seen] += 1
    means = np.stack([embeddings[number] for number in numbers])
    similarity = means @ means.T
    together = similarity[np.triu(apart, 1)]
    least = max(LEAST_SIMILARITY, float(np.quantile(together, SURE))) if len(together) else LEAST_SIMILARITY
    similarity[apart] = -1
    sums, owner = means * sizes, np.arange(len(numbers))
    while similarity.max() > least:
        first, second = sorted(divmod(int(similarity.argmax()), len(numbers)))
        owner[owner == second] = first
        sums[first] += sums[second]
        apart[first] |= apart[second]
        apart[:, first] |= apart[second]
        means[first] = sums[first] / np.linalg.norm(sums[first])
        looks = means @ means[first]
        looks[apart[first] | (owner != np.arange(len(numbers)))] = -1
        similarity[first] = similarity[:, first] = looks
        similarity[second] = similarity[:, second] = -1
    return {number: numbers[owner[i]] for i, number in enumerate(numbers)}
