"""ProtoNorm for each camera, while it runs: the mean of a camera's people is taken off before L2.

A camera's light, height and lens move all embeddings in one direction, so that strangers look alike and a person looks
strange in the next camera. ProtoNorm subtracts the mean of identity prototypes (paper, Eq. 5-6). Here **each track is a
prototype**: somebody who stands there for an hour counts once, and tracks that look like one person are one prototype.
Everything that is stored stays as the model made it; it is centred when it is compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SHRINK = 5.0  # prototypes at which the evidence weighs as much as the model's own statistics (zero here)
SAME_PERSON = 0.7  # cosine above which two tracks are one prototype
MOST = 256  # prototypes in memory
HALF_LIFE_S = 12 * 3600.0  # a camera's night is not its day


@dataclass
class _Prototype:
    vector: np.ndarray  # (D,)
    moment: float


@dataclass(frozen=True)
class StoredMean:
    """What outlives the program: a mean over people, and no person. `moment` is wall-clock seconds."""

    mean: np.ndarray  # (D,)
    count: float
    moment: float


class PrototypeMean:
    """The running mean of one camera. Times are seconds of the wall clock, or of any clock that goes on."""

    def __init__(self, dimensions: int, stored: StoredMean | None = None) -> None:
        self.dimensions, self.stored = dimensions, stored
        self._prototypes: dict[int, _Prototype] = {}  # by the track that it began with
        self._alias: dict[int, int] = {}  # track -> the prototype that it belongs to
        self._cache: tuple[float, np.ndarray, float] | None = None

    def see(self, track: int, vector: np.ndarray, moment: float) -> None:
        """The mean embedding (D,) of a track so far, L2-normalised; called whenever it has changed."""
        if not np.isfinite(vector).all():
            return
        key = self._alias.get(track)
        if key is None:
            key = self._alias[track] = self._like(vector, track)
        known = self._prototypes.get(key)
        if known is None or key == track:
            self._prototypes[key] = _Prototype(vector.astype(np.float32), moment)
        else:  # another track of the same person: the mean of both, and as recent as this one
            known.vector, known.moment = (known.vector + vector) / 2, moment
        self._cache = None
        if len(self._prototypes) > MOST:
            oldest = min(self._prototypes, key=lambda k: self._prototypes[k].moment)
            del self._prototypes[oldest]
        if len(self._alias) > 4 * MOST:
            self._alias = {t: k for t, k in self._alias.items() if k in self._prototypes}

    def _like(self, vector: np.ndarray, track: int) -> int:
        """The prototype of the same person, if there is one."""
        if not self._prototypes:
            return track
        keys = list(self._prototypes)
        vectors = np.array([self._prototypes[k].vector for k in keys])
        cosine = vectors @ vector / np.maximum(np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector), 1e-9)
        best = int(cosine.argmax())
        return keys[best] if cosine[best] > SAME_PERSON else track

    def state(self, now: float) -> tuple[np.ndarray, float]:
        """The mean of the prototypes (D,) and how many they count as, older ones less."""
        if self._cache is not None and abs(now - self._cache[0]) < 60:
            return self._cache[1], self._cache[2]
        total, count = np.zeros(self.dimensions, np.float64), 0.0
        if self.stored is not None:
            weight = self.stored.count * _fading(now - self.stored.moment)
            total += weight * self.stored.mean
            count += weight
        for prototype in self._prototypes.values():
            weight = _fading(now - prototype.moment)
            total += weight * prototype.vector
            count += weight
        mean = (total / count if count > 0 else total).astype(np.float32)
        self._cache = (now, mean, count)
        return mean, count

    def offset(self, now: float) -> np.ndarray:
        """(D,) what is taken off: the mean, as far as the evidence for it goes."""
        mean, count = self.state(now)
        return mean * np.float32(count / (count + SHRINK))

    def to_store(self, now: float) -> StoredMean:
        mean, count = self.state(now)
        return StoredMean(mean, min(count, float(MOST)), now)


def centred(embeddings: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(..., D) L2-normalised embeddings less a camera's mean (D,), normalised again (after which Eq. 6's variance
    changes nothing measurable: docs/recognition.md)."""
    moved = embeddings - offset
    return moved / np.maximum(np.linalg.norm(moved, axis=-1, keepdims=True), 1e-9)


def _fading(age_s: float) -> float:
    return math.exp(-math.log(2) * max(0.0, age_s) / HALF_LIFE_S)
