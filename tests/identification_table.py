#!/usr/bin/env python
"""Which centring helps across cameras, and how soon: the table of docs/recognition.md.

    for SET in views single: python train/evaluate.py --format crops --model MODEL --data SET --dump MODEL-SET.npz
    python tests/identification_table.py --dump MODEL SET MODEL-SET.npz [--dump ...] [--json FILE]

Rows: plain; mean, and mean and variance, each before and after the first L2 (embeddings of a bundle have norm 1: both
are the same), made of all people of a camera. Then what a young centre does: the mean of 2, 5, 10 or 20 people drawn at
random, with the shrinkage P / (P + k) towards nothing, or towards a prior: the mean of the same model's people in the
other sets' cameras (what a model could bring along). Thirty halves; figures: FNIR at FPIR 1 % and 10 %, closed rank-1.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product

import numpy as np

from personsearch.core.errors import run_main
from personsearch.core.identification import Centre, Centring, Sightings, identify, normalised, prototypes

HALVES = 30
PEOPLE = (2, 5, 10, 20, 0)
SHRINKAGE = (0, 5, 10, 20)


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dump", nargs=3, action="append", required=True, metavar=("MODEL", "SET", "FILE.npz"))
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    sets: dict[str, dict[str, Sightings]] = {}
    for model, name, file in given.dump:
        sets.setdefault(model, {})[name] = Sightings.load(file)
    rows: list[dict[str, object]] = []
    for model, parts in sets.items():
        for name, sightings in parts.items():
            others = [part for other, part in parts.items() if other != name]
            for way in ways(bool(others)):
                rows.append({"model": model, "set": name, **way, **figures(sightings, others, way)})
                print(json.dumps(rows[-1]), flush=True)
    if given.json:
        words = " ".join(f"--dump {model} {name} {model}-{name}.npz" for model, name, _ in given.dump)
        command = f"python tests/identification_table.py {words}"
        text = json.dumps({"command": command, "halves": HALVES, "rows": rows})
        with open(given.json, "w", encoding="utf-8") as file:
            file.write(text.replace('{"model"', '\n{"model"') + "\n")
    return 0


def ways(prior: bool) -> list[dict[str, object]]:
    """Every row of the table that says something new."""
    rows: list[dict[str, object]] = [{"mode": "none", "before_l2": False, "k": 0, "people": 0, "prior": "none"}]
    for mode, before in product(("mean", "variance"), (True, False)):
        rows.append({"mode": mode, "before_l2": before, "k": 0, "people": 0, "prior": "none"})
    for mode, people, k in product(("mean", "variance"), PEOPLE, SHRINKAGE):
        for kind in ["none"] + (["other sets"] if prior and k else []):
            if people or k:
                rows.append({"mode": mode, "before_l2": False, "k": k, "people": people, "prior": kind})
    if prior:  # nobody seen yet
        rows.append({"mode": "mean", "before_l2": False, "k": float("1e9"), "people": 0, "prior": "other sets"})
    return rows


def figures(sightings: Sightings, others: list[Sightings], way: dict[str, object]) -> dict[str, float]:
    """Mean over halves; each half draws other people for the centre."""
    mode, before, k, people = str(way["mode"]), bool(way["before_l2"]), float(str(way["k"])), int(str(way["people"]))
    prior = prior_of(others, mode == "variance") if way["prior"] != "none" else None
    found: dict[str, list[float]] = {}
    draws = HALVES // 3 if people else 1  # a centre of everybody is the same in each draw
    for draw in range(draws):
        centred = Centring(mode, before_l2=before, k=k, most=people, seed=draw)(sightings, prior)
        for name, value in identify(centred, halves=HALVES // draws, seed=draw).figures().items():
            found.setdefault(name, []).append(value)
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def prior_of(others: list[Sightings], variance: bool) -> Centre:
    """The mean over the other sets' cameras, each camera counting once."""
    centres = [
        Centre.of(prototypes(normalised(o.embeddings[mine]), o.people[mine]), variance=variance)
        for o in others for mine in (o.cameras == camera for camera in np.unique(o.cameras))
    ]  # fmt: skip
    spread = np.mean([c.variance for c in centres], axis=0) if variance else None  # type: ignore[misc]
    return Centre(np.mean([c.mean for c in centres], axis=0), spread)


if __name__ == "__main__":
    sys.exit(main())
