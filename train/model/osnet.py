"""The omni-scale identification head: a re-identification network on pixels that RoIAlign cuts out of the canvas.

The layout is OSNet's (arXiv 1905.00953) as Open Model Zoo ships it in person-reidentification-retail-0277 and
-0287, so that their weights (Apache-2.0) can be a starting point: see `train/weights/reid_weights.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.train.model.coder import wide

BLOCKS_PER_STAGE, STREAMS, EXPANSION, GATE_REDUCTION, GATE_GROUPS = 2, 4, 4, 16, 16


class ConvNorm(nn.Sequential):
    """Convolution and BatchNorm, with ReLU unless `linear`."""

    def __init__(self, inputs: int, outputs: int, linear: bool = False) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        super().__init__(*layers, *([] if linear else [nn.ReLU(inplace=True)]))


class LightConv(nn.Sequential):
    """A 1x1 convolution, a depthwise 3x3 convolution, BatchNorm, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


class ChannelGate(nn.Module):
    """Weighs channels by a bottleneck on their means (squeeze and excitation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // GATE_REDUCTION
        self.squeeze, self.excite = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class InstanceNorm(nn.Module):
    """Each channel of each sample by its own mean and variance over the picture, then a learned affine map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return standardised(wide(x), (2, 3)).to(x.dtype) * self.weight + self.bias


def standardised(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Zero mean and unit variance over `dims`, in plain operations that every engine has."""
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + 1e-5)


class ContextGate(nn.Module):
    """Weighs channels by a linear map of their means, normalised within 16 groups (linear context transform)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        means = wide(x.mean((2, 3)))
        groups = means.reshape(-1, GATE_GROUPS, x.shape[1] // GATE_GROUPS)
        context = standardised(groups, (2,)).reshape(-1, x.shape[1], 1, 1) * self.weight + self.bias
        return x * torch.sigmoid(context).to(x.dtype)


class OmniScaleBlock(nn.Module):
    """Four streams of one to four light convolutions see four scales; gates weigh them, and their sum is added."""

    def __init__(self, inputs: int, outputs: int, gate: type[ChannelGate] | type[ContextGate]) -> None:
        super().__init__()
        middle = outputs // EXPANSION
        self.reduce = ConvNorm(inputs, middle)
        self.streams = nn.ModuleList(
            nn.Sequential(*(LightConv(middle) for _ in range(depth))) for depth in range(1, STREAMS + 1)
        )
        self.gates = nn.ModuleList(gate(middle) for _ in range(STREAMS))
        self.expand = ConvNorm(middle, outputs, linear=True)
        self.shortcut: nn.Module = nn.Identity() if inputs == outputs else ConvNorm(inputs, outputs, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        mixed = self.gates[0](self.streams[0](reduced))
        for gate, stream in zip(self.gates[1:], self.streams[1:], strict=True):
            mixed = mixed + gate(stream(reduced))
        return functional.relu(self.expand(mixed) + self.shortcut(x))


class OmniScaleHead(nn.Module):
    """Pixels of one person -> identity features.

    size    (h, w) of the RoIs in pixels, multiples of 16
    widths  channels of the first convolution and of the stages (published: three); the last is the output's width

    forward: (N, 3, h, w) BGR 0..255, labels ignored -> (N, widths[-1]). Each crop is normalised by its own mean and
    variance (instance normalisation), which makes the features independent of a camera's gain and tint.
    """

    def __init__(self, size: tuple[int, int], widths: tuple[int, ...]) -> None:
        super().__init__()
        first, *stages = widths
        self.pixel_norm = InstanceNorm(3)
        self.first = nn.Conv2d(3, first, 7, 2, 3, bias=False)
        self.first_norm = InstanceNorm(first)
        self.stages, channels = nn.ModuleList(), first
        for number, width in enumerate(stages):
            blocks: list[nn.Module] = [OmniScaleBlock(channels, width, ChannelGate)]
            blocks += [OmniScaleBlock(width, width, ContextGate) for _ in range(BLOCKS_PER_STAGE - 1)]
            blocks.append(ConvNorm(width, width))
            if number < len(stages) - 1:
                blocks.append(nn.AvgPool2d(2))
            self.stages.append(nn.Sequential(*blocks))
            channels = width
        stride = 4 * 2 ** (len(stages) - 1)
        self.pool = nn.Conv2d(channels, channels, (size[0] // stride, size[1] // stride), groups=channels)
        self.out_channels = channels

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = functional.relu(self.first_norm(self.first(self.pixel_norm(x))))
        x = functional.max_pool2d(x, 3, 2, 1)
        for stage in self.stages:
            x = stage(x)
        return self.pool(x).flatten(1)
