"""Fig. 5 and Fig. S1 over the paper's twenty epochs, from runs of the last layers on cached regions (`branch.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personsearch.train.model.oim import OIMLoss
from personsearch.train.paper.ablation import Row, separability
from personsearch.train.paper.branch import SGD, Condition, Scenes, train_branch
from personsearch.train.paper.conditions import Gap, identity_of
from personsearch.train.paper.regions import Regions

CONDITION = Condition(steps=SGD.epochs * Condition().images // Condition().batch)
SHOWN = (1, 2, 3, 5, 10, 20)  # epochs in the table
FIGURES = {"lut": "LUT", "queue": "queue", "both": "both", "head": "head ids", "tail": "tail ids"}


def run_curve(regions: Regions, row: Row, seed: int, condition: Condition = CONDITION) -> dict[str, Any]:
    """One training: the cosines in look-up table and queue after each of its epochs."""
    counts = occurrences(Scenes(regions, condition, seed))
    epochs: list[dict[str, list[float]]] = []

    def watch(step: int, loss: OIMLoss) -> None:
        if step % (condition.images // condition.batch) == 0:
            epochs.append(separability(loss.lut, loss.queue, counts))

    train_branch(regions, condition, identity_of(row), seed, watch=watch)
    return {"row": row.key, "seed": seed, "steps": condition.steps, "separability": epochs}


def occurrences(scenes: Scenes) -> Tensor:
    """(L,) in how many of the training images each labelled identity is."""
    counts = torch.zeros(len(scenes.labels), dtype=torch.long)
    for _, labels, _ in scenes.images:
        counts[np.unique(labels[labels > 0]) - 1] += 1
    return counts


def differences(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> list[str]:
    """Mean cosine of `ours` less that of `theirs`, runs of equal seeds, in Markdown."""
    lines = ["| epoch | " + " | ".join(FIGURES.values()) + " |", "|---" * (1 + len(FIGURES)) + "|"]
    for epoch in SHOWN:
        cells = []
        for name in FIGURES:
            first, second = ([run["separability"][epoch - 1][name][0] for run in runs] for runs in (ours, theirs))
            cells.append(Gap.of(np.subtract(first, second)).text(3))
        lines.append(f"| {epoch} | " + " | ".join(cells) + " |")
    return lines
