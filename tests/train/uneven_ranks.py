"""Norms and OIM on rows that are split unevenly over ranks: a part of `train_and_dump.py`."""

import torch
from torch import nn

from personsearch.train import distributed
from personsearch.train.model.oim import OIMLoss
from personsearch.train.model.protonorm import ProtoNorm


def norms_and_oim() -> dict[str, torch.Tensor]:
    """States, gradients and losses by name; the same on each rank, and alone."""
    results: dict[str, torch.Tensor] = {}
    for case, cut in (("uneven", 7), ("rank 1 empty", 12), ("rank 0 empty", 0)):
        generator = torch.Generator().manual_seed(5)
        rows = torch.randn(12, 4, generator=generator, dtype=torch.float64)
        pictures = torch.randn(12, 4, 3, 2, generator=generator, dtype=torch.float64)
        labels = torch.tensor([1, 1, 2, -1, 0, 0, 1, -1, 3, 3, 0, 2])
        mine = slice(None) if distributed.world_size() == 1 else (slice(0, cut), slice(cut, 12))[distributed.rank()]
        stack = nn.ModuleList([ProtoNorm(4), ProtoNorm(4, affine=True, background=False), nn.BatchNorm2d(4)]).double()
        distributed.share_norms(stack)
        parameter = nn.Parameter(torch.ones(4, dtype=torch.float64))
        x, image = rows[mine] * parameter, pictures[mine] * parameter.view(1, 4, 1, 1)
        out = nn.functional.normalize(stack[0](x, labels[mine]))
        flat = stack[1](image, labels[mine]).amax((2, 3)) + stack[2](image).mean((2, 3))
        oim = OIMLoss(3, 5, 4, temperature=0.1).double()
        oim.lut.copy_(torch.eye(3, 4))
        loss = oim(out, labels[mine]) + (flat**3).sum() / distributed.average_count(len(flat), flat)
        loss.backward()
        holder = nn.ParameterList([parameter, *stack.parameters()])
        distributed.average_gradients(holder)
        oim.update(out, labels[mine], torch.linspace(0, 1, 12, dtype=torch.float64)[mine])
        results |= {f"{case}: {k}": v for k, v in [*stack.state_dict().items(), *oim.state_dict().items()]}
        results |= {f"{case}: gradient {i}": p.grad for i, p in enumerate(holder)}
        results[f"{case}: loss"] = distributed.average(loss.detach())
    return results
