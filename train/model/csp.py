"""The light backbone of the `edge` preset: a CSP network with depthwise convolutions and a feature pyramid.

The layout is YOLOX-nano's (https://github.com/Megvii-BaseDetection/YOLOX), so that its published COCO
weights can be a starting point: see `train/weights/yolox_weights.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvUnit(nn.Sequential):
    """Convolution, BatchNorm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, pad: int = -1) -> None:
        pad = (kernel - 1) // 2 if pad < 0 else pad
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
            nn.SiLU(inplace=True),
        )


def separable(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(ConvUnit(inputs, inputs, kernel, stride, groups=inputs), ConvUnit(inputs, outputs, 1))


class Bottleneck(nn.Module):
    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.reduce, self.mix, self.shortcut = (
            ConvUnit(channels, channels, 1),
            separable(channels, channels, 3),
            shortcut,
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(self.reduce(x))
        return x + y if self.shortcut else y


class CSPLayer(nn.Module):
    """Half of the channels pass through bottlenecks, the other half around them."""

    def __init__(self, inputs: int, outputs: int, depth: int, shortcut: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.through, self.around = ConvUnit(inputs, half, 1), ConvUnit(inputs, half, 1)
        self.merge = ConvUnit(2 * half, outputs, 1)
        self.blocks = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        through, around = self.through(x), self.around(x)
        return self.merge(torch.cat([self.blocks(through), around], 1))


class SpatialPyramidPooling(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.merge = ConvUnit(channels, channels // 2, 1), ConvUnit(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        return self.merge(torch.cat([x] + [functional.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13)], 1))


class CSPStem(nn.Module):
    """Stem of the edge network: pyramid features for the RPN, and what RoIAlign pools for the head.

    forward: (B, 3, H, W) BGR 0..255 with H and W multiples of 32 ->
      pyramid  strides 8, 16, 32 with 64, 128, 256 channels
      roi      pixels=False: stride 4, 64 channels. People are small in edge frames: the identity lives in fine texture
               and colour, so this map mixes early layers with context from the pyramid's finest level.
               pixels=True: the input itself, for a head that was trained on pictures of people.
    """

    strides = (8, 16, 32)
    channels = (64, 128, 256)

    def __init__(self, pixels: bool = False) -> None:
        super().__init__()
        self.pixels = pixels
        self.roi_stride, self.roi_channels = (1, 3) if pixels else (4, 64)
        self.stem = ConvUnit(3, 16, 6, 2, pad=2)
        self.stage2 = nn.Sequential(separable(16, 32, 3, 2), CSPLayer(32, 32, 1))
        self.stage3 = nn.Sequential(separable(32, 64, 3, 2), CSPLayer(64, 64, 3))
        self.stage4 = nn.Sequential(separable(64, 128, 3, 2), CSPLayer(128, 128, 3))
        self.stage5 = nn.Sequential(
            separable(128, 256, 3, 2), SpatialPyramidPooling(256), CSPLayer(256, 256, 1, shortcut=False)
        )
        self.lateral5, self.top4 = ConvUnit(256, 128, 1), CSPLayer(256, 128, 1, shortcut=False)
        self.lateral4, self.top3 = ConvUnit(128, 64, 1), CSPLayer(128, 64, 1, shortcut=False)
        self.down3, self.bottom4 = separable(64, 64, 3, 2), CSPLayer(128, 128, 1, shortcut=False)
        self.down4, self.bottom5 = separable(128, 128, 3, 2), CSPLayer(256, 256, 1, shortcut=False)
        if not pixels:
            self.roi_fine = nn.Conv2d(16, self.roi_channels, 3, 2, 1, bias=False)
            self.roi_early = nn.Conv2d(32, self.roi_channels, 1, bias=False)
            self.roi_context = nn.Conv2d(64, self.roi_channels, 1, bias=False)
            self.roi_norm = nn.BatchNorm2d(self.roi_channels)

    def detector_parts(self) -> list[nn.Module]:
        """The modules that published detector weights fill."""
        return [m for name, m in self.named_children() if not name.startswith("roi_")]

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        half = self.stem(x)
        quarter = self.stage2(half)
        c3 = self.stage3(quarter)
        c4 = self.stage4(c3)
        c5 = self.stage5(c4)
        l5 = self.lateral5(c5)
        l4 = self.lateral4(self.top4(torch.cat([_double(l5), c4], 1)))
        p3 = self.top3(torch.cat([_double(l4), c3], 1))
        p4 = self.bottom4(torch.cat([self.down3(p3), l4], 1))
        p5 = self.bottom5(torch.cat([self.down4(p4), l5], 1))
        if self.pixels:
            return [p3, p4, p5], x
        roi = self.roi_fine(half) + self.roi_early(quarter) + _double(self.roi_context(p3))
        return [p3, p4, p5], functional.silu(self.roi_norm(roi))


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class ResidualUnit(nn.Module):
    """Two dense 3x3 convolutions beside a shortcut: few large products suit an edge CPU better than many small ones."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = ConvUnit(inputs, outputs, 3, stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        plain = inputs == outputs and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity()
            if plain
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.second(self.first(x)) + self.shortcut(x))


class CSPHead(nn.Module):
    """Identification subnetwork of the edge preset: residual units per RoI, then the maximum plus the mean.

    forward: (N, C, h, w) RoI features, labels ignored -> (N, widths[-1])
    """

    def __init__(self, channels: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        units: list[nn.Module] = []
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for i in range(depth):
                units.append(ResidualUnit(channels, width, 2 if stage > 0 and i == 0 else 1))
                channels = width
        self.units = nn.Sequential(*units)
        self.out_channels = channels

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.units(x)
        return x.amax((2, 3)) + x.mean((2, 3))
