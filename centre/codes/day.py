"""One day's stays of one model as codes, to be compared with a query many at a time.

Of one bit a number, RaBitQ (Gao and Long 2024): of a rotated embedding the signs are kept and two numbers, from which
its inner product with a query can be estimated without bias; the query keeps its precision. faiss packs the signs so
that 32 stays are compared at once. The nearest of these are compared again by codes of four bits a number. Both say
only what is worth a look: whoever asks ranks that once more by the embeddings.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from uuid import UUID

import faiss
import numpy as np

from personsearch.centre.codes.growing import Rows

KEY = np.dtype([("boot", "u4"), ("sequence", "i8"), ("place", "u4"), ("started", "i4"), ("ended", "i4")])
SEED = 20_240_522  # of the rotation: any one will do, as long as codes and queries have the same
PACKED = 8  # dimensions are filled up to a multiple of this
WIDEST = 2.7  # standard deviations that sixteen even steps span, where their error is the least for normal numbers


class DayCodes:
    """Threads may share it. 192 bytes a stay at 256 dimensions: 40 of the code of one bit, 128 of the finer one, 24 of
    the key."""

    def __init__(self, dimensions: int, version: int) -> None:
        """version  of what the database has of this day and model, which is all in here"""
        self.dimensions, self.version = dimensions, version
        self.boots: list[UUID] = []
        self._boot_numbers: dict[bytes, int] = {}
        self._rotation = rotation(dimensions)
        width = self._rotation.shape[1]
        self._index = faiss.IndexRaBitQFastScan(width, faiss.METRIC_INNER_PRODUCT)
        self._index.train(np.full((1, width), 1e-9, np.float32))  # the centre of what is centred already: nought
        self._finer = _four_bits(width)
        self._keys, self._fine = Rows(KEY), Rows(np.dtype(np.uint8), self._finer.sa_code_size())
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def keys(self) -> np.ndarray:
        """(N,) KEY"""
        return self._keys.all

    def boot_number(self, boot: bytes) -> int:
        number = self._boot_numbers.setdefault(boot, len(self.boots))
        if number == len(self.boots):
            self.boots.append(UUID(bytes=boot))
        return number

    def add(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """keys (N,) KEY, vectors (N, D) float, of length one"""
        turned = vectors.astype(np.float32, copy=False) @ self._rotation
        fine = self._finer.sa_encode(turned)
        with self._lock:
            self._index.add(turned)
            self._keys.add(keys)
            self._fine.add(fine)

    def remove(self, rows: Sequence[int]) -> None:
        with self._lock:
            self._index.remove_ids(np.asarray(rows, np.int64))  # type: ignore[arg-type]  # its wrapper takes numbers
            self._keys.delete(rows)
            self._fine.delete(rows)

    def nearest(self, query: np.ndarray, count: int, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Keys of about so many stays that a mask leaves, the nearest by their bits, and their cosines by the finer
        codes. Where it leaves no more than `count`, all of them.

        query (D,) float32  mask (N,) bool, of the first N stays; None: all
        """
        turned = query.astype(np.float32) @ self._rotation
        with self._lock:
            rows = self._by_bits(turned, count, mask)
            keys, fine = self.keys[rows], self._fine.all[rows]
        if not len(keys):
            return keys, np.zeros(0, np.float32)
        return keys, self._finer.sa_decode(fine) @ turned

    def _by_bits(self, turned: np.ndarray, count: int, mask: np.ndarray | None) -> np.ndarray:
        """Numbers of rows."""
        wanted = count
        if mask is not None:
            mask = mask[: len(self)]  # some may have been removed since
            left = np.flatnonzero(mask)
            if len(left) <= count:
                return left
            wanted = -(-count * len(mask) // len(left))  # so many that enough of them should be let through
        if not len(self):
            return np.zeros(0, np.int64)
        rows = self._index.search(turned[None], min(wanted, len(self)))[1][0]
        rows = rows[rows >= 0]
        if mask is None:
            return rows
        rows = rows[rows < len(mask)]
        return rows[mask[rows]]


@functools.lru_cache(maxsize=8)
def rotation(dimensions: int) -> np.ndarray:
    """(D, W) float32 with orthonormal rows: W is D, filled up to a multiple of eight."""
    width = -(-dimensions // PACKED) * PACKED
    normal = np.random.default_rng([SEED, width]).standard_normal((width, width))
    return np.linalg.qr(normal)[0][:dimensions].astype(np.float32)


@functools.lru_cache(maxsize=8)
def _four_bits(width: int) -> faiss.IndexScalarQuantizer:
    """What makes codes of rotated vectors (N, W) of length one, and vectors of codes; it holds none itself. Their
    numbers are as good as normal, with a deviation of 1 / sqrt(W), so that nothing has to be learnt from them."""
    finer = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_4bit_uniform, faiss.METRIC_INNER_PRODUCT)
    widest = WIDEST / np.sqrt(width)
    finer.train(np.array([[-widest] * width, [widest] * width], np.float32))
    return finer
