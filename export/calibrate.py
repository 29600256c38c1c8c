"""Similarity thresholds: how similar do different people look to this model?"""

from __future__ import annotations

import numpy as np

from personsearch.core.bundle import Threshold

RATES = (0.05, 0.01, 0.001)
MAX_ROWS = 4000


def calibrate_thresholds(
    embeddings: np.ndarray, identities: np.ndarray, images: np.ndarray | None = None, rates: tuple[float, ...] = RATES
) -> list[Threshold]:
    """Thresholds that the given share of pairs of different people reach.

    embeddings (N, D) L2-normalised, identities (N,); -1 (unlabelled) rows are left out.
    images     (N,) number of the image that a row is from: then only identities that are in an image together count as
               different people, because tracks of people may break
    Every pair of identities counts the same (its mean over a few pictures), so that a person who was
    photographed often does not decide. Empty if there are fewer than two identities.
    """
    rng = np.random.default_rng(0)
    known = np.flatnonzero(identities >= 0)
    known = np.sort(rng.permutation(known)[:MAX_ROWS])
    embeddings, identities = embeddings[known], identities[known]
    apart = None if images is None else _seen_together(identities, images[known])
    similarity = embeddings @ embeddings.T
    first, second = np.triu_indices(len(identities), 1)
    different = identities[first] != identities[second] if apart is None else apart[first, second]
    if not different.any():
        return []
    first, second = first[different], second[different]
    _, codes = np.unique(identities, return_inverse=True)
    low, high = np.minimum(codes[first], codes[second]), np.maximum(codes[first], codes[second])
    pair = low * (codes.max() + 1) + high
    _, inverse, counts = np.unique(pair, return_inverse=True, return_counts=True)
    values, weights = similarity[first, second], 1.0 / counts[inverse]
    order = np.argsort(-values, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    out = []
    for rate in rates:
        position = min(int(np.searchsorted(share, rate)), len(order) - 1)
        out.append(
            Threshold(similarity=round(float(np.clip(values[order][position], -1, 1)), 4), false_alarm_rate=rate)
        )
    return out


def _seen_together(identities: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(N, N) bool: are the identities of two rows in some image together?"""
    names, codes = np.unique(identities, return_inverse=True)
    _, places = np.unique(images, return_inverse=True)
    present = np.zeros((len(names), places.max(initial=-1) + 1), np.float32)
    present[codes, places] = 1
    together = present @ present.T > 0
    np.fill_diagonal(together, False)
    return together[codes][:, codes]
