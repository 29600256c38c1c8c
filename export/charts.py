"""Plots of the export's figures; without matplotlib there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def _figure(width: float, height: float, parts: int) -> tuple[Any, Any] | None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, parts, squeeze=False)[0]


def draw_parity(rows: Sequence[dict], path: Path) -> None:
    """One group of bars for each engine: similarity of the embeddings, and accuracy lost. rows as in parity.json."""
    made = _figure(9, 1.2 + 0.35 * len(rows), 2)
    if made is None:
        return
    figure, (left, right) = made
    names, places = [row["engine"] for row in rows], range(len(rows))
    left.barh([p + 0.2 for p in places], [row["cosine_mean"] for row in rows], 0.4, label="mean")
    left.barh([p - 0.2 for p in places], [row["cosine_p1"] for row in rows], 0.4, label="1st percentile")
    left.set_yticks(list(places), names)
    low = min([row["cosine_p1"] for row in rows] + [0.99])
    left.set_xlim(max(0.0, low - 0.05), 1.0)
    left.set_title("cosine to PyTorch fp32")
    left.legend(fontsize=7)
    right.barh(list(places), [100 * row["mean_ap_change"] for row in rows], 0.5)
    right.set_yticks(list(places), [""] * len(rows))
    right.axvline(0, color="black", linewidth=0.8)
    right.set_title("change of search mAP, points")
    for axis in (left, right):
        axis.invert_yaxis()
    figure.savefig(path, dpi=80)


def draw_bench(rows: Sequence[dict], path: Path) -> None:
    """Frames per second of each engine at its best batch, and the latency at batch 1. rows as in bench's JSON."""
    made = _figure(9, 1.4 + 0.35 * len({row["engine"] for row in rows}), 2)
    if made is None or not rows:
        return
    figure, (left, right) = made
    names = list(dict.fromkeys(row["engine"] for row in rows))
    best = [max(row["frames_per_second"] for row in rows if row["engine"] == name) for name in names]
    first = [next(row for row in rows if row["engine"] == name) for name in names]
    places = range(len(names))
    left.barh(list(places), best, 0.5)
    left.set_yticks(list(places), names)
    left.set_title("frames/s, best batch")
    right.barh([p + 0.2 for p in places], [row["p50_ms"] for row in first], 0.4, label="p50")
    right.barh([p - 0.2 for p in places], [row["p95_ms"] for row in first], 0.4, label="p95")
    right.set_yticks(list(places), [""] * len(names))
    right.set_title("latency in ms, smallest batch")
    right.legend(fontsize=7)
    for axis in (left, right):
        axis.invert_yaxis()
    figure.savefig(path, dpi=80)
