"""ProtoNorm (paper section 3.2, Eq. 5-6): standardisation by the statistics of identity prototypes.

Labels are an argument of `forward`. They follow one convention throughout `train/`:
`BACKGROUND` = 0, labelled identities = 1..L, `UNLABELLED` = -1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from personsearch.train.distributed import all_sum, gather_rows

BACKGROUND, UNLABELLED = 0, -1


class ProtoNorm(nn.Module):
    """Normalise (N, C) or (N, C, H, W) by the mean of the prototypes and the variance about it.

    features    C
    affine      learnable scale and offset; useless directly before an L2 normalisation (paper, footnote 1)
    background  True: background samples form one more identity (released code);
                False: they are normalised, but do not enter the statistics (the paper's y in 1..L)

    Each unlabelled sample is a prototype of its own. Statistics are exact over the global batch when
    torch.distributed is initialised. A batch with fewer than two usable values per channel (empty, all
    background, one sample of one pixel) has no variance: it is normalised by the running statistics and
    leaves them alone. All of it is decided on the device, so that a GPU never waits and `torch.compile`
    sees one graph.
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
            mean, var = self._statistics(x, labels)
        shape = (1, -1) if x.dim() == 2 else (1, -1, 1, 1)
        inverse = torch.rsqrt(var + self.eps)
        if self.weight is not None and self.bias is not None:
            inverse = inverse * self.weight
        # Statistics stay in float32 (or float64) under autocast; only the result is cast back.
        out = (x.to(mean.dtype) - mean.view(shape)) * inverse.view(shape)
        if self.bias is not None:
            out = out + self.bias.view(shape)
        return out.to(x.dtype)

    def _statistics(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        x = x.to(self.running_mean.dtype)
        pixels = tuple(range(2, x.dim()))
        shape = (1, -1) if x.dim() == 2 else (1, -1, 1, 1)
        weights, used = prototype_weights(labels, self.background)
        weights, used = weights.to(x.dtype), used.to(x.dtype)
        per_sample = x.mean(dim=pixels) if pixels else x
        # A weighted sum, and not a matrix product: autocast would lower the product's precision.
        mean = all_sum((weights[:, None] * per_sample).sum(0))
        squares = (x - mean.view(shape)).square()
        squares = squares.sum(dim=pixels) if pixels else squares
        count = all_sum(used.sum() * (x.shape[2] * x.shape[3] if pixels else 1))
        var = all_sum((used[:, None] * squares).sum(0)) / count.clamp(min=1)
        self._track(mean.detach(), var.detach(), count)
        enough = count > 1
        return torch.where(enough, mean, self.running_mean), torch.where(enough, var, self.running_var)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        enough = count > 1
        step = enough.to(mean.dtype) * self.momentum
        self.running_mean.lerp_(mean, step)
        self.running_var.lerp_(var * count / (count - 1).clamp(min=1), step)
        self.num_batches_tracked += enough

    def extra_repr(self) -> str:
        return f"{self.features}, eps={self.eps}, affine={self.weight is not None}, background={self.background}"


def prototype_weights(labels: Tensor, background: bool = True) -> tuple[Tensor, Tensor]:
    """Each local sample's share in the mean of the prototypes (Eq. 5-6), and whether it enters the statistics.

    labels (N,) -> weights (N,) float64: 1 / (K * count of the sample's label), which sum to 1 over all ranks (to 0
    if no sample is used), and used (N,) bool. Label counts are taken over the global batch.
    """
    everyone = gather_rows(labels)
    used = torch.ones_like(labels, dtype=torch.bool) if background else labels != BACKGROUND
    counts = (labels[:, None] == everyone[None]).sum(1)
    counts = torch.where(labels == UNLABELLED, 1, counts)  # a prototype of its own
    share = used.double() / counts.clamp(min=1)
    return share / all_sum(share.sum()).clamp(min=1), used  # the shares sum to K, the number of prototypes


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

    The blocks must pass labels on: see `resnet.ResNetHead`.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm = ProtoNorm(child.num_features, eps=child.eps, affine=True, background=background)
            norm.load_state_dict(child.state_dict())
            norm.train(child.training)
            setattr(module, name, norm)
        else:
            convert_to_protonorm(child, background)
