"""The few collective operations that training needs; every one is the identity in a single process."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


class _GatherRows(torch.autograd.Function):
    """All ranks' rows in rank order; the gradient of a row is the sum over ranks of what they did with it."""

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:  # type: ignore[override]
        counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world_size())]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        sizes = [int(c) for c in counts]
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        ctx.begin, ctx.count = sum(sizes[: rank()]), len(rows)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[ctx.begin : ctx.begin + ctx.count]


def gather_rows(rows: Tensor) -> Tensor:
    """(N, ...) of every rank -> (sum of N, ...), differentiable; ranks may hold different N, also 0."""
    return rows if world_size() == 1 else _GatherRows.apply(rows)


def average_gradients(module: torch.nn.Module) -> None:
    """Mean of the gradients over the ranks; a parameter without gradient on one rank counts as zero there."""
    ranks = world_size()
    if ranks == 1:
        return
    for parameter in module.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= ranks
