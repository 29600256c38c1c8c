#!/usr/bin/env python
"""A video of real people out of their pictures: a camera of a crops data set, walking on a synthetic street.

    python tests/crop_video.py --data VIEWS --camera 2 --out camera2.avi

Each person crosses the picture once, his or her views of that camera one after the other, 160 to 250 pixels tall, four
people at once on paths of different depth, so that they pass in front of each other. Boxes are exact. The background is
the empty street, blurred; pictures keep their own surroundings, faded at the rim.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.errors import UserError, run_main
from personsearch.core.records import ImageTruth
from personsearch.core.street.scene import Scene
from personsearch.train.data.crops import Crop, load_crops, read_crop

WIDTH, HEIGHT, FPS = 1024, 576, 10
LANES = 4
WALK_S = 6.0  # to cross the picture
PAUSE_S = 1.0  # until the next person comes along a path
LEAST_INSIDE = 0.5  # share of a box inside the picture, so that it counts


@dataclass(frozen=True)
class Lane:
    """Where a lane runs: the row of the feet, how tall people are there, and from which side they come."""

    foot: int
    tall: int
    leftwards: bool


def lanes() -> list[Lane]:
    """Far ones first."""
    return [Lane(270 + 95 * i, 160 + 30 * i, leftwards=bool(i % 2)) for i in range(LANES)]


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="crops, see train/evaluate.py")
    parser.add_argument("--camera", required=True, help="its name in the files")
    parser.add_argument("--seed", type=int, default=0, help="order of the people, background")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.avi")
    given = parser.parse_args()
    names = sorted({crop.person for crop in load_crops(given.data)})
    numbers = {name: number for number, name in enumerate(names)}
    truths = write_crop_video(given.out, load_crops(given.data), given.camera, numbers, given.seed)
    print(f"{given.out}: {len(truths)} frames, {sum(len(t.boxes) for t in truths)} boxes")
    return 0


def write_crop_video(
    path: Path, crops: Sequence[Crop], camera: str, numbers: dict[str, int], seed: int
) -> list[ImageTruth]:
    """The video, and what each of its frames shows; people are called by their `numbers`."""
    views: dict[str, list[np.ndarray]] = {}
    for crop in crops:
        if crop.camera == camera and crop.person in numbers:
            views.setdefault(crop.person, []).append(read_crop(crop))
    if not views:
        known = ", ".join(sorted({crop.camera for crop in crops}))
        raise UserError(f"no picture of camera '{camera}'; there are: {known}")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    truths = []
    for number, (image, boxes, people) in enumerate(frames(views, seed)):
        writer.write(image)
        identities = np.array([numbers[name] for name in people], np.int64)
        truths.append(ImageTruth(f"{camera}_{number:06d}", "", boxes, identities))
    writer.release()
    return truths


def frames(views: dict[str, list[np.ndarray]], seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Pictures with boxes (N, 4) xyxy and the names of the people, until everybody has passed."""
    rng = np.random.default_rng(seed)
    background = cv2.GaussianBlur(Scene(rng, WIDTH, HEIGHT).background, (0, 0), 1.5)
    order = [str(name) for name in rng.permutation(sorted(views))]
    queues = [order[lane::LANES] for lane in range(LANES)]
    turn = WALK_S + PAUSE_S
    starts = [turn * lane / LANES for lane in range(LANES)]
    last = max(start + turn * len(queue) for start, queue in zip(starts, queues, strict=True))
    for number in range(round(last * FPS)):
        image, boxes, people = background.copy(), [], []
        for lane, queue, start in zip(lanes(), queues, starts, strict=True):
            place, clock = divmod(number / FPS - start, turn)
            if not 0 <= place < len(queue) or clock >= WALK_S:
                continue
            name, part = queue[int(place)], clock / WALK_S
            mine = views[name]
            box = paste(image, mine[min(int(part * len(mine)), len(mine) - 1)], lane, part)
            if box is not None:
                boxes.append(box)
                people.append(name)
        yield image, np.array(boxes, np.float32).reshape(-1, 4), people


def paste(image: np.ndarray, crop: np.ndarray, lane: Lane, part: float) -> list[float] | None:
    """Draw a person on the way; gives the box cut to the picture, None if too little of it is inside."""
    wide = round(crop.shape[1] * lane.tall / crop.shape[0])
    person = cv2.resize(crop, (wide, lane.tall), interpolation=cv2.INTER_CUBIC)
    way = 1 - part if lane.leftwards else part
    left, top = round(way * (WIDTH + wide)) - wide, lane.foot - lane.tall
    x0, x1 = max(0, left), min(WIDTH, left + wide)
    if x1 <= x0:
        return None
    rim = max(2, wide // 12)
    solid = np.zeros((lane.tall, wide), np.float32)
    solid[rim:-rim, rim:-rim] = 1
    alpha = cv2.blur(solid, (2 * rim - 1, 2 * rim - 1))[:, x0 - left : x1 - left, None]
    under = image[top : lane.foot, x0:x1]
    under[:] = np.round(under * (1 - alpha) + person[:, x0 - left : x1 - left] * alpha).astype(np.uint8)
    return [x0, top, x1, lane.foot] if x1 - x0 >= LEAST_INSIDE * wide else None


if __name__ == "__main__":
    sys.exit(main())
