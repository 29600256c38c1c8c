"""What a similarity is worth: a likelihood ratio from genuine and impostor scores, and the impostors' upper tail.

FMR  false match rate: share of pairs of different people whose similarity reaches a value
Cllr cost of a log-likelihood ratio in bits: 0 = all-knowing, 1 = says nothing; more = misleads
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TAIL = 0.05  # share of the impostors' scores that make the tail
LEAST_IN_TAIL = 20


@dataclass(frozen=True)
class LogRatio:
    """score -> natural logarithm of p(score | same person) / p(score | different people), a straight line."""

    slope: float
    offset: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return self.slope * np.asarray(scores, np.float64) + self.offset

    @property
    def even(self) -> float:
        """The score that speaks for neither."""
        return -self.offset / self.slope if self.slope else float("nan")


def fit_log_ratio(genuine: np.ndarray, impostor: np.ndarray, steps: int = 50) -> LogRatio:
    """Logistic regression (Platt) with both classes weighing the same, so that the log odds are the log ratio.

    genuine, impostor  (G,), (I,) scores of pairs of the same and of different people
    Platt's smoothed targets keep the slope finite where the scores do not overlap. ValueError for an empty class.
    """
    if not len(genuine) or not len(impostor):
        raise ValueError(f"needs scores of both kinds, got {len(genuine)} genuine and {len(impostor)} impostor ones")
    scores = np.concatenate([genuine, impostor]).astype(np.float64)
    middle, spread = scores.mean(), max(float(scores.std()), 1e-9)
    x = np.stack([(scores - middle) / spread, np.ones(len(scores))], 1)
    counts = [len(genuine), len(impostor)]
    target = np.repeat([(counts[0] + 1) / (counts[0] + 2), 1 / (counts[1] + 2)], counts)
    weight = np.repeat([0.5 / count for count in counts], counts)

    def loss(beta: np.ndarray) -> float:
        z = x @ beta
        return float((weight * (np.logaddexp(0, z) - target * z)).sum())

    beta = np.zeros(2)
    for _ in range(steps):  # Newton's method, shortened where it overshoots
        probability = 1 / (1 + np.exp(-np.clip(x @ beta, -500, 500)))
        gradient = x.T @ (weight * (probability - target))
        curvature = (x * (weight * probability * (1 - probability))[:, None]).T @ x + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        before = loss(beta)
        while loss(beta - step) > before and np.abs(step).max() > 1e-12:
            step = step / 2
        beta = beta - step
        if np.abs(step).max() < 1e-10:
            break
    slope = beta[0] / spread
    return LogRatio(float(slope), float(beta[1] - slope * middle))


def cllr(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Cost of natural log-likelihood ratios of pairs of the same and of different people, in bits."""
    costs = np.logaddexp(0, -genuine).mean() + np.logaddexp(0, impostor).mean()
    return float(costs / 2 / np.log(2))


@dataclass(frozen=True)
class ImpostorTail:
    """FMR above a high score as a generalised Pareto distribution (peaks over threshold).

    start  score where the tail begins; `share` of the impostor pairs lie above
    scale, shape  of the distribution; a shape below 0 has an end
    pairs  how many impostor pairs there were
    """

    start: float
    share: float
    scale: float
    shape: float
    pairs: int

    @property
    def least(self) -> float:
        """The smallest FMR that so many pairs can speak of: none of N seen still allows 3 / N (95 %)."""
        return 3 / self.pairs

    def fmr(self, score: float) -> float:
        """FMR of a score from `start` on, never below what the pairs can speak of; `share` below `start`."""
        above = max(0.0, score - self.start) / self.scale
        if abs(self.shape) < 1e-9:
            survival = float(np.exp(-above))
        else:
            survival = max(0.0, 1 + self.shape * above) ** (-1 / self.shape)
        return max(self.share * survival, self.least)

    def threshold(self, fmr: float) -> float:
        """The score of an FMR. Raises ValueError for one above `share` or below `least`."""
        if not self.least <= fmr <= self.share:
            known = f"{self.least:.1e} to {self.share:g}"
            raise ValueError(f"{self.pairs} pairs can speak of rates from {known}, got {fmr:g}")
        return self.score_at(fmr)

    def score_at(self, fmr: float) -> float:
        """The fitted score of an FMR, also beyond what the pairs can speak of."""
        ratio = fmr / self.share
        if abs(self.shape) < 1e-9:
            return self.start - self.scale * float(np.log(ratio))
        return self.start + self.scale / self.shape * (ratio**-self.shape - 1)


def fit_tail(impostor: np.ndarray, share: float = TAIL) -> ImpostorTail:
    """Fit the upper tail by probability-weighted moments (Hosking and Wallis 1987), which need no search.

    Raises ValueError unless the tail holds 20 scores, or if they are all the same.
    """
    scores = np.sort(np.asarray(impostor, np.float64))
    start = float(np.quantile(scores, 1 - share)) if len(scores) else 0.0
    excess = scores[scores > start] - start
    count = len(excess)
    if count < LEAST_IN_TAIL:
        least = round(LEAST_IN_TAIL / share)
        raise ValueError(f"a tail needs {LEAST_IN_TAIL} different scores (about {least} impostor pairs), got {count}")
    rank = (np.arange(1, count + 1) - 0.35) / count
    mean, weighted = excess.mean(), ((1 - rank) * excess).mean()
    divisor = mean - 2 * weighted
    if divisor <= 1e-12 * mean:
        raise ValueError("the scores of the tail are all the same")
    return ImpostorTail(
        start, count / len(scores), float(2 * mean * weighted / divisor), float(2 - mean / divisor), len(scores)
    )
