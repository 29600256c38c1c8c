"""The gallery as one camera sees it: enrolled views less the means of the cameras that they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from personsearch.runtime.decisions.centring import SHRINK, centred
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery, stacked

Offsets = Callable[[str], "np.ndarray | None"]  # what is taken off views of a camera; None for one that is not known
EXCLUDED = -2.0  # below every cosine: the similarity of whoever looks more like a negative view than like the person
BLOCK = 8192  # views compared at once: their similarities stay in the processor's cache


class Lineup:
    """Similarities of people to everybody enrolled. Made anew when the gallery changes, and when means have moved."""

    def __init__(self, gallery: Gallery, offsets: Offsets) -> None:
        self.gallery = gallery
        self.people = gallery.people
        owners, embeddings = gallery.owners, gallery.embeddings  # (N,) rising
        known: dict[str, np.ndarray] = {}
        sources = np.array(gallery.sources, dtype=object)
        for source in set(gallery.sources):
            rows = np.flatnonzero(sources == source)
            offset = offsets(source)
            if offset is None:  # nobody but the enrolled was seen there: they are the prototypes
                offset = mean_of_people(embeddings[rows], owners[rows])
            known[source] = offset
        self._views = _centred_by(known, embeddings, gallery.sources)
        self._starts = np.searchsorted(owners, np.arange(len(self.people)))
        self._means = np.zeros((len(self.people), gallery.dimensions), np.float32)
        if len(self._views):
            sums = np.add.reduceat(self._views, self._starts)
            self._means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
        not_of, negatives = gallery.negatives()
        for source in {view.source for view in negatives} - known.keys():
            offset = offsets(source)
            known[source] = offset if offset is not None else np.zeros(gallery.dimensions, np.float32)
        self._known = known
        against = stacked(negatives, gallery.dimensions)
        self._against = _centred_by(known, against, [view.source for view in negatives])
        self._not_of, self._not_starts = np.unique(np.array(not_of, np.int64), return_index=True)

    def mean_of(self, person: str) -> np.ndarray:
        """(D,) a person's mean view, centred."""
        mean: np.ndarray = self._means[self.people.index(person)]
        return mean

    def centre(self, view: EnrolledView) -> np.ndarray:
        """(D,) a view as it is compared here."""
        return _centred_by(self._known, view.embedding[None], [view.source])[0]

    def similarities(self, vectors: np.ndarray) -> np.ndarray:
        """(M, D) centred, L2-normalised -> (M, P): half the cosine to a person's mean view, half to the best one. The
        mean forgives a bad picture, the best view knows the back of somebody who was also enrolled from the front.

        Whoever looks more like a view that is said not to be a person than like that person is EXCLUDED.
        """
        if not len(self.people) or not len(vectors):
            return np.zeros((len(vectors), len(self.people)), np.float32)
        vectors = np.ascontiguousarray(vectors, np.float32)
        result = np.empty((len(vectors), len(self.people)), np.float32)
        for begin, end, first, last in self._blocks():
            cosines = vectors @ self._views[first:last].T
            np.maximum.reduceat(cosines, self._starts[begin:end] - first, axis=1, out=result[:, begin:end])
            result[:, begin:end] += vectors @ self._means[begin:end].T
        result *= 0.5
        if len(self._not_of):
            against = np.maximum.reduceat(vectors @ self._against.T, self._not_starts, axis=1)
            own = result[:, self._not_of]
            result[:, self._not_of] = np.where(against > own, EXCLUDED, own)
        return result

    def _blocks(self) -> list[tuple[int, int, int, int]]:
        """Parts of the gallery: people from and to, and their views from and to."""
        starts, total = self._starts, len(self._views)
        blocks, begin = [], 0
        while begin < len(starts):
            end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + BLOCK, side="right")) - 1)
            end = len(starts) if starts[begin] + BLOCK >= total else end
            blocks.append((begin, end, int(starts[begin]), int(starts[end]) if end < len(starts) else total))
            begin = end
        return blocks

    def similarities_less(self, vectors: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """`similarities(centred(vectors, offset))` in one product, for very many vectors (M, D) of length one."""
        if not len(self.people) or not len(vectors):
            return np.zeros((len(vectors), len(self.people)), np.float32)
        count = len(self._views)
        directions = np.concatenate([self._views, self._means, offset[None]]).astype(np.float32)
        along = vectors @ directions.T
        lengths = np.sqrt(np.maximum(1 - 2 * along[:, -1] + offset @ offset, 1e-9))  # of the centred vectors
        along[:, :-1] -= directions[:-1] @ offset
        best = np.maximum.reduceat(along[:, :count], self._starts, axis=1)
        halves: np.ndarray = (0.5 * best + 0.5 * along[:, count:-1]) / lengths[:, None]
        return halves


def mean_of_people(embeddings: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """(N, D) views and whom they show (N,), rising -> (D,) the mean of their prototypes, as far as that many people are
    evidence."""
    _, starts, counts = np.unique(owners, return_index=True, return_counts=True)
    prototypes = np.add.reduceat(embeddings, starts) / counts[:, None].astype(np.float32)
    count = len(prototypes)
    return (prototypes.mean(0) * (count / (count + SHRINK))).astype(np.float32)


def _centred_by(offsets: dict[str, np.ndarray], embeddings: np.ndarray, sources: Sequence[str]) -> np.ndarray:
    """Each view (N, D) less what is taken off views of its source."""
    result = np.empty_like(embeddings)
    names = np.array(sources, dtype=object)
    for source, offset in offsets.items():
        rows = np.flatnonzero(names == source)
        result[rows] = centred(embeddings[rows], offset)
    return result
