"""What PRW and CUHK-SYSU hold as published, so that a download can be checked before days of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from personsearch.train.data.prw import SearchData

# From the data sets' papers: images, queries, and identities (of the training images, or of the queries). PRW's 483
# training identities are 481 here, because published loaders leave two of them unlabelled.
COUNTS: dict[str, dict[str, tuple[int, int, int]]] = {
    "prw": {"train": (5704, 0, 481), "test": (6112, 2057, 450)},
    "cuhk": {"train": (11206, 0, 5532), "test": (6978, 2900, 2900)},
}
# Folders with the number of their files.
FILES = {
    "prw": {"frames/*.jpg": 11816, "annotations/*.jpg.mat": 11816},
    "cuhk": {"Image/SSM/*.jpg": 18184, "annotation/test/train_test/TestG*.mat": 6},
}


def differences(kind: str, root: str | Path, split: str, data: SearchData) -> Iterator[str]:
    """A line for each count of a split that is not the published one."""
    labels = [q.identity for q in data.queries] if split == "test" else [k for t in data.images for k in t.identities]
    found = (len(data.images), len(data.queries), len({int(k) for k in labels if k >= 0}))
    for what, expected, number in zip(("images", "queries", "identities"), COUNTS[kind][split], found, strict=True):
        if number != expected:
            yield f"{root}: {split} split: expected {expected} {what} as published, got {number}"


def missing_files(kind: str, root: str | Path) -> Iterator[str]:
    """A line for each folder that does not hold as many files as published."""
    for pattern, expected in FILES[kind].items():
        number = sum(1 for _ in Path(root).glob(pattern))
        if number != expected:
            yield f"{root}/{pattern}: expected {expected} files as published, got {number}"
