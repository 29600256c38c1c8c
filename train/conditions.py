#!/usr/bin/env python
"""When does each part of the method help? `python train/conditions.py [--sweep NAME ...] [--seeds 8] [--out DIR]`.

Table 2's differences (BatchNorm over none, ProtoNorm over BatchNorm, LOIM over OIM) while one condition at a time is
varied: imbalance of identities, background, people per image, batch size, misaligned proposals, what the features start
from, the cameras that training sees. The frozen part is computed once, of the synthetic street or of the data of
--format and --root, and kept in --out; a run then trains the last layers for seconds. Differences are paired by seed,
with 95 % intervals. Writes `conditions.md`, `conditions.png` and every run's figures (`runs.jsonl`); finished runs are
kept and not repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from personsearch.core.commands import command_line, within
from personsearch.core.errors import UserError, run_main
from personsearch.core.resources import here_or_shipped

if TYPE_CHECKING:
    from personsearch.train.settings import SourceSettings


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--sweep", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--network", type=here_or_shipped, default="models/light/weights.pth", help="the frozen part")
    parser.add_argument("--format", choices=("street", "prw", "cuhk", "json"), default="street", help="the data")
    parser.add_argument("--root", default="", help="the data set's folder")
    parser.add_argument("--frames", type=int, default=0, help="of each split, evenly spread (0: 400, for reid 120)")
    parser.add_argument("--threads", type=within(int, 1, 1024), default=1, help="processor threads")
    parser.add_argument("--out", default="runs/conditions")
    arguments = parser.parse_args()
    from personsearch.train.paper.conditions import SWEEPS
    from personsearch.train.paper.regions import FRAMES, source_of

    if unknown := [name for name in arguments.sweep if name not in SWEEPS]:
        raise UserError(f"--sweep: unknown {unknown[0]!r}; expected some of {', '.join(SWEEPS)}")
    if arguments.seeds < 2 or arguments.frames < 0 or arguments.threads < 1:
        raise UserError(
            "--seeds must be at least 2 (an interval needs differences), --threads 1, --frames not negative"
        )
    import torch

    torch.set_num_threads(arguments.threads)

    def source(split: str, kind: str) -> SourceSettings:
        return source_of(arguments.format, arguments.root, split, arguments.frames or FRAMES[kind])

    sweep(arguments.sweep or list(SWEEPS), arguments.seeds, source, arguments.network, Path(arguments.out))
    return 0


def sweep(
    names: list[str], seeds: int, source: Callable[[str, str], SourceSettings], network: str | Path, out: Path
) -> None:
    from personsearch.core.files import replace_file
    from personsearch.train.paper.conditions import SWEEPS, Result, Results, draw, run, table
    from personsearch.train.paper.regions import Regions, regions_of

    out.mkdir(parents=True, exist_ok=True)
    kept: dict[tuple[str, str], Regions] = {}

    def regions(split: str, kind: str) -> Regions:
        if (split, kind) not in kept:
            kept[split, kind] = regions_of(source(split, kind), split, kind, network, out)
        return kept[split, kind]

    finished = Results(out / "runs.jsonl")
    results: dict[str, dict[float | str, dict[str, list[Result]]]] = {}
    for name in names:
        results[name] = {}
        for point, condition in SWEEPS[name].points.items():
            train, test = (regions(split, condition.features) for split in ("train", "test"))
            rows: dict[str, list[Result]] = {key: [] for key in SWEEPS[name].methods}
            for seed in range(seeds):
                for key in rows:
                    rows[key].append(
                        finished.get(condition, key, seed, partial(run, train, test, condition, key, seed))
                    )
            results[name][point] = rows
        print("\n".join(table(SWEEPS[name], results[name])), flush=True)
    text = [f"mAP in percent, {seeds} seeds; differences ± half of the 95 % interval, bold where it excludes zero.", ""]
    for name in names:
        text += table(SWEEPS[name], results[name])
    replace_file(out / "conditions.md", ("\n".join(text).rstrip() + "\n").encode())
    draw(results, out / "conditions.png")


if __name__ == "__main__":
    sys.exit(main())
