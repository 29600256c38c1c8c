"""One day's stays of one model as codes of one bit a number, to be compared with a query many at a time.

RaBitQ (Gao and Long 2024): of a rotated embedding the signs are kept and two numbers, from which its inner product with
a query can be estimated without bias; the query keeps its precision. faiss packs the signs so that 32 stays are
compared at once. The estimate only says what is worth a look: whoever asks ranks that again by the embeddings.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from uuid import UUID

import faiss
import numpy as np

KEY = np.dtype([("boot", "u4"), ("sequence", "i8"), ("place", "u4"), ("started", "i4"), ("ended", "i4")])
SEED = 20_240_522  # of the rotation: any one will do, as long as codes and queries have the same
PACKED = 8  # dimensions are filled up to a multiple of this


class DayCodes:
    """Threads may share it. 64 bytes a stay at 256 dimensions: 40 of the code, 24 of the key."""

    def __init__(self, dimensions: int, version: int) -> None:
        """version  of what the database has of this day and model, which is all in here"""
        self.dimensions, self.version = dimensions, version
        self.keys = np.zeros(0, KEY)
        self.boots: list[UUID] = []
        self._boot_numbers: dict[UUID, int] = {}
        self._rotation = rotation(dimensions)
        width = self._rotation.shape[1]
        self._index = faiss.IndexRaBitQFastScan(width, faiss.METRIC_INNER_PRODUCT)
        self._index.train(np.full((1, width), 1e-9, np.float32))  # the centre of what is centred already: nought
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.keys)

    def boot_number(self, boot: UUID) -> int:
        number = self._boot_numbers.setdefault(boot, len(self.boots))
        if number == len(self.boots):
            self.boots.append(boot)
        return number

    def add(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """keys (N,) KEY, vectors (N, D) float"""
        turned = vectors.astype(np.float32) @ self._rotation
        with self._lock:
            self._index.add(turned)
            self.keys = np.concatenate([self.keys, keys])

    def remove(self, rows: Sequence[int]) -> None:
        with self._lock:
            self._index.remove_ids(np.asarray(rows, np.int64))  # type: ignore[arg-type]  # its wrapper takes numbers
            self.keys = np.delete(self.keys, rows)

    def nearest(self, query: np.ndarray, count: int, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Keys of about so many stays that a mask leaves, by estimate, and the estimated cosines. Where it leaves no
        more than `count`, all of them, at an estimate of infinity.

        query (D,) float32  mask (N,) bool, of the first N stays; None: all
        """
        with self._lock:
            keys, wanted = self.keys, count
            if mask is not None:
                mask = mask[: len(keys)]  # some may have been removed since
                left = int(mask.sum())
                if left <= count:
                    found = keys[: len(mask)][mask]
                    return found, np.full(len(found), np.inf, np.float32)
                wanted = -(-count * len(mask) // left)  # so many that enough of them should be let through
            if not len(keys):
                return keys, np.zeros(0, np.float32)
            turned = (query.astype(np.float32) @ self._rotation)[None]
            cosines, rows = self._index.search(turned, min(wanted, len(keys)))
        good = rows[0] >= 0
        if mask is not None:
            good &= rows[0] < len(mask)
            good[good] = mask[rows[0][good]]
        return keys[rows[0][good]], cosines[0][good]


@functools.lru_cache(maxsize=8)
def rotation(dimensions: int) -> np.ndarray:
    """(D, W) float32 with orthonormal rows: W is D, filled up to a multiple of eight."""
    width = -(-dimensions // PACKED) * PACKED
    normal = np.random.default_rng([SEED, width]).standard_normal((width, width))
    return np.linalg.qr(normal)[0][:dimensions].astype(np.float32)
