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
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from personsearch.core.boxes import as_boxes, xywh_to_xyxy
from personsearch.core.config import Settings
from personsearch.core.errors import DataError
from personsearch.core.records import ImageTruth, Query
from personsearch.train.prw import SearchData

TREE = """expected a folder of our JSON format:
  ROOT/people.json    (images, people and queries; see train/json_data.py)
  ROOT/...            (the frames that it names)"""
Box = tuple[float, float, float, float]


class Person(Settings):
    box: Box
    identity: int | None = Field(None, ge=0)


class Frame(Settings):
    file: str
    camera: int = 0
    split: Literal["train", "test"] = "train"
    people: tuple[Person, ...] = ()


class QueryEntry(Settings):
    file: str
    box: Box
    identity: int = Field(ge=0)


class PeopleFile(Settings):
    images: tuple[Frame, ...]
    identities: Literal["people", "tracks"] = "people"
    queries: tuple[QueryEntry, ...] = ()


def read_people(root: str | Path) -> PeopleFile:
    """The whole file. Raises DataError that names each bad entry (the first ten)."""
    path = Path(root) / "people.json"
    try:
        return PeopleFile.model_validate_json(path.read_bytes())
    except OSError:
        raise DataError(f"{path}: not found; {TREE}") from None
    except ValidationError as error:
        faults = [
            f"{path}: {'.'.join(str(p) for p in fault['loc'])}: {fault['msg']}, got {str(fault['input'])[:60]!r}"
            for fault in error.errors()
        ]
        more = [f"... and {len(faults) - 10} more"] if len(faults) > 10 else []
        raise DataError("\n       ".join(faults[:10] + more)) from None


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
    path.parent.mkdir(parents=True, exist_ok=True)
    content = PeopleFile(images=tuple(frames), identities="tracks" if tracks else "people", queries=tuple(queries))
    path.write_text(content.model_dump_json(), encoding="utf-8")
