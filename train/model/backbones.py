"""ConvNeXt and Swin split after their third stage: a stem with stride 16, and the fourth stage as identification head.

As SeqNeXt does with ConvNeXt, and as conv5 is split off a ResNet. Modules keep torchvision's names below `features`, so
that its ImageNet weights fit as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from personsearch.train.model.pixels import ImageNetPixels
from personsearch.train.model.recompute import recomputed
from personsearch.train.vision import StochasticDepth, models

BACKBONES: dict[str, Callable[[], models.ConvNeXt | models.SwinTransformer]] = {
    "convnext_tiny": models.convnext_tiny,
    "convnext_base": models.convnext_base,
    "swin_s": models.swin_s,
}
SPLIT = 6  # of `features`: patches, then stages with the merging between them


class StagedStem(nn.Module):
    """forward: (B, 3, H, W) BGR 0..255, H and W multiples of 32 -> ([map for the RPN], map for RoIAlign), stride 16.

    sizes  (h, w) of each image: what lies beyond is padding, and zero after normalisation

    The RPN gets the map behind a norm of its own (new, so it starts as the identity of a LayerNorm): what runs along
    residual connections has no fixed scale. The head gets it as the published fourth stage knows it.
    """

    strides = (16,)
    roi_stride = 16

    def __init__(self, net: models.ConvNeXt | models.SwinTransformer, checkpointing: bool = False) -> None:
        super().__init__()
        self.pixels = ImageNetPixels()
        self.features = nn.Sequential(*list(net.features)[:SPLIT])
        self.last = isinstance(net, models.SwinTransformer)  # channels are the last axis
        self.checkpointing = checkpointing
        self.roi_channels = _channels(net.features[SPLIT])
        self.channels = (self.roi_channels,)
        self.rpn_norm = models.convnext.LayerNorm2d(self.roi_channels)

    def forward(self, x: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> tuple[list[Tensor], Tensor]:
        x = self.pixels(x, sizes)
        for stage in self.features:
            x = recomputed(stage, stage, x) if self.checkpointing and self.training else stage(x)
        x = x.permute(0, 3, 1, 2) if self.last else x
        return [self.rpn_norm(x)], x


class StagedHead(nn.Module):
    """The fourth stage per RoI, the published last norm and global max pooling: (N, C, 14, 14) -> (N, 2 C).

    labels  ignored: there is no norm over samples in here
    """

    def __init__(self, net: models.ConvNeXt | models.SwinTransformer, checkpointing: bool = False) -> None:
        super().__init__()
        self.last = isinstance(net, models.SwinTransformer)
        self.checkpointing = checkpointing
        parts = list(net.features)[SPLIT:]
        self.features = nn.Sequential(OrderedDict((str(SPLIT + i), part) for i, part in enumerate(parts)))
        self.norm: nn.Module = net.norm if isinstance(net, models.SwinTransformer) else net.classifier[0]
        self.out_channels = int(next(self.norm.parameters()).numel())

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = x.permute(0, 2, 3, 1) if self.last else x
        for stage in self.features:
            x = recomputed(stage, stage, x) if self.checkpointing and self.training else stage(x)
        x = self.norm(x)
        return x.amax((1, 2) if self.last else (2, 3))


def make_staged(name: str, checkpointing: bool) -> tuple[StagedStem, StagedHead]:
    """Both parts of one of BACKBONES, with random weights."""
    net = BACKBONES[name]()
    for module in net.modules():
        # It would draw for each image in turn, and a step would depend on how images are spread over processes.
        if isinstance(module, StochasticDepth):
            module.p = 0.0
    return StagedStem(net, checkpointing), StagedHead(net, checkpointing)


def _channels(merging: nn.Module) -> int:
    """What goes into the merging (or downsampling) before the fourth stage; Swin's norm sees four cells at once."""
    norm = next(m for m in merging.modules() if isinstance(m, nn.LayerNorm))
    width = int(norm.normalized_shape[0])
    return width if isinstance(norm, models.convnext.LayerNorm2d) else width // 4
