"""A start for the projection of a pretrained head: ridge regression onto the teacher's space.

Without it, the first steps of a distillation would bend a good head to fit a random projection.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor
from tqdm import tqdm

from personsearch.train.network import PersonSearch, Targets
from personsearch.train.teacher import TeacherSpace

RIDGE = 0.05  # relative to the mean variance of a feature


@torch.no_grad()
def align_projection(
    network: PersonSearch, space: TeacherSpace, batches: Iterable[tuple[Tensor, list[Targets]]], count: int
) -> float:
    """Fit `network.projection` on `count` batches with teacher embeddings; gives the mean cosine that it reaches.

    The statistics of the norm behind the projection start from the same people.
    """
    features, goals = [], []
    network.eval()
    device = network.projection.weight.device
    for images, targets in tqdm(itertools.islice(batches, count), total=count, desc="align", unit="batch"):
        _, feature = network.features(images.to(device))
        kept = [t.known if t.known is not None else torch.zeros(len(t.boxes), dtype=torch.bool) for t in targets]
        boxes = [t.boxes[k].to(device) for t, k in zip(targets, kept, strict=True)]
        features.append(network.head(network.crop(feature, boxes)).float())
        goals.append(torch.cat([t.teacher[k] for t, k in zip(targets, kept, strict=True) if t.teacher is not None]))
    x, raw = torch.cat(features).double(), torch.cat(goals).to(device)
    space.train()
    for part in raw.split(256):
        space.target(part)
    y = space.eval().target(raw).double()
    space.train()
    mean, width = x.mean(0), x.shape[1]
    centred = x - mean
    gram = centred.t() @ centred
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(width, dtype=gram.dtype, device=device)
    weight = torch.linalg.solve(gram + ridge, centred.t() @ y).t()
    network.projection.weight.copy_(weight.float())
    projected = x @ weight.t()
    norm = network.norm if hasattr(network.norm, "running_mean") else getattr(network.norm, "norm", None)
    if norm is not None and hasattr(norm, "running_mean"):
        norm.running_mean.copy_(projected.mean(0).float())
        norm.running_var.copy_(projected.var(0).float())
    fitted = torch.nn.functional.normalize((projected - projected.mean(0)) / projected.std(0).clamp(min=1e-9))
    return float((fitted * y).sum(1).mean())
