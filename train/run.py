#!/usr/bin/env python
"""Train a person-search network: `python train/run.py [--config configs/X.yaml] [--resume] [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from personsearch.core.config import load_settings
from personsearch.core.errors import UserError, run_main

DEFAULT = Path(__file__).resolve().parent.parent / "configs" / "edge.yaml"


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=str(DEFAULT), help="a YAML preset (default: configs/edge.yaml)")
    parser.add_argument("--resume", action="store_true", help="continue the run in the configured `out` folder")
    parser.add_argument("--dry-run", action="store_true", help="build everything, run one step, and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example optimiser.epochs=2 out=runs/x")
    arguments = parser.parse_args()

    from personsearch.train import distributed
    from personsearch.train.loop import Trainer
    from personsearch.train.settings import TrainSettings
    from personsearch.train.summary import describe, write_summary

    settings = load_settings(arguments.config, TrainSettings, arguments.overrides)
    last = Path(settings.out) / "last.pth"
    if last.exists() and not arguments.resume and not arguments.dry_run:
        raise UserError(f"{last} exists: add --resume to continue that run, or choose another folder with out=FOLDER")
    distributed.start()
    trainer = Trainer(settings, resume=arguments.resume)
    leader = distributed.rank() == 0
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
    report = trainer.evaluate()
    path = write_summary(trainer, report)
    for name, value in report.figures().items():
        print(f"{name:18s} {value:.3f}")
    distributed.stop()
    print(f"checkpoint {last}\nsummary    {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
