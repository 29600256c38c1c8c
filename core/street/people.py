"""Looks of the synthetic street's people, and their drawing as small pictures (sprites) with a mask.

Garment colours come from short shared palettes on purpose: many people wear the same colours and differ in
pattern, cut, hair, build and what they carry, so that a colour histogram cannot tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

SPRITE_HEIGHT, SPRITE_WIDTH = 192, 112
PHASES = 8
VIEWS = ("side", "front", "back")

# BGR
TOPS = (
    (40, 40, 42),
    (205, 205, 200),
    (110, 60, 35),
    (45, 45, 150),
    (70, 95, 60),
    (150, 150, 155),
    (60, 110, 165),
    (120, 90, 130),
)
BOTTOMS = ((45, 42, 40), (120, 85, 55), (95, 110, 125), (75, 75, 78), (150, 165, 175))
HAIRS = ((25, 25, 28), (35, 50, 75), (60, 95, 130), (125, 125, 128), (90, 150, 190))
SKINS = ((165, 185, 225), (120, 150, 200), (75, 105, 160), (45, 65, 105))
SHOES = ((30, 30, 30), (190, 190, 190), (45, 70, 100))
BAGS = ((35, 35, 40), (50, 50, 130), (110, 80, 40), (60, 105, 70))
PATTERNS = ("plain", "plain", "hoops", "stripes", "checks", "jacket", "logo", "yoke")
CARRIED = ("nothing", "nothing", "backpack", "handbag", "case")
CUTS = ("trousers", "trousers", "trousers", "shorts", "skirt", "coat")
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """What makes a person the same person in every camera."""

    top: Colour
    second: Colour
    bottom: Colour
    hair: Colour
    skin: Colour
    shoe: Colour
    bag: Colour
    pattern: str
    carried: str
    cut: str
    long_hair: bool
    hat: bool
    long_sleeves: bool
    height: float  # metres
    build: float  # 1 = average width
    stride: float  # swing of the legs in radians


@lru_cache(maxsize=4096)
def look_of(seed: int, identity: int) -> Look:
    """The look of one identity; the same for ever for the same numbers."""
    rng = np.random.default_rng((seed, identity, 77))

    def pick(options: tuple) -> Any:
        return options[int(rng.integers(len(options)))]

    def vary(colour: tuple[int, ...]) -> Colour:
        shifted = np.clip(np.array(colour) + rng.integers(-9, 10, 3), 8, 245)
        return int(shifted[0]), int(shifted[1]), int(shifted[2])

    return Look(
        vary(pick(TOPS)), vary(pick(TOPS)), vary(pick(BOTTOMS)), vary(pick(HAIRS)), vary(pick(SKINS)),
        vary(pick(SHOES)), vary(pick(BAGS)), str(pick(PATTERNS)), str(pick(CARRIED)), str(pick(CUTS)),
        bool(rng.random() < 0.4), bool(rng.random() < 0.15), bool(rng.random() < 0.6),
        float(rng.uniform(1.55, 1.92)), float(rng.uniform(0.85, 1.25)), float(rng.uniform(0.35, 0.6)),
    )  # fmt: skip


@lru_cache(maxsize=8192)
def sprite(seed: int, identity: int, view: str, phase: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (192, 112, 3) BGR and mask (192, 112) of a person, feet at the bottom edge; side views face right."""
    look = look_of(seed, identity)
    painter = _Painter(look, np.random.default_rng((seed, identity, 5)))
    painter.person(view, 2 * np.pi * phase / PHASES)
    return painter.finish()


class _Painter:
    def __init__(self, look: Look, rng: np.random.Generator) -> None:
        self.look, self.rng = look, rng
        self.colour = np.zeros((SPRITE_HEIGHT, SPRITE_WIDTH, 3), np.uint8)
        self.mask = np.zeros((SPRITE_HEIGHT, SPRITE_WIDTH), np.uint8)
        self.cloth = _cloth(look)

    def person(self, view: str, phase: float) -> None:
        look, middle, h = self.look, SPRITE_WIDTH / 2, SPRITE_HEIGHT
        side = view == "side"
        swing = look.stride * np.sin(phase) * (1.0 if side else 0.45)
        shoulder = 0.125 * look.build * (0.62 if side else 1.0)
        hip = 0.085 * look.build * (0.8 if side else 1.0)
        if look.carried == "backpack" and side:
            self._box(middle - 0.17 * h * look.build, 0.2 * h, 0.12 * h, 0.25 * h, look.bag)
        self._arm(middle - (0 if side else shoulder * h), -swing, side, back=True)
        for sign in (-1, 1):
            offset = 0 if side else sign * hip * h * 0.55
            self._leg(
                middle + offset,
                sign * swing if side else sign * 0.04,
                lift=max(0.0, sign * np.sin(phase)),
                shade=0.86 if sign < 0 else 1.0,
            )
        self._garment(middle, shoulder, hip)
        self._head(middle, view)
        if look.carried == "backpack" and view == "back":
            self._box(middle - 0.085 * h, 0.2 * h, 0.17 * h, 0.23 * h, look.bag)
        hand = self._arm(middle + (0 if side else shoulder * h), swing, side, back=False)
        if look.carried in ("handbag", "case"):
            size = (0.10, 0.09) if look.carried == "handbag" else (0.15, 0.12)
            self._box(hand[0] - size[0] * h / 2, hand[1], size[0] * h, size[1] * h, look.bag)

    def _fill(self, points: object, colour: Colour | np.ndarray) -> None:
        polygon = np.round(np.array(points)).astype(np.int32)
        if isinstance(colour, np.ndarray):
            stencil = np.zeros_like(self.mask)
            cv2.fillPoly(stencil, [polygon], 255)
            self.colour[stencil > 0] = colour[stencil > 0]
        else:
            cv2.fillPoly(self.colour, [polygon], colour)
        cv2.fillPoly(self.mask, [polygon], 255)

    def _box(self, x: float, y: float, w: float, h: float, colour: Colour) -> None:
        self._fill([(x + 2, y), (x + w - 2, y), (x + w, y + h), (x, y + h)], colour)
        dark = tuple(int(c * 0.6) for c in colour)
        cv2.line(self.colour, (int(x), int(y + h * 0.35)), (int(x + w), int(y + h * 0.35)), dark, 2)

    def _limb(self, start: np.ndarray, end: np.ndarray, w0: float, w1: float, colour: Colour | np.ndarray) -> None:
        along = (end - start) / max(1e-6, float(np.linalg.norm(end - start)))
        across = np.array([-along[1], along[0]])
        self._fill([start + across * w0, end + across * w1, end - across * w1, start - across * w0], colour)
        if not isinstance(colour, np.ndarray):
            cv2.circle(self.colour, (int(end[0]), int(end[1])), max(1, int(w1)), colour, -1)
            cv2.circle(self.mask, (int(end[0]), int(end[1])), max(1, int(w1)), 255, -1)

    def _leg(self, x: float, angle: float, lift: float, shade: float) -> None:
        look, h = self.look, SPRITE_HEIGHT
        hip = np.array([x, 0.52 * h])
        knee = hip + 0.23 * h * np.array([np.sin(angle), np.cos(angle)])
        bend = angle - 0.5 * lift
        ankle = knee + 0.215 * h * np.array([np.sin(bend), np.cos(bend)])
        ankle[1] = min(ankle[1], 0.97 * h)
        cloth = _shaded(look.bottom, shade)
        skin = _shaded(look.skin, shade)
        width = 0.042 * h * look.build
        self._limb(hip, knee, width, width * 0.8, cloth if look.cut != "skirt" else skin)
        bare = look.cut in ("shorts", "skirt")
        self._limb(knee, ankle, width * (0.62 if bare else 0.8), width * 0.55, skin if bare else cloth)
        toe = ankle + np.array([0.035 * h, 0.025 * h])
        self._limb(ankle + np.array([-3, 3]), toe, 4, 4, look.shoe)

    def _arm(self, x: float, angle: float, side: bool, back: bool) -> np.ndarray:
        look, h = self.look, SPRITE_HEIGHT
        shoulder = np.array([x, 0.21 * h])
        spread = 0.0 if side else (-0.12 if back else 0.12)
        elbow = shoulder + 0.16 * h * np.array([np.sin(angle + spread), np.cos(angle)])
        hand = elbow + 0.15 * h * np.array([np.sin(angle * 1.2 + spread / 2), np.cos(angle)])
        width = 0.03 * h * look.build
        sleeve = tuple(int(c * (0.8 if back else 0.92)) for c in look.top)
        self._limb(shoulder, elbow, width, width * 0.85, sleeve)  # type: ignore[arg-type]
        self._limb(elbow, hand, width * 0.8, width * 0.65, sleeve if look.long_sleeves else look.skin)  # type: ignore[arg-type]
        return hand

    def _garment(self, middle: float, shoulder: float, hip: float) -> None:
        look, h = self.look, SPRITE_HEIGHT
        hem = {"coat": 0.72, "skirt": 0.53}.get(look.cut, 0.55)
        flare = 1.35 if look.cut == "coat" else 1.05
        if look.cut == "skirt":
            self._fill(
                [
                    (middle - hip * h, 0.5 * h),
                    (middle + hip * h, 0.5 * h),
                    (middle + hip * 1.5 * h, 0.74 * h),
                    (middle - hip * 1.5 * h, 0.74 * h),
                ],
                look.bottom,
            )
        self._fill(
            [
                (middle - shoulder * 0.55 * h, 0.155 * h),
                (middle + shoulder * 0.55 * h, 0.155 * h),
                (middle + shoulder * h, 0.19 * h),
                (middle + hip * flare * h, hem * h),
                (middle - hip * flare * h, hem * h),
                (middle - shoulder * h, 0.19 * h),
            ],
            self.cloth,
        )

    def _head(self, middle: float, view: str) -> None:
        look, h = self.look, SPRITE_HEIGHT
        centre, axes = (int(middle + (3 if view == "side" else 0)), int(0.085 * h)), (int(0.048 * h), int(0.066 * h))
        self._limb(np.array([middle, 0.12 * h]), np.array([middle, 0.17 * h]), 5, 6, look.skin)
        for canvas, face in ((self.colour, look.skin), (self.mask, 255)):
            cv2.ellipse(canvas, centre, axes, 0, 0, 360, face, -1)
        hair = (centre[0] - (3 if view == "side" else 0), centre[1] - 3)
        start, end = {"front": (180, 360), "side": (120, 320), "back": (0, 360)}[view]
        grown = (axes[0] + 2, axes[1] + 1)
        for canvas, strands in ((self.colour, look.hair), (self.mask, 255)):
            cv2.ellipse(canvas, hair, grown, 0, start, end, strands, -1)
        if look.long_hair:
            left = hair[0] - grown[0]
            width = 2 * grown[0] if view == "back" else grown[0] // 2 + 2
            self._fill([(left, hair[1]), (left + width, hair[1]), (left + width, 0.2 * h), (left, 0.2 * h)], look.hair)
        if look.hat:
            self._fill(
                [
                    (centre[0] - axes[0] - 3, 0.06 * h),
                    (centre[0] + axes[0] + 4, 0.06 * h),
                    (centre[0] + axes[0] - 1, 0.012 * h),
                    (centre[0] - axes[0] + 1, 0.012 * h),
                ],
                look.second,
            )

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Round the figure with light from one side and give the cloth folds."""
        light = np.linspace(0.78, 1.18, SPRITE_WIDTH, dtype=np.float32)[None, :, None]
        folds = cv2.resize(self.rng.normal(0, 1, (24, 10)).astype(np.float32), (SPRITE_WIDTH, SPRITE_HEIGHT))
        depth = cv2.GaussianBlur(self.mask, (0, 0), 4).astype(np.float32)[..., None] / 255
        shaded = self.colour * light * (0.62 + 0.38 * depth) + 7 * folds[..., None]
        colour = np.clip(shaded, 0, 255).astype(np.uint8)
        # Colour bleeds beyond the mask, so that resizing does not mix in black.
        outside = self.mask == 0
        colour[outside] = cv2.blur(cv2.dilate(colour * (self.mask[..., None] > 0), np.ones((7, 7))), (3, 3))[outside]
        return colour, cv2.GaussianBlur(self.mask, (0, 0), 0.8)


def _shaded(colour: Colour, factor: float) -> Colour:
    return int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor)


def _cloth(look: Look) -> np.ndarray:
    """The upper garment's pattern over the whole sprite."""
    cloth = np.full((SPRITE_HEIGHT, SPRITE_WIDTH, 3), look.top, np.uint8)
    middle, second = SPRITE_WIDTH // 2, look.second
    if look.pattern in ("hoops", "checks"):
        cloth[np.arange(SPRITE_HEIGHT) // 9 % 2 == 0] = second
    if look.pattern == "stripes":
        cloth[:, np.arange(SPRITE_WIDTH) // 6 % 2 == 0] = second
    if look.pattern == "checks":
        cloth[:, np.arange(SPRITE_WIDTH) // 9 % 2 == 0] = look.top
    if look.pattern == "jacket":
        cloth[:, middle - 6 : middle + 7] = second
    if look.pattern == "logo":
        cv2.circle(cloth, (middle, int(0.28 * SPRITE_HEIGHT)), 10, second, -1)
    if look.pattern == "yoke":
        cloth[: int(0.3 * SPRITE_HEIGHT)] = second
    return cloth
