"""RoIAlign and NMS from plain tensor operations with fixed shapes: no plugin, no control flow, any engine."""

from __future__ import annotations

import torch
from torch import Tensor


def roi_weights(
    boxes: Tensor, size: tuple[int, int], feature: tuple[int, int], scale: float, samples: int
) -> tuple[Tensor, Tensor]:
    """RoIAlign's weights for boxes (B, K, 4) on the canvas: columns (B, K, w, W) and rows (B, K, h, H).

    Bilinear interpolation is separable, so the mean over a bin's samples is one matrix over columns times one
    over rows. size is (h, w) of the result, feature (H, W).
    """
    boxes = boxes * scale
    columns = _weights(boxes[..., 0], boxes[..., 2], size[1], feature[1], samples)
    return columns, _weights(boxes[..., 1], boxes[..., 3], size[0], feature[0], samples)


def roi_align_static(feature: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """RoIAlign as two matrix products: feature (B, C, H, W) with `roi_weights` -> (B * K, C, h, w).

    Equal to torchvision.ops.roi_align(aligned=False), boxes partly outside included.
    """
    batch, channels, height, width = feature.shape
    bins_w, bins_h = columns.shape[2], rows.shape[2]
    # K is written as -1 throughout, so that an engine may run the same graph for fewer boxes.
    # Columns first: K * w is the smaller side. (B, C*H, W) x (B, W, K*w)
    flat = columns.reshape(batch, -1, width).transpose(1, 2)
    narrow = feature.reshape(batch, channels * height, width) @ flat
    narrow = narrow.reshape(batch, channels, height, -1, bins_w).permute(0, 3, 2, 1, 4)
    pooled = rows @ narrow.reshape(batch, -1, height, channels * bins_w)
    return pooled.reshape(-1, bins_h, channels, bins_w).permute(0, 2, 1, 3)


def _weights(low: Tensor, high: Tensor, bins: int, length: int, samples: int) -> Tensor:
    """(B, K) interval ends -> (B, K, bins, length): how much each cell counts in each bin."""
    extent = (high - low).clamp(min=1.0)
    steps = (torch.arange(bins * samples, device=low.device, dtype=low.dtype) + 0.5) / (bins * samples)
    position = low[..., None] + extent[..., None] * steps
    inside = ((position >= -1.0) & (position <= length)).to(low.dtype)
    position = position.clamp(0.0, length - 1.0)
    cells = torch.arange(length, device=low.device, dtype=low.dtype)
    hat = (1.0 - (position[..., None] - cells).abs()).clamp(min=0.0) * inside[..., None]
    return hat.reshape(low.shape[0], -1, bins, samples, length).mean(3)


def pairwise_iou(boxes: Tensor) -> Tensor:
    """(B, N, 4) -> (B, N, N)."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    overlap = (high - low).clamp(min=0.0)
    intersection = overlap[..., 0] * overlap[..., 1]
    side = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0.0)
    area = side[..., 0] * side[..., 1]
    return intersection / (area[:, :, None] + area[:, None, :] - intersection).clamp(min=1e-6)


def nms_static(boxes: Tensor, valid: Tensor, threshold: float, rounds: int) -> Tensor:
    """Greedy NMS by fixed-point iteration: boxes (B, N, 4) by falling score, valid (B, N) 0/1 -> kept (B, N) 0/1.

    keep <- valid and not overlapped by a kept better box. Each round settles at least one more link of a chain of
    overlapping boxes, so the result equals greedy NMS once `rounds` reaches the longest chain.
    """
    count = boxes.shape[1]
    better = torch.ones(count, count, device=boxes.device, dtype=boxes.dtype).triu(1)
    suppresses = (pairwise_iou(boxes) > threshold).to(boxes.dtype) * better
    keep = valid
    for _ in range(rounds):
        # Not a matrix product: engines compute those in low precision, and everything before them as well.
        beaten = (keep[:, :, None] * suppresses).amax(1)
        keep = valid * (1.0 - beaten)
    return keep


def gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """values (B, N, C), index (B, K) -> (B, K, C)."""
    batch, count, width = (int(n) for n in values.shape)
    first = torch.arange(batch, device=index.device, dtype=index.dtype)[:, None] * count
    # One gather over all images: expanding the index instead would leave shapes that only an engine can work out.
    return values.reshape(-1, width).index_select(0, (index + first).reshape(-1)).reshape(batch, -1, width)
