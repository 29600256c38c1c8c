#!/usr/bin/env python
"""How fast the gallery is: `python tests/gallery_speed.py [--views 10000 1000000] [--json FILE]`.

Random people with five views of 256 numbers each, compared exactly, as a stream does it (half the best view, half the
mean of the views). Times are per person sought, alone and in batches, best of some runs, on all cores; `cpu` is the
processor time of all threads, which a busy machine hardly changes. The gallery is also written and read, plain and
encrypted, up to 50,000 views. A million views need 5 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from personsearch.core.errors import run_main
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery, Person
from personsearch.runtime.decisions.gallery_copies import encrypt
from personsearch.runtime.decisions.gallery_file import load_gallery, save_gallery
from personsearch.runtime.decisions.lineup import Lineup
from personsearch.runtime.decisions.person import new_id

MODEL, D, EACH = "a" * 16, 256, 5
BATCHES = (1, 8, 50)
LARGEST_FILE = 50_000  # views


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, nargs="+", default=[10_000, 1_000_000], help="sizes of the gallery")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    rows = [measure(count) for count in given.views]
    if given.json:
        command = f"python tests/gallery_speed.py --views {' '.join(map(str, given.views))}"
        machine = f"{os.cpu_count()} cores ({platform.machine()}), load average {os.getloadavg()[0]:.1f}"
        text = json.dumps({"command": command, "machine": machine, "numpy": np.__version__, "rows": rows}, indent=1)
        Path(given.json).write_text(text + "\n", encoding="utf-8")
    return 0


def measure(views: int) -> dict[str, float]:
    gallery = people(views)
    began = time.perf_counter()
    lineup = Lineup(gallery, lambda _: np.zeros(D, np.float32))
    row: dict[str, float] = {"views": views, "lineup_s": round(time.perf_counter() - began, 3)}
    sought = np.random.default_rng(1).normal(size=(max(BATCHES), D)).astype(np.float32)
    for batch in BATCHES:
        runs = 30 if views <= 100_000 else 3
        times = best(lambda part=sought[:batch]: lineup.similarities(part), runs)  # type: ignore[misc]
        row[f"ms_each_of_{batch}"], row[f"cpu_ms_each_of_{batch}"] = (round(1000 * t / batch, 3) for t in times)
    if views <= LARGEST_FILE:
        row |= files(gallery)
    print(json.dumps(row), flush=True)
    return row


def people(views: int) -> Gallery:
    chance, gallery = np.random.default_rng(0), Gallery(MODEL, D)
    for number in range(0, views, EACH):
        rows = chance.standard_normal((EACH, D), np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        gallery.put(Person(new_id(), f"Person {number}", views=tuple(EnrolledView(v, "yard") for v in rows)))
    return gallery


def files(gallery: Gallery) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path, key = Path(folder) / "people.gallery", f"file:{folder}/box.key"
        row = {"save_cpu_s": best(lambda: save_gallery(gallery, path), 1)[1]}
        row["load_cpu_s"] = best(lambda: load_gallery(path, MODEL, D), 2)[1]
        encrypt(path, MODEL, D, key)
        row["load_encrypted_cpu_s"] = best(lambda: load_gallery(path, MODEL, D, key), 2)[1]
        changed = load_gallery(path, MODEL, D, key)
        changed.put(replace(next(iter(changed.everybody().values())), name="Another"))
        row["save_encrypted_cpu_s"] = best(lambda: save_gallery(changed, path), 1)[1]
        return {name: round(value, 3) for name, value in row.items()} | {"file_mb": round(path.stat().st_size / 1e6, 1)}


def best(do: Callable[[], object], runs: int) -> tuple[float, float]:
    """Seconds of the quickest run, and processor seconds of the one that took least of them."""
    times = []
    for _ in range(runs):
        began = time.perf_counter(), time.process_time()
        do()
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


if __name__ == "__main__":
    sys.exit(main())
