"""What a similarity is worth: how often different people reach it, and how much likelier the same person does.

Field terms: FMR, the false match rate, is the share of *pairs* of different people at or above a similarity. With N
people enrolled a stranger is named with FPIR = 1 - (1 - FMR)^N, so the operator's unit is

    false names a day = passers-by a day * FPIR
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from pydantic import Field, model_validator

from personsearch.core.config import Settings

EXTRAPOLATE = 0.1  # of one pair: so far beyond the rarest observed pair a fitted tail is believed


class Evidence(Settings):
    """Log likelihood ratio = slope * similarity + offset, of a mean over at least so many views."""

    views: int = Field(ge=1)
    slope: float = Field(gt=0)
    offset: float


class Odds(Settings):
    """impostor  (similarity, FMR), rising in similarity; the last ones from a fitted tail
    pairs     of different people that it rests on
    """

    impostor: tuple[tuple[float, float], ...] = Field(min_length=2)
    evidence: tuple[Evidence, ...] = Field(min_length=1)
    pairs: int = Field(ge=1)
    source: str = ""

    @model_validator(mode="after")
    def _monotonous(self) -> Odds:
        for (low, often), (high, seldom) in pairwise(self.impostor):
            if not (low < high and often > seldom > 0):
                raise ValueError("impostor must rise in similarity and fall in rate, which stays above 0")
        if self.impostor[0][1] > 1:
            raise ValueError("impostor: a rate is at most 1")
        return self

    @property
    def least_rate(self) -> float:
        """The smallest FMR that the data support."""
        return max(self.impostor[-1][1], EXTRAPOLATE / self.pairs)

    def false_match_rate(self, similarity: float) -> float:
        """Per pair; linear in its logarithm between the points and beyond the last one."""
        points = np.array(self.impostor)
        x, y = points[:, 0], np.log(points[:, 1])
        if similarity >= x[-1]:
            slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
            return float(np.exp(y[-1] + slope * (similarity - x[-1])))
        if similarity <= x[0]:
            slope = (y[1] - y[0]) / (x[1] - x[0])
            return float(min(1.0, np.exp(y[0] + slope * (similarity - x[0]))))
        return float(np.exp(np.interp(similarity, x, y)))

    def similarity_for(self, rate: float) -> float:
        """The similarity that pairs of different people reach with that FMR; of `least_rate` where that is larger."""
        points = np.array(self.impostor)
        x, y = points[:, 0], np.log(points[:, 1])
        wanted = float(np.log(min(1.0, max(rate, self.least_rate))))
        if wanted >= y[0]:
            return float(x[0])
        if wanted <= y[-1]:
            slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
            return float(min(1.0, x[-1] + (wanted - y[-1]) / slope))
        return float(np.interp(-wanted, -y, x))

    def log_likelihood_ratio(self, similarity: float, views: int) -> float:
        """Natural logarithm of p(similarity | same person) / p(similarity | different people)."""
        fitting = [e for e in self.evidence if e.views <= max(1, views)] or [self.evidence[0]]
        chosen = max(fitting, key=lambda e: e.views)
        return chosen.slope * similarity + chosen.offset


def false_names_per_day(rate: float, people: int, passers_by: float) -> float:
    """rate  FMR of a decision; people  enrolled; passers_by  strangers a day"""
    return float(-passers_by * np.expm1(people * np.log1p(-min(rate, 1 - 1e-12))))


def rate_for(false_names: float, people: int, passers_by: float) -> float:
    """The FMR at which `people` enrolled are falsely named so often a day: the inverse of `false_names_per_day`."""
    share = min(1 - 1e-12, false_names / passers_by) if passers_by > 0 else 1 - 1e-12
    return float(-np.expm1(np.log1p(-share) / max(1, people)))


def from_thresholds(thresholds: tuple[tuple[float, float], ...]) -> Odds:
    """For a bundle that only knows (similarity, FMR) of single pictures: its own points, and cautious evidence."""
    points = sorted(thresholds)
    if len(points) < 2:
        points = [(0.2, 0.05), (0.35, 0.01), (0.65, 0.001)]
    return Odds(
        impostor=tuple(points), evidence=(Evidence(views=1, slope=12.0, offset=-12.0 * points[-1][0] + 2.0),),
        pairs=int(1 / points[-1][1]), source="similarity thresholds of the bundle",
    )  # fmt: skip
