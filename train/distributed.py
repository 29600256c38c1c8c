"""Several processes as one: collectives that make every statistic and every loss exact over the global batch.

In a single process each function is the identity. Start with `torchrun`; see docs/training.md.
"""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET = 25_000_000  # gradient elements per collective
PATIENCE = timedelta(hours=4)  # the other ranks wait while rank 0 evaluates


def start() -> None:
    """Join the process group that `torchrun` describes in the environment; nothing without it.

    Both backends where there is a GPU: tensors on the CPU (flags, counts) never make the GPU wait.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank())
            backend = "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, timeout=PATIENCE)


def stop() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:  # type: ignore[override]
        total = value.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad


def all_sum(value: Tensor) -> Tensor:
    """Sum over the ranks, differentiable: the gradient is the sum of what every rank did with the result."""
    return value if world_size() == 1 else _AllSum.apply(value)


def average_count(count: Tensor | int, like: Tensor) -> Tensor:
    """A loss's denominator: the global count, at least 1, divided by the number of ranks; a scalar like `like`.

    sum / average_count, averaged over the ranks (as gradients are), is the mean over the global batch.
    """
    total = all_sum(torch.as_tensor(count, device=like.device).to(like.dtype))
    return total.clamp(min=1) / world_size()


@torch.no_grad()
def gather_rows(rows: Tensor) -> Tensor:
    """(N, ...) of every rank -> (sum of N, ...) in rank order, without gradient; ranks may hold different N, also 0."""
    if world_size() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.long) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)]))
    sizes = [int(c) for c in counts]
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Mean of the gradients over the ranks; a parameter without gradient on one rank counts as zero there."""
    if world_size() == 1:
        return
    parameters = [p for p in module.parameters() if p.requires_grad]
    begin = 0
    while begin < len(parameters):
        bucket: list[nn.Parameter] = []
        size = 0
        while begin < len(parameters) and (not bucket or size + parameters[begin].numel() <= BUCKET):
            bucket.append(parameters[begin])
            size += parameters[begin].numel()
            begin += 1
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in bucket])
        dist.all_reduce(flat)
        flat /= world_size()
        for p, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
            # In the parameter's own memory format: fused optimisers walk both as they lie.
            p.grad = torch.empty_like(p).copy_(part.view_as(p))


@torch.no_grad()
def average(values: Tensor) -> Tensor:
    """Mean over the ranks, without gradient."""
    return values if world_size() == 1 else all_sum(values.detach()) / world_size()


def any_rank(flag: bool) -> bool:
    """True on every rank if it is True on one; travels over the CPU."""
    if world_size() == 1:
        return flag
    value = torch.tensor(float(flag))
    dist.all_reduce(value)
    return bool(value > 0)


def barrier() -> None:
    if world_size() > 1:
        any_rank(False)


@torch.no_grad()
def copy_from_rank_0(module: nn.Module) -> None:
    """Parameters and buffers of rank 0 on every rank."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def share_norms(module: nn.Module) -> None:
    """Replace every BatchNorm below `module` by one over the global batch; nothing in a single process.

    torch's SyncBatchNorm refuses CPU tensors and cannot take ranks without samples.
    """
    if world_size() == 1:
        return
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            kind = GlobalBatchNorm1d if isinstance(child, nn.BatchNorm1d) else GlobalBatchNorm2d
            norm = kind(child.num_features, child.eps, child.momentum, child.affine).to(child.running_mean)
            norm.load_state_dict(child.state_dict())
            for own, old in zip(norm.parameters(), child.parameters(), strict=True):
                own.requires_grad_(old.requires_grad)
            setattr(module, name, norm.train(child.training))
        else:
            share_norms(child)


def _global_batch_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch statistics from sums over all ranks; the local rows are normalised. x: (N, C[, H, W])."""
    wide = x.to(norm.running_mean.dtype)  # type: ignore[union-attr]
    others = [d for d in range(x.dim()) if d != 1]
    count = all_sum(wide.new_tensor(float(x.numel() // x.shape[1]))).clamp(min=1)
    mean = all_sum(wide.sum(others)) / count
    shape = [1, -1] + [1] * (x.dim() - 2)
    var = all_sum((wide - mean.view(shape)).square().sum(others)) / count
    with torch.no_grad():
        step = (count > 1).to(mean.dtype) * float(norm.momentum or 0.0)
        norm.running_mean.lerp_(mean, step)  # type: ignore[union-attr]
        norm.running_var.lerp_(var * count / (count - 1).clamp(min=1), step)  # type: ignore[union-attr]
        norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
    out = (wide - mean.view(shape)) * torch.rsqrt(var + norm.eps).view(shape)
    if norm.affine:
        out = out * norm.weight.view(shape) + norm.bias.view(shape)
    return out.to(x.dtype)


class GlobalBatchNorm1d(nn.BatchNorm1d):
    def forward(self, input: Tensor) -> Tensor:
        return _global_batch_norm(self, input) if self.training else super().forward(input)


class GlobalBatchNorm2d(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return _global_batch_norm(self, input) if self.training else super().forward(input)
