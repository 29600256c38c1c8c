"""The optimiser and its schedule."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from personsearch.core.errors import CheckpointError
from personsearch.train.loop.uncompiled import uncompiled
from personsearch.train.model.network import PersonSearch
from personsearch.train.settings import OptimiserSettings

SGD, AdamW = uncompiled(torch.optim.SGD), uncompiled(torch.optim.AdamW)


def rate_factor(options: OptimiserSettings, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Linear warm-up from 1/1000, then steps of x0.1 or a cosine to zero."""
    epoch, warm = step / steps_per_epoch, options.warmup_epochs * steps_per_epoch
    factor = 1.0 if step >= warm else 0.001 + 0.999 * step / max(1.0, warm)
    if options.schedule == "cosine":
        return factor * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total_steps)))
    return factor * 0.1 ** sum(epoch >= drop for drop in options.drop_epochs)


def scaled_rate(options: OptimiserSettings, images: int) -> float:
    """`optimiser.rate`, fitted from `rate_at_batch` images a step to this many.

    SGD in proportion (arXiv 1706.02677), AdamW by the square root (arXiv 2205.10287).
    """
    if not options.rate_at_batch:
        return options.rate
    ratio = images / options.rate_at_batch
    return options.rate * (ratio if options.kind == "sgd" else math.sqrt(ratio))


def make_optimiser(options: OptimiserSettings, network: PersonSearch, images: int) -> torch.optim.Optimizer:
    """Two groups: the detector's published weights may learn at another rate, or not at all (0).

    images  of a step, over all processes and accumulated batches: what `optimiser.rate_at_batch` scales to

    Parameters stand in the network's order and under its names, so that moments find their parameter again in another
    process (`load_moments`).
    """
    detector: set[str] = set()
    if options.detector_rate != 1:
        parts = {id(part) for part in network.detector_parts()}
        detector = {
            f"{name}.{parameter}"
            for name, module in network.named_modules()
            if id(module) in parts
            for parameter, _ in module.named_parameters()
        }
    named = list(network.named_parameters())
    if options.detector_rate == 0:
        for name, parameter in named:
            if name in detector:
                parameter.requires_grad_(False)
    learning = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    rate = scaled_rate(options, images)
    groups = [
        {"params": [pair for pair in learning if (pair[0] in detector) == slow], "base_rate": rate * factor}
        for slow, factor in ((False, 1.0), (True, options.detector_rate))
    ]
    groups = [g for g in groups if g["params"]]
    if options.kind == "sgd":
        return SGD(groups, rate, momentum=options.momentum, weight_decay=options.weight_decay, fused=True)
    return AdamW(groups, rate, weight_decay=options.weight_decay, fused=True)


def load_moments(optimiser: torch.optim.Optimizer, state: dict[str, Any], path: str | Path) -> None:
    """Continue with the moments of a checkpoint; torch itself compares only how many parameters there are.

    Raises CheckpointError, and changes nothing, where names, their order, or shapes differ.
    """
    advice = f"resume with the same model and optimiser settings, or start anew with init={path} and another out="
    saved, own = state["param_groups"], optimiser.param_groups
    if any("param_names" not in group for group in saved):
        raise CheckpointError(
            f"{path}: its optimiser state does not name its parameters (an earlier version wrote it), so moments "
            f"cannot be given back to them; start anew with init={path} and another out="
        )
    names, wanted = [group["param_names"] for group in saved], [group["param_names"] for group in own]
    if names != wanted:
        before, now = ([name for group in part for name in group] for part in (names, wanted))
        odd = next((name for name in (*now, *before) if (name in before) != (name in now)), "order or learning rates")
        raise CheckpointError(
            f"{path}: its optimiser state is of {len(before)} parameters, expected these {len(now)} in the same groups "
            f"(first difference: {odd}); {advice}"
        )
    for group, own_group in zip(saved, own, strict=True):
        for index, name, parameter in zip(group["params"], group["param_names"], own_group["params"], strict=True):
            for key, value in state["state"].get(index, {}).items():
                if isinstance(value, Tensor) and value.dim() > 0 and value.shape != parameter.shape:
                    raise CheckpointError(
                        f"{path}: optimiser state {key} of {name} has shape {tuple(value.shape)}, expected "
                        f"{tuple(parameter.shape)}; {advice}"
                    )
    # Rates and decay are those of this run's settings.
    optimiser.load_state_dict({**state, "param_groups": optimiser.state_dict()["param_groups"]})
