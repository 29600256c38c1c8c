"""Why a name was given: each view that was seen against each that is enrolled, centred as the judge does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from personsearch.runtime.decisions.centring import centred
from personsearch.runtime.decisions.gallery import EnrolledView, stacked
from personsearch.runtime.decisions.lineup import mean_of_people

if TYPE_CHECKING:
    from personsearch.runtime.page.parts import Parts

MOST_SEEN, MOST_ENROLLED = 6, 12  # that fit side by side: the best


def compared(parts: Parts, views: Sequence[EnrolledView], name: str) -> dict[str, Any]:
    """`seen` and `enrolled`, views as {source, quality, ...}; `cosines` [[of each enrolled one] of each seen one]. The
    enrolled ones are in the order of their likeness. Reads files; for a thread. Raises GalleryError."""
    gallery = parts.people.gallery()
    lookback = parts.lookback(gallery)
    seen = sorted(views, key=lambda view: -view.quality)[:MOST_SEEN]
    enrolled = gallery.views_of(name) if name else []
    told: dict[str, Any] = {"seen": [_view(v) for v in seen], "enrolled": [], "cosines": [], "of": len(enrolled)}
    if not seen or not enrolled:
        return told
    dimensions = gallery.dimensions

    def less(rows: Sequence[EnrolledView]) -> np.ndarray:
        result = stacked(rows, dimensions)
        for source in {row.source for row in rows}:
            offset = lookback.offset(source)
            if offset is None and source in gallery.sources:  # nobody but the enrolled was seen there
                mine = np.flatnonzero(np.array(gallery.sources, dtype=object) == source)
                offset = mean_of_people(gallery.embeddings[mine], gallery.owners[mine])
            if offset is not None:
                at = [i for i, row in enumerate(rows) if row.source == source]
                result[at] = centred(result[at], offset)
        return result

    cosines = less(seen) @ less(enrolled).T
    order = np.argsort(-cosines.mean(0), kind="stable")[:MOST_ENROLLED]
    told["enrolled"] = [
        _view(enrolled[i]) | {"number": i, "picture": enrolled[i].crop is not None, "time": enrolled[i].time or None,
                              "origin": enrolled[i].origin}
        for i in order.tolist()
    ]  # fmt: skip
    told["cosines"] = np.round(cosines[:, order], 3).tolist()
    return told


def _view(view: EnrolledView) -> dict[str, Any]:
    return {"source": view.source, "quality": round(float(view.quality), 3)}
