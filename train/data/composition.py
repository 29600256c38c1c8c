"""What a training canvas is put together from: a frame at a random zoom, four frames, people before another background.

As in `train/data/augment.py`, everything works on uint8 BGR frames and float xyxy boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from personsearch.core.boxes import area, clip
from personsearch.core.preprocess import PAD_VALUE, Letterbox, resampling

MIN_VISIBLE, MIN_SIDE = 0.5, 6.0
# Middle, half width and half height of head, trunk and legs, as shares of a person's box.
BODY = ((0.09, 0.2, 0.1), (0.36, 0.42, 0.28), (0.74, 0.36, 0.28))


@dataclass(frozen=True)
class Placement:
    """Where a frame lies on a canvas: canvas pixels = frame pixels * scale + (x, y)."""

    scale: float
    x: int = 0
    y: int = 0

    def boxes(self, boxes: np.ndarray, canvas: Letterbox) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4) on the canvas, and (N,) bool: still visible by half and big enough."""
        moved = boxes * self.scale + np.tile(np.array([self.x, self.y], np.float32), 2)
        cut = clip(moved, canvas.height, canvas.width)
        size = (cut[:, 2:] - cut[:, :2]).min(1) if len(cut) else np.zeros(0)
        visible = (area(cut) >= MIN_VISIBLE * np.maximum(area(moved), 1e-6)) & (size >= MIN_SIDE)
        return cut.astype(np.float32), visible

    def draw(self, image: np.ndarray, canvas: Letterbox) -> np.ndarray:
        if (self.scale, self.x, self.y) == (canvas.scale_for(*image.shape[:2]), 0, 0):
            return canvas(image)[0]
        resized = cv2.resize(image, None, fx=self.scale, fy=self.scale, interpolation=resampling(self.scale))
        h, w = resized.shape[:2]
        out = np.full((canvas.height, canvas.width, 3), PAD_VALUE, np.uint8)
        cx, cy = max(0, self.x), max(0, self.y)
        fx, fy = max(0, -self.x), max(0, -self.y)
        tw, th = min(canvas.width - cx, w - fx), min(canvas.height - cy, h - fy)
        out[cy : cy + th, cx : cx + tw] = resized[fy : fy + th, fx : fx + tw]
        return out


def random_placement(
    size: tuple[int, int], canvas: Letterbox, zoom: tuple[float, float], rng: np.random.Generator
) -> Placement:
    """A random zoom and position for a frame of `size` (h, w).

    zoom  range of factors on the letterbox scale: above 1 shows a part of the frame, below 1 leaves a grey border
    """
    scale = canvas.scale_for(*size)
    if zoom == (1.0, 1.0):
        return Placement(scale)
    scale *= float(np.exp(rng.uniform(np.log(zoom[0]), np.log(zoom[1]))))
    h, w = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    # Negative room: the canvas is a window on the frame; positive room: the frame floats on the canvas.
    x = int(rng.integers(min(0, canvas.width - w), max(0, canvas.width - w) + 1))
    y = int(rng.integers(min(0, canvas.height - h), max(0, canvas.height - h) + 1))
    return Placement(scale, x, y)


def windows(canvas: Letterbox, rng: np.random.Generator) -> list[tuple[int, int, Letterbox]]:
    """Four parts of a canvas that meet in a random point near its middle: left, top and size of each (mosaic)."""
    x, y = (int(side * rng.uniform(0.35, 0.65)) for side in (canvas.width, canvas.height))
    columns, rows = ((0, x), (x, canvas.width - x)), ((0, y), (y, canvas.height - y))
    return [(left, top, Letterbox(height, width)) for top, height in rows for left, width in columns]


def silhouette(size: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """Float (h, w, 1) in 0..1: roughly where the people in boxes (N, 4) are: head, trunk and legs with soft edges."""
    mask = np.zeros(size, np.float32)
    for x1, y1, x2, y2 in clip(boxes, *size).astype(int):
        w, h = x2 - x1, y2 - y1
        if w < 4 or h < 8:
            continue
        body = np.zeros((h, w), np.float32)
        for middle, half_width, half_height in BODY:
            axes = (max(1, int(half_width * w)), max(1, int(half_height * h)))
            cv2.ellipse(body, (w // 2, int(middle * h)), axes, 0, 0, 360, 1.0, -1)
        edge = (max(3, w // 8 | 1), max(3, w // 8 | 1))
        mask[y1:y2, x1:x2] = np.maximum(mask[y1:y2, x1:x2], cv2.blur(body, edge))
    return mask[..., None]


def fill_frame(image: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A frame that fills another size (h, w), its edges cut off, and its boxes, which may lie outside."""
    scale = max(size[0] / image.shape[0], size[1] / image.shape[1])
    h, w = max(size[0], round(image.shape[0] * scale)), max(size[1], round(image.shape[1] * scale))
    top, left = (h - size[0]) // 2, (w - size[1]) // 2
    resized = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    return resized[top : top + size[0], left : left + size[1]], boxes * scale - np.array([left, top] * 2, np.float32)


def paste_people(
    image: np.ndarray, boxes: np.ndarray, base: np.ndarray, base_boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The people of a frame before the background of another one.

    Returns the picture, of the first frame's size, the boxes (M, 4) of the other's people on it, and which (M,) of
    them are not mostly hidden or cut off.
    """
    size = image.shape[0], image.shape[1]
    base, base_boxes = fill_frame(base, base_boxes, size)
    mask = silhouette(size, boxes)
    picture = (base + mask * (image.astype(np.float32) - base)).astype(np.uint8)
    cut = clip(base_boxes, *size)
    hidden = np.array([_mean(mask[y1:y2, x1:x2]) for x1, y1, x2, y2 in cut.astype(int)], np.float32)
    shown = (1 - hidden) * area(cut) / np.maximum(area(base_boxes), 1e-6)
    return picture, cut, shown >= MIN_VISIBLE


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
