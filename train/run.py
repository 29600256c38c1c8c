#!/usr/bin/env python
"""Train a person-search network: `python train/run.py [--config configs/X.yaml] [--resume] [key=value ...]`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from personsearch.core.commands import command_line
from personsearch.core.config import load_settings
from personsearch.core.errors import UserError, run_main
from personsearch.core.locks import only_one
from personsearch.core.resources import here_or_shipped, shipped

if TYPE_CHECKING:
    from personsearch.train.loop.trainer import Trainer
    from personsearch.train.settings import TrainSettings

DEFAULT = shipped("configs/edge.yaml")
ELSEWHERE = "choose another folder with out=FOLDER"
PROFILED = 5  # steps, after one to warm up


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--config", type=here_or_shipped, default=DEFAULT, help="a preset (default: configs/edge.yaml)")
    parser.add_argument("--resume", action="store_true", help="continue the run in the configured `out` folder")
    parser.add_argument("--dry-run", action="store_true", help="build everything, run one step, and stop")
    parser.add_argument(
        "--profile",
        action="store_true",
        help=f"run {PROFILED} steps on the run's own data, say what they cost, write "
        "their timeline into the `out` folder, and stop",
    )
    parser.add_argument(
        "--from-scratch", action="store_true", help="random weights even for parts that do not learn (same as "
        "from_scratch=true)",
    )  # fmt: skip
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example optimiser.epochs=2 out=runs/x")
    arguments = parser.parse_args()

    from personsearch.train.settings import TrainSettings

    overrides = [*arguments.overrides, *(["from_scratch=true"] if arguments.from_scratch else [])]
    settings = load_settings(arguments.config, TrainSettings, overrides)
    last = Path(settings.out) / "last.pth"
    if last.exists() and not (arguments.resume or arguments.dry_run or arguments.profile):
        raise UserError(f"{last} exists: add --resume to continue that run, or {ELSEWHERE}")
    if arguments.dry_run or os.environ.get("RANK", "0") != "0":  # torchrun's first process holds the folder for all
        return _train(settings, arguments)
    taken = f"another training writes into it; wait for it, or {ELSEWHERE}"
    with only_one(Path(settings.out) / ".lock", taken, ELSEWHERE):
        return _train(settings, arguments)


def _train(settings: TrainSettings, arguments: argparse.Namespace) -> int:
    # Only now: PyTorch takes seconds to load.
    from personsearch.train import distributed
    from personsearch.train.loop.summary import describe, write_summary
    from personsearch.train.loop.trainer import LAST, Trainer

    distributed.start()
    trainer = Trainer(settings, resume=arguments.resume)
    leader = distributed.rank() == 0
    if leader and trainer.amp_note:
        print(trainer.amp_note, flush=True)
    if arguments.profile:
        return profile(trainer)
    if arguments.dry_run:
        if leader:
            print(describe(trainer))
        trainer.network.train()
        batches = trainer.batches()
        losses = trainer.train_step(next(batches))
        batches.close()  # ends the loading processes
        if leader:
            print("dry run: one step works: " + ", ".join(f"{k} {v:.3f}" for k, v in losses.items()))
        return 0
    if not trainer.run():
        if leader:
            print(
                f"stopped at step {trainer.step} of {trainer.total_steps}; continue with the same command and --resume"
            )
        return 130
    if not leader:
        distributed.stop()
        return 0
    report = trainer.conclude()
    path = write_summary(trainer, report)
    for name, value in report.figures().items():
        print(f"{name:18s} {value:.3f}")
    distributed.stop()
    print(f"checkpoint {trainer.out / LAST}\nsummary    {path}")
    return 0


def profile(trainer: Trainer) -> int:
    """Figures on standard output; the table of operations and the timeline are those of rank 0."""
    from personsearch.train import distributed
    from personsearch.train.loop.profiling import TRACE, profile_steps

    leader = distributed.rank() == 0
    trace = trainer.out / TRACE
    figures, table = profile_steps(trainer, PROFILED, trace=trace if leader else None)
    if leader:
        print(f"{table}\n{json.dumps(figures)}\ntimeline {trace} (open it in https://ui.perfetto.dev)")
    distributed.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
