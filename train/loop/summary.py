"""One `summary.md` per run: data, figures, configuration and learning curves."""

from __future__ import annotations

from pathlib import Path

import yaml

from personsearch.core.evaluation import Report
from personsearch.core.files import replace_file
from personsearch.train import distributed
from personsearch.train.loop.curves import CURVES, plot_curves
from personsearch.train.loop.optimiser import scaled_rate
from personsearch.train.loop.trainer import BEST, Trainer


def describe(trainer: Trainer) -> str:
    """The training data and the plan in a few lines."""
    samples, options = trainer.samples, trainer.settings.optimiser
    boxes = sum(len(labels) for labels in samples.labels)
    images = options.batch * options.accumulate * distributed.world_size()
    rate = scaled_rate(options, images)
    scaled = f"\nlearning rate {rate:.3g} for {images} images a step: {options.rate:g} for {options.rate_at_batch}"
    labelled = sum(int((labels > 0).sum()) for labels in samples.labels)
    return (
        f"{len(samples)} training images, {boxes} people, {labelled} of them with one of "
        f"{len(samples.identity_table)} identities\n"
        f"{trainer.total_steps} steps: {options.epochs} epochs of {trainer.steps_per_epoch}, "
        f"{options.batch} images x {options.accumulate} batches x {distributed.world_size()} processes a step, "
        f"on {trainer.device}{scaled if options.rate_at_batch else ''}"
    )


def write_summary(trainer: Trainer, report: Report) -> Path:
    """Write `summary.md` and the learning curves into the run folder."""
    out = trainer.out
    best = max(trainer.history, key=lambda row: row["mAP"])  # the first of equals, as the file is
    lines = [
        f"# Run `{out.name}`", "", describe(trainer).replace("\n", "  \n"), "",
        *([f"{trainer.damaged} damaged images were replaced by their neighbours.", ""] if trainer.damaged else []),
        "| figure | test split |", "|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in report.figures().items()), "",
        f"{BEST}: mAP {best['mAP']:.3f} after step {best['step']:.0f}", "",
    ]  # fmt: skip
    plot_curves(trainer.curve, trainer.history, out / CURVES)
    lines += [f"![losses and validation]({CURVES})", ""]
    config = yaml.safe_dump(trainer.settings.model_dump(mode="json"), sort_keys=False)
    lines += ["## Configuration", "", "```yaml", config.rstrip(), "```", ""]
    path = out / "summary.md"
    replace_file(path, "\n".join(lines).encode())
    return path
