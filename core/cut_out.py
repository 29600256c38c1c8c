"""A person cut out of a picture, with a margin: what waits to be described."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MARGIN = 0.1  # of a person's height, around the box
MOST_PIXELS = 400  # height of a picture that waits; a head sees 256 or so of the person in it


@dataclass(frozen=True)
class CutOut:
    picture: np.ndarray  # uint8 (h, w, 3) BGR, a copy
    box: np.ndarray  # (4,) float32 xyxy of the person in it
    corners: np.ndarray  # (4,) float32 xyxy of the picture in the image that it was cut from


def cut_out(image: np.ndarray, box: np.ndarray) -> CutOut | None:
    """The person at `box` (4,) xyxy in pixels of `image` uint8 (h, w, 3); None where hardly anything is inside it."""
    margin = MARGIN * (box[3] - box[1])
    return cut(image, np.concatenate([box[:2] - margin, box[2:] + margin]), box)


def cut(image: np.ndarray, corners: np.ndarray, box: np.ndarray) -> CutOut | None:
    """The part of an image between `corners` (4,) xyxy, grown to whole pixels, and where the `box` is in it."""
    height, width = image.shape[:2]
    x1, y1 = np.maximum(np.floor(corners[:2]), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(corners[2:]), [width, height]).astype(int)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return None
    picture = image[y1:y2, x1:x2].copy()
    inside = np.asarray(box - np.array([x1, y1, x1, y1]), np.float32)
    if picture.shape[0] > MOST_PIXELS:
        scale = MOST_PIXELS / picture.shape[0]
        size = (max(2, round(picture.shape[1] * scale)), MOST_PIXELS)
        inside = inside * np.array([size[0] / picture.shape[1], scale] * 2, np.float32)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return CutOut(picture, inside, np.array([x1, y1, x2, y2], np.float32))
