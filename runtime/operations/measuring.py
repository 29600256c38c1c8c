"""How alike different people look to one's own cameras: people who are seen together are different people."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from personsearch.core.bundle import Manifest
from personsearch.core.odds import EXTRAPOLATE, Odds
from personsearch.core.score_calibration import fit_tail
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.calibration import CameraCalibration
from personsearch.runtime.decisions.centring import SHRINK, centred
from personsearch.runtime.decisions.evidence import TrackEvidence
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.recognition import Match
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import StreamSettings

LEAST_PAIRS = 400  # of different people; fewer say nothing about rare look-alikes
LEAST_VIEWS = 2
RATES = (0.5, 0.16, 0.05, 0.01, 1e-3, 1e-4, 1e-5)


class Measurement:
    """Runs the cameras with an empty gallery and remembers tracks, in memory only."""

    def __init__(self, settings: StreamSettings, bundle: str | Path, manifest: Manifest) -> None:
        self.manifest = manifest
        gallery = Gallery(manifest.model_hash, manifest.dimensions)
        self.pipeline = Pipeline(settings, bundle, manifest, gallery, lambda _: None)
        self.pipeline.watchers.append(self._see)
        self.tracks: dict[str, dict[int, TrackEvidence]] = defaultdict(dict)
        self.together: dict[str, set[tuple[int, int]]] = defaultdict(set)
        self._span: dict[str, tuple[float, float]] = {}

    def watch(self, seconds: float) -> None:
        """Blocks until the time is up or the last camera has ended. Raises what `Pipeline.run` raises."""
        end = time.monotonic() + seconds
        self.pipeline.every_second.append(lambda now: self.pipeline.stop() if now >= end else None)
        self.pipeline.run()

    def _see(self, frame: Frame, tracks: list[Track], _: list[Match]) -> None:
        evidence = self.pipeline.people.of(frame.camera).evidence
        known = [t.number for t in tracks if t.confirmed and t.number in evidence]
        for number in known:
            self.tracks[frame.camera][number] = evidence[number]
        for i, number in enumerate(sorted(known)):
            self.together[frame.camera] |= {(number, other) for other in sorted(known)[i + 1 :]}
        first, _last = self._span.get(frame.camera, (frame.moment, frame.moment))
        self._span[frame.camera] = (first, frame.moment)

    def scores(self, camera: str) -> tuple[np.ndarray, np.ndarray]:
        """Impostor and genuine similarities of a camera, centred: means of tracks that were in one frame, and the first
        half of a track's views against the second (which only says what one camera's pictures of a person share)."""
        seen = {n: e for n, e in self.tracks[camera].items() if len(e.views) >= LEAST_VIEWS}
        if len(seen) < 2:
            return np.zeros(0), np.zeros(0)
        vectors = np.array([e.vector for e in seen.values()])
        offset = vectors.mean(0) * len(vectors) / (len(vectors) + SHRINK)
        place = {number: i for i, number in enumerate(seen)}
        means = centred(vectors, offset)
        pairs = [(place[a], place[b]) for a, b in sorted(self.together[camera]) if a in place and b in place]
        impostor = np.array([float(means[a] @ means[b]) for a, b in pairs])
        genuine = []
        for evidence in seen.values():
            views = np.array([v.embedding for v in sorted(evidence.views, key=lambda v: v.moment)])
            half = len(views) // 2
            one, two = (centred(part.mean(0), offset) for part in (views[:half], views[half:]))
            genuine.append(float(one @ two))
        return impostor, np.array(genuine)

    def results(self, bundle: Odds, now: str) -> tuple[dict[str, CameraCalibration], dict[str, str]]:
        """Calibrations of the cameras that saw enough, and why the others did not.

        The likelihood ratio stays the bundle's: what a person looks like in another camera cannot be seen in one.
        """
        good: dict[str, CameraCalibration] = {}
        refused: dict[str, str] = {}
        for camera in (c.name for c in self.pipeline.settings.cameras):
            impostor, _ = self.scores(camera)
            if len(impostor) < LEAST_PAIRS:
                refused[camera] = f"{len(impostor)} pairs of people seen together, at least {LEAST_PAIRS} are needed"
                continue
            first, last = self._span[camera]
            seconds = max(last - first, 1.0)
            odds = Odds(
                impostor=tail_points(impostor), evidence=bundle.evidence, pairs=len(impostor),
                source=f"{len(impostor)} pairs of people seen together in {seconds / 60:.0f} minutes",
            )  # fmt: skip
            passers = sum(e.described >= LEAST_VIEWS for e in self.tracks[camera].values()) * 86400 / seconds
            good[camera] = CameraCalibration(
                odds=odds, passers_by_per_day=round(passers, 1), minutes=round(seconds / 60, 2), measured=now
            )
        return good, refused


def tail_points(scores: np.ndarray) -> tuple[tuple[float, float], ...]:
    """(similarity, share of pairs at or above): quantiles in the bulk, a fitted generalised Pareto tail beyond."""
    tail = fit_tail(scores)
    points: list[tuple[float, float]] = []
    for rate in (r for r in RATES if r >= EXTRAPOLATE / len(scores)):
        value = float(np.quantile(scores, 1 - rate)) if rate >= tail.share else tail.score_at(rate)
        if not points or value > points[-1][0] + 1e-4:
            points.append((round(value, 5), rate))
    return tuple(points)


def draw(measurement: Measurement, results: dict[str, CameraCalibration], path: Path) -> None:
    """Impostor and genuine curves of each camera with its false match rates, as a PNG. Raises UserError."""
    try:
        import matplotlib
    except ImportError:
        from personsearch.core.errors import UserError

        raise UserError("--plot needs matplotlib; install it, or leave --plot out") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(len(results), 2, figsize=(10, 3.2 * len(results)), squeeze=False)
    for (name, result), (left, right) in zip(sorted(results.items()), rows, strict=True):
        impostor, genuine = measurement.scores(name)
        bins = np.linspace(-0.5, 1, 61)
        left.hist(impostor, bins, density=True, alpha=0.6, label="different people")
        left.hist(genuine, bins, density=True, alpha=0.6, label="one person, same camera")
        left.set(title=name, xlabel="similarity", ylabel="density")
        left.legend(loc="upper center")
        grid = np.linspace(0, 0.8, 81)
        right.semilogy(grid, [result.odds.false_match_rate(float(s)) for s in grid], label="this camera")
        right.set(xlabel="similarity", ylabel="false match rate per pair", ylim=(1e-6, 1))
        right.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
