"""Searching back on a box as its files stand: its means, calibration and gallery, and the history that is searched."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from personsearch.core.bundle import Manifest
from personsearch.core.errors import UserError
from personsearch.core.odds import Odds
from personsearch.runtime.decisions.calibration import calibration_file, load_calibration
from personsearch.runtime.decisions.camera_means import load_means, means_file
from personsearch.runtime.decisions.centring import PrototypeMean
from personsearch.runtime.decisions.gallery import PICTURE, EnrolledView, Gallery
from personsearch.runtime.decisions.lineup import mean_of_people
from personsearch.runtime.decisions.people import odds_of
from personsearch.runtime.history.index_file import read_header
from personsearch.runtime.history.searching import Found, Range, search


class Lookback:
    """What a search needs besides the visits: read once. Raises GalleryError for a damaged calibration."""

    def __init__(self, manifest: Manifest, path: str | Path, gallery: Gallery | None, engine: str = "") -> None:
        """path  of the gallery, beside which means and calibration lie; empty for none"""
        self.manifest, self.gallery, self._engine = manifest, gallery, engine
        model, dimensions = manifest.model_hash, manifest.dimensions
        self._means = load_means(means_file(path), model, dimensions) if path else {}
        self._measured = load_calibration(calibration_file(path), model) if path else {}

    def offset(self, source: str) -> np.ndarray | None:
        """(D,) what is taken off views from there; None if nothing is known of it."""
        if source in self._means:
            return PrototypeMean(self.manifest.dimensions, self._means[source]).offset(time.time())
        if source == PICTURE and self.gallery is not None and PICTURE in self.gallery.sources:
            rows = np.flatnonzero(np.array(self.gallery.sources, dtype=object) == PICTURE)
            return mean_of_people(self.gallery.embeddings[rows], self.gallery.owners[rows])
        return None

    def odds(self, camera: str) -> Odds:
        measured = self._measured.get(camera)
        return measured.odds if measured is not None else odds_of(self.manifest, self._engine)

    def find(
        self, root: str | Path, query: Sequence[EnrolledView], wanted: Range, limit: int, least: float = -1.0,
        threads: int = 0,
    ) -> Found:  # fmt: skip
        """See `search`. Raises UserError where another model made all visits."""
        model = self.manifest.model_hash
        return self._checked(root, search(root, query, model, wanted, self.offset, self.odds, limit, least, threads))

    def find_in_index(
        self, root: str | Path, query: Sequence[EnrolledView], wanted: Range, limit: int, least: float = -1.0,
        pictures: bool = False,
    ) -> Found:  # fmt: skip
        """The same in an index of recorded videos, see `search_index`."""
        from personsearch.runtime.history.index_search import search_index

        model = self.manifest.model_hash
        return self._checked(
            root, search_index(root, query, model, wanted, self.offset, self.odds, limit, least, pictures)
        )

    def check_index(self, root: str | Path) -> None:
        """What `find_in_index` would say of the folder anyway, before a model is loaded to describe a picture. Raises
        UserError where it is no index, or another model's."""
        model = read_header(root).model
        if model != self.manifest.model_hash:
            self._checked(root, Found([], Counter(), Counter({model: 1})))

    def _checked(self, root: str | Path, found: Found) -> Found:
        if found.other_models and not found.searched:
            raise UserError(f"{self.left_out(root, found)}; search with the bundle that the stream ran then (--bundle)")
        return found

    def left_out(self, root: str | Path, found: Found) -> str:
        """Which visits could not be compared, in words; empty for none."""
        models = ", ".join(sorted(found.other_models))
        text = f"{root}: holds visits of model {models}, which {self.manifest.model_hash} cannot compare"
        return text if found.other_models else ""
