"""The optimiser and its schedule."""

from __future__ import annotations

import math

import torch

from personsearch.train.csp import CSPStem
from personsearch.train.network import PersonSearch
from personsearch.train.settings import OptimiserSettings


def rate_factor(options: OptimiserSettings, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Linear warm-up from 1/1000, then steps of x0.1 or a cosine to zero."""
    epoch, warm = step / steps_per_epoch, options.warmup_epochs * steps_per_epoch
    factor = 1.0 if step >= warm else 0.001 + 0.999 * step / max(1.0, warm)
    if options.schedule == "cosine":
        return factor * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total_steps)))
    return factor * 0.1 ** sum(epoch >= drop for drop in options.drop_epochs)


def make_optimiser(options: OptimiserSettings, network: PersonSearch) -> torch.optim.Optimizer:
    """Two groups: the detector's published weights may learn at another rate, or not at all (0)."""
    parts = [*network.stem.detector_parts(), network.rpn] if isinstance(network.stem, CSPStem) else []
    detector = {p for part in parts for p in part.parameters()} if options.detector_rate != 1 else set()
    if options.detector_rate == 0:
        for p in detector:
            p.requires_grad_(False)
    groups = [
        {
            "params": [p for p in network.parameters() if p.requires_grad and p not in detector],
            "base_rate": options.rate,
        },
        {"params": [p for p in detector if p.requires_grad], "base_rate": options.rate * options.detector_rate},
    ]
    groups = [g for g in groups if g["params"]]
    if options.kind == "sgd":
        return torch.optim.SGD(
            groups, options.rate, momentum=options.momentum, weight_decay=options.weight_decay, fused=True
        )
    return torch.optim.AdamW(groups, options.rate, weight_decay=options.weight_decay, fused=True)
