"""RoIAlign whose gradient is a few small matrix products on the CPU, where torchvision's is a scalar loop.

RoIAlign is separable: the mean over a bin's bilinear samples is a weight matrix over rows times one over columns. Each
RoI's gradient touches only the cells that it covers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from personsearch.train.vision import roi_align

SAMPLING_RATIO = 2  # per bin and axis


def pool(feature: Tensor, boxes: list[Tensor], size: tuple[int, int], scale: float) -> Tensor:
    """RoIAlign, not aligned, two samples per bin and axis: (B, C, H, W) and boxes per image (n, 4) -> (N, C, h, w)."""
    if feature.device.type != "cpu" or not (torch.is_grad_enabled() and feature.requires_grad):
        return roi_align(feature, boxes, size, scale, SAMPLING_RATIO, False)
    image = torch.repeat_interleave(torch.arange(len(boxes)), torch.tensor([len(b) for b in boxes]))
    return _Pool.apply(feature, torch.cat(boxes), image, size, scale)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feature: Tensor, boxes: Tensor, image: Tensor, size: tuple[int, int], scale: float) -> Tensor:
        ctx.save_for_backward(boxes, image)
        ctx.shape, ctx.size, ctx.scale = feature.shape, size, scale
        rois = torch.cat([image[:, None].to(boxes.dtype), boxes], 1)
        return roi_align(feature, rois, size, scale, SAMPLING_RATIO, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        boxes, image = ctx.saved_tensors
        batch, channels, height, width = ctx.shape
        scaled = boxes * ctx.scale
        rows = axis_weights(scaled[:, 1], scaled[:, 3], ctx.size[0], height)
        columns = axis_weights(scaled[:, 0], scaled[:, 2], ctx.size[1], width)
        spans = torch.stack([*_span(rows), *_span(columns)], 1).tolist()
        by_row = grad.permute(0, 2, 1, 3).contiguous()  # (N, h, C, w)
        total = grad.new_zeros(batch, height, channels, width)
        for i, (where, (top, bottom, left, right)) in enumerate(zip(image.tolist(), spans, strict=True)):
            wide = by_row[i] @ columns[i, :, left:right]  # (h, C, cells)
            part = rows[i, :, top:bottom].t() @ wide.flatten(1)
            total[where, top:bottom, :, left:right] += part.view(bottom - top, channels, right - left)
        return total.permute(0, 2, 1, 3), None, None, None, None


def axis_weights(begin: Tensor, end: Tensor, bins: int, cells: int) -> Tensor:
    """(N,) ends of the RoIs on one axis, in cells -> (N, bins, cells): the share of each cell in each bin's mean.

    Bilinear interpolation is separable, so the mean over a bin's samples is one matrix over columns times one over
    rows. The shapes of its operations do not depend on N, so that an exported graph runs for any.
    """
    length = (end - begin).clamp(min=1.0)
    offset = (torch.arange(bins * SAMPLING_RATIO, device=begin.device, dtype=begin.dtype) + 0.5) / (
        bins * SAMPLING_RATIO
    )
    position = begin[:, None] + offset * length[:, None]
    inside = ((position >= -1) & (position <= cells)).to(begin.dtype)  # samples further out count as zero
    position = position.clamp(0, cells - 1)
    cell = torch.arange(cells, device=begin.device, dtype=begin.dtype)
    weight = (1 - (position[..., None] - cell).abs()).clamp(min=0) * inside[..., None]
    return weight.view(-1, bins, SAMPLING_RATIO, cells).mean(2)


def _span(weights: Tensor) -> tuple[Tensor, Tensor]:
    """First cell with any weight, and one past the last, per RoI; an empty span where there is none."""
    used = (weights > 0).any(1).long()
    first, last = used.argmax(1), used.shape[1] - used.flip(1).argmax(1)
    return first, torch.where(used.any(1), last, first)
