#!/usr/bin/env python
"""How fast a history is searched, and what it takes on disk: `tests/history_speed.py [--visits 1000000]`.

Writes that many visits of people at random (four cameras, one day) with the runtime's own writer, then searches them
exactly, once from a cold start and then warm. Ends with status 1 if a warm search takes a second or more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from personsearch.core.bundle import read_manifest
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.decisions.people import odds_of
from personsearch.runtime.history.searching import Range, search
from personsearch.runtime.history.visit_file import Header, append, day_of
from personsearch.runtime.settings import default_bundle

PIECE = 20_000


def write(root: Path, visits: int, header: Header, rng: np.random.Generator) -> np.ndarray:
    """Gives one of the embeddings, to search for."""
    now = time.time()
    directions = rng.normal(size=(PIECE, header.dimensions)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for begin in range(0, visits, PIECE):
        rows = np.zeros(min(PIECE, visits - begin), header.record)
        rows["embedding"] = np.roll(directions, begin // PIECE, axis=1)[: len(rows)]
        rows["sighting"] = np.char.add(b"s-", np.char.zfill(np.arange(begin, begin + len(rows)).astype("S16"), 16))
        rows["started"], rows["ended"], rows["views"] = now - 20, now, 5
        camera = Header(header.model, header.dimensions, f"camera{begin // PIECE % 4}")
        append(root / day_of(now), camera, rows, [b""] * len(rows))
    return directions[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--folder", default="", help="where to write (default: the system's folder for such files)")
    given = parser.parse_args()
    manifest = read_manifest(default_bundle())
    odds = odds_of(manifest)
    with tempfile.TemporaryDirectory(dir=given.folder or None) as name:
        root, header = Path(name), Header(manifest.model_hash, manifest.dimensions, "any")
        began = time.monotonic()
        someone = write(root, given.visits, header, np.random.default_rng(0))
        print(f"{given.visits} visits written in {time.monotonic() - began:.1f} s", flush=True)
        size = sum(path.stat().st_size for path in root.rglob("*.visits"))
        print(f"{size / given.visits:.0f} bytes a visit, {size / 1e6:.0f} MB")
        seconds = []
        for _ in range(4):
            began, cpu = time.monotonic(), time.process_time()
            found = search(
                root, [EnrolledView(someone)], manifest.model_hash, Range(), lambda _: None, lambda _: odds, 20
            )
            seconds.append(time.monotonic() - began)
            spent = f"{seconds[-1]:.2f} s ({time.process_time() - cpu:.2f} s of processor time)"
            print(f"searched {found.searched.total()} visits in {spent}; the best: {found.hits[0].similarity:.3f}")
        print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    return 0 if min(seconds[1:]) < 1 else 1


if __name__ == "__main__":
    sys.exit(main())
