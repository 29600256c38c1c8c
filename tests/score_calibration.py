#!/usr/bin/env python
"""How a track's views are best compared with a person's, and what the score is worth across cameras.

    for SET in views single: python train/evaluate.py --format crops --model MODEL --data SET --dump MODEL-SET.npz
    python tests/score_calibration.py --dump MODEL MODEL-views.npz --dump MODEL MODEL-single.npz ... [--json FILE]

Centred by camera (one prototype a person). For n probe views against m enrolled ones of another camera: the cosine of
the means (template), the largest of all n x m cosines (max), and the mean of both. `FNMR` is the share of pairs of one
person below the score that 1 % or 0.1 % of the pairs of different people reach; `FNIR` as in train/evaluate.py.
Then, for template and average: the log-likelihood ratio for n = 1, 2, 3, 5 and 8 views (natural logarithm; Cllr by
cross-validation over five folds of the people) and the impostors' tail.
Sets with one picture a person and camera take part with n = m = 1. Views are drawn ten times, at random.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from personsearch.core.errors import run_main
from personsearch.core.identification import Centring, Sightings, Trial, normalised
from personsearch.core.score_calibration import cllr, fit_log_ratio, fit_tail

PROBES, ENROLLED, DRAWS, FOLDS = (1, 2, 3, 5, 8), (1, 2, 4), 10, 5
RULES = ("template", "max", "average")
RATES = (1e-2, 1e-3, 1e-4)


@dataclass(frozen=True)
class Scores:
    """Everybody against everybody, in one direction: values (P, P), rows looked for, columns enrolled."""

    values: np.ndarray

    @property
    def genuine(self) -> np.ndarray:
        return np.diag(self.values)

    @property
    def impostor(self) -> np.ndarray:
        return self.values[~np.eye(len(self.values), dtype=bool)]


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dump", nargs=2, action="append", required=True, metavar=("MODEL", "FILE.npz"))
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    models: dict[str, list[Sightings]] = {}
    for model, file in given.dump:
        models.setdefault(model, []).append(Sightings.load(file))
    content: dict[str, object] = {}
    for model, plain in models.items():
        centred = [Centring()(s) for s in plain]
        content[model] = {
            "median cosines": {
                "plain": medians([Centring("none")(s) for s in plain]),
                "centred": medians(centred),
            },
            "rules": rules(centred),
            "calibration": [calibrated(centred, *row) for row in product(("template", "average"), PROBES, (1, 2))],
        }
        print(f"{model}: done", flush=True)
    if given.json:
        words = " ".join(f"--dump {model} {Path(file).name}" for model, file in given.dump)
        result = {"command": f"python tests/score_calibration.py {words}", "models": content}
        text = re.sub(r"\{[^{}]*\}", lambda row: " ".join(row[0].split()), json.dumps(result, indent=1))
        Path(given.json).write_text(text + "\n", encoding="utf-8")
    return 0


def blocks(sets: Sequence[Sightings], least: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(P, V, D) embeddings of the people of two cameras, both ways; sets with fewer views than `least` are left out."""
    for s in sets:
        cameras = [int(c) for c in np.unique(s.cameras)]
        for gallery, probe in product(cameras, cameras):
            people = s.in_both(gallery, probe)
            if gallery == probe or not len(people):
                continue
            pair = []
            for camera in (gallery, probe):
                rows = s.rows_of(camera)
                rows = rows[np.isin(s.people[rows], people)]
                count = int(np.bincount(s.people[rows])[people].min())
                place = np.arange(len(rows)) - np.searchsorted(s.people[rows], s.people[rows])
                pair.append(s.embeddings[rows[place < count]].reshape(len(people), count, -1))
            if min(pair[0].shape[1], pair[1].shape[1]) >= least:
                yield pair[0], pair[1]


def scores(sets: Sequence[Sightings], probes: int, enrolled: int) -> dict[str, list[Scores]]:
    """By rule: each direction of each set, with views drawn anew."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Scores]] = {rule: [] for rule in RULES}
    for gallery, probe in blocks(sets, max(probes, enrolled)):
        everything = gallery.shape[1] == enrolled and probe.shape[1] == probes
        for _ in range(1 if everything else DRAWS):
            a, b = drawn(probe, probes, rng), drawn(gallery, enrolled, rng)
            template = normalised(a.mean(1)) @ normalised(b.mean(1)).T
            every = np.einsum("pid,qjd->pqij", a, b, optimize=True)
            largest = every.max((2, 3))
            for rule, values in zip(RULES, (template, largest, (template + largest) / 2), strict=True):
                found[rule].append(Scores(values))
    return found


def drawn(views: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(P, count, D): so many views of each person, at random."""
    order = rng.random(views.shape[:2]).argsort(1)[:, :count]
    return np.take_along_axis(views, order[..., None], axis=1)


def rules(sets: Sequence[Sightings]) -> list[dict[str, object]]:
    """The three rules for each number of views; sets of several views only, so that all rows are of the same people."""
    several = [s for s in sets if s.views.max() > s.views.min()]
    rows: list[dict[str, object]] = []
    for probes, enrolled in product(PROBES, ENROLLED):
        for rule, parts in scores(several, probes, enrolled).items():
            genuine, impostor = pooled(parts)
            row: dict[str, object] = {"probe views": probes, "enrolled views": enrolled, "rule": rule}
            for rate in RATES[:2]:
                missed = np.mean(genuine < np.quantile(impostor, 1 - rate))
                row[f"FNMR at FMR {100 * rate:g} %"] = round(float(missed), 4)
            rows.append(row | {f"FNIR at FPIR {100 * r:g} %": round(fnir(parts, r), 4) for r in (0.01, 0.1)})
    return rows


def pooled(parts: Sequence[Scores]) -> tuple[np.ndarray, np.ndarray]:
    """All genuine and all impostor scores."""
    return np.concatenate([p.genuine for p in parts]), np.concatenate([p.impostor for p in parts])


def fnir(parts: Sequence[Scores], rate: float, halves: int = 10) -> float:
    rng, values = np.random.default_rng(1), []
    for part in parts:
        people = np.arange(len(part.values))
        for _ in range(halves):
            enrolled = np.sort(rng.permutation(people)[: len(people) // 2])
            chosen = part.values[:, enrolled]
            best = enrolled[chosen.argmax(1)]
            trial = Trial(people, chosen.max(1), best == people, np.isin(people, enrolled))
            values.append(trial.fnir(trial.threshold(rate)))
    return float(np.mean(values))


def calibrated(sets: Sequence[Sightings], rule: str, probes: int, enrolled: int) -> dict[str, object]:
    """Log ratio and tail of a rule's score for so many views. Views drawn anew make no new pairs of people."""
    parts = scores(sets, probes, enrolled)[rule]
    genuine, impostor = pooled(parts)
    people = [len(gallery) for gallery, _ in blocks(sets, max(probes, enrolled))]
    ratio, tail = fit_log_ratio(genuine, impostor), fit_tail(impostor)
    tail = replace(tail, pairs=sum(count * (count - 1) for count in people))
    limits = {f"{rate:g}": tail.threshold(rate) for rate in RATES if rate >= tail.least}
    return {
        "rule": rule, "probe views": probes, "enrolled views": enrolled,
        "genuine pairs": sum(people), "impostor pairs": tail.pairs,
        "log ratio": {name: round(getattr(ratio, name), 3) for name in ("slope", "offset", "even")},
        "Cllr": round(crossed(parts), 4),
        "tail": {name: round(float(getattr(tail, name)), 5) for name in ("start", "share", "scale", "shape")},
        "score at FMR": {rate: round(limit, 3) for rate, limit in limits.items()},
        "FNMR at FMR": {rate: round(float(np.mean(genuine < limit)), 3) for rate, limit in limits.items()},
    }  # fmt: skip


def crossed(parts: Sequence[Scores]) -> float:
    """Cllr on people whom the fit has not seen."""
    genuine: list[list[np.ndarray]] = [[], []]
    impostor: list[list[np.ndarray]] = [[], []]
    costs = []
    for fold in range(FOLDS):
        for store in (*genuine, *impostor):
            store.clear()
        for part in parts:
            own = np.arange(len(part.values)) % FOLDS == fold
            for seen, people in ((0, ~own), (1, own)):
                half = Scores(part.values[np.ix_(people, people)])
                genuine[seen].append(half.genuine)
                impostor[seen].append(half.impostor)
        ratio = fit_log_ratio(np.concatenate(genuine[0]), np.concatenate(impostor[0]))
        costs.append(cllr(ratio(np.concatenate(genuine[1])), ratio(np.concatenate(impostor[1]))))
    return float(np.mean(costs))


def medians(sets: Sequence[Sightings]) -> dict[str, float]:
    """Median cosines of single views, of one person and of different people, in one camera and in two."""
    pooled: dict[str, list[np.ndarray]] = {}
    for s in sets:
        cosine = s.embeddings @ s.embeddings.T
        upper = np.triu(np.ones(cosine.shape, bool), 1)
        for who, where in product((True, False), repeat=2):
            chosen = upper & ((s.people[:, None] == s.people) == who) & ((s.cameras[:, None] == s.cameras) == where)
            name = f"{'one person' if who else 'different people'}, {'one camera' if where else 'two cameras'}"
            pooled.setdefault(name, []).append(cosine[chosen])
    return {name: round(float(np.median(np.concatenate(parts))), 3) for name, parts in pooled.items()}


if __name__ == "__main__":
    sys.exit(main())
