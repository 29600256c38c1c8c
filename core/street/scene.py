"""A synthetic camera: where it hangs, what it sees of the empty street, and how it renders light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class View:
    """A pinhole camera above the pavement, tilted down. World: x to the right, y up, z ahead, in metres."""

    width: int
    height: int
    mount: float  # metres above the ground
    tilt: float  # radians
    focal: float  # pixels

    @staticmethod
    def of(rng: np.random.Generator, width: int, height: int) -> View:
        tilt = np.deg2rad(rng.uniform(8, 27))
        return View(width, height, float(rng.uniform(2.4, 5.0)), float(tilt), float(width * rng.uniform(0.75, 1.05)))

    def project(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """Pixel column, pixel row and depth in metres of a world point."""
        depth = z * np.cos(self.tilt) + (self.mount - y) * np.sin(self.tilt)
        down = (self.mount - y) * np.cos(self.tilt) - z * np.sin(self.tilt)
        return self.width / 2 + self.focal * x / depth, self.height / 2 + self.focal * down / depth, float(depth)

    def depth_range(self) -> tuple[float, float]:
        """z in metres between which a standing person's feet are inside the frame and not tiny."""
        lowest = self.height * 0.98 - self.height / 2
        near = next(z for z in np.arange(1.5, 40, 0.25) if self.project(0, 0, z)[1] - self.height / 2 < lowest)
        return float(near), float(near + 9.0)

    def half_width(self, z: float) -> float:
        """Metres from the axis to the frame's side at depth z."""
        return self.width / 2 / self.focal * self.project(0, 0, z)[2]


def _muted(rng: np.random.Generator) -> list[float]:
    """A wall or car colour: mostly grey, as streets are."""
    return list(rng.uniform(40, 200) + rng.uniform(-25, 25, 3))


class Scene:
    """One camera's background, things in front of people, tint and noise; all fixed by the generator."""

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        self.view = View.of(rng, width, height)
        self.background = self._paint(rng)
        self.posts = self._posts(rng)
        gains = rng.uniform(0.75, 1.1) * rng.uniform(0.9, 1.1, 3)
        gamma = rng.uniform(0.85, 1.25)
        levels = (np.arange(256)[:, None] / 255.0) ** gamma * 255 * gains
        self.tint = np.clip(levels, 0, 255).astype(np.uint8).reshape(1, 256, 3)
        noise = rng.normal(128, rng.uniform(3, 7), (height + 64, width + 64, 3))
        self.noise = np.clip(noise, 0, 255).astype(np.uint8)
        self.light_period, self.light_phase = rng.uniform(15, 60), rng.uniform(0, 6.28)
        self.sun = rng.uniform(-0.9, 0.9)  # sideways slant of shadows

    def _paint(self, rng: np.random.Generator) -> np.ndarray:
        view = self.view
        h, w = view.height, view.width
        horizon = int(np.clip(view.project(0, 0, 60.0)[1], 0, h * 0.6))
        image = np.empty((h, w, 3), np.float32)
        wall = rng.uniform(70, 190, 3) * 0.4 + rng.uniform(50, 110)
        ground = rng.uniform(90, 160) + rng.uniform(-12, 12, 3)
        image[:horizon], image[horizon:] = wall, ground
        fine = cv2.resize(rng.normal(0, 9, (h // 2, w // 2)).astype(np.float32), (w, h))
        coarse = cv2.resize(rng.normal(0, 12, (12, 20)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
        image += (fine + coarse)[..., None]
        for _ in range(int(rng.integers(4, 9))):  # windows, doors and signs on the wall
            x, y = int(rng.integers(0, w)), int(rng.integers(0, max(1, horizon)))
            size = int(rng.integers(w // 20, w // 6)), int(rng.integers(h // 20, h // 5))
            colour = _muted(rng)
            cv2.rectangle(image, (x, y), (min(w, x + size[0]), min(horizon, y + size[1])), colour, -1)
        joint = (ground * 0.8).tolist()
        for across in range(-16, 17, 2):  # paving joints in perspective
            (u0, v0, _), (u1, v1, _) = (view.project(across, 0, z) for z in (2.0, 50.0))
            cv2.line(image, (int(u0), int(v0)), (int(u1), int(v1)), joint, 1, cv2.LINE_AA)
        for z in np.geomspace(2.5, 40, 14):
            row = int(view.project(0, 0, z)[1])
            if horizon < row < h:
                cv2.line(image, (0, row), (w, row), joint, 1)
        for _ in range(int(rng.integers(2, 5))):  # parked cars and planters far behind
            u, v, depth = view.project(rng.uniform(-8, 8), 0, rng.uniform(18, 30))
            metre = view.focal / depth
            top_left = (int(u - 2 * metre), int(v - 1.3 * metre))
            cv2.rectangle(image, top_left, (int(u + 2 * metre), int(v)), _muted(rng), -1)
        return np.clip(image, 0, 255).astype(np.uint8)

    def _posts(self, rng: np.random.Generator) -> list[tuple[float, np.ndarray, tuple[int, int, int, int]]]:
        """Lamp posts and bins that hide people behind them: depth, colour and xyxy in pixels."""
        near, far = self.view.depth_range()
        posts = []
        for _ in range(int(rng.integers(1, 4))):
            z = rng.uniform(near, far)
            x = rng.uniform(-0.8, 0.8) * self.view.half_width(z)
            u, v, depth = self.view.project(x, 0, z)
            tall, wide = (4.0, 0.12) if rng.random() < 0.6 else (1.0, 0.6)
            top = self.view.project(x, tall, z)[1]
            half = self.view.focal * wide / depth / 2
            posts.append((z, np.array(_muted(rng)) * 0.6, (int(u - half), int(top), int(u + half) + 1, int(v))))
        return posts

    def develop(self, image: np.ndarray, seconds: float, number: int) -> np.ndarray:
        """Tint, changing light and sensor noise on a finished picture."""
        h, w = image.shape[:2]
        gain = 1.0 + 0.18 * np.sin(2 * np.pi * seconds / self.light_period + self.light_phase)
        dx, dy = number * 37 % 64, number * 53 % 64
        noise = self.noise[dy : dy + h, dx : dx + w]
        return cv2.addWeighted(cv2.LUT(image, self.tint), float(gain), noise, 1.0, -128.0)
