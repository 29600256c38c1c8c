"""Activation checkpointing that leaves running statistics alone while activations are recomputed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from personsearch.train.model.protonorm import ProtoNorm


def recomputed(function: Callable[..., Any], module: nn.Module, *arguments: Any) -> Any:
    """`function(*arguments)`, whose activations are thrown away and computed again in the backward pass.

    module  holds the norms that `function` uses. Their running statistics move once per step, as without
            checkpointing: the second pass would otherwise count every batch twice.
    """
    return checkpoint(
        function, *arguments, use_reentrant=False, context_fn=lambda: (nullcontext(), _still(module))
    )  # fmt: skip


@contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """Norms below `module` compute as before, but with momentum 0, and their batch counters are put back."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d | ProtoNorm) and m.training]
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]  # type: ignore[operator, union-attr]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)  # type: ignore[union-attr]
