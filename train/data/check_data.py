"""What is wrong where in a data set: every problem as one line, so that people can repair their own data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from personsearch.core.boxes import area, clip, iou
from personsearch.core.errors import DataError
from personsearch.train.data.json_data import read_people
from personsearch.train.data.prw import SearchData
from personsearch.train.data.samples import load_split, read_image
from personsearch.train.settings import SourceSettings

SAME_BOX = 0.7


def problems(source: SourceSettings, splits: tuple[str, ...] = ("train", "test"), every: int = 1) -> Iterator[str]:
    """Lines `where: what`. Reads every n-th image; pass over all of them once before a long training.

    Raises DataError where the data set cannot be read at all.
    """
    if source.format == "json":
        yield from _entries(source.root)
    loaded = {split: load_split(source, split) for split in splits}
    for split, data in loaded.items():
        if not data.images:
            yield f"{split}: the split is empty"
        yield from _images(split, data, every)
    if "test" in loaded:
        yield from _queries(loaded["test"])
    if len(loaded) == 2 and loaded["test"].images and source.format in ("json", "prw"):
        shared = set.intersection(*(_identities(data) for data in loaded.values()))
        if shared and source.format == "json":
            yield f"identities {sorted(shared)[:5]} are in train and test: figures on test will be too good"


def _entries(root: str) -> Iterator[str]:
    """What loading would silently drop or misread."""
    content = read_people(root)
    for name, count in Counter(frame.file for frame in content.images).items():
        if count > 1:
            yield f"images: {name} is listed {count} times"
    for i, frame in enumerate(content.images):
        for j, person in enumerate(frame.people):
            if person.box[2] <= 0 or person.box[3] <= 0:
                size = f"{person.box[2]:g} x {person.box[3]:g}"
                yield f"images.{i}.people.{j} ({frame.file}): width and height must be above 0, got {size}; dropped"


def _images(split: str, data: SearchData, every: int) -> Iterator[str]:
    for truth in data.images:
        labelled = truth.identities[truth.identities >= 0]
        for identity, count in Counter(labelled.tolist()).items():
            if count > 1:
                yield f"{split}: {truth.name}: identity {identity} is in the picture {count} times"
    for truth in data.images[::every]:
        try:
            height, width = read_image(truth).shape[:2]
        except DataError as error:
            yield f"{split}: {error}"
            continue
        inside = area(clip(truth.boxes, height, width)) / np.maximum(area(truth.boxes), 1e-6)
        for box, share in zip(truth.boxes.tolist(), inside, strict=True):
            if share < 0.5:
                where = "outside" if share <= 0 else f"only {share:.0%} inside"
                yield f"{split}: {truth.name}: box {[round(v, 1) for v in box]} is {where} the {width}x{height} image"


def _queries(data: SearchData) -> Iterator[str]:
    if not data.queries:
        yield "queries: there are none, so search cannot be scored"
    by_name = {truth.name: truth for truth in data.images}
    appearances = Counter(int(k) for truth in data.images for k in np.unique(truth.identities) if k >= 0)
    for number, query in enumerate(data.queries):
        where = f"queries.{number} ({query.image})"
        if query.image not in by_name:
            yield f"{where}: the image is not in the test split"
            continue
        truth = by_name[query.image]
        same = truth.boxes[truth.identities == query.identity]
        if not len(same) or iou(query.box[None], same).max() < SAME_BOX:
            yield f"{where}: no person of identity {query.identity} is annotated at this box"
        others = appearances[query.identity] - int((truth.identities == query.identity).any())
        if others < 1:
            yield f"{where}: identity {query.identity} is in no other test image, so it can never be found"


def _identities(data: SearchData) -> set[int]:
    return {int(k) for truth in data.images for k in truth.identities if k >= 0}
