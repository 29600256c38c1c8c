#!/usr/bin/env python
"""Look at a data set before training on it: `python train/inspect_data.py --format json --root DIR --out runs/look`.

Prints counts and every problem (exit status 1 if there is one), draws some samples with their boxes, and the density of
samples over identities (the paper's Fig. 4). --rate measures how fast training samples load.
"""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path

from personsearch.core.commands import command_line
from personsearch.core.errors import UserError, run_main

SHOWN = 30  # problems printed


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--format", choices=("prw", "cuhk", "json", "street"), default="street")
    parser.add_argument("--root", default="", help="the data set's folder; not needed for the street")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="the split to draw")
    parser.add_argument("--out", default="runs/look", help="folder for the pictures")
    parser.add_argument("--samples", type=int, default=6, help="number of frames to draw")
    parser.add_argument(
        "--published", action="store_true", help="prw, cuhk: compare the numbers of files, images, queries and "
        "identities with the published ones (for a download that may have broken off)",
    )  # fmt: skip
    parser.add_argument("--every", type=int, default=1, help="check every n-th image file only")
    parser.add_argument(
        "--rate", action="store_true", help="measure the loading rate of configs/edge.yaml on this data"
    )
    arguments = parser.parse_args()
    if arguments.published and arguments.format not in ("prw", "cuhk"):
        raise UserError(f"--published needs --format prw or cuhk, got {arguments.format}")
    if arguments.every < 1 or arguments.samples < 0:
        raise UserError("--every must be at least 1 and --samples not negative")
    from personsearch.train.data.benchmarks import differences, missing_files
    from personsearch.train.data.check_data import problems
    from personsearch.train.data.samples import load_split
    from personsearch.train.scoring.pictures import draw_histogram, draw_samples
    from personsearch.train.settings import SourceSettings

    source = SourceSettings(format=arguments.format, root=arguments.root)
    out = Path(arguments.out)
    lines = list(missing_files(arguments.format, arguments.root)) if arguments.published else []
    for split in ("train", "test"):
        data = load_split(source, split)
        people = sum(len(t.boxes) for t in data.images)
        labelled = {int(k) for t in data.images for k in t.identities if k >= 0}
        queries = f", {len(data.queries)} queries" if split == "test" else ""
        print(f"{split}: {len(data.images)} images, {people} people, {len(labelled)} identities{queries}")
        if arguments.published:
            lines += differences(arguments.format, arguments.root, split, data)
        if split == arguments.split and data.images:
            for path in (*draw_samples(data, out, arguments.samples), draw_histogram(data, out / "identities.png")):
                print(f"  {path}")
    if arguments.rate:
        print(f"loading: {loading_rate(source):.1f} images/s with one process")
    count = 0
    for count, line in enumerate(chain(lines, problems(source, every=arguments.every)), start=1):
        if count <= SHOWN:
            print(f"problem: {line}")
    print(f"{count} problems" + (f", {SHOWN} shown" if count > SHOWN else "") if count else "no problems found")
    return 1 if count else 0


def loading_rate(source: object, images: int = 160) -> float:
    """Training samples per second of one loading process, augmentation of configs/edge.yaml included."""
    import time

    from personsearch.core.config import load_settings
    from personsearch.train.data.samples import Samples, quiet_worker
    from personsearch.train.run import DEFAULT
    from personsearch.train.settings import TrainSettings
    from personsearch.train.sides import fit_of

    settings = load_settings(DEFAULT, TrainSettings)
    data = settings.data.model_copy(update={"train": (source,)})
    samples = Samples(data, fit_of(settings.model), seed=0)
    quiet_worker(0)
    samples[(0, 0)]
    began = time.perf_counter()
    for draw in range(images):
        samples[(draw % len(samples), draw)]
    return images / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
