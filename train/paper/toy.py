"""The paper's Fig. 1 in two dimensions: what L2, BatchNorm + L2 and ProtoNorm + L2 do to imbalanced identities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from personsearch.train.model.protonorm import make_norm

IDENTITIES, RARE, FREQUENT = 6, 30, 120  # two identities have four times as many samples, as in the figure
LIMIT = 1.3  # of the panels of unit vectors
METHODS = {"L2": "none", "BatchNorm + L2": "batchnorm", "ProtoNorm + L2": "protonorm"}


@dataclass
class ToyScore:
    """Over the identities: angular space of each one's decision region in degrees, and accuracy on balanced samples.

    narrowest    the smallest region; equal shares would be 360 / IDENTITIES
    spread       standard deviation of the regions
    accuracy     share of fresh samples, equally many per identity, that fall into their own region
    rare         the same over the rare identities
    """

    narrowest: float
    spread: float
    accuracy: float
    rare: float


def sample(seed: int, balanced: bool) -> tuple[Tensor, Tensor]:
    """Clusters around a centre far from zero, on axes of different scale -> (N, 2) float32 and labels (N,) from 1."""
    layout = np.random.default_rng((seed, 1))
    angles = (np.arange(IDENTITIES) + layout.uniform(-0.15, 0.15, IDENTITIES)) * 2 * np.pi / IDENTITIES
    centres = np.array([3.0, 2.0]) + np.stack([np.cos(angles), np.sin(angles)], 1) * [2.0, 1.0]
    rng = np.random.default_rng((seed, 2 + balanced))
    counts = [RARE] * IDENTITIES if balanced else [FREQUENT] * 2 + [RARE] * (IDENTITIES - 2)
    rows = [rng.normal(centre, [0.30, 0.15], (count, 2)) for centre, count in zip(centres, counts, strict=True)]
    labels = np.repeat(np.arange(1, IDENTITIES + 1), counts)
    return torch.from_numpy(np.concatenate(rows)).float(), torch.from_numpy(labels)


def normalised(method: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors and labels of the imbalanced training samples, and of fresh balanced ones (same statistics)."""
    x, labels = sample(seed, balanced=False)
    norm = make_norm(METHODS[method], 2, background=True)
    for module in norm.modules():
        if hasattr(module, "momentum"):
            setattr(module, "momentum", 1.0)  # noqa: B010 - the running statistics are those of this one batch
    train = torch.nn.functional.normalize(norm(x, labels))
    fresh, fresh_labels = sample(seed, balanced=True)
    test = torch.nn.functional.normalize(norm.eval()(fresh))
    return train.numpy(), labels.numpy(), test.numpy(), fresh_labels.numpy()


def prototypes(unit: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(IDENTITIES, 2) normalised means."""
    means = np.stack([unit[labels == k].mean(0) for k in range(1, IDENTITIES + 1)])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def score(method: str, seed: int) -> ToyScore:
    train, labels, test, test_labels = normalised(method, seed)
    centres = prototypes(train, labels)
    circle = np.deg2rad(np.arange(0, 360, 0.25))
    owner = (np.stack([np.cos(circle), np.sin(circle)], 1) @ centres.T).argmax(1)
    regions = np.bincount(owner, minlength=IDENTITIES) * 0.25
    right = (test @ centres.T).argmax(1) + 1 == test_labels
    return ToyScore(
        float(regions.min()), float(regions.std()), float(right.mean()), float(right[test_labels > 2].mean())
    )


def draw(seed: int, path: Path) -> None:
    """The figure's four panels: features with both means, and the circle with its regions after each normalisation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colours = pyplot.get_cmap("tab10")(np.arange(IDENTITIES))
    figure, axes = pyplot.subplots(1, 4, figsize=(14, 3.8))
    x, labels = (t.numpy() for t in sample(seed, balanced=False))
    axes[0].scatter(*x.T, c=colours[labels - 1], s=6)
    means = np.stack([x[labels == k].mean(0) for k in range(1, IDENTITIES + 1)])
    axes[0].plot(*x.mean(0), "r*", ms=14, label="mean of features")
    axes[0].plot(*means.mean(0), "y*", ms=14, mec="black", label="mean of prototypes")
    axes[0].plot(0, 0, "k+", ms=10)
    axes[0].legend(fontsize=8)
    axes[0].set(title="features; two identities have 4x more")
    side = np.linspace(-LIMIT, LIMIT, 400)
    plane = np.stack(np.meshgrid(side, side), -1)  # every point belongs to the region of its direction
    for panel, method in zip(axes[1:], METHODS, strict=True):
        unit, labels, *_ = normalised(method, seed)
        owner = (plane @ prototypes(unit, labels).T).argmax(-1)
        panel.imshow(colours[owner], alpha=0.35, origin="lower", extent=(-LIMIT, LIMIT, -LIMIT, LIMIT))
        panel.scatter(*unit.T, c=colours[labels - 1], s=6)
        panel.set(title=f"{method}: narrowest {score(method, seed).narrowest:.0f}°")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
