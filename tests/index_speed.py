#!/usr/bin/env python
"""What an index of archived video takes on disk, and how fast it is searched exactly: for docs/scale.md.

    python tests/index_speed.py [--visits 1000000] [--views 5] [--cameras 8] [--json FILE]

Visits of people at random, written by the indexer's own code (a file a camera and day), searched by the code behind
`personsearch-search --index`: everything, and one camera's day. Beside the clock stands the processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.archive.parts import Row, table_of, write_table
from personsearch.core.bundle import read_manifest
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.decisions.people import odds_of
from personsearch.runtime.history.index_file import ABOUT, FORMAT, VISITS
from personsearch.runtime.history.index_search import search_index
from personsearch.runtime.history.searching import Range
from personsearch.runtime.history.visit_file import day_of
from personsearch.runtime.settings import default_bundle

A_DAY, BEGIN = 10_000, 1_769_817_600.0  # visits of a camera and day; 2026-01-31


def write(root: Path, visits: int, views: int, cameras: int, dimensions: int, rng: np.random.Generator) -> np.ndarray:
    """Gives one of the embeddings, to search for."""
    someone = np.zeros(dimensions, np.float32)
    for piece, first in enumerate(range(0, visits, A_DAY)):
        count, camera, day = min(A_DAY, visits - first), f"camera{piece % cameras}", piece // cameras
        vectors = rng.normal(size=(count, 1 + views, dimensions)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        times = BEGIN + day * 86400 + np.sort(rng.uniform(0, 80_000, count))
        boxes = rng.uniform(0, 1000, (count, views + 1, 4)).astype(np.float32)
        rows = [
            Row(
                f"s-{first + i:016x}", camera, times[i], times[i] + 12.3, f"/archive/{camera}/{day}.mp4",
                times[i] - BEGIN, i, 5, 0.7, boxes[i, 0], vectors[i, 0], [times[i]] * views, [0.7] * views,
                boxes[i, 1:], vectors[i, 1:], boxes[i, 0], boxes[i, 0],
            )
            for i in range(count)
        ]  # fmt: skip
        write_table(root / VISITS / camera / f"{day_of(times[0])}.parquet", table_of(rows, dimensions, False, False))
        someone = vectors[0, 0]
    return someone


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--folder", default="", help="where to write (default: the system's folder for such files)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    manifest = read_manifest(default_bundle())
    odds = odds_of(manifest)
    with tempfile.TemporaryDirectory(dir=given.folder or None) as name:
        root = Path(name)
        about = {"format": FORMAT, "model": manifest.model_hash, "dimensions": manifest.dimensions, "settings": {}}
        (root / ABOUT).write_text(json.dumps(about))
        rng = np.random.default_rng(0)
        someone = write(root, given.visits, given.views, given.cameras, manifest.dimensions, rng)
        size = sum(path.stat().st_size for path in root.rglob("*.parquet"))
        figures: dict[str, Any] = {"visits": given.visits, "bytes_a_visit": round(size / given.visits)}
        one_day = Range(BEGIN, BEGIN + 86399, frozenset(["camera0"]))
        for label, wanted in (("everything", Range()), ("a camera's day", one_day)):
            best: tuple[float, float, int] = (np.inf, np.inf, 0)
            for _ in range(3):
                began, cpu = time.monotonic(), time.process_time()
                found = search_index(
                    root, [EnrolledView(someone)], manifest.model_hash, wanted, lambda _: None, lambda _: odds, 20
                )
                best = min(best, (time.process_time() - cpu, time.monotonic() - began, found.searched.total()))
            figures[label] = {"searched": best[2], "cpu_s": round(best[0], 3), "wall_s": round(best[1], 3)}
    content = {
        "command": f"python tests/index_speed.py --visits {given.visits} --views {given.views}",
        "machine": f"{len(os.sched_getaffinity(0))} cores", "load_average": round(os.getloadavg()[0], 1), **figures,
    }  # fmt: skip
    print(json.dumps(content, indent=1))
    if given.json:
        Path(given.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
