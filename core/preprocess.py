"""One preprocessing for every stage: training, calibration, parity and cameras all come through here."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

PAD_VALUE = 114


def resampling(scale: float) -> int:
    """OpenCV's filter for resizing a frame by a factor; training and cameras must use the same.

    Area averaging is five times slower, and finds no more people until the frame shrinks to less than half.
    """
    return cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR


@dataclass(frozen=True)
class Letterbox:
    """Resize with the aspect ratio kept into the top left of a (height, width) canvas, the rest grey.

    The top-left alignment makes the way back a single division: original = input / scale.
    """

    height: int
    width: int

    def scale_for(self, image_height: int, image_width: int) -> float:
        return min(self.height / image_height, self.width / image_width)

    def filled(self, image_height: int, image_width: int) -> tuple[int, int]:
        """(height, width) of the part of the canvas that an image fills."""
        scale = self.scale_for(image_height, image_width)
        height, width = round(image_height * scale), round(image_width * scale)
        return max(1, min(self.height, height)), max(1, min(self.width, width))

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, float]:
        """uint8 (h, w, 3) BGR -> uint8 (height, width, 3) BGR and the scale; writes into `out` if given."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"an image must be uint8 (h, w, 3) BGR, but got {image.dtype} {image.shape}")
        h, w = image.shape[:2]
        scale = self.scale_for(h, w)
        height, width = self.filled(h, w)
        if out is None:
            out = np.empty((self.height, self.width, 3), np.uint8)
        if (height, width) == (h, w):
            out[:h, :w] = image
        else:
            out[:height, :width] = cv2.resize(image, (width, height), interpolation=resampling(scale))
        out[height:] = PAD_VALUE
        out[:height, width:] = PAD_VALUE
        return out, scale
