"""How much a picture of a person can tell: size, sharpness, light, and what is hidden or cut off."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FULL_HEIGHT = 128.0  # pixels from which more do not help
SHARP = 60.0  # variance of the Laplacian, at 128 pixels of height, of a picture without blur
DARK, BRIGHT = 35.0, 225.0  # mean grey below and above which little is left to see
BORDER = 2.0  # pixels; a box that comes so near to the frame's edge is probably cut


@dataclass(frozen=True)
class Quality:
    """Shares from 0 (useless) to 1 (as good as any); `value` is their product."""

    size: float
    sharpness: float
    light: float
    visible: float  # neither covered by other people nor cut by the border
    score: float  # the detector's

    @property
    def value(self) -> float:
        return self.size * self.sharpness * self.light * self.visible * (0.5 + 0.5 * self.score)

    def complaints(self) -> list[str]:
        """What a person who enrols somebody should know, in words."""
        told = (
            (self.size < 0.5, "small"),
            (self.sharpness < 0.45, "blurred"),
            (self.light < 0.5, "too dark or too bright"),
            (self.visible < 0.7, "cut off or covered"),
            (self.score < 0.3, "hardly found by the detector"),
        )
        return [word for wrong, word in told if wrong]


def quality_of(
    image: np.ndarray, box: np.ndarray, score: float = 1.0, covered: float = 0.0, magnified: float = 1.0
) -> Quality:
    """Of the person at `box` (4,) xyxy in pixels of `image`, uint8 (h, w, 3) BGR.

    covered    share of the box that other people in front of it hide, 0 to 1
    magnified  rows of a picture that can be had instead, for each of this one
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (float(v) for v in box)
    inside = [max(0, int(x1)), max(0, int(y1)), min(width, int(np.ceil(x2))), min(height, int(np.ceil(y2)))]
    if inside[2] - inside[0] < 2 or inside[3] - inside[1] < 2:
        return Quality(0.0, 0.0, 0.0, 0.0, float(score))
    part = image[inside[1] : inside[3], inside[0] : inside[2]]
    # At one size, so that sharpness does not depend on the distance; a person of fewer pixels is not made larger.
    scale = min(1.0, FULL_HEIGHT / part.shape[0])
    grey = cv2.cvtColor(part, cv2.COLOR_BGR2GRAY)
    if scale < 1:
        size = (max(2, round(grey.shape[1] * scale)), max(2, round(grey.shape[0] * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    light = float(grey.mean())
    contrast = max(float(grey.std()), 1.0)
    blur = float(cv2.Laplacian(grey, cv2.CV_32F).var()) * (40.0 / max(contrast, 20.0)) ** 2
    cut = (x1 <= BORDER) + (y1 <= BORDER) + (x2 >= width - BORDER) + (y2 >= height - BORDER)
    return Quality(
        size=min(1.0, magnified * (y2 - y1) / FULL_HEIGHT),
        sharpness=float(np.clip(np.sqrt(blur / SHARP), 0.1, 1.0)),
        light=float(np.clip(min(light / DARK, (255 - light) / (255 - BRIGHT)), 0.05, 1.0)),
        visible=float(np.clip(1.0 - covered, 0.0, 1.0)) * (0.75**cut),
        score=float(np.clip(score, 0.0, 1.0)),
    )
