"""Tracks of different cameras become one person: by time, and by looks less what each camera does to all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from personsearch.core.evaluation import Run
from personsearch.core.identification import Centre, normalised, prototypes
from personsearch.core.records import Detections, ImageTruth, Query

LEAST_SIMILARITY = 0.4  # of two looks less their cameras' means
SURE = 0.99  # quantile of the similarities of people who are seen together
LEAST_TRACKS = 3  # a camera's mean says nothing of fewer

Travel = Mapping[tuple[int, int], tuple[float, float]]


@dataclass(frozen=True)
class CameraTrack:
    """One person's way through one camera.

    camera  number of the source
    spans   (n, 2) seconds, first and last of each piece that was followed, on one clock for all cameras
    look    (D,) mean embedding, L2-normalised
    """

    camera: int
    spans: np.ndarray
    look: np.ndarray


def link_cameras(tracks: Sequence[CameraTrack], travel: Travel | None = None) -> list[int]:
    """For each track the first one that is the same person, itself if there is none.

    travel  seconds (least, most) from being last seen in one camera to being first seen in the other, for both ways;
            pairs of cameras that it does not name may be linked at any time. None: nothing is known of times

    Two tracks are linked where each is the other's nearest in its camera, and nearer than nearly all people who are
    seen together in one camera. The most similar come first; nobody is in two places of one camera at once.
    """
    owner = np.arange(len(tracks))
    if len({track.camera for track in tracks}) < 2:
        return owner.tolist()
    cameras = np.array([track.camera for track in tracks])
    looks = centred(np.stack([track.look for track in tracks]), cameras)
    similarity = looks @ looks.T
    together = np.array([[_at_once(a, b) for b in tracks] for a in tracks])
    strangers = similarity[np.triu(together, 1)]
    least = max(LEAST_SIMILARITY, float(np.quantile(strangers, SURE))) if len(strangers) else LEAST_SIMILARITY
    possible = cameras[:, None] != cameras[None]
    if travel:
        possible &= np.array([[_reachable(a, b, travel) for b in tracks] for a in tracks])
    similarity = np.where(possible, similarity, -np.inf)
    for first, second in sorted(_mutual(similarity, cameras), key=lambda pair: -similarity[pair]):
        if similarity[first, second] <= least or owner[first] == owner[second]:
            continue
        one, other = (np.flatnonzero(owner == owner[i]) for i in (first, second))
        if not together[np.ix_(one, other)].any():
            owner[other if owner[first] < owner[second] else one] = min(owner[first], owner[second])
    return owner.tolist()


def centred(looks: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """(N, D) looks and (N,) cameras -> looks less their camera's mean, of L2 norm 1: each track is one prototype."""
    out = looks.astype(np.float64)
    for camera in np.unique(cameras):
        mine = cameras == camera
        if mine.sum() >= LEAST_TRACKS:
            out[mine] = Centre.of(out[mine]).apply(out[mine])
    return normalised(out)


def _mutual(similarity: np.ndarray, cameras: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i < j) in which each is the other's nearest among the tracks of its camera."""
    pairs = []
    for camera in np.unique(cameras):
        there = np.flatnonzero(cameras == camera)
        for row in np.flatnonzero(cameras < camera).tolist():
            best = int(there[similarity[row, there].argmax()])
            back = np.flatnonzero(cameras == cameras[row])
            if np.isfinite(similarity[row, best]) and back[similarity[best, back].argmax()] == row:
                pairs.append((min(row, best), max(row, best)))
    return pairs


def _at_once(one: CameraTrack, other: CameraTrack) -> bool:
    """Are both in one camera at the same time: then they are two people."""
    if one.camera != other.camera or one is other:
        return False
    return bool(((one.spans[:, None, 0] <= other.spans[:, 1]) & (other.spans[:, 0] <= one.spans[:, None, 1])).any())


def _reachable(one: CameraTrack, other: CameraTrack, travel: Travel) -> bool:
    """May somebody have left one camera and come to the other in the time that the way takes?"""
    pair = (one.camera, other.camera)
    limits = travel.get(pair) or travel.get(pair[::-1])
    if limits is None:
        return True
    after = [other.spans[:, None, 0] - one.spans[:, 1], one.spans[:, None, 0] - other.spans[:, 1]]
    return any(bool(((gap >= limits[0]) & (gap <= limits[1])).any()) for gap in after)


def centred_run(run: Run, truths: Sequence[ImageTruth], queries: Sequence[Query]) -> Run:
    """A run less each camera's mean over its named people, each one prototype: as the runtime compares cameras."""
    cameras = {truth.name: truth.camera for truth in truths}
    centres = {}
    for camera in set(cameras.values()):
        here = [t for t in truths if t.camera == camera and t.name in run.annotated]
        rows = np.concatenate([run.annotated[t.name] for t in here] or [np.zeros((0, run.queries.shape[1]))])
        names = np.concatenate([t.identities for t in here] or [np.zeros(0, np.int64)])
        centres[camera] = Centre.of(prototypes(rows[names >= 0], names[names >= 0]))
    moved = {name: centres[cameras[name]].apply(rows) for name, rows in run.annotated.items()}
    found = {
        name: Detections(seen.boxes, seen.scores, centres[cameras[name]].apply(seen.embeddings))
        for name, seen in run.found.items()
    }
    asked = [centres[cameras[q.image]].apply(row[None])[0] for q, row in zip(queries, run.queries, strict=True)]
    return replace(run, found=found, annotated=moved, queries=np.array(asked).reshape(run.queries.shape))
