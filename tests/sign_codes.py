#!/usr/bin/env python
"""What would a search over signs of embeddings find, 32 bytes a stay in memory, with the nearest ranked again exactly?

  PYTHONPATH=tests python tests/sign_codes.py [--stays 1000000] [--street 10000000] [--queries 60] [--share 0.005 0.02]

An experiment for the centre's search (docs/scale.md), on the stays of centre_recall.py. Embeddings are turned by a
random rotation and one bit is kept of each number; a query is compared with all codes, and the share of the stays whose
codes differ least is compared by the embeddings themselves. Prints recall@10, also of what is near alone, and
milliseconds of one core for both steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
from centre_recall import DIMENSIONS, NEAR, Street

BLOCK, BEST = 50_000, 10


def codes_of(views: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, D / 64) uint64"""
    return np.packbits(views @ rotation > 0, axis=1).view(np.uint64)


def nearest_codes(codes: np.ndarray, code: np.ndarray, count: int) -> np.ndarray:
    """Numbers of about so many rows whose codes differ least."""
    different = np.zeros(len(codes), np.uint16)
    for column, word in zip(codes.T, code, strict=True):
        different += np.bitwise_count(column ^ word)
    within = np.searchsorted(np.cumsum(np.bincount(different)), count)
    return np.flatnonzero(different <= within)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stays", type=int, default=1_000_000)
    parser.add_argument("--street", type=int, default=10_000_000, help="stays of which these are a part")
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--share", type=float, nargs="*", default=[0.001, 0.005, 0.02], help="that is ranked again")
    given = parser.parse_args()
    street = Street(given.street)
    rotation = np.linalg.qr(street.random.standard_normal((DIMENSIONS, DIMENSIONS)))[0].astype(np.float32)
    queries = street.views(street.random.integers(len(street.people), size=given.queries))
    stays = np.empty((given.stays, DIMENSIONS), np.float16)
    codes = np.empty((given.stays, DIMENSIONS // 64), np.uint64)
    cosines = np.empty((given.queries, given.stays), np.float32)
    for first in range(0, given.stays, BLOCK):
        here = slice(first, min(first + BLOCK, given.stays))
        views = street.views(street.random.integers(len(street.people), size=here.stop - first))
        stays[here], codes[here], cosines[:, here] = views, codes_of(views, rotation), queries @ views.T
    true = np.argpartition(-cosines, BEST, axis=1)[:, :BEST]
    near = np.take_along_axis(cosines, true, axis=1) >= NEAR
    for share in given.share:
        found, scan_s, rank_s = np.zeros(true.shape, bool), 0.0, 0.0
        for n, (query, code) in enumerate(zip(queries, codes_of(queries, rotation), strict=True)):
            start = time.process_time()
            few = nearest_codes(codes, code, round(share * given.stays))
            middle = time.process_time()
            order = np.argsort(-(stays[few].astype(np.float32) @ query))[:BEST]
            scan_s, rank_s = scan_s + middle - start, rank_s + time.process_time() - middle
            found[n] = np.isin(true[n], few[order])
        print(json.dumps({
            "stays": given.stays, "share": share, "recall_at_10": round(float(found.mean()), 4),
            "near": int(near.sum()), "recall_near": round(float(found[near].mean()), 4),
            "scan_cpu_ms": round(1000 * scan_s / len(queries), 1),
            "rank_cpu_ms": round(1000 * rank_s / len(queries), 1),
        }), flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
