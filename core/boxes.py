"""Boxes as float arrays (N, 4) of x1, y1, x2, y2 in pixels; x2 and y2 are exclusive edges."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def as_boxes(boxes: object) -> Array:
    """(N, 4) float32 array from anything array-like; an empty input gives (0, 4)."""
    array = np.asarray(boxes, dtype=np.float32)
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes must be of shape (N, 4), but got shape {array.shape}")
    return array


def xywh_to_xyxy(boxes: Array) -> Array:
    """(N, 4) x, y, w, h -> x1, y1, x2, y2."""
    boxes = np.asarray(boxes)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def area(boxes: Array) -> Array:
    """(N,) areas in square pixels; inverted boxes count as 0."""
    size = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return size[..., 0] * size[..., 1]


def clip(boxes: Array, height: float, width: float) -> Array:
    """Boxes cut to an image of the given size in pixels."""
    limit = np.array([width, height, width, height], dtype=boxes.dtype)
    return np.clip(boxes, 0, limit)


def iou(a: Array, b: Array) -> Array:
    """(N, M) intersection over union of (N, 4) with (M, 4); 0 where both boxes are empty."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    size = np.maximum(bottom_right - top_left, 0)
    intersection = size[..., 0] * size[..., 1]
    union = area(a)[:, None] + area(b)[None, :] - intersection
    return np.where(union > 0, intersection / np.maximum(union, 1e-9), 0.0)
