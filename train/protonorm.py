"""ProtoNorm (paper section 3.2, Eq. 5-6): standardisation by the statistics of identity prototypes.

Labels are an argument of `forward`. They follow one convention throughout `train/`:
`BACKGROUND` = 0, labelled identities = 1..L, `UNLABELLED` = -1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from personsearch.train.distributed import gather_rows

BACKGROUND, UNLABELLED = 0, -1


class ProtoNorm(nn.Module):
    """Normalise (N, C) or (N, C, H, W) by the mean of the prototypes and the variance about it.

    features    C
    affine      learnable scale and offset; useless directly before an L2 normalisation (paper, footnote 1)
    background  True: background samples form one more identity (released code);
                False: they are normalised, but do not enter the statistics (the paper's y in 1..L)

    Each unlabelled sample is a prototype of its own. Statistics are exact over the global batch when
    torch.distributed is initialised. A batch without usable samples is normalised by the running
    statistics and leaves them alone; a batch of one sample (2-d: one sample of one pixel) moves only the
    running mean, because its variance says nothing.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, features: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False, background: bool = True
    ) -> None:
        super().__init__()
        self.features, self.eps, self.momentum, self.background = features, eps, momentum, background
        self.weight = nn.Parameter(torch.ones(features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """x (N, C[, H, W]), labels (N,) int64 (training only) -> the same shape and dtype as x."""
        if x.dim() not in (2, 4) or x.shape[1] != self.features:
            raise ValueError(f"expected (N, {self.features}) or (N, {self.features}, H, W), got {tuple(x.shape)}")
        mean, var = self.running_mean, self.running_var
        if self.training:
            if labels is None or labels.shape != x.shape[:1]:
                raise ValueError("ProtoNorm needs one label per sample while training")
            statistics = self._statistics(x, labels)
            if statistics is not None:
                mean, var = statistics
        shape = (1, -1) if x.dim() == 2 else (1, -1, 1, 1)
        inverse = torch.rsqrt(var + self.eps)
        if self.weight is not None and self.bias is not None:
            inverse = inverse * self.weight
        # Statistics stay in float32 (or float64) under autocast; only the result is cast back.
        out = (x.to(mean.dtype) - mean.view(shape)) * inverse.view(shape)
        if self.bias is not None:
            out = out + self.bias.view(shape)
        return out.to(x.dtype)

    def _statistics(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor] | None:
        x, labels = gather_rows(x.to(self.running_mean.dtype)), gather_rows(labels)
        used = torch.ones_like(labels, dtype=torch.bool) if self.background else labels != BACKGROUND
        x, labels = x[used], labels[used]
        if x.shape[0] == 0:
            return None
        pixels = tuple(range(2, x.dim()))
        per_sample = x.mean(dim=pixels) if pixels else x
        mean = prototype_mean(per_sample, labels)
        shape = (1, -1) if x.dim() == 2 else (1, -1, 1, 1)
        var = (x - mean.view(shape)).square().mean(dim=(0, *pixels))
        self._track(mean.detach(), var.detach(), x.numel() // self.features)
        return mean, var

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        if count > 1:
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        self.num_batches_tracked += 1

    def extra_repr(self) -> str:
        return f"{self.features}, eps={self.eps}, affine={self.weight is not None}, background={self.background}"


def prototype_mean(x: Tensor, labels: Tensor) -> Tensor:
    """Mean over prototypes (Eq. 5-6) of (N, C) features, N >= 1: every identity weighs the same.

    Written as a weighted sum, weight 1 / (K * count of the sample's label), which is differentiable and
    needs no loop over identities.
    """
    alone = labels == UNLABELLED
    # Unlabelled samples get labels of their own, above all others.
    own = labels.max().clamp(min=0) + 1 + torch.arange(len(labels), device=labels.device)
    _, inverse, counts = torch.where(alone, own, labels).unique(return_inverse=True, return_counts=True)
    weights = 1.0 / (len(counts) * counts[inverse].to(x.dtype))
    return (weights[:, None] * x).sum(0)  # not a matrix product: autocast would lower its precision


def make_norm(kind: str, features: int, background: bool) -> nn.Module:
    """The normalisation before L2: `protonorm`, `batchnorm` or `none` (the ablation of Table 2)."""
    if kind == "protonorm":
        return ProtoNorm(features, background=background)
    if kind == "batchnorm":
        return LabelFreeNorm(nn.BatchNorm1d(features, affine=False))
    return LabelFreeNorm(nn.Identity())


class LabelFreeNorm(nn.Module):
    """Gives a norm without labels the signature of `ProtoNorm`; fewer than two samples use running statistics."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        if isinstance(self.norm, nn.BatchNorm1d) and len(x) < 2:
            return nn.functional.batch_norm(x, self.norm.running_mean, self.norm.running_var, eps=self.norm.eps)
        return self.norm(x)


def convert_to_protonorm(module: nn.Module, background: bool = True) -> None:
    """Replace every BatchNorm2d below `module` by a ProtoNorm with the same weights and statistics (OIMNet+++).

    The blocks must pass labels on: see `backbones.ResNetHead`.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm = ProtoNorm(child.num_features, eps=child.eps, affine=True, background=background)
            norm.load_state_dict(child.state_dict())
            norm.train(child.training)
            setattr(module, name, norm)
        else:
            convert_to_protonorm(child, background)
