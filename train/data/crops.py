"""Pictures of single people from several cameras, one person a picture; two layouts, recognised by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personsearch.core.errors import DataError
from personsearch.core.identification import Sightings
from personsearch.core.pictures import read_picture
from personsearch.train.teaching.teacher import Teacher

TREE = """expected pictures of people from several cameras, in one of two layouts:
  ROOT/PERSON/CAMERA_VIEW.jpg
  ROOT/PERSON_CAMERA.jpg"""
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass(frozen=True)
class Crop:
    path: Path
    person: str
    camera: str
    view: int


def load_crops(root: str | Path) -> list[Crop]:
    """All pictures by person, camera and view. Raises DataError for an unknown layout or name."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; {TREE}")
    nested = [path for folder in sorted(root.iterdir()) if folder.is_dir() for path in _pictures(folder)]
    flat = _pictures(root)
    if bool(nested) == bool(flat):
        found = "pictures beside folders of pictures" if nested else "no pictures"
        raise DataError(f"{root}: holds {found}; {TREE}")
    crops = [_crop(path, path.parent.name if nested else "") for path in nested or flat]
    return sorted(crops, key=lambda crop: (crop.person, crop.camera, crop.view))


def _pictures(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS and path.is_file()]


def _crop(path: Path, person: str) -> Crop:
    before, _, after = path.stem.rpartition("_")
    if not before or not after or (person and not after.isdecimal()):
        raise DataError(f"{path}: the name does not say whom and where; {TREE}")
    return Crop(path, person, before, int(after)) if person else Crop(path, before, after, 1)


def read_crop(crop: Crop) -> np.ndarray:
    """uint8 (h, w, 3) BGR; DataError names an unreadable file."""
    return read_picture(crop.path)


def describe(crops: Iterable[Crop], embed: Teacher) -> Sightings:
    """Each picture as a whole described; people and cameras are numbered in the order of their names.

    Raises DataError for a picture that cannot be read, or whose description is not finite.
    """
    crops = list(crops)
    rows = []
    for crop in crops:
        image = read_crop(crop)
        height, width = image.shape[:2]
        (row,) = embed(image, np.array([[0, 0, width, height]], np.float32))
        if not np.isfinite(row).all():
            raise DataError(f"{crop.path}: the model describes this picture by numbers that are not finite")
        rows.append(row)
    columns = ([c.person for c in crops], [c.camera for c in crops])
    people, cameras = (np.unique(names, return_inverse=True)[1].astype(np.int64) for names in columns)
    return Sightings(np.array(rows, np.float32), people, cameras, np.array([c.view for c in crops], np.int64))
