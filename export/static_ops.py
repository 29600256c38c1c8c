"""RoIAlign and NMS from plain tensor operations with fixed shapes: no plugin, no control flow, any engine."""

from __future__ import annotations

import torch
from torch import Tensor

from personsearch.train.model.roi_pooling import axis_weights


def roi_weights(boxes: Tensor, size: tuple[int, int], feature: tuple[int, int], scale: float) -> tuple[Tensor, Tensor]:
    """RoIAlign's weights for boxes (B, K, 4) on the canvas: columns (B, K, w, W) and rows (B, K, h, H).

    size is (h, w) of the result, feature (H, W).
    """
    left, top, right, bottom = (boxes * scale).unbind(-1)
    columns = axis_weights(left.flatten(), right.flatten(), size[1], feature[1])
    rows = axis_weights(top.flatten(), bottom.flatten(), size[0], feature[0])
    batch = boxes.shape[0]
    return columns.reshape(batch, -1, size[1], feature[1]), rows.reshape(batch, -1, size[0], feature[0])


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
