"""The size that the released code gives a frame: a short and a long side, whichever way round it lies.

Batches are padded to a multiple of 32 pixels. It is the arithmetic of torchvision's detection transform, rounding
included: a frame of 600x800 (w x h) becomes 900x1200, one of 1920x1080 becomes 1500x843 on 1504x864.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from personsearch.core.preprocess import Letterbox
from personsearch.train.settings import ModelSettings

MULTIPLE = 32


@dataclass(frozen=True)
class Sides:
    """Resize so that the short side is `short` pixels, or the long one `long` if it would be longer."""

    short: int
    long: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a frame after resizing."""
        short, long = np.float32(min(height, width)), np.float32(max(height, width))
        scale = float(min(np.float32(self.short) / short, np.float32(self.long) / long))
        return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (h, w, 3) BGR -> the resized frame, and float32 (4,): what boxes xyxy are multiplied by."""
        h, w = image.shape[:2]
        height, width = self.size(h, w)
        factors = np.array([width / w, height / h] * 2, np.float32)
        if (height, width) == (h, w):
            return image, factors
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), factors


def fit_of(settings: ModelSettings) -> Letterbox | Sides:
    """How frames come to the network's size, in training and at test time alike."""
    kind = Sides if settings.fit == "sides" else Letterbox
    return kind(settings.height, settings.width)


def padded_batch(frames: Sequence[np.ndarray]) -> tuple[Tensor, list[tuple[int, int]]]:
    """uint8 frames (h, w, 3) of any sizes -> (B, H, W, 3), the common multiple of 32, and their (h, w)."""
    sizes = [(frame.shape[0], frame.shape[1]) for frame in frames]
    height, width = (-(-max(side) // MULTIPLE) * MULTIPLE for side in zip(*sizes, strict=True))
    batch = np.zeros((len(frames), height, width, 3), np.uint8)
    for row, frame, (h, w) in zip(batch, frames, sizes, strict=True):
        row[:h, :w] = frame
    return torch.from_numpy(batch), sizes
