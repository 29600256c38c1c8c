"""The simple format for people's own data: a folder with `people.json` and the frames that it names.

    {"images": [{"file": "frames/a.jpg", "camera": 1, "split": "train",
                 "people": [{"box": [x, y, w, h], "identity": 7}, {"box": [...], "identity": null}]}],
     "queries": [{"file": "frames/b.jpg", "box": [x, y, w, h], "identity": 7}]}

Boxes are in pixels; `identity` null means a person whom nobody has named; `split` is train or test and defaults to
train. A third key, `"identities": "tracks"`, says that one person may have several identities (`train/label.py`).
`train/convert_data.py` writes it from COCO, PRW, CUHK-SYSU and the street; `train/inspect_data.py` checks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from personsearch.core.boxes import as_boxes, xywh_to_xyxy
from personsearch.core.config import Pixel, Settings, Whole
from personsearch.core.errors import DataError
from personsearch.core.files import replace_file
from personsearch.core.json_files import read_record
from personsearch.core.records import ImageTruth, Query
from personsearch.train.data.prw import SearchData

TREE = """expected a folder of our JSON format:
  ROOT/people.json    (images, people and queries; see train/data/json_data.py)
  ROOT/...            (the frames that it names)"""
Box = tuple[Pixel, Pixel, Pixel, Pixel]
Identity = Annotated[Whole, Field(ge=0)]


class Person(Settings):
    box: Box
    identity: Identity | None = None

    @field_validator("box")
    @classmethod
    def _not_inside_out(cls, box: Box) -> Box:
        if box[2] < 0 or box[3] < 0:
            raise ValueError("expected x, y, width, height in pixels; width and height cannot be negative")
        return box


class Frame(Settings):
    file: str = Field(min_length=1)
    camera: Whole = 0
    split: Literal["train", "test"] = "train"
    people: tuple[Person, ...] = ()


class QueryEntry(Settings):
    file: str = Field(min_length=1)
    box: Box
    identity: Identity

    @field_validator("box")
    @classmethod
    def _of_some_size(cls, box: Box) -> Box:
        if box[2] <= 0 or box[3] <= 0:
            raise ValueError("expected x, y, width, height in pixels; width and height must be above 0")
        return box


class PeopleFile(Settings):
    images: tuple[Frame, ...]
    identities: Literal["people", "tracks"] = "people"
    queries: tuple[QueryEntry, ...] = ()


def read_people(root: str | Path) -> PeopleFile:
    """The whole file. Raises DataError that names each bad entry (the first ten)."""
    path = Path(root) / "people.json"
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: not found; {TREE}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return read_record(path, data, PeopleFile, DataError)


def load_json(root: str | Path, split: str) -> SearchData:
    """Read one split; boxes without width or height are dropped. Raises DataError that names the bad entries."""
    content = read_people(root)
    images = []
    for frame in content.images:
        if frame.split != split:
            continue
        people = [p for p in frame.people if p.box[2] > 0 and p.box[3] > 0]
        boxes = xywh_to_xyxy(as_boxes([p.box for p in people]))
        identities = np.array([-1 if p.identity is None else p.identity for p in people], np.int64)
        images.append(ImageTruth(frame.file, str(Path(root) / frame.file), boxes, identities, frame.camera))
    queries = [Query(q.file, xywh_to_xyxy(as_boxes([q.box]))[0], q.identity) for q in content.queries]
    return SearchData(images, queries if split == "test" else [], tracks=content.identities == "tracks")


def save_json(
    root: str | Path, frames: Sequence[Frame], queries: Sequence[QueryEntry] = (), tracks: bool = False
) -> None:
    path = Path(root) / "people.json"
    content = PeopleFile(images=tuple(frames), identities="tracks" if tracks else "people", queries=tuple(queries))
    try:
        replace_file(path, content.model_dump_json().encode())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); nothing was changed") from None
