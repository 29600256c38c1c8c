"""The paper's region proposal network: anchors on one feature map (Faster R-CNN), losses of Eq. 1's L_RPN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from personsearch.train.model.coder import RPN_WEIGHTS, clip_boxes, decode, encode, wide
from personsearch.train.settings import RpnSettings
from personsearch.train.vision import box_iou

POSITIVE_IOU, NEGATIVE_IOU, SAMPLED, POSITIVE_SHARE = 0.7, 0.3, 256, 0.5


class AnchorRPN(nn.Module):
    """forward: [(B, C, h, w)] -> objectness logits (B, M) and boxes (B, M, 4) on the canvas, M = h * w * anchors."""

    base: Tensor

    def __init__(
        self, channels: tuple[int, ...], strides: tuple[int, ...], canvas: tuple[int, int], settings: RpnSettings
    ):
        super().__init__()
        (channel,), (self.stride,), self.canvas = channels, strides, canvas
        shapes = [(s * r**-0.5, s * r**0.5) for r in settings.anchor_ratios for s in settings.anchor_sizes]
        self.register_buffer("base", _centred(shapes), persistent=False)
        self.conv = nn.Conv2d(channel, channel, 3, padding=1)
        self.objectness = nn.Conv2d(channel, len(shapes), 1)
        self.deltas = nn.Conv2d(channel, len(shapes) * 4, 1)
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, 0.0)  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, deltas = self._raw(features[0])
        return logits, self._decode(deltas, features[0])

    def _raw(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.relu(self.conv(feature))
        batch = len(x)
        logits = self.objectness(x).permute(0, 2, 3, 1).reshape(batch, -1)
        deltas = self.deltas(x)
        h, w = deltas.shape[-2:]
        deltas = deltas.view(batch, -1, 4, h, w).permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)
        return logits, deltas

    def _decode(self, deltas: Tensor, feature: Tensor) -> Tensor:
        anchors = self.grid(feature.shape[-2], feature.shape[-1])
        return clip_boxes(decode(wide(deltas), anchors[None], RPN_WEIGHTS), *self.canvas)

    def grid(self, h: int, w: int) -> Tensor:
        """(h * w * anchors, 4) anchors in canvas pixels."""
        y = torch.arange(h, device=self.base.device, dtype=torch.float32) * self.stride
        x = torch.arange(w, device=self.base.device, dtype=torch.float32) * self.stride
        shift = torch.stack([x[None].expand(h, w), y[:, None].expand(h, w)] * 2, -1)
        return (shift[:, :, None] + self.base).reshape(-1, 4)

    def losses(self, features: list[Tensor], targets: list[Tensor], draws: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """targets: per image (n, 4) boxes, draws: seeds of the sampling -> loss, and `forward`'s logits and boxes
        (without gradient). The loss is a mean over images, so its mean over processes of equal batches is global."""
        logits, deltas = self._raw(features[0])
        anchors = self.grid(*features[0].shape[-2:])
        classification, regression = logits.sum() * 0, deltas.sum() * 0
        for image_logits, image_deltas, boxes, draw in zip(wide(logits), wide(deltas), targets, draws, strict=True):
            labels, matched = _match(anchors, boxes)
            sample = _sample(labels, torch.Generator().manual_seed(2 * draw + 1))
            positive = sample[labels[sample] == 1]
            classification = classification + functional.binary_cross_entropy_with_logits(
                image_logits[sample], labels[sample].to(image_logits.dtype), reduction="sum"
            ) / max(1, len(sample))
            if len(positive):
                target = encode(boxes[matched[positive]], anchors[positive], RPN_WEIGHTS)
                error = functional.smooth_l1_loss(image_deltas[positive], target, beta=1 / 9, reduction="sum")
                regression = regression + error / len(sample)
        with torch.no_grad():
            boxes_out = self._decode(deltas, features[0])
        return (classification + regression) / len(targets), logits.detach(), boxes_out


def _centred(shapes: list[tuple[float, float]]) -> Tensor:
    """Boxes about zero in whole pixels, as torchvision rounds them (and so the released weights expect them)."""
    return torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in shapes]).round()


def _match(anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Labels per anchor: 1 positive, 0 negative, -1 ignored; every box's best anchors are positive."""
    labels = torch.full((len(anchors),), -1, dtype=torch.long, device=anchors.device)
    if len(boxes) == 0:
        return labels.zero_(), labels
    overlap = box_iou(anchors, boxes)
    best, matched = overlap.max(1)
    labels[best < NEGATIVE_IOU] = 0
    labels[best >= POSITIVE_IOU] = 1
    top = overlap.max(0).values
    labels[((overlap == top) & (top > 0)).any(1)] = 1
    return labels, matched


def _sample(labels: Tensor, generator: torch.Generator) -> Tensor:
    positive, negative = torch.nonzero(labels == 1).flatten(), torch.nonzero(labels == 0).flatten()
    take = min(len(positive), int(SAMPLED * POSITIVE_SHARE))
    positive = positive[random_order(positive, generator)[:take]]
    negative = negative[random_order(negative, generator)[: SAMPLED - take]]
    return torch.cat([positive, negative])


def random_order(items: Tensor, generator: torch.Generator) -> Tensor:
    """A permutation of the items' positions, drawn on the CPU: the same on every device."""
    return torch.randperm(len(items), generator=generator).to(items.device)
