"""From a frame's pixels to what ImageNet networks were trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MEAN_RGB, STD_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class ImageNetPixels(nn.Module):
    """(B, 3, H, W) BGR 0..255 -> RGB, standardised; what lies beyond each image's (h, w) of `sizes` is zero."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD_RGB).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Tensor:
        x = (x[:, [2, 1, 0]] - self.mean) / self.std
        for image, (h, w) in zip(x, sizes or (), strict=sizes is not None):
            image[:, h:], image[:, :, w:] = 0, 0
        return x
