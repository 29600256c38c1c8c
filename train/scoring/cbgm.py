"""Context bipartite graph matching: re-ranking by the people who are with the query (SeqNet, AAAI 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from personsearch.core.boxes import iou
from personsearch.core.records import Detections, Query
from personsearch.core.search_pool import SearchPool

SAME_PERSON = 0.4  # IoU above which a detection is the query itself: what the released code's NMS drops beside it


class ContextMatching:
    """A `rerank` of `core.metrics.search_scores`.

    found      detections by image name, also of the query images; with the score that the search asks for
    best       k1: the images that hold so many most similar detections are matched (30 for PRW, 10 for CUHK-SYSU)
    companions k2: the query and the k2 - 1 most confident other people of its image take part (4 PRW, 3 CUHK-SYSU)
    gain       what the detection that the query is matched to gets as its similarity: `largest`, the largest
               similarity of a matched pair (the released code), or `sum`, that of all pairs (the paper's text)

    People of the query image and of a gallery image are matched one to one with the greatest sum of similarities.
    """

    def __init__(
        self, queries: Sequence[Query], query_embeddings: np.ndarray, found: Mapping[str, Detections], best: int,
        companions: int, gain: Literal["largest", "sum"] = "largest",
    ) -> None:  # fmt: skip
        self.queries, self.query_embeddings, self.found = queries, query_embeddings, found
        self.best, self.companions, self.gain = best, companions, gain

    def __call__(self, number: int, pool: SearchPool, values: np.ndarray) -> None:
        usable = np.flatnonzero(np.isfinite(values))
        if not len(usable):
            return
        order = usable[np.argsort(-values[usable], kind="stable")]
        group = self._group(number)
        for image in np.unique(pool.image_of[order[: self.best]]):
            begin, end = pool.starts[image], pool.starts[image + 1]
            weights = group @ pool.embeddings[begin:end].T
            rows, columns = linear_sum_assignment(weights, maximize=True)
            own = columns[rows == 0]
            if len(own):
                pairs = weights[rows, columns]
                values[begin + own[0]] = pairs.max() if self.gain == "largest" else pairs.sum()

    def _group(self, number: int) -> np.ndarray:
        """(up to k2, D): the query first, then the most confident people of its image who are not the query."""
        query, own = self.queries[number], self.query_embeddings[number : number + 1]
        others = self.found.get(query.image)
        if others is None or not len(others):
            return own
        apart = np.flatnonzero(iou(others.boxes, query.box[None])[:, 0] <= SAME_PERSON)
        apart = apart[np.argsort(-others.scores[apart], kind="stable")][: self.companions - 1]
        return np.concatenate([own, others.embeddings[apart]])
