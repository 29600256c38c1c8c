"""Who in an index of archived video looks like this one? Exact, as in a stream's history, and with the same odds."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from personsearch.core.odds import Odds
from personsearch.core.processor import compute_threads
from personsearch.runtime.decisions.centring import SHRINK
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.decisions.lineup import Lineup
from personsearch.runtime.history.index_file import VisitPart, read_header, visit_parts
from personsearch.runtime.history.searching import (
    Found,
    Hit,
    Offsets,
    Range,
    centred_query,
    means_of_query,
    single,
)  # fmt: skip
from personsearch.runtime.history.video_pictures import cut_from_video, turns_of
from personsearch.runtime.history.visit_file import BLOCK

LATEST = 1024  # visits of a camera that its mean is taken from, where no other mean is known


def search_index(
    root: str | Path, query: Sequence[EnrolledView], model: str, wanted: Range, offsets: Offsets,
    odds: Callable[[str], Odds], limit: int, least: float = -1.0, pictures: bool = False,
) -> Found:  # fmt: skip
    """As `searching.search`, of an index by personsearch-index.

    pictures  also cut the hits out of the videos, where those are there
    Raises UserError for a folder that is no index, or one that is damaged.
    """
    header = read_header(root)
    everything = visit_parts(root)
    if (header.model, header.dimensions) != (model, len(query[0].embedding)):
        return Found([], Counter(), Counter({header.model: len(everything)}))
    cameras = wanted.cameras
    parts = [p for p in everything if wanted.may_hold(p.path.with_suffix("")) and (not cameras or p.camera in cameras)]
    by_camera: dict[str, list[VisitPart]] = {}
    for part in parts:
        by_camera.setdefault(part.camera, []).append(part)
    means = {camera: _offset(those, offsets(camera), header.dimensions) for camera, those in by_camera.items()}
    lineup = centred_query(query, model, {**means_of_query(query, offsets), **means})
    best: list[tuple[float, int, int]] = []
    searched: Counter[str] = Counter()
    with threadpool_limits(1), ThreadPoolExecutor(compute_threads()) as pool:
        tasks = [_Task(number, part, lineup, means[part.camera], wanted, limit, least)
                 for number, part in enumerate(parts)]  # fmt: skip
        for task, (hits, count) in zip(tasks, pool.map(_Task.compare, tasks), strict=True):
            searched[task.part.camera] += count
            best = heapq.nlargest(limit, [*best, *hits], key=lambda hit: hit[0])
    searched = +searched
    turns = turns_of(header.settings)
    curves = {camera: odds(camera) for camera in searched}
    found = [_hit(parts[part], row, similarity, curves, searched, turns, pictures) for similarity, part, row in best]
    return Found(found, searched, Counter())


def _offset(parts: Sequence[VisitPart], known: np.ndarray | None, dimensions: int) -> np.ndarray:
    """(D,) what is taken off a camera's visits: its mean of people, else that of its latest visits."""
    if known is not None:
        return known
    total, count = np.zeros(dimensions, np.float64), 0
    for part in reversed(parts):
        for _, block in part.blocks(max(0, part.count - LATEST), ("embedding",)):
            rows = block["embedding"][-LATEST:].astype(np.float32)
            total += rows.sum(0, dtype=np.float64)
            count += len(rows)
        if count >= LATEST:
            break
    return (total / (count + SHRINK)).astype(np.float32)


@dataclass(frozen=True)
class _Task:
    number: int
    part: VisitPart
    lineup: Lineup
    offset: np.ndarray
    wanted: Range
    limit: int
    least: float

    def compare(self) -> tuple[list[tuple[float, int, int]], int]:
        """Similarity, number of the file and row of the most alike; and how many visits were compared."""
        best: list[tuple[float, int, int]] = []
        count, memory = 0, np.empty((BLOCK, len(self.offset)), np.float32)
        with suppress(FileNotFoundError):  # the index is just being made anew
            for start, block in self.part.blocks():
                good = (block["ended"] >= self.wanted.since) & (block["started"] <= self.wanted.until)
                count += int(good.sum())
                for first in range(0, len(good), BLOCK):
                    rows = single(np.ascontiguousarray(block["embedding"][first : first + BLOCK]), memory)
                    similarity = self.lineup.similarities_less(rows, self.offset)[:, 0]
                    kept = good[first : first + BLOCK] & (similarity >= self.least)
                    similarity = np.where(kept, similarity, -np.inf)
                    few = min(self.limit, len(similarity))
                    for i in np.argpartition(-similarity, few - 1)[:few].tolist():
                        if np.isfinite(similarity[i]):
                            best.append((float(similarity[i]), self.number, start + first + i))
                best = heapq.nlargest(self.limit, best, key=lambda hit: hit[0])
        return best, count


def _hit(
    part: VisitPart, row: int, similarity: float, curves: dict[str, Odds], searched: Counter[str],
    turns: dict[str, int], pictures: bool,
) -> Hit:  # fmt: skip
    visit, curve = part.row(row), curves[part.camera]
    crop = visit.get("crop") or b""
    if pictures and not crop:
        crop = cut_from_video(visit["video"], visit["video_s"], np.array(visit["box"]), turns.get(part.camera, 0))
    return Hit(
        camera=part.camera, sighting=visit["visit"], person="", stranger="", started=visit["started"],
        ended=visit["ended"], track=visit["track"], views=visit["views"], box=tuple(visit["box"]),
        similarity=similarity, false_match_rate=curve.false_match_rate(similarity),
        expected_false=sum(n * curves[c].false_match_rate(similarity) for c, n in searched.items()),
        log_likelihood_ratio=curve.log_likelihood_ratio(similarity, visit["views"]), crop=crop,
        video=visit["video"], video_s=visit["video_s"],
    )  # fmt: skip
