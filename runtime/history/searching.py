"""Who of the people that were seen looks like this one? Exact: every visit is compared, in blocks on all cores.

A visit is compared as the judge compares a track: its mean view, less the mean of its camera's people, with the query's
views less theirs (`Lineup`). So the odds of bundle and calibration hold: how often somebody else looks that alike.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from personsearch.core.odds import Odds
from personsearch.core.processor import compute_threads
from personsearch.runtime.decisions.centring import SHRINK
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.lineup import Lineup
from personsearch.runtime.history.folder import DAY_S, begin_of, days
from personsearch.runtime.history.visit_file import BLOCK, VISITS, Header, NoVisits, VisitFile, sound

MOST_HITS = 10_000
PIECE = 32 * BLOCK  # records that a thread takes at once
EXPONENT = np.float32(2.0**112)  # what the exponents of half and single precision differ by
QUERY = "query"


@dataclass(frozen=True)
class Range:
    """Visits that overlap this time (unix seconds) in these cameras; no cameras: in all."""

    since: float = -np.inf
    until: float = np.inf
    cameras: frozenset[str] = frozenset()

    def may_hold(self, day: Path) -> bool:
        """Whether visits that ended on a day, given as its folder or file, can be among them."""
        try:
            begin = begin_of(day)
        except ValueError:
            return False
        return begin + DAY_S > self.since and begin - DAY_S <= self.until


@dataclass(frozen=True, eq=False)
class Hit:
    """A visit, and how alike it looks. `false_match_rate`: the share of other people's visits to that camera that
    look so alike or more; `expected_false`: how many of those that were searched, if nobody was the one."""

    camera: str
    sighting: str
    person: str  # id, or empty
    stranger: str
    started: float
    ended: float
    track: int
    views: int
    box: tuple[float, ...]
    similarity: float
    false_match_rate: float
    expected_false: float
    log_likelihood_ratio: float
    crop: bytes = field(default=b"", repr=False)
    video: str = ""  # in an index of videos: the file with the best view, and
    video_s: float = math.nan  # its seconds there


@dataclass(frozen=True)
class Found:
    """hits  the most alike first; searched  visits by camera; other_models  files by the model that made them, which
    this one cannot compare"""

    hits: list[Hit]
    searched: Counter[str]
    other_models: Counter[str]


Offsets = Callable[[str], "np.ndarray | None"]


def search(
    root: str | Path, query: Sequence[EnrolledView], model: str, wanted: Range, offsets: Offsets,
    odds: Callable[[str], Odds], limit: int, least: float = -1.0, threads: int = 0,
) -> Found:  # fmt: skip
    """The visits most like the query.

    query    views of one person; their sources are cameras, or what else `offsets` knows
    offsets  a camera's mean of people (D,); None: the mean of the visits that are kept of it stands in
    least    similarity below which nothing is listed
    threads  0: one for each core
    """
    parts, other_models = _parts(Path(root), model, len(query[0].embedding), wanted)
    cameras = sorted({part.header.camera for part in parts})
    means = {c: _offset([p for p in parts if p.header.camera == c], offsets(c)) for c in cameras}
    views = centred_query(query, model, {**means_of_query(query, offsets), **means})
    best: list[tuple[float, Path, int]] = []
    searched: Counter[str] = Counter()
    with threadpool_limits(1), ThreadPoolExecutor(threads or compute_threads()) as pool:
        jobs = []
        for part in parts:
            task = _Task(part, views, means[part.header.camera], wanted, limit, least)
            jobs += [(part, pool.submit(task.compare, first)) for first in range(0, part.count, PIECE)]
        for part, job in jobs:
            hits, count = job.result()
            searched[part.header.camera] += count
            best = heapq.nlargest(limit, [*best, *hits], key=lambda hit: hit[0])
    searched = +searched  # without cameras that nobody was seen in
    return Found(_hits(best, searched, odds), searched, other_models)


@dataclass(frozen=True)
class _Part:
    """A file, which is opened when its turn comes: there may be more of them than a process may hold open."""

    path: Path
    header: Header
    count: int


def _parts(root: Path, model: str, dimensions: int, wanted: Range) -> tuple[list[_Part], Counter[str]]:
    parts: list[_Part] = []
    others: Counter[str] = Counter()
    for day in days(root):
        if not wanted.may_hold(day):
            continue
        for path in sorted(day.glob(f"*{VISITS}")):
            if wanted.cameras and path.name.partition(".")[0] not in wanted.cameras:
                continue
            try:
                with VisitFile(path) as file:
                    if (file.header.model, file.header.dimensions) == (model, dimensions):
                        parts.append(_Part(path, file.header, file.count))
                    else:
                        others[file.header.model] += 1
            except (NoVisits, FileNotFoundError):
                continue
    return parts, others


def views_of_sighting(root: str | Path, sighting: str, model: str, since: float = -np.inf) -> list[EnrolledView]:
    """What is kept of a sighting as a query: the mean view of each of its stays, by camera; empty if nothing is (any
    more). since  unix seconds before which it had not begun."""
    wanted, found = sighting.encode(), []
    for day in days(Path(root)):
        with suppress(ValueError):
            if begin_of(day) + DAY_S <= since:
                continue
        for path in sorted(day.glob(f"*{VISITS}")):
            with suppress(NoVisits, FileNotFoundError), VisitFile(path) as file:
                if file.header.model != model:
                    continue
                for _, block in file.blocks():
                    for record in block[(block["sighting"] == wanted) & (block["ended"] != 0)].copy():
                        embedding = record["embedding"].astype(np.float32)
                        found.append(EnrolledView(embedding, file.header.camera, min(1.0, float(record["quality"]))))
    return found


def _offset(parts: Sequence[_Part], known: np.ndarray | None) -> np.ndarray:
    """(D,) what is taken off a camera's visits. Without a mean of its own: of the latest visits, shrunk as it is."""
    if known is not None:
        return known
    total, count = np.zeros(parts[0].header.dimensions, np.float64), 0
    for part in reversed(parts):
        with suppress(FileNotFoundError), VisitFile(part.path) as file:
            for _, block in file.blocks(max(0, part.count - BLOCK)):
                rows = block[block["ended"] != 0]["embedding"].astype(np.float32)
                total += rows.sum(0, dtype=np.float64)
                count += len(rows)
        if count >= BLOCK:
            break
    return (total / (count + SHRINK)).astype(np.float32)


def means_of_query(query: Sequence[EnrolledView], offsets: Offsets) -> dict[str, np.ndarray]:
    """Means of what the query comes from, where they are known."""
    known = {source: offsets(source) for source in {view.source for view in query}}
    return {source: offset for source, offset in known.items() if offset is not None}


def centred_query(query: Sequence[EnrolledView], model: str, means: Mapping[str, np.ndarray]) -> Lineup:
    """The query as a line-up of one. A view from nowhere known has the mean of all cameras taken off: they share what
    the model adds to everybody."""
    dimensions = len(query[0].embedding)
    general = np.mean(list(means.values()), axis=0) if means else np.zeros(dimensions, np.float32)
    gallery = Gallery(model, dimensions, [QUERY] * len(query), query)
    return Lineup(gallery, lambda source: means.get(source, general))


@dataclass(frozen=True)
class _Task:
    part: _Part
    lineup: Lineup
    offset: np.ndarray
    wanted: Range
    limit: int
    least: float

    def compare(self, first: int) -> tuple[list[tuple[float, Path, int]], int]:
        """The most alike of one piece of the file, and how many visits were compared."""
        best: list[tuple[float, Path, int]] = []
        count = 0
        memory = np.empty((BLOCK, self.part.header.dimensions), np.float32)
        with suppress(FileNotFoundError), VisitFile(self.part.path) as file:  # its time may just be over
            for number, block in file.blocks(first, first + PIECE):
                rows = single(block["embedding"], memory)
                similarity = self.lineup.similarities_less(rows, self.offset)[:, 0]
                good = (block["ended"] >= self.wanted.since) & (block["started"] <= self.wanted.until)
                good &= block["ended"] != 0
                count += int(good.sum())
                similarity = np.where(good & (similarity >= self.least), similarity, -np.inf)
                few = min(self.limit, len(similarity))
                for i in np.argpartition(-similarity, few - 1)[:few].tolist():
                    if np.isfinite(similarity[i]):
                        best.append((float(similarity[i]), self.part.path, number + i))
        return heapq.nlargest(self.limit, best, key=lambda hit: hit[0]), count


def single(half: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """(N, D) float16 -> float32: sign, exponent and fraction move to their places. Three times as fast as a cast, which
    numpy does number by number; embeddings hold no infinity."""
    rows = memory[: len(half)]
    bits = rows.view(np.int32)
    np.left_shift(half.view(np.int16), 13, out=bits, dtype=np.int32)
    np.bitwise_and(bits, np.int32(~0x70000000), out=bits)  # the sign was spread over these
    return np.multiply(rows, EXPONENT, out=rows)


def _hits(best: list[tuple[float, Path, int]], searched: Counter[str], odds: Callable[[str], Odds]) -> list[Hit]:
    curves = {camera: odds(camera) for camera in searched}
    hits = []
    for similarity, path, number in sorted(best, key=lambda hit: -hit[0]):
        try:
            with VisitFile(path) as file:
                record, camera = file.read(number), file.header.camera
                crop = file.crop(record)
        except OSError:
            continue
        if not sound(record):  # torn, or erased while we searched
            continue
        hits.append(Hit(
            camera=camera, sighting=record["sighting"].decode(), person=record["person"].decode(),
            stranger=record["stranger"].decode(), started=float(record["started"]), ended=float(record["ended"]),
            track=int(record["track"]), views=int(record["views"]), box=tuple(map(float, record["box"])),
            similarity=similarity, false_match_rate=curves[camera].false_match_rate(similarity),
            expected_false=sum(n * curves[c].false_match_rate(similarity) for c, n in searched.items()),
            log_likelihood_ratio=curves[camera].log_likelihood_ratio(similarity, int(record["views"])), crop=crop,
        ))  # fmt: skip
    return hits
