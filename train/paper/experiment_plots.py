"""Plots of the ablation: Table 2 as bars, and the cosines of Fig. 5 and Fig. S1 over training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy import stats

matplotlib.use("Agg")
from matplotlib import pyplot

Runs = dict[str, list[dict[str, Any]]]


def plot_table(groups: Runs, titles: dict[str, str], path: Path) -> None:
    """Search and re-ID mAP per row; a dot for each seed, and the 95 % interval of the mean (Student's t)."""
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 0.5 * len(groups) + 1.5), sharey=True)
    for panel, column in zip(axes, ("mAP", "re-ID mAP"), strict=True):
        for place, runs in enumerate(groups.values()):
            values = [100 * r["figures"][column] for r in runs]
            count = len(values)
            half = stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count) if count > 1 else None
            panel.barh(place, np.mean(values), xerr=half, color="tab:blue", alpha=0.5, capsize=3)
            panel.plot(values, [place] * len(values), "k.", ms=5)
        panel.set(xlabel=f"{'search ' if column == 'mAP' else ''}{column} (%)")
    axes[0].set_yticks(range(len(groups)), [titles[k] for k in groups])
    axes[0].invert_yaxis()
    _save(figure, path)


def plot_separability(groups: Runs, path: Path) -> None:
    """Fig. 5: mean cosine between the rows of LUT, queue and both; the band is the spread over pairs."""
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6))
    for panel, name in zip(axes, ("lut", "queue", "both"), strict=True):
        _lines(panel, groups, name)
        panel.set(xlabel="epoch", title={"lut": "LUT", "queue": "circular queue", "both": "LUT and queue"}[name])
    axes[0].set(ylabel="cosine between different rows")
    axes[0].legend(fontsize=8)
    _save(figure, path)


def plot_head_tail(groups: Runs, path: Path) -> None:
    """Fig. S1: mean cosine of head and of tail identities with the rest of the LUT."""
    figure, axes = pyplot.subplots(1, 2, figsize=(8.5, 3.6), sharey=True)
    for panel, name in zip(axes, ("head", "tail"), strict=True):
        _lines(panel, groups, name)
        panel.set(xlabel="epoch", title=f"{name} identities")
    axes[0].set(ylabel="cosine with the other identities")
    axes[0].legend(fontsize=8)
    _save(figure, path)


def _lines(panel: Any, groups: Runs, name: str) -> None:
    for title, runs in groups.items():
        values = np.array([[epoch[name] for epoch in run["separability"]] for run in runs])  # (seeds, epochs, 2)
        mean, spread = values[..., 0].mean(0), values[..., 1].mean(0)
        epochs = np.arange(1, len(mean) + 1)
        (line,) = panel.plot(epochs, mean, marker="o", ms=3, label=title)
        panel.fill_between(epochs, mean - spread, mean + spread, alpha=0.15, color=line.get_color())


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
