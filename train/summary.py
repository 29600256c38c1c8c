"""One `summary.md` per run: data, figures, configuration and learning curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from personsearch.core.evaluation import Report

if TYPE_CHECKING:
    from personsearch.train.loop import Trainer


def write_summary(trainer: Trainer, report: Report) -> Path:
    """Write `summary.md` and, if the run was validated on the way, `curves.png` into the run folder."""
    out, samples = trainer.out, trainer.samples
    lines = [
        f"# Run `{out.name}`", "",
        f"{trainer.step} steps; {len(samples)} training images, {len(samples.identity_table)} identities.", "",
        "| figure | test split |", "|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in report.figures().items()), "",
    ]  # fmt: skip
    if trainer.history:
        _plot(trainer.history, out / "curves.png")
        lines += ["![validation](curves.png)", ""]
    config = yaml.safe_dump(trainer.settings.model_dump(mode="json"), sort_keys=False)
    lines += ["## Configuration", "", "```yaml", config.rstrip(), "```", ""]
    path = out / "summary.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _plot(history: list[dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name in ("mAP", "top-1", "detection AP"):
        axes.plot([row["step"] for row in history], [row[name] for row in history], marker="o", label=name)
    axes.set(xlabel="step", ylabel="score", ylim=(0, 1), title="validation")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
