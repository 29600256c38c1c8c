"""Two cameras that share people, with the truth: out of pictures, the synthetic street, or an annotated data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from crop_video import FPS as CROP_FPS
from crop_video import write_crop_video
from split_camera import FPS as FRAMES_FPS
from split_camera import write_video

from personsearch.core.errors import UserError
from personsearch.core.records import ImageTruth
from personsearch.core.street.street import parse_street_url, street_of
from personsearch.train.data.crops import load_crops, read_crop
from personsearch.train.data.prw import load_prw

STREET = "synthetic://street?seed={seed}&cameras=2&people=4&identities=24&imbalance=0&frames={frames}&camera={camera}"
CLEAR = 0.95  # share of a person that must be seen in a picture to enrol from
TALL = 100  # pixels of such a picture


@dataclass(frozen=True)
class Picture:
    path: str
    box: tuple[float, float, float, float]  # xyxy


@dataclass
class Place:
    """What one camera shows.

    truths    boxes (N, 4) xyxy and identities (N,) of each annotated frame, by the frame's index in the stream
    pictures  of each person, to enrol from
    """

    url: str
    fps: float
    truths: dict[int, tuple[np.ndarray, np.ndarray]]
    pictures: dict[int, list[Picture]] = field(default_factory=dict)

    @property
    def people(self) -> dict[int, list[int]]:
        """The frames that show each person with an identity."""
        seen: dict[int, list[int]] = {}
        for index, (_, identities) in sorted(self.truths.items()):
            for identity in identities[identities >= 0].tolist():
                seen.setdefault(identity, []).append(index)
        return seen


def of_crops(root: Path, cameras: Sequence[str], folder: Path, seed: int) -> tuple[Place, Place]:
    """Pictures of the first camera to enrol from, and videos of both."""
    crops = load_crops(root)
    numbers = {name: i for i, name in enumerate(sorted({crop.person for crop in crops}))}
    places = []
    for which, camera in enumerate(cameras):
        video = folder / f"{which}.avi"
        truths = write_crop_video(video, crops, camera, numbers, seed + which)
        places.append(Place(str(video), CROP_FPS, _by_index(truths)))
    for crop in crops:
        if crop.camera == cameras[0]:
            height, width = read_crop(crop).shape[:2]
            pictures = places[0].pictures.setdefault(numbers[crop.person], [])
            pictures.append(Picture(str(crop.path.resolve()), (0, 0, width, height)))
    return places[0], places[1]


def of_street(seed: int, folder: Path, frames: int = 700) -> tuple[Place, Place]:
    """Two virtual cameras; pictures are frames of the first one that show a person clearly, two seconds apart."""
    places = []
    for camera in (0, 1):
        url = STREET.format(seed=seed, frames=frames, camera=camera)
        settings = parse_street_url(url)
        street, place = street_of(settings), Place(url, settings.fps, {})
        for index in range(settings.frames):
            frame = street.frame(camera, index)
            place.truths[index] = (frame.boxes, frame.identities)
            if camera == 0 and index % round(2 * settings.fps) == 0:
                clear = (frame.visible >= CLEAR) & (frame.boxes[:, 3] - frame.boxes[:, 1] >= TALL)
                path = folder / f"street_{index}.png"
                if clear.any():
                    cv2.imwrite(str(path), frame.image)
                for box, identity in zip(frame.boxes[clear].tolist(), frame.identities[clear].tolist(), strict=True):
                    place.pictures.setdefault(identity, []).append(Picture(str(path), tuple(box)))
        places.append(place)
    return places[0], places[1]


def of_frames(root: Path, cameras: Sequence[str], split: float, folder: Path) -> tuple[Place, Place]:
    """Annotated frames of two cameras, or of one, the first part and the rest. Pictures spread over a person's time."""
    if (cameras[0] == cameras[1]) != (0 < split < 1):
        raise UserError("--split SHARE (between 0 and 1) goes with the same camera twice, and only with that")
    frames = [truth for part in ("train", "test") for truth in load_prw(root, part).images]
    parts = [[truth for truth in frames if str(truth.camera) == camera] for camera in cameras]
    if split:
        border = int(len(parts[0]) * split)
        parts = [parts[0][:border], parts[1][border:]]
    places = []
    for which, (camera, part) in enumerate(zip(cameras, parts, strict=True)):
        if not part:
            raise UserError(f"{root}: has no frame of camera {camera}")
        video = folder / f"{which}.avi"
        write_video(video, part)
        places.append(Place(str(video), FRAMES_FPS, _by_index(part)))
    for person, seen in places[0].people.items():
        for share in (0.25, 0.75, 0.5, 0.0):
            truth = parts[0][seen[int(share * len(seen))]]
            box = truth.boxes[truth.identities == person][0]
            places[0].pictures.setdefault(person, []).append(Picture(truth.path, tuple(box.tolist())))
    return places[0], places[1]


def _by_index(truths: Iterable[ImageTruth]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    return {index: (truth.boxes, truth.identities) for index, truth in enumerate(truths)}
