"""RoIAlign on the pixels of a frame, for engines that describe only the people who count.

The model graph pools by matrix products over whole rows and columns, which any engine can do. Here only the window
under each box is touched: the same numbers for a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

SAMPLES = 2  # per bin and axis, as in the model graph; the mean below is written for two


def pool_pixels(images: np.ndarray, owners: Sequence[int], boxes: np.ndarray, out: np.ndarray) -> None:
    """uint8 (B, H, W, 3), boxes (N, 4) in pixels of images[owners[n]] -> out, float32 (N, 3, h, w).

    Equal to torchvision.ops.roi_align(aligned=False, sampling_ratio=2), boxes partly or wholly outside included.
    """
    height, width = images.shape[1:3]
    bins_y, bins_x = out.shape[2:]
    # On one thread: these products are small, and OpenBLAS's other threads go on spinning for milliseconds, in the way
    # of the engine's.
    with _blas().limit(limits=1, user_api="blas"):
        for owner, target, (left, top, right, bottom) in zip(owners, out, boxes.tolist(), strict=True):
            first_y, last_y, rows = _axis_weights(top, bottom, bins_y, height)
            first_x, last_x, columns = _axis_weights(left, right, bins_x, width)
            window = images[owner, first_y:last_y, first_x:last_x].transpose(2, 0, 1).astype(np.float32, order="C")
            narrow = window.reshape(-1, last_x - first_x) @ columns.T
            np.matmul(rows, narrow.reshape(3, last_y - first_y, bins_x), out=target)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _axis_weights(low: float, high: float, bins: int, length: int) -> tuple[int, int, np.ndarray]:
    """One axis of a box: first cell, one past the last, and how much each cell between counts in each bin."""
    extent = max(high - low, 1.0)
    position = np.arange(0.5, SAMPLES * bins, dtype=np.float32) * np.float32(extent / (SAMPLES * bins))
    position += np.float32(low)
    nearest = np.clip(position, 0, length - 1)
    first, last = int(nearest[0]), min(int(nearest[-1]) + 2, length)
    weights = nearest[:, None] - np.arange(first, last, dtype=np.float32)
    np.abs(weights, out=weights)
    np.subtract(1, weights, out=weights)
    np.maximum(weights, 0, out=weights)
    if position[0] < -1 or position[-1] > length:  # samples further out than a cell count as zero
        weights *= ((position >= -1) & (position <= length))[:, None]
    mean = weights[0::SAMPLES] + weights[1::SAMPLES]
    mean /= SAMPLES
    return first, last, mean
