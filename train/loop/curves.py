"""Learning curves as a picture."""

from __future__ import annotations

from pathlib import Path

CURVES = "curves.png"


def plot_curves(curve: list[dict[str, float]], history: list[dict[str, float]], path: Path) -> None:
    """Losses, and beside them validation figures if the run was validated on the way."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    count = 2 if history else 1
    figure, panels = pyplot.subplots(1, count, figsize=(5.5 * count, 4), squeeze=False)
    panels[0, 0].set(xlabel="step", ylabel="loss", title="training")
    for name in dict.fromkeys(key for row in curve for key in row if key != "step"):
        rows = [row for row in curve if name in row]
        panels[0, 0].plot([row["step"] for row in rows], [row[name] for row in rows], label=name)
    if history:
        panels[0, 1].set(xlabel="step", ylabel="score", ylim=(0, 1), title="test split")
        for name in ("mAP", "top-1", "detection AP"):
            panels[0, 1].plot([row["step"] for row in history], [row[name] for row in history], marker="o", label=name)
    for axes in panels.flat:
        if axes.lines:
            axes.legend()
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
