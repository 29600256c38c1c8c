"""A history on disk as a whole: its files, its lock, what is over its time, and what a person has to be forgotten in.

All of it works beside a running stream, from any process: who changes something holds the folder's lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import time
from calendar import timegm
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from personsearch.core.errors import UserError
from personsearch.core.files import replace_file, wipe
from personsearch.core.json_text import parse_json
from personsearch.core.wall_clock import may_be_right
from personsearch.runtime.history.visit_file import CROPS, VISITS, NoVisits, VisitFile, cut_crops

log = logging.getLogger("personsearch.history")
LOCK, FORGOTTEN = ".lock", "forgotten.json"
DAY = re.compile(r"\d{4}-\d\d-\d\d")
DAY_S, DISORDER_S = 86400, 7200.0  # visits are written when they end, but for clocks that are set and long waits
FORGOTTEN_S = 2.0 * DAY_S  # visits of a forgotten person that still went on then have ended by now


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """One writer at a time, over all processes. Raises OSError."""
    with open(os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o600), "wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def days(root: Path) -> list[Path]:
    """The folders of days, the oldest first."""
    return sorted(p for p in root.iterdir() if DAY.fullmatch(p.name) and p.is_dir()) if root.is_dir() else []


def begin_of(day: Path) -> float:
    """Unix seconds; raises ValueError for a name that is no date."""
    return float(timegm(time.strptime(day.name, "%Y-%m-%d")))


# --- over their time --------------------------------------------------------------------------------------------------


def expire(root: Path, keep_s: float, now: float, done: dict[Path, int]) -> int:
    """Erase the visits that ended more than `keep_s` before `now`; gives how many.

    done  of each file the records at its beginning that were erased before; kept by the caller between calls

    A visit from further in the future than `keep_s` was made with a wrong clock, and goes as well. Raises OSError.
    """
    erased, cutoff = 0, now - keep_s
    for day in days(root):
        try:
            begin = begin_of(day)
        except ValueError:
            continue
        if begin + DAY_S <= cutoff or (begin > now + keep_s and may_be_right(now)):
            erased += _wipe_day(day)
        elif begin < cutoff:
            for path in sorted(day.glob(f"*{VISITS}")):
                try:
                    with VisitFile(path, writing=True) as file:
                        erased += _erase_older(file, cutoff, done)
                except (NoVisits, FileNotFoundError):
                    continue  # goes with its day
    for path in [p for p in done if not p.exists()]:
        del done[path]
    return erased


def tidy(root: Path) -> None:
    """After a stream that was killed. Raises OSError."""
    for path in _files(root):
        with contextlib.suppress(NoVisits):
            if path.suffix == VISITS:
                cut_crops(path)


def _erase_older(file: VisitFile, cutoff: float, done: dict[Path, int]) -> int:
    old: list[int] = []
    kept: int | None = None  # the first record that stays
    for first, block in file.blocks(done.get(file.path, 0)):
        ended = block["ended"]
        old += (first + np.flatnonzero((ended != 0) & (ended < cutoff))).tolist()
        staying = np.flatnonzero(ended >= cutoff)
        if kept is None and len(staying):
            kept = first + int(staying[0])
        if len(staying) and ended[staying].min() > cutoff + DISORDER_S:
            break
    erased = file.erase(old) if old else 0
    done[file.path] = file.count if kept is None else kept
    return erased


def _wipe_day(day: Path) -> int:
    erased = 0
    for path in sorted(day.iterdir()):
        if path.suffix == VISITS:
            try:
                with VisitFile(path) as file:
                    erased += sum(int((block["ended"] != 0).sum()) for _, block in file.blocks())
            except NoVisits:
                pass
        wipe(path)
    day.rmdir()
    return erased


# --- another name -----------------------------------------------------------------------------------------------------


def name_sighting(root: Path, sighting: str, person: str, since: float) -> None:
    """Write who it was, by id, into all that is kept of a visit; empty for nobody who is enrolled.

    since  unix seconds before which the visit had not begun. The caller holds the lock. Raises OSError.
    """
    for path in _files(root):
        with contextlib.suppress(NoVisits, ValueError):
            if path.suffix != VISITS or begin_of(path.parent) + DAY_S <= since:
                continue
            with VisitFile(path, writing=True) as file:
                for first, block in file.blocks():
                    mine = (block["sighting"] == sighting.encode()) & (block["ended"] != 0)
                    for number in (first + np.flatnonzero(mine)).tolist():
                        record = file.read(number)
                        record["person"] = person.encode()
                        record["stranger"] = b"" if person else record["stranger"]
                        file.write(number, record)


# --- forgetting a person ----------------------------------------------------------------------------------------------


def forget_person(root: str | Path, person: str) -> int:
    """Erase every visit of a person, by id, and those parts of them that were written before the name was known.

    Gives the number of visits. The bytes are gone from the files, and on the disk, when it returns. A running stream
    writes nothing more of visits that began before. Raises UserError if the files cannot be changed.
    """
    root = Path(root)
    if not root.is_dir():
        return 0
    try:
        with locked(root):
            sightings = _sightings_of(root, person.encode())
            ids = [person, *(s.decode("ascii", "replace") for s in sightings.tolist())]
            traces = forgotten(root) | dict.fromkeys(map(_trace, ids), time.time())
            replace_file(root / FORGOTTEN, json.dumps(traces).encode(), 0o600)
            return sum(_erase_sightings(path, sightings, person.encode()) for path in _files(root))
    except OSError as error:
        raise UserError(
            f"{root}: visits cannot be erased ({error.strerror or error}); make the folder writable and forget again"
        ) from None


def count_person(root: str | Path, person: str) -> int:
    """How many visits `forget_person` would erase."""
    root, count = Path(root), 0
    sightings = _sightings_of(root, person.encode())
    for path in _files(root) if len(sightings) else ():
        try:
            with VisitFile(path) as file:
                for _, block in file.blocks():
                    count += int((np.isin(block["sighting"], sightings) & (block["ended"] != 0)).sum())
        except (NoVisits, FileNotFoundError):
            continue
    return count


def _files(root: Path) -> list[Path]:
    return [path for day in days(root) for path in sorted(day.iterdir()) if VISITS in path.suffixes]


def _sightings_of(root: Path, person: bytes) -> np.ndarray:
    """Ids (N,) of the sightings that a person has a name in."""
    found: list[np.ndarray] = []
    for path in _files(root):
        try:
            with VisitFile(path) as file:
                found += [block["sighting"][block["person"] == person] for _, block in file.blocks()]
        except NoVisits:
            continue
    return np.unique(np.concatenate(found)) if found else np.zeros(0, "S18")


def _erase_sightings(path: Path, sightings: np.ndarray, person: bytes) -> int:
    try:
        with VisitFile(path, writing=True) as file:
            hits: list[int] = []
            for first, block in file.blocks():
                mine = (block["person"] == person) | (np.isin(block["sighting"], sightings) & (block["ended"] != 0))
                hits += (first + np.flatnonzero(mine)).tolist()
            return file.erase(hits) if hits else 0
    except NoVisits:  # nobody can say which bytes are whose
        if person in path.read_bytes():
            log.warning("%s is damaged and holds something of a person who is forgotten: it is erased whole", path)
            crops = path.with_name(path.name.replace(VISITS, CROPS))
            for part in (crops, path):
                if part.exists():
                    wipe(part)
        return 0


def forgotten(root: Path) -> dict[str, float]:
    """Traces of the ids of people and their sightings, and when they were forgotten; those of the last two days."""
    try:
        content = parse_json((root / FORGOTTEN).read_bytes())
        now = time.time()
        return {str(k): float(v) for k, v in content.items() if abs(now - float(v)) < FORGOTTEN_S}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def was_forgotten(traces: dict[str, float], person: str, sighting: str, started: float) -> bool:
    """Is this a visit, begun at `started`, of somebody who was forgotten since?"""
    return bool(traces) and any(started <= traces.get(_trace(i), float("-inf")) for i in (person, sighting) if i)


def _trace(person: str) -> str:
    return hashlib.sha256(person.encode()).hexdigest()[:24]
