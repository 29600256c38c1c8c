"""The answers of the review as the page needs them, and what they say about the calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.files import Reread
from personsearch.core.odds import Odds
from personsearch.runtime.operations.reviews import Answer, add_answer, load_reviews, remove_answer, reviews_file

LEAST = 5  # answers of each kind that a slope is fitted to
TRUST = 0.5  # standard deviation of the slope around 1 before any answer was given
LIMIT = 20.0  # of a logarithm: further is as good as sure


class Reviewing(Reread[Answer]):
    """By row, the oldest first; a forgotten person leaves the file. A damaged one is a GalleryError."""

    def __init__(self, gallery: str | Path) -> None:
        super().__init__(reviews_file(gallery), load_reviews)

    def add(self, answer: Answer) -> None:
        add_answer(self.path, answer)

    def remove(self, row: str) -> None:
        remove_answer(self.path, row)

    def counts(self) -> dict[str, int]:
        given = [answer.answer for answer in self.all().values()]
        return {kind: given.count(kind) for kind in ("yes", "no", "name")}


def effect(answers: list[Answer], odds: Odds) -> dict[str, Any]:
    """What the answers say about the likelihood ratio that names rest on.

    A "yes" is a pair of one person, "no" and another name are pairs of different people. How often either comes depends
    on what was asked about, so only the slope of the likelihood ratio can be learned from them, not its height: logit
    P(yes) = a + b (llr - mean), where 1 +- 0.5 was expected of b before. b < 1: the ratio claims too much.

    Gives `genuine`, `impostor` (counts), `named`, `wrong` (of names that were said, not guessed), `points`
    [[similarity, log likelihood ratio, genuine]], `slope` and `error` (None until there are enough answers), `before`
    and `after` [[similarity, log likelihood ratio]].
    """
    asked = [a for a in answers if a.similarity is not None and a.log_likelihood_ratio is not None]
    ratio = np.clip(np.array([a.log_likelihood_ratio for a in asked], np.float64), -LIMIT, LIMIT)
    right = np.array([a.answer == "yes" for a in asked], bool)
    named = [a for a in answers if a.kind != "candidate"]
    told: dict[str, Any] = {
        "genuine": int(right.sum()), "impostor": int((~right).sum()), "named": len(named),
        "wrong": sum(a.answer != "yes" for a in named), "slope": None, "error": None, "before": [], "after": [],
        "points": [
            [round(a.similarity or 0.0, 4), round(float(llr), 3), bool(yes)]
            for a, llr, yes in zip(asked, ratio, right, strict=True)
        ][-500:],
    }  # fmt: skip
    views = int(np.median([a.views for a in asked])) if asked else 5
    grid = np.linspace(0.0, 0.9, 46)
    before = np.array([odds.log_likelihood_ratio(float(s), views) for s in grid])
    told["before"] = _line(grid, before)
    if min(told["genuine"], told["impostor"]) >= LEAST:
        mean = float(ratio.mean())
        slope, error = _slope(ratio - mean, right)
        told |= {
            "slope": round(slope, 3),
            "error": round(error, 3),
            "after": _line(grid, mean + slope * (before - mean)),
        }
    return told


def _slope(centred: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """The most likely slope of logistic regression with that prior, and its standard error: Newton's method."""
    at, curvature = np.array([0.0, 1.0]), np.eye(2)
    columns = np.stack([np.ones_like(centred), centred], 1)
    prior = np.diag([1e-2, 1 / TRUST**2])
    for _ in range(50):
        share = 1 / (1 + np.exp(-np.clip(columns @ at, -40, 40)))
        gradient = columns.T @ (right - share) - prior @ (at - [0.0, 1.0])
        curvature = (columns * (share * (1 - share))[:, None]).T @ columns + prior
        step = np.linalg.solve(curvature, gradient)
        at = at + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-8:
            break
    return float(at[1]), float(np.sqrt(np.linalg.inv(curvature)[1, 1]))


def _line(similarities: np.ndarray, ratios: np.ndarray) -> list[list[float]]:
    return [[round(float(s), 3), round(float(r), 3)] for s, r in zip(similarities, ratios, strict=True)]
