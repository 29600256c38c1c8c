"""Augmentation of whole frames with their boxes: flip, colour, new clothes, occlusion, degradation.

Everything works on uint8 BGR frames and float xyxy boxes; randomness comes from the generator that is
passed in, so a sample is reproducible.
"""

from __future__ import annotations

import cv2
import numpy as np

from personsearch.core.boxes import clip
from personsearch.train.settings import AugmentSettings


def flip(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = image.shape[1]
    flipped = boxes.copy()
    flipped[:, 0], flipped[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return np.ascontiguousarray(image[:, ::-1]), flipped


def jitter_colour(image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Brightness, contrast, gamma, saturation and white balance of the whole frame."""
    gain = 1 + strength * rng.uniform(-0.25, 0.25) + strength * rng.uniform(-0.12, 0.12, 3)
    offset = strength * rng.uniform(-20, 20)
    gamma = np.exp(strength * rng.uniform(-0.3, 0.3))
    levels = np.arange(256, dtype=np.float32)[:, None]
    table = 255 * np.clip((levels * gain + offset) / 255, 0, 1) ** gamma
    image = cv2.LUT(image, table.astype(np.uint8)[:, None].transpose(1, 0, 2))
    if rng.random() < 0.5:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        saturation = 1 + strength * rng.uniform(-0.5, 0.3)
        image = cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)
    return image


def recolour_person(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> None:
    """Dress a person anew in place: torso and legs get a hue and a brightness of their own, with soft edges.

    The result is a new person for recognition, so the caller must drop the identity label.
    """
    x1, y1, x2, y2 = clip(box[None], *image.shape[:2])[0].astype(int)
    if x2 - x1 < 8 or y2 - y1 < 16:
        return
    patch = image[y1:y2, x1:x2]
    h, w = patch.shape[:2]
    hsv = cv2.cvtColor(patch, cv2.COLOR_BGR2HSV).astype(np.float32)
    out = patch.astype(np.float32)
    for top, bottom in ((0.14, 0.52), (0.48, 0.95)):
        mask = np.zeros((h, w), np.float32)
        centre, axes = (
            (w // 2, int(h * (top + bottom) / 2)),
            (max(2, int(w * 0.42)), max(2, int(h * (bottom - top) / 2))),
        )
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1)
        soft = cv2.blur(mask, (max(3, w // 6), max(3, h // 16)))[..., None]
        changed = hsv.copy()
        changed[..., 0] = (changed[..., 0] + rng.uniform(0, 180)) % 180
        changed[..., 1] = np.clip(changed[..., 1] * rng.uniform(0.4, 2.2) + rng.uniform(0, 60), 0, 255)
        changed[..., 2] = np.clip(changed[..., 2] * rng.uniform(0.5, 1.6) + rng.uniform(-20, 30), 0, 255)
        dressed = cv2.cvtColor(changed.astype(np.uint8), cv2.COLOR_HSV2BGR)
        out = out * (1 - soft) + dressed * soft
    image[y1:y2, x1:x2] = out.astype(np.uint8)


def mix_people(image: np.ndarray, boxes: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> None:
    """Give each chosen person (indices into boxes) the lower half of another one of the frame, in place.

    Halves of N people make N * N new ones, so the caller must drop the identity labels.
    """
    source = image.copy()
    for index in chosen:
        donor = int(rng.choice(np.delete(np.arange(len(boxes)), index)))
        (x1, y1, x2, y2), (u1, v1, u2, v2) = clip(boxes[[index, donor]], *image.shape[:2]).astype(int)
        waist, cut = y1 + (y2 - y1) * 48 // 100, v1 + (v2 - v1) * 48 // 100
        if min(x2 - x1, y2 - waist, u2 - u1, v2 - cut) < 4:
            continue
        legs = cv2.resize(source[cut:v2, u1:u2], (x2 - x1, y2 - waist), interpolation=cv2.INTER_LINEAR)
        ramp = np.clip(np.arange(len(legs), dtype=np.float32) / (0.15 * len(legs)), 0, 1)[:, None, None]
        image[waist:y2, x1:x2] = legs * ramp + image[waist:y2, x1:x2] * (1 - ramp)


def occlude(image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> None:
    """Cover up to half of one person in place with a piece of the same frame."""
    if len(boxes) == 0:
        return
    x1, y1, x2, y2 = clip(boxes[rng.integers(len(boxes))][None], *image.shape[:2])[0].astype(int)
    w, h = x2 - x1, y2 - y1
    if w < 8 or h < 16:
        return
    cover_h, cover_w = int(h * rng.uniform(0.2, 0.5)), int(w * rng.uniform(0.4, 1.0))
    from_y = rng.integers(0, image.shape[0] - cover_h + 1)
    from_x = rng.integers(0, image.shape[1] - cover_w + 1)
    to_y = y2 - cover_h if rng.random() < 0.6 else y1 + int(rng.integers(0, h - cover_h + 1))
    to_x = x1 + int(rng.integers(0, w - cover_w + 1))
    image[to_y : to_y + cover_h, to_x : to_x + cover_w] = image[
        from_y : from_y + cover_h, from_x : from_x + cover_w
    ].copy()


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What cheap cameras do: blur, noise, low light, heavy compression; one or two of them."""
    for kind in rng.choice(4, size=int(rng.integers(1, 3)), replace=False):
        if kind == 0:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4))
        elif kind == 1:
            noise = rng.normal(0, rng.uniform(3, 12), (*image.shape[:2], 1)).astype(np.int16)
            image = np.clip(image.astype(np.int16) + noise, 0, 255).astype(np.uint8)
        elif kind == 2:
            image = cv2.convertScaleAbs(image, alpha=rng.uniform(0.35, 0.8))
        else:
            quality = int(rng.integers(20, 60))
            coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return image


def before_teacher(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, settings: AugmentSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Changes that make another picture of (possibly) other people: the teacher sees them too."""
    if rng.random() < settings.flip:
        image, boxes = flip(image, boxes)
    mixed = (rng.random(len(boxes)) < settings.mix_people) & (len(boxes) > 1)
    dressed = rng.random(len(boxes)) < settings.recolour_people
    if mixed.any() or dressed.any():
        image, labels = image.copy(), np.where(mixed | dressed, -1, labels)
        mix_people(image, boxes, np.flatnonzero(mixed), rng)
        for box in boxes[dressed]:
            recolour_person(image, box, rng)
    if rng.random() < settings.colour:
        image = jitter_colour(image, rng)
    return image, boxes, labels


def after_teacher(
    image: np.ndarray, boxes: np.ndarray, settings: AugmentSettings, rng: np.random.Generator
) -> np.ndarray:
    """Changes that hide what is there: only the student sees them, and must still say the same."""
    if rng.random() < settings.occlude:
        image = image.copy()
        occlude(image, boxes, rng)
    if rng.random() < settings.degrade:
        image = degrade(image, rng)
    return image
