"""The simple format for people's own data: a folder with `people.json` and the frames that it names.

    {"images": [{"file": "frames/a.jpg", "camera": 1, "split": "train",
                 "people": [{"box": [x, y, w, h], "identity": 7}, {"box": [...], "identity": null}]}],
     "queries": [{"file": "frames/b.jpg", "box": [x, y, w, h], "identity": 7}]}

Boxes are in pixels; `identity` null means a person whom nobody has named; `split` defaults to train.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from personsearch.core.boxes import as_boxes, xywh_to_xyxy
from personsearch.core.config import Settings
from personsearch.core.errors import DataError
from personsearch.core.records import ImageTruth, Query
from personsearch.train.prw import SearchData

Box = tuple[float, float, float, float]


class Person(Settings):
    box: Box
    identity: int | None = Field(None, ge=0)


class Frame(Settings):
    file: str
    camera: int = 0
    split: str = "train"
    people: tuple[Person, ...] = ()


class QueryEntry(Settings):
    file: str
    box: Box
    identity: int = Field(ge=0)


class PeopleFile(Settings):
    images: tuple[Frame, ...]
    queries: tuple[QueryEntry, ...] = ()


def load_json(root: str | Path, split: str) -> SearchData:
    """Read one split. Raises DataError that names the file and the offending entry."""
    path = Path(root) / "people.json"
    try:
        content = PeopleFile.model_validate_json(path.read_bytes())
    except OSError:
        raise DataError(f"{path}: not found; expected a folder with people.json (see train/json_data.py)") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise DataError(f"{path}: {where}: {first['msg']}, got {str(first['input'])[:60]!r}") from None
    images = []
    for frame in content.images:
        if frame.split != split:
            continue
        people = [p for p in frame.people if p.box[2] > 0 and p.box[3] > 0]
        boxes = xywh_to_xyxy(as_boxes([p.box for p in people]))
        identities = np.array([-1 if p.identity is None else p.identity for p in people], np.int64)
        images.append(ImageTruth(frame.file, str(Path(root) / frame.file), boxes, identities, frame.camera))
    queries = [Query(q.file, xywh_to_xyxy(as_boxes([q.box]))[0], q.identity) for q in content.queries]
    return SearchData(images, queries if split == "test" else [])


def save_json(root: str | Path, frames: list[Frame]) -> None:
    path = Path(root) / "people.json"
    data = {"images": [frame.model_dump() for frame in frames], "queries": []}
    path.write_text(json.dumps(data), encoding="utf-8")
