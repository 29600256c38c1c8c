#!/usr/bin/env python
"""The paper's experiments: `python train/experiments.py toy|ablation|curves|proposals [--out DIR] [--seeds 3]`.

toy       Fig. 1: 2-d features under imbalance; seconds
ablation  Table 2 with two more rows, and Fig. 5 and S1 from the same runs; about a minute of processor time per run on
          the synthetic street. With --format and --root on real data; the paper's network: --config configs/paper.yaml
curves    Fig. 5 and S1 over twenty epochs of the last layers, on regions that a frozen network (--model, else the light
          one) computed once; about ten seconds a run, on the street or --format and --root
proposals Figs. S2 and S3: proposals on people of --format and --root, with the step that LOIM gives each; needs --model

All but the last write a table (.md), plots (.png) and the raw results (.json); finished runs are kept and not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.commands import command_line, within
from personsearch.core.errors import UserError, run_main
from personsearch.core.files import replace_file
from personsearch.core.resources import here_or_shipped, shipped

DEFAULT = shipped("configs/ablation.yaml")
LIGHT = "models/light/weights.pth"
COLUMNS = ("mAP", "top-1", "re-ID mAP", "re-ID top-1")
SCALE = {"accuracy": 100, "rare": 100}
COMPARED = ("none-oim", "bn-oim", "pn-oim")  # Fig. 5 and S1 train all three with the OIM loss


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("experiment", choices=("toy", "ablation", "curves", "proposals"))
    parser.add_argument("--out", default="runs/experiments")
    parser.add_argument("--seeds", type=within(int, 1, 1000), default=3)
    parser.add_argument("--config", type=here_or_shipped, default=DEFAULT, help="ablation: network and schedule")
    parser.add_argument("--format", choices=("street", "prw", "cuhk", "json"), default="street", help="the data")
    parser.add_argument("--root", default="", help="the data set's folder")
    parser.add_argument("--model", default="", help="curves, proposals: a checkpoint or a published model")
    parser.add_argument("--frames", type=int, default=40, help="proposals: training images that they come from")
    parser.add_argument("--threads", type=within(int, 0, 1024), default=0, help="processor threads; 0 = torch's choice")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the configuration")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    if arguments.experiment == "proposals":
        proposals(out, arguments)
    elif arguments.experiment == "toy":
        toy(out, arguments.seeds)
    elif arguments.experiment == "curves":
        curves(out, arguments)
    else:
        ablation(out, arguments)
    return 0


def toy(out: Path, seeds: int) -> None:
    from personsearch.train.paper.toy import METHODS, ToyScore, draw, score

    names = [f.name for f in fields(ToyScore)]
    raw = {method: [asdict(score(method, seed)) for seed in range(seeds)] for method in METHODS}
    lines = [f"Mean and standard deviation over {seeds} seeds.", ""]
    lines += [
        "| method | narrowest region (°) | spread of regions (°) | accuracy (%) | accuracy, rare ids (%) |",
        "|---|---|---|---|---|",
    ]
    for method, rows in raw.items():
        lines.append(
            f"| {method} | " + " | ".join(_spread([r[n] * SCALE.get(n, 1) for r in rows]) for n in names) + " |"
        )
    _write(out, "fig1", lines, raw)
    draw(0, out / "fig1.png")
    print("\n".join(lines))


def curves(out: Path, arguments: argparse.Namespace) -> None:
    if arguments.seeds < 2:
        raise UserError("curves: expected --seeds of at least 2, whose spread is drawn")
    import torch

    from personsearch.train.paper.ablation import ROWS, kept
    from personsearch.train.paper.curves import differences, run_curve
    from personsearch.train.paper.experiment_plots import plot_head_tail, plot_separability
    from personsearch.train.paper.regions import FRAMES, regions_of, source_of

    torch.set_num_threads(arguments.threads or 1)
    source = source_of(arguments.format, arguments.root, "train", FRAMES["coco"])
    regions = regions_of(source, "train", "coco", arguments.model or here_or_shipped(LIGHT), out)
    rows = {row.key: row for row in ROWS if row.key in COMPARED}
    runs: dict[str, list[dict[str, Any]]] = {key: [] for key in rows}
    (out / "curves").mkdir(exist_ok=True)
    for seed in range(arguments.seeds):
        for key, row in rows.items():
            path = out / "curves" / f"{key}-{seed}.json"
            runs[key].append(kept(path, partial(run_curve, regions, row, seed)))
    _, batch, proto = COMPARED
    lines = [
        f"ProtoNorm's mean cosine less BatchNorm's: {arguments.seeds} seeds, paired, ± half of the 95 % interval, "
        "bold where it excludes zero.",
        "",
        *differences(runs[proto], runs[batch]),
    ]
    _write(out, "curves", lines, [run for group in runs.values() for run in group])
    titles = {key: row.title for key, row in rows.items()}
    plot_separability(runs, titles, out / "curves-fig5.png")
    plot_head_tail(runs, titles, out / "curves-figS1.png")
    print("\n".join(lines))


def proposals(out: Path, arguments: argparse.Namespace) -> None:
    from personsearch.train.data.samples import load_split
    from personsearch.train.paper.proposals import draw_proposals, positive_proposals
    from personsearch.train.settings import SourceSettings
    from personsearch.train.weights.checkpoint import load_network

    if not arguments.model or arguments.frames < 1:
        raise UserError("proposals: expected --model, whose proposals are drawn, and --frames of at least 1")
    network, _ = load_network(arguments.model)
    images = load_split(SourceSettings(format=arguments.format, root=arguments.root), "train").images
    chosen = np.unique(np.linspace(0, len(images) - 1, arguments.frames).astype(int))
    found = positive_proposals(network, [images[i] for i in chosen])
    if not found:
        raise UserError(f"{arguments.model}: has no proposal on a person in these {len(chosen)} images")
    steps = [one.step for one in found]
    print(f"{len(found)} proposals on people, LOIM's step {min(steps):.2f} to {max(steps):.2f}")
    print(draw_proposals(found, out / "figS2.png"))


def ablation(out: Path, arguments: argparse.Namespace) -> None:
    import torch

    from personsearch.core.config import load_settings
    from personsearch.train.paper.ablation import ROWS, run_row
    from personsearch.train.settings import TrainSettings

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    base = load_settings(arguments.config, TrainSettings, arguments.overrides)
    base = base.model_copy(update={"data": _data(base.data, arguments, out / "street")})
    results: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):  # every row once, then again: a stopped run has whole rounds
        for row in ROWS:
            result = run_row(base, row, seed, out / "runs")
            results.append(result)
            print(
                f"seed {seed}  {row.title:40s} " + "  ".join(f"{c} {result['figures'][c]:.3f}" for c in COLUMNS),
                flush=True,
            )
            report(out, results)
        plot(out, results)


def _data(data: Any, arguments: argparse.Namespace, folder: Path) -> Any:
    """The data of the experiments: a benchmark as it is, or the street written once at the network's size."""
    from personsearch.train.convert_data import convert_splits

    change = {"format": arguments.format, "root": arguments.root}
    if arguments.format == "street":
        if not (folder / "people.json").exists():
            convert_splits(data.train[0], folder, shrink=2)
        change = {"format": "json", "root": str(folder)}
    source = data.train[0].model_copy(update=change)
    return data.model_copy(update={"train": (source,), "test": source})


def report(out: Path, results: list[dict[str, Any]]) -> None:
    """Table 2 from what is finished."""
    groups, titles = _by_row(results)
    lines = ["Mean ± standard deviation over the seeds, in percent.", ""]
    lines += ["| row | runs | search mAP | top-1 | re-ID mAP | top-1 |", "|---|---|---|---|---|---|"]
    for key, rows in groups.items():
        cells = [_spread([100 * r["figures"][c] for r in rows]) for c in COLUMNS]
        lines.append(f"| {titles[key]} | {len(rows)} | " + " | ".join(cells) + " |")
    lines += ["", "Cosine between different identities at the end of training (lower separates better).", ""]
    lines += ["| row | LUT | queue | both | head ids | tail ids |", "|---|---|---|---|---|---|"]
    for key, rows in groups.items():
        last = [r["separability"][-1] for r in rows]
        cells = [_spread([e[n][0] for e in last], 3) for n in ("lut", "queue", "both", "head", "tail")]
        lines.append(f"| {titles[key]} | " + " | ".join(cells) + " |")
    _write(out, "table2", lines, results)


def plot(out: Path, results: list[dict[str, Any]]) -> None:
    """Table 2 as bars, Fig. 5 and Fig. S1: after whole rounds, because they take longer than reading a finished row."""
    from personsearch.train.paper.experiment_plots import plot_head_tail, plot_separability, plot_table

    groups, titles = _by_row(results)
    plot_table(groups, titles, out / "table2.png")
    compared = {key: groups[key] for key in COMPARED if key in groups}
    plot_separability(compared, titles, out / "fig5.png")
    plot_head_tail(compared, titles, out / "figS1.png")


def _by_row(results: list[dict[str, Any]]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """The finished results of each row, and the rows' titles."""
    from personsearch.train.paper.ablation import ROWS

    groups = {row.key: [r for r in results if r["row"] == row.key] for row in ROWS}
    return {key: rows for key, rows in groups.items() if rows}, {row.key: row.title for row in ROWS}


def _spread(values: list[float], digits: int = 1) -> str:
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    digits = max(digits, 2) if max(map(abs, values)) <= 1 else digits
    return f"{np.mean(values):.{digits}f}{deviation}"


def _write(out: Path, name: str, lines: list[str], raw: object) -> None:
    replace_file(out / f"{name}.md", ("\n".join(lines) + "\n").encode())
    replace_file(out / f"{name}.json", f"{json.dumps(raw, indent=1)}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
