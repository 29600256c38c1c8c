"""From a decoded picture to the image that is analysed: turned, cut to the region, shrunk. (Also for programs that look
at a camera's pictures as the stream does.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def prepare(
    image: np.ndarray, options: Mapping[str, Any]
) -> tuple[np.ndarray, tuple[int, int], float, tuple[int, int]]:
    """image    uint8 (h, w, 3) BGR
    options  the camera's `rotate` (degrees clockwise), `region` (x, y, w, h as shares) and `max_size` (w, h in pixels)

    Gives the image, the region's corner (x, y) in pixels of the upright picture, the scale (upright picture -> image,
    at most 1), and the upright picture's (width, height)."""
    if options["rotate"]:
        image = cv2.rotate(image, ROTATIONS[options["rotate"]])
    height, width = image.shape[:2]
    x, y = 0, 0
    if options["region"]:
        left, top, wide, high = options["region"]
        x, y = min(width - 2, round(left * width)), min(height - 2, round(top * height))
        image = image[y : y + max(2, round(high * height)), x : x + max(2, round(wide * width))]
    scale = 1.0
    if options["max_size"]:
        scale = min(1.0, options["max_size"][0] / image.shape[1], options["max_size"][1] / image.shape[0])
        if scale < 1:
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image, (x, y), scale, (width, height)
