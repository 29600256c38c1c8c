"""Box deltas as in Faster R-CNN: (dx, dy, dw, dh) relative to a reference box, times fixed weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LOG_SIZE = math.log(1000.0 / 16)
ROI_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
MIN_SIDE = 1e-3  # pixels; thinner proposals are dropped, as torchvision does


def wide(x: Tensor) -> Tensor:
    """Half-precision types become float32, as losses and boxes need it; float32 and float64 stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def encode(boxes: Tensor, references: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """(N, 4) xyxy boxes relative to (N, 4) xyxy references -> (N, 4) deltas."""
    size, reference_size = boxes[:, 2:] - boxes[:, :2], references[:, 2:] - references[:, :2]
    centre, reference_centre = boxes[:, :2] + size / 2, references[:, :2] + reference_size / 2
    shift = (centre - reference_centre) / reference_size
    return torch.cat([shift, torch.log(size / reference_size)], 1) * boxes.new_tensor(weights)


def decode(deltas: Tensor, references: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """The inverse of `encode`, for (..., 4) tensors; growth is limited to 1000/16 times."""
    deltas = deltas / deltas.new_tensor(weights)
    size = references[..., 2:] - references[..., :2]
    centre = references[..., :2] + size / 2 + deltas[..., :2] * size
    half = torch.exp(deltas[..., 2:].clamp(max=MAX_LOG_SIZE)) * size / 2
    return torch.cat([centre - half, centre + half], -1)


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """(..., 4) boxes cut to the canvas."""
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1)
