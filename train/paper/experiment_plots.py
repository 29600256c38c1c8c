"""Plots of the ablation: Table 2 as bars, and the cosines of Fig. 5 and Fig. S1 over training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy.special import stdtrit

matplotlib.use("Agg")
from matplotlib import pyplot

Runs = dict[str, list[dict[str, Any]]]  # of each row
WITHOUT = "none-oim"  # the row without a norm


def plot_table(groups: Runs, titles: dict[str, str], path: Path) -> None:
    """Search and re-ID mAP per row; a dot for each seed, and the 95 % interval of the mean (Student's t)."""
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 0.5 * len(groups) + 1.5), sharey=True)
    for panel, column in zip(axes, ("mAP", "re-ID mAP"), strict=True):
        for place, runs in enumerate(groups.values()):
            values = [100 * r["figures"][column] for r in runs]
            count = len(values)
            half = stdtrit(count - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(count) if count > 1 else None
            panel.barh(place, np.mean(values), xerr=half, color="tab:blue", alpha=0.5, capsize=3)
            panel.plot(values, [place] * len(values), "k.", ms=5)
        panel.set(xlabel=f"{'search ' if column == 'mAP' else ''}{column} (%)")
    axes[0].set_yticks(range(len(groups)), [titles[k] for k in groups])
    axes[0].invert_yaxis()
    _save(figure, path)


def plot_separability(groups: Runs, titles: dict[str, str], path: Path) -> None:
    """Fig. 5: mean cosine between the rows of look-up table, queue and both."""
    panels = {"lut": "LUT", "queue": "circular queue", "both": "LUT and queue"}
    _draw(groups, titles, panels, "cosine between different rows", path)


def plot_head_tail(groups: Runs, titles: dict[str, str], path: Path) -> None:
    """Fig. S1: mean cosine of head and of tail identities with the rest of the look-up table."""
    panels = {"head": "head identities", "tail": "tail identities"}
    _draw(groups, titles, panels, "cosine with the other identities", path)


def _draw(groups: Runs, titles: dict[str, str], panels: dict[str, str], label: str, path: Path) -> None:
    """A column for each of `panels`; what has no norm in an upper row, because its scale would hide the others."""
    figure, axes = pyplot.subplots(
        2, len(panels), figsize=(4 * len(panels), 5), sharex=True, sharey="row", height_ratios=(1, 2)
    )
    for column, (name, title) in zip(axes.T, panels.items(), strict=True):
        for number, (key, runs) in enumerate(groups.items()):
            _line(column[int(key != WITHOUT)], runs, name, titles[key], f"C{number}")
        column[0].set(title=title)
        column[1].set(xlabel="epoch")
    for panel in axes[:, 0]:
        if panel.lines:
            panel.legend(fontsize=8)
    figure.supylabel(label, fontsize=10)
    _save(figure, path)


def _line(panel: Any, runs: list[dict[str, Any]], name: str, title: str, colour: str) -> None:
    """Mean over the seeds; the band is their standard deviation."""
    values = np.array([[epoch[name][0] for epoch in run["separability"]] for run in runs])  # (seeds, epochs)
    mean, epochs = values.mean(0), np.arange(1, values.shape[1] + 1)
    panel.plot(epochs, mean, marker="o", ms=3, label=title, color=colour)
    if len(values) > 1:
        spread = values.std(0, ddof=1)
        panel.fill_between(epochs, mean - spread, mean + spread, alpha=0.2, color=colour, lw=0)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
