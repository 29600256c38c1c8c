"""The synthetic street: people walk through several virtual cameras; boxes and identities are exact.

Deterministic by seed and free to seek: `Street(seed=7).frame(camera=2, number=30)` is always the same picture.
Identities are spread over lanes; in each leg of a lane every camera shows another identity of that lane, so
nobody is in two cameras at once, and everybody comes back elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, urlparse

import cv2
import numpy as np
from pydantic import Field, ValidationError

from personsearch.core.config import Settings
from personsearch.core.errors import CameraError
from personsearch.core.street.people import PHASES, SPRITE_HEIGHT, SPRITE_WIDTH, look_of, sprite
from personsearch.core.street.scene import Scene

LEG_SECONDS = 9.0
STEPS_PER_SECOND = 1.8
MIN_VISIBLE = 0.35
ASPECT = SPRITE_WIDTH / SPRITE_HEIGHT


class StreetSettings(Settings):
    seed: int = Field(0, ge=0)
    cameras: int = Field(4, ge=1, le=64)  # virtual cameras that share the people
    people: int = Field(8, ge=1, le=100)  # at once in each camera
    identities: int = Field(40, ge=1, le=100000)
    imbalance: float = Field(1.0, ge=0, le=4)  # exponent of the frequency over rank: 0 = balanced, 1 = long tail
    fps: float = Field(10.0, gt=0, le=240)
    width: int = Field(640, ge=64, le=4096)
    height: int = Field(384, ge=64, le=4096)


@dataclass
class StreetTruth:
    boxes: np.ndarray  # (N, 4) float32 xyxy, whole person cut to the frame
    identities: np.ndarray  # (N,) int64
    visible: np.ndarray  # (N,) float32 share of the person's pixels that can be seen


@dataclass
class StreetFrame(StreetTruth):
    image: np.ndarray  # (h, w, 3) uint8 BGR


class Street:
    def __init__(self, settings: StreetSettings) -> None:
        self.settings = settings
        self.lanes = settings.people
        # Each lane needs at least one identity per camera, or cameras would have to share one.
        needed = settings.cameras * self.lanes
        if settings.identities < needed:
            raise ValueError(f"{settings.cameras} cameras with {self.lanes} people need at least {needed} identities")
        self._scene = lru_cache(maxsize=settings.cameras)(self._make_scene)
        self._leg = lru_cache(maxsize=1024)(self._make_leg)

    def _make_scene(self, camera: int) -> Scene:
        return Scene(np.random.default_rng((self.settings.seed, camera, 11)), self.settings.width, self.settings.height)

    def _make_leg(self, lane: int, leg: int) -> np.ndarray:
        """(cameras,) identities that walk this lane during this leg, without repetition; frequent ones come often."""
        pool = np.arange(lane, self.settings.identities, self.lanes)
        rng = np.random.default_rng((self.settings.seed, lane, leg, 13))
        weight = (1.0 + np.arange(len(pool))) ** -self.settings.imbalance
        return rng.choice(pool, size=self.settings.cameras, replace=False, p=weight / weight.sum())

    def people(self, camera: int, seconds: float) -> list[tuple[int, float, float, float, float]]:
        """Who is where: identity, x and z in metres, and the direction of walking (dx, dz), far ones first."""
        scene = self._scene(camera)
        near, far = scene.view.depth_range()
        out = []
        for lane in range(self.lanes):
            clock = seconds / LEG_SECONDS + lane / self.lanes
            leg, part = int(clock // 1), clock % 1
            identity = int(self._leg(lane, leg)[camera])
            rng = np.random.default_rng((self.settings.seed, lane, leg, camera, 17))
            z0, z1 = rng.uniform(near, far, 2)
            side = 1.0 if rng.random() < 0.5 else -1.0
            x0 = -side * (scene.view.half_width(z0) + 0.3)
            # Most people cross; some turn and leave on the side where they came from.
            x1 = (side if rng.random() < 0.8 else -side) * (scene.view.half_width(z1) + 0.3)
            bend = rng.uniform(-0.5, 0.5) * scene.view.half_width((z0 + z1) / 2)
            x = x0 + (x1 - x0) * part + bend * np.sin(np.pi * part)
            z = z0 + (z1 - z0) * part
            out.append((identity, x, z, (x1 - x0) + bend * np.pi * np.cos(np.pi * part), z1 - z0))
        return sorted(out, key=lambda person: -person[2])

    def frame(self, camera: int, number: int) -> StreetFrame:
        """Picture `number` of a camera with its truth. Raises ValueError for a camera that does not exist."""
        scene = self._scene_of(camera)
        image = scene.background.copy()
        truth = self._draw(camera, number, image)
        return StreetFrame(**vars(truth), image=scene.develop(image, number / self.settings.fps, number))

    def truth(self, camera: int, number: int) -> StreetTruth:
        """The truth of `frame`, to the bit, for a fifth of its time: nothing is painted. Raises ValueError likewise."""
        return self._draw(camera, number, None)

    def _scene_of(self, camera: int) -> Scene:
        if not 0 <= camera < self.settings.cameras:
            raise ValueError(f"camera must be 0..{self.settings.cameras - 1}, got {camera}")
        return self._scene(camera)

    def _draw(self, camera: int, number: int, image: np.ndarray | None) -> StreetTruth:
        """People and posts in the order of their distance, painted onto the picture if there is one."""
        seconds, scene = number / self.settings.fps, self._scene_of(camera)
        owner = np.full((self.settings.height, self.settings.width), -1, np.int16)  # who is seen at each pixel
        posts = sorted(scene.posts, key=lambda post: -post[0])
        boxes: list[list[float]] = []
        identities: list[int] = []
        areas: list[int] = []
        for identity, x, z, dx, dz in self.people(camera, seconds):
            while posts and posts[0][0] > z:
                self._post(image, owner, posts.pop(0))
            drawn = self._person(image, owner, scene, len(boxes), identity, x, z, dx, dz, seconds)
            if drawn is not None:
                boxes.append(drawn[0])
                areas.append(drawn[1])
                identities.append(identity)
        for post in posts:
            self._post(image, owner, post)
        seen = np.bincount(owner[owner >= 0], minlength=len(boxes))[: len(boxes)] if boxes else np.zeros(0)
        visible = seen / np.maximum(np.array(areas, np.float64), 1)
        keep = visible >= MIN_VISIBLE
        return StreetTruth(
            np.array(boxes, np.float32).reshape(-1, 4)[keep],
            np.array(identities, np.int64)[keep],
            visible[keep].astype(np.float32),
        )

    def _person(
        self,
        image: np.ndarray | None,
        owner: np.ndarray,
        scene: Scene,
        slot: int,
        identity: int,
        x: float,
        z: float,
        dx: float,
        dz: float,
        seconds: float,
    ) -> tuple[list[float], int] | None:
        """Draw one person; gives the box cut to the frame and the full silhouette's pixels, None if outside."""
        look = look_of(self.settings.seed, identity)
        u, foot, _ = scene.view.project(x, 0, z)
        head = scene.view.project(x, look.height, z)[1]
        tall = max(4, round(foot - head))
        wide = max(2, round(tall * ASPECT))
        left, top = round(u - wide / 2), round(foot) - tall
        view = "side" if abs(dx) > 0.8 * abs(dz) else ("back" if dz > 0 else "front")
        phase = int(seconds * STEPS_PER_SECOND / 2 * PHASES + identity * 3) % PHASES
        colour, mask = sprite(self.settings.seed, identity, view, phase)
        how = cv2.INTER_AREA if tall < SPRITE_HEIGHT else cv2.INTER_LINEAR
        mask = cv2.resize(mask, (wide, tall), interpolation=how)
        mirrored = view == "side" and dx < 0
        if mirrored:
            mask = mask[:, ::-1]
        if image is not None:
            self._shadow(image, mask, left, round(foot), scene.sun)
        solid = mask > 127
        h, w = owner.shape
        y0, y1, x0, x1 = max(0, top), min(h, top + tall), max(0, left), min(w, left + wide)
        columns, rows = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
        if y1 <= y0 or x1 <= x0 or len(columns) == 0:
            return None
        window = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        if image is not None:
            colour = cv2.resize(colour, (wide, tall), interpolation=how)
            colour = colour[:, ::-1] if mirrored else colour
            alpha = mask[window][..., None].astype(np.uint16)
            under = image[y0:y1, x0:x1]
            under[:] = ((under * (255 - alpha) + colour[window] * alpha) // 255).astype(np.uint8)
        owner[y0:y1, x0:x1][solid[window]] = slot
        box = [left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1]
        box = [float(min(max(v, 0), limit)) for v, limit in zip(box, (w, h, w, h), strict=True)]
        return (box, int(solid.sum())) if box[2] > box[0] and box[3] > box[1] else None

    @staticmethod
    def _shadow(image: np.ndarray, mask: np.ndarray, left: int, foot: int, slant: float) -> None:
        """The silhouette laid on the ground, slanted away from the light."""
        h, w = image.shape[:2]
        tall, wide = mask.shape
        length = max(2, tall // 3)
        room = int(abs(slant) * length) + 2
        shear = np.array([[1, slant, room - slant * length], [0, 1, 0]], np.float32)
        flat = cv2.warpAffine(cv2.resize(mask, (wide, length)), shear, (wide + 2 * room, length))
        y1, x0 = min(h, foot + 1), max(0, left - room)
        y0, x1 = max(0, foot + 1 - length), min(w, left - room + flat.shape[1])
        if y1 <= y0 or x1 <= x0:
            return
        part = flat[y0 - (foot + 1 - length) : y1 - (foot + 1 - length), x0 - (left - room) : x1 - (left - room)]
        keep = (255 - part.astype(np.uint16) * 100 // 255)[..., None]
        image[y0:y1, x0:x1] = (image[y0:y1, x0:x1] * keep // 255).astype(np.uint8)

    @staticmethod
    def _post(
        image: np.ndarray | None, owner: np.ndarray, post: tuple[float, np.ndarray, tuple[int, int, int, int]]
    ) -> None:
        _, colour, (x0, y0, x1, y1) = post
        x0, y0 = max(0, x0), max(0, y0)
        if x1 > x0 and y1 > y0:
            if image is not None:
                image[y0:y1, x0:x1] = colour.astype(np.uint8)
            owner[y0:y1, x0:x1] = -1


class StreetUrl(StreetSettings):
    """Query part of `synthetic://street?seed=7&camera=2&people=8&fps=10`; `frames` ends the stream (0: endless)."""

    camera: int = Field(0, ge=0, le=63)
    frames: int = Field(0, ge=0)


def parse_street_url(url: str) -> StreetUrl:
    """Raises CameraError with the bad part and the known keys."""
    try:
        parts = urlparse(url)
    except ValueError:  # a bracket that is not closed
        raise CameraError(f"{url}: expected synthetic://street?key=value&...") from None
    if parts.scheme != "synthetic" or parts.netloc != "street":
        raise CameraError(f"{url}: expected synthetic://street?key=value&...")
    given: dict[str, object] = dict(parse_qsl(parts.query, keep_blank_values=True))
    try:
        settings = StreetUrl.model_validate(given)
        defaults = settings.model_fields_set
        changes: dict[str, int] = {}
        if "cameras" not in defaults:
            changes["cameras"] = max(settings.cameras, settings.camera + 1)
        if "identities" not in defaults:
            cameras = changes.get("cameras", settings.cameras)
            changes["identities"] = max(settings.identities, cameras * settings.people)
        return settings.model_copy(update=changes)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        known = ", ".join(StreetUrl.model_fields)
        raise CameraError(f"{url}: '{key}': {problem['msg']}; known keys: {known}") from None


def street_of(url: StreetUrl) -> Street:
    try:
        if url.camera >= url.cameras:
            raise ValueError(f"camera must be 0..{url.cameras - 1}, got {url.camera}")
        return Street(StreetSettings.model_validate(url.model_dump(exclude={"camera", "frames"})))
    except ValueError as error:
        raise CameraError(f"synthetic street: {error}") from None
