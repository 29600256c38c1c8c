"""One `summary.md` per run: data, figures, configuration and learning curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from personsearch.core.evaluation import Report
from personsearch.train import distributed

if TYPE_CHECKING:
    from personsearch.train.loop import Trainer


CURVES = "curves.png"


def describe(trainer: Trainer) -> str:
    """The training data and the plan in a few lines."""
    samples, options = trainer.samples, trainer.settings.optimiser
    boxes = sum(len(labels) for labels in samples.labels)
    labelled = sum(int((labels > 0).sum()) for labels in samples.labels)
    return (
        f"{len(samples)} training images, {boxes} people, {labelled} of them with one of "
        f"{len(samples.identity_table)} identities\n"
        f"{trainer.total_steps} steps: {options.epochs} epochs of {trainer.steps_per_epoch}, "
        f"{options.batch} images x {options.accumulate} batches x {distributed.world_size()} processes a step, "
        f"on {trainer.device}"
    )


def write_summary(trainer: Trainer, report: Report) -> Path:
    """Write `summary.md` and the learning curves into the run folder."""
    out = trainer.out
    lines = [
        f"# Run `{out.name}`", "", describe(trainer).replace("\n", "  \n"), "",
        *([f"{trainer.damaged} damaged images were replaced by their neighbours.", ""] if trainer.damaged else []),
        "| figure | test split |", "|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in report.figures().items()), "",
    ]  # fmt: skip
    plot_curves(trainer.curve, trainer.history, out / CURVES)
    lines += [f"![losses and validation]({CURVES})", ""]
    config = yaml.safe_dump(trainer.settings.model_dump(mode="json"), sort_keys=False)
    lines += ["## Configuration", "", "```yaml", config.rstrip(), "```", ""]
    path = out / "summary.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def plot_curves(curve: list[dict[str, float]], history: list[dict[str, float]], path: Path) -> None:
    """Losses (left) and validation figures (right, if the run was validated on the way)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    for name in [k for k in (curve[0] if curve else {}) if k != "step"]:
        left.plot([row["step"] for row in curve], [row[name] for row in curve], label=name)
    left.set(xlabel="step", ylabel="loss", title="training")
    for name in ("mAP", "top-1", "detection AP"):
        right.plot([row["step"] for row in history], [row[name] for row in history], marker="o", label=name)
    right.set(xlabel="step", ylabel="score", ylim=(0, 1), title="test split")
    for axes in (left, right):
        if axes.lines:
            axes.legend()
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
