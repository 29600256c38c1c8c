"""Strangers under a pseudonym that stays the same while they are remembered; only with `sightings.strangers`."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from personsearch.core.odds import rate_for
from personsearch.runtime.decisions.centring import centred
from personsearch.runtime.decisions.evidence import TrackEvidence
from personsearch.runtime.decisions.recognition import Recognition
from personsearch.runtime.settings import SightingSettings

MOST = 2000  # remembered; the one seen longest ago is forgotten first
ENOUGH = 5  # views that a stranger is told by ...
FEW, FEW_AFTER_S = 2, 4.0  # ... or so few after so long


@dataclass
class _Known:
    vector: np.ndarray  # (D,) centred, L2-normalised
    seen: float  # monotonic seconds


class Strangers:
    """In memory only, and gone with the program: nothing of a stranger is written."""

    def __init__(self, settings: SightingSettings) -> None:
        self.settings = settings
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def name(self, evidence: TrackEvidence, recognition: Recognition, age_s: float) -> str | None:
        """The pseudonym of a track that was not recognised; None while too little was seen of it, or while it may
        still be somebody enrolled."""
        if evidence.described < ENOUGH and (evidence.described < FEW or age_s < FEW_AFTER_S):
            return None
        if evidence.decision.state in ("possible", "recognised") or not evidence.views:
            return None
        now = time.monotonic()
        self.forget_older(now)
        vector = centred(evidence.vector, recognition.offset)
        found = self._most_like(vector, recognition)
        if found is None:
            found = f"stranger-{secrets.token_hex(4)}"
            self._known[found] = _Known(vector, now)
        else:
            known = self._known[found]
            mixed = known.vector + vector
            known.vector, known.seen = mixed / max(float(np.linalg.norm(mixed)), 1e-9), now
            self._known.move_to_end(found)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return found

    def _most_like(self, vector: np.ndarray, recognition: Recognition) -> str | None:
        """As strict as for names: so many false ones a day among so many remembered."""
        if not self._known:
            return None
        match, odds = recognition.judge.settings, recognition.judge.odds
        similarities = np.array([known.vector for known in self._known.values()]) @ vector
        best = int(similarities.argmax())
        rate = rate_for(match.false_names_per_day, len(self._known), match.passers_by_per_day)
        threshold = odds.similarity_for(rate) if match.threshold is None else match.threshold
        return list(self._known)[best] if similarities[best] >= threshold else None

    def forget_older(self, now: float) -> None:
        """now  monotonic seconds"""
        oldest = now - 3600 * self.settings.remember_hours
        while self._known and next(iter(self._known.values())).seen < oldest:
            self._known.popitem(last=False)
