"""ResNet-50 split after conv4 (paper section 4.1): stem with stride 16, and conv5 as the identification subnetwork."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from personsearch.train.model.pixels import ImageNetPixels
from personsearch.train.model.protonorm import ProtoNorm, convert_to_protonorm
from personsearch.train.model.recompute import recomputed
from personsearch.train.vision import models


class ResNetStem(nn.Module):
    """forward: (B, 3, H, W) BGR 0..255 -> ([conv4], conv4): one map of 1024 channels for RPN and RoIAlign.

    sizes  (h, w) of each image: what lies beyond is padding, and zero after normalisation

    conv1 and its norm's weights are frozen, as in the released code; the other norms learn. Running statistics
    move unless `model.freeze_norms` is set.
    """

    strides = (16,)
    channels = (1024,)
    roi_stride = 16
    roi_channels = 1024

    def __init__(self, checkpointing: bool = False) -> None:
        super().__init__()
        net = models.resnet50(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3
        self.checkpointing = checkpointing
        self.pixels = ImageNetPixels()
        self.conv1.weight.requires_grad_(False)
        self.bn1.weight.requires_grad_(False)
        self.bn1.bias.requires_grad_(False)

    def forward(self, x: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> tuple[list[Tensor], Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.pixels(x, sizes)))))
        for layer in (self.layer1, self.layer2, self.layer3):
            x = recomputed(layer, layer, x) if self.checkpointing and self.training else layer(x)
        return [x], x


class ResNetHead(nn.Module):
    """conv5 per RoI and global max pooling: (N, 1024, 14, 14), labels (N,) -> (N, 2048).

    protonorm      replace conv5's BatchNorm layers by ProtoNorm with affine (OIMNet+++)
    checkpointing  recompute each block's activations in the backward pass
    """

    out_channels = 2048

    def __init__(self, protonorm: bool = False, background: bool = True, checkpointing: bool = False) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.layer4 = models.resnet50(weights=None).layer4
        if protonorm:
            convert_to_protonorm(self.layer4, background)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        for block in self.layer4:
            if self.checkpointing and self.training:
                x = recomputed(_bottleneck, block, block, x, labels)
            else:
                x = _bottleneck(block, x, labels)
        return x.amax((2, 3))


def _bottleneck(block: Any, x: Tensor, labels: Tensor | None) -> Tensor:
    """torchvision's Bottleneck.forward with labels handed to the norms that take them."""
    out = block.relu(_norm(block.bn1, block.conv1(x), labels))
    out = block.relu(_norm(block.bn2, block.conv2(out), labels))
    out = _norm(block.bn3, block.conv3(out), labels)
    if block.downsample is not None:
        x = _norm(block.downsample[1], block.downsample[0](x), labels)
    return block.relu(out + x)


def _norm(norm: nn.Module, x: Tensor, labels: Tensor | None) -> Tensor:
    return norm(x, labels) if isinstance(norm, ProtoNorm) else norm(x)
