"""Identification with unknown people (open set): who is enrolled is to be named in another camera, nobody else.

FPIR  false positive identification rate: share of people who are not enrolled and get a name all the same
FNIR  false negative identification rate: share of enrolled people who are missed, or get another name
DIR   detection and identification rate, 1 - FNIR; closed rank-1 asks for the right name without any threshold

The protocol: half of the people, drawn at random, are enrolled from one camera with a few views; all are looked for
in another camera, each by the template of all views there. The threshold is the one that names a given share of those
who are not enrolled. Every ordered pair of cameras, several halves; each is a `Trial`, and figures are means over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import numpy as np

from personsearch.core.errors import DataError

RATES = (0.01, 0.1)
LEAST_PEOPLE = 4  # two to enrol, two to be strangers
EPSILON = 1e-5  # added to variances, as in ProtoNorm


@dataclass(frozen=True)
class Sightings:
    """Described pictures of people: row i shows `people[i]` in `cameras[i]`.

    embeddings  (N, D) float32, not necessarily of norm 1
    people      (N,) int64
    cameras     (N,) int64
    views       (N,) int64, number of the picture among those of one person in one camera
    Raises ValueError for columns of different lengths and for numbers that are not finite.
    """

    embeddings: np.ndarray
    people: np.ndarray
    cameras: np.ndarray
    views: np.ndarray

    def __post_init__(self) -> None:
        shape, count = self.embeddings.shape, len(self.people)
        if len(shape) != 2 or {shape[0], count, len(self.cameras), len(self.views)} != {count}:
            raise ValueError(f"embeddings {shape} need one person, camera and view a row, but there are {count} people")
        if not np.isfinite(self.embeddings).all():
            raise ValueError(f"row {int(np.argmin(np.isfinite(self.embeddings).all(1)))} holds a number not finite")

    def save(self, path: str | Path) -> None:
        """Write the columns under their names into an .npz file."""
        np.savez_compressed(
            path, embeddings=self.embeddings, people=self.people, cameras=self.cameras, views=self.views
        )

    @staticmethod
    def load(path: str | Path) -> Sightings:
        """Raises DataError for a file that `save` has not written."""
        try:
            with np.load(path, allow_pickle=False) as content:
                return Sightings(*(content[name] for name in ("embeddings", "people", "cameras", "views")))
        except Exception as error:  # numpy's parser raises a dozen kinds for a damaged file
            reason = f"{type(error).__name__}: {error}"
            raise DataError(
                f"{path}: cannot be read ({reason}); expected what train/evaluate.py --format crops --dump writes"
            ) from None

    def rows_of(self, camera: int) -> np.ndarray:
        """Indices of a camera's rows, by person and view."""
        rows = np.flatnonzero(self.cameras == camera)
        return rows[np.lexsort((self.views[rows], self.people[rows]))]

    def in_both(self, one: int, other: int) -> np.ndarray:
        """The people whom both cameras have seen, sorted."""
        return np.intersect1d(self.people[self.cameras == one], self.people[self.cameras == other])


def normalised(embeddings: np.ndarray) -> np.ndarray:
    """Rows of L2 norm 1; a row of zeros stays."""
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-9)


def prototypes(embeddings: np.ndarray, people: np.ndarray) -> np.ndarray:
    """(P, D): the mean of each person's rows, people in rising order (Eq. 5: everybody counts once)."""
    names, owner = np.unique(people, return_inverse=True)
    sums = np.zeros((len(names), embeddings.shape[1]))
    np.add.at(sums, owner, embeddings)
    return sums / np.bincount(owner, minlength=len(names))[:, None]


@dataclass(frozen=True)
class Centre:
    """What a camera does to all embeddings alike: a mean (D,), and a variance (D,) where that is used (Eq. 5-6)."""

    mean: np.ndarray
    variance: np.ndarray | None = None

    @staticmethod
    def of(given: np.ndarray, *, variance: bool = False, k: float = 0.0, prior: Centre | None = None) -> Centre:
        """Of prototypes (P, D), shrunk towards the prior by P / (P + k).

        Without a prior: mean 0, and the same variance in each dimension. No prototypes give the prior.
        """
        count, dimensions = given.shape
        trust = count / (count + k) if count else 0.0
        before = np.zeros(dimensions) if prior is None else prior.mean
        mean = trust * given.mean(0) + (1 - trust) * before if count else before
        if not variance:
            return Centre(mean)
        own = given.var(0) if count else np.ones(dimensions)
        spread = np.full(dimensions, own.mean()) if prior is None or prior.variance is None else prior.variance
        return Centre(mean, trust * own + (1 - trust) * spread)

    def apply(self, embeddings: np.ndarray) -> np.ndarray:
        """Rows (N, D) without what the camera did, of L2 norm 1."""
        moved = embeddings - self.mean
        return normalised(moved if self.variance is None else moved / np.sqrt(self.variance + EPSILON))


@dataclass(frozen=True)
class Centring:
    """How each camera's centre is taken off.

    mode       none, mean, or variance (mean and variance)
    before_l2  of the embeddings as they come, instead of after a first L2 normalisation
    k          shrinkage: P prototypes count P / (P + k), a prior or nothing the rest
    most       how many people a centre is made of (0: all whom the camera saw); drawn by `seed`
    """

    mode: str = "mean"
    before_l2: bool = False
    k: float = 0.0
    most: int = 0
    seed: int = 0

    def __call__(self, sightings: Sightings, prior: Centre | None = None) -> Sightings:
        """The sightings with rows of L2 norm 1, each camera's centre taken off."""
        rows = sightings.embeddings if self.before_l2 else normalised(sightings.embeddings)
        if self.mode == "none":
            return replace(sightings, embeddings=normalised(rows))
        rng, out = np.random.default_rng(self.seed), np.zeros(rows.shape)
        for camera in np.unique(sightings.cameras):
            mine = sightings.cameras == camera
            given = prototypes(rows[mine], sightings.people[mine])
            if self.most:
                given = given[rng.permutation(len(given))[: self.most]]
            out[mine] = Centre.of(given, variance=self.mode == "variance", k=self.k, prior=prior).apply(rows[mine])
        return replace(sightings, embeddings=out)


@dataclass(frozen=True)
class Trial:
    """One half enrolled, everybody looked for; all (M,).

    people  who was looked for
    top     similarity to the most similar enrolled person
    right   is that person the right one
    known   is the person looked for enrolled
    """

    people: np.ndarray
    top: np.ndarray
    right: np.ndarray
    known: np.ndarray

    def threshold(self, rate: float) -> float:
        """The similarity that a share `rate` of the strangers reaches (linear between two of them), -inf if none."""
        return float(np.quantile(self.top[~self.known], 1 - rate)) if (~self.known).any() else float("-inf")

    def fnir(self, threshold: float) -> float:
        """Share of enrolled people who are missed, or get another name; 0 if nobody is enrolled."""
        found = (self.top >= threshold) & self.right
        return float(np.mean(~found[self.known])) if self.known.any() else 0.0

    def fpir(self, threshold: float) -> float:
        """Share of strangers who get a name; 0 if there are none."""
        return float(np.mean(self.top[~self.known] >= threshold)) if (~self.known).any() else 0.0


@dataclass(frozen=True)
class Identification:
    """All trials of a protocol; figures are means over them."""

    trials: Sequence[Trial]

    def fnir(self, rate: float) -> float:
        """FNIR at an FPIR, each trial at its own threshold."""
        return float(np.mean([t.fnir(t.threshold(rate)) for t in self.trials])) if self.trials else 0.0

    def threshold(self, rate: float) -> float:
        return float(np.mean([t.threshold(rate) for t in self.trials])) if self.trials else 0.0

    @property
    def rank_1(self) -> float:
        """Closed set: share of enrolled people whose most similar enrolled person is themselves."""
        return 1 - float(np.mean([t.fnir(float("-inf")) for t in self.trials])) if self.trials else 0.0

    def figures(self, rates: Sequence[float] = RATES) -> dict[str, float]:
        return {**{f"FNIR at FPIR {100 * rate:g} %": self.fnir(rate) for rate in rates}, "rank-1": self.rank_1}

    def intervals(
        self, rates: Sequence[float] = RATES, share: float = 0.95, resamples: int = 1000, seed: int = 0
    ) -> dict[str, tuple[float, float]]:
        """Confidence intervals of `figures` by bootstrap over the people looked for (percentiles).

        People are what was sampled; halves of the same people are not independent, and an interval over them would
        be too narrow. Each resample counts each person a random number of times, the same in all trials, as stranger
        (which moves the thresholds) and as enrolled person. The galleries stay: nobody is enrolled twice.
        """
        if not self.trials:
            return {name: (0.0, 0.0) for name in self.figures(rates)}
        everybody = np.unique(np.concatenate([t.people for t in self.trials]))
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(len(everybody), np.full(len(everybody), 1 / len(everybody)), resamples)  # (R, people)
        values: dict[str, list[np.ndarray]] = {name: [] for name in self.figures(rates)}
        for trial in self.trials:
            counts = drawn[:, np.searchsorted(everybody, trial.people)]
            limits = [*(_quantiles(trial.top[~trial.known], counts[:, ~trial.known], 1 - rate) for rate in rates)]
            for name, limit in zip(values, [*limits, np.full(resamples, -np.inf)], strict=True):
                found = (trial.top[trial.known] >= limit[:, None]) & trial.right[trial.known]
                weight = counts[:, trial.known]
                missed = (weight * ~found).sum(1) / np.maximum(weight.sum(1), 1)
                values[name].append(1 - missed if name == "rank-1" else missed)
        ends = [50 * (1 - share), 50 * (1 + share)]
        spans = {name: np.percentile(np.mean(rows, axis=0), ends) for name, rows in values.items()}
        return {name: (float(low), float(high)) for name, (low, high) in spans.items()}


def _quantiles(values: np.ndarray, counts: np.ndarray, share: float) -> np.ndarray:
    """np.quantile of `values` (M,), each repeated `counts` (R, M) times -> (R,); -inf where all counts are 0."""
    if not len(values):
        return np.full(len(counts), -np.inf)
    order = np.argsort(values, kind="stable")
    ranked, upto = values[order], np.cumsum(counts[:, order], axis=1)
    place = np.maximum(upto[:, -1] - 1, 0) * share
    low, high = np.floor(place), np.ceil(place)
    below, above = (ranked[np.minimum((upto <= p[:, None]).sum(1), len(ranked) - 1)] for p in (low, high))
    return np.where(upto[:, -1] > 0, below + (above - below) * (place - low), -np.inf)


def identify(
    sightings: Sightings, *, halves: int = 10, views: int = 2, seed: int = 0, template: bool = False
) -> Identification:
    """The protocol above on sightings with rows of L2 norm 1 (see `Centring`).

    views     how many a person is enrolled with: the first ones in their order
    template  compare with the mean of the enrolled views, instead of the most similar of them (as the runtime does)
    Raises ValueError unless two cameras have seen at least four people both.
    """
    rng, trials = np.random.default_rng(seed), []
    cameras = [int(camera) for camera in np.unique(sightings.cameras)]
    pairs = [(a, b) for a, b in permutations(cameras, 2) if len(sightings.in_both(a, b)) >= LEAST_PEOPLE]
    if not pairs:
        raise ValueError(f"needs at least {LEAST_PEOPLE} people whom two cameras have seen")
    for _ in range(halves):
        order = rng.permutation(np.unique(sightings.people))
        for gallery, probe in pairs:
            people = sightings.in_both(gallery, probe)
            enrolled = order[np.isin(order, people)][: len(people) // 2]
            trials.append(_trial(sightings, gallery, probe, people, np.sort(enrolled), views, template))
    return Identification(trials)


def _trial(
    sightings: Sightings, gallery: int, probe: int, people: np.ndarray, enrolled: np.ndarray, views: int, template: bool
) -> Trial:
    rows = sightings.rows_of(probe)
    rows = rows[np.isin(sightings.people[rows], people)]
    looked_for = normalised(prototypes(sightings.embeddings[rows], sightings.people[rows]))
    rows = sightings.rows_of(gallery)
    owners = sightings.people[rows]
    place = np.arange(len(rows)) - np.searchsorted(owners, owners)  # of a view among its person's
    rows = rows[np.isin(owners, enrolled) & (place < views)]
    entries, owners = sightings.embeddings[rows], sightings.people[rows]
    if template:
        entries, owners = normalised(prototypes(entries, owners)), np.unique(owners)
    similarity = looked_for @ entries.T
    best = similarity.argmax(1)
    return Trial(people, similarity.max(1), owners[best] == people, np.isin(people, enrolled))
