"""RoIAlign on the pixels of a frame, for engines that describe only the people who count.

The model graph pools by matrix products over whole rows and columns, which any engine can do. Here only the window
under each box is touched: the same numbers for a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from threadpoolctl import ThreadpoolController

COARSE = 4  # pixels a bin above which a box is reduced first
PART = 16  # bins at most
SAMPLES = 2  # per bin and axis, as in the model graph; the mean below is written for two


def pool_pixels(
    images: Sequence[np.ndarray], owners: Sequence[int] | np.ndarray, boxes: np.ndarray, out: np.ndarray
) -> None:
    """B images uint8 (H, W, 3), boxes (N, 4) in pixels of images[owners[n]] -> out, float32 (N, 3, h, w).

    Equal to torchvision.ops.roi_align(aligned=False, sampling_ratio=2), boxes partly or wholly outside included. A box
    of more than four pixels a bin is reduced by area averaging first, where RoIAlign would look at some pixels only.
    """
    # On one thread: these products are small, and OpenBLAS's other threads go on spinning for milliseconds, in the way
    # of the engine's.
    with _blas().limit(limits=1, user_api="blas"):
        for owner, target, box in zip(owners, out, boxes, strict=True):
            _pool(images[owner], box, target)


def _pool(image: np.ndarray, box: np.ndarray, out: np.ndarray) -> None:
    bins_y, bins_x = out.shape[1:]
    left, top, right, bottom = box.tolist()
    if right - left > COARSE * bins_x or bottom - top > COARSE * bins_y:
        image, (left, top, right, bottom) = _reduced(image, box, COARSE // 2 * bins_y, COARSE // 2 * bins_x)
    height, width = image.shape[:2]
    rows, row_weights = _axis_weights(top, max(bottom - top, 1.0) / bins_y, bins_y, height)
    columns, column_weights = _axis_weights(left, max(right - left, 1.0) / bins_x, bins_x, width)
    first_y, last_y = rows[0], rows[-1] + row_weights.shape[2]
    first_x, last_x = columns[0], columns[-1] + column_weights.shape[2]
    window = image[first_y:last_y, first_x:last_x].transpose(2, 0, 1).astype(np.float32, order="C")
    narrow = np.empty((3, last_y - first_y, bins_x), np.float32)
    part = column_weights.shape[1]
    for number, (first, weights) in enumerate(zip(columns, column_weights, strict=True)):
        cells = window[:, :, first - first_x : first - first_x + weights.shape[1]]
        np.matmul(cells, weights.T, out=narrow[:, :, number * part : (number + 1) * part])
    part = row_weights.shape[1]
    for number, (first, weights) in enumerate(zip(rows, row_weights, strict=True)):
        cells = narrow[:, first - first_y : first - first_y + weights.shape[1]]
        np.matmul(weights, cells, out=out[:, number * part : (number + 1) * part])


def _reduced(image: np.ndarray, box: np.ndarray, height: int, width: int) -> tuple[np.ndarray, list[float]]:
    """The part of an image in a box, at most (height, width) large, and where the box is in it."""
    limit = [image.shape[1], image.shape[0]] * 2
    x1, y1 = np.clip(np.floor(box[:2]), 0, limit[:2]).astype(int)
    x2, y2 = np.clip(np.ceil(box[2:]), 0, limit[:2]).astype(int)
    if x2 <= x1 or y2 <= y1:
        return image, box.tolist()
    size = min(width, x2 - x1), min(height, y2 - y1)
    part = cv2.resize(image[y1:y2, x1:x2], (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA)
    scale = np.array([size[0] / (x2 - x1), size[1] / (y2 - y1)] * 2)
    # RoIAlign counts from the centres of cells, and those of a reduced image lie elsewhere.
    return part, ((box - [x1, y1, x1, y1] + 0.5) * scale - 0.5).tolist()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


@cache
def _part(bins: int) -> int:
    return max(size for size in range(1, PART + 1) if bins % size == 0)


def _axis_weights(low: float, step: float, bins: int, length: int) -> tuple[list[int], np.ndarray]:
    """One axis of `bins` bins in P equal parts: the first cell of each part, and (P, bins / P, cells) how much the
    cells from there on count in its bins. A bin needs few cells, so products part by part are small."""
    part = _part(bins)
    position = np.arange(0.5, SAMPLES * bins, dtype=np.float32) * np.float32(step / SAMPLES)
    position += np.float32(low)
    nearest = np.clip(position, 0, length - 1).reshape(-1, SAMPLES * part)
    begin, end = nearest[:, 0].astype(int), nearest[:, -1].astype(int) + 2
    cells = min(int((end - begin).max()), length)
    firsts = np.minimum(begin, length - cells)
    weights = (nearest - firsts[:, None].astype(np.float32))[:, :, None] - np.arange(cells, dtype=np.float32)
    np.abs(weights, out=weights)
    np.subtract(1, weights, out=weights)
    np.maximum(weights, 0, out=weights)
    if position[0] < -1 or position[-1] > length:  # samples further out than a cell count as zero
        weights *= ((position >= -1) & (position <= length)).reshape(*nearest.shape, 1)
    mean = weights[:, 0::SAMPLES] + weights[:, 1::SAMPLES]
    mean /= SAMPLES
    return firsts.tolist(), mean
