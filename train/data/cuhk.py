"""CUHK-SYSU's on-disk layout: Image/SSM/*.jpg and annotation/ with Images, pool, Train and TestG*.mat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.boxes import as_boxes, xywh_to_xyxy
from personsearch.core.errors import DataError
from personsearch.core.records import ImageTruth, Query
from personsearch.train.data.prw import SearchData, check_pixels, laid_out, load_matlab

TREE = """expected CUHK-SYSU's layout:
  ROOT/Image/SSM/sN.jpg
  ROOT/annotation/Images.mat  ROOT/annotation/pool.mat
  ROOT/annotation/test/train_test/Train.mat  ROOT/annotation/test/train_test/TestG{50,100,500,1000,2000,4000}.mat
  ROOT/annotation/test/subset/{Occlusion,Resolution}.mat (only for those subsets)"""
GALLERY_SIZES = (50, 100, 500, 1000, 2000, 4000)
FULL = 0  # as a gallery size: the whole pool
SUBSETS = ("Occlusion", "Resolution")  # queries of half hidden and of small people, with galleries of their own


def load_cuhk(
    root: str | Path, split: str, gallery: int = 100, *, subset: str = "", integer_boxes: bool = True
) -> SearchData:
    """Read the `train` split (all images outside the pool) or `test` (the pool, queries and their galleries).

    gallery        one of GALLERY_SIZES, or 0 for the whole pool (then `galleries` is None)
    subset         test only: one of SUBSETS instead of the usual queries; `gallery` then has no meaning
    integer_boxes  truncate to whole pixels after xywh -> xyxy, as the loaders behind published figures do

    Test identities are the queries' numbers from 1 on; training identities are other people. Raises DataError that
    names the missing file and the expected tree.
    """
    with laid_out(Path(root) / "annotation", TREE):
        return _load(Path(root), split, gallery, subset, integer_boxes)


def _load(root: Path, split: str, gallery: int, subset: str, integer_boxes: bool) -> SearchData:
    annotation = root / "annotation"
    pool = {_text(cell) for cell in _variable(annotation / "pool.mat", "pool").ravel()}
    raw = _images(annotation / "Images.mat", in_pool=split == "test", pool=pool)
    if not raw:
        raise DataError(f"{annotation / 'Images.mat'}: the {split} split is empty")
    identities = {name: np.full(len(boxes), -1, np.int64) for name, boxes in raw.items()}
    protocol = annotation / "test" / "train_test"
    queries: list[Query] = []
    galleries: list[list[str]] | None = None
    if split == "train":
        _label_training(protocol / "Train.mat", raw, identities)
    else:
        # The smallest protocol holds every appearance of every target; larger ones only add other images.
        entries = _subset(annotation, subset) if subset else _protocol(protocol, GALLERY_SIZES[0])
        for number, entry in enumerate(entries, start=1):
            query = entry["Query"][0, 0]
            name, box = _text(query["imname"]), _numbers(query["idlocate"])
            if len(box) != 4:
                raise DataError(f"{protocol}: query {number} has no box of x, y, w, h")
            check_pixels(box[None], protocol, f"query {number}, box")
            _label(identities, raw, name, box, number)
            queries.append(Query(name, _corners(box[None], integer_boxes)[0], number))
            for appearance in entry["Gallery"].ravel():
                _label(identities, raw, _text(appearance["imname"]), _numbers(appearance["idlocate"]), number)
        if subset:
            galleries = _names(entries)
        elif gallery != FULL:
            galleries = gallery_names(root, gallery)
    images = []
    for name, boxes in raw.items():
        corners = _corners(boxes, integer_boxes)
        images.append(ImageTruth(name, str(root / "Image" / "SSM" / name), corners, identities[name]))
    return SearchData(images, queries, galleries)


def gallery_names(root: str | Path, size: int) -> list[list[str]]:
    """For each query, the image names of its gallery of `size` images."""
    if size not in GALLERY_SIZES:
        raise DataError(f"CUHK-SYSU has galleries of {', '.join(map(str, GALLERY_SIZES))} or 0 = full, got {size}")
    folder = Path(root) / "annotation" / "test" / "train_test"
    with laid_out(folder / f"TestG{size}.mat", TREE):
        return _names(_protocol(folder, size))


def _names(entries: np.ndarray) -> list[list[str]]:
    return [[_text(item["imname"]) for item in entry["Gallery"].ravel()] for entry in entries]


def _subset(annotation: Path, name: str) -> np.ndarray:
    """The entries of a subset file, which holds one variable of TestG's form."""
    if name not in SUBSETS:
        raise DataError(f"CUHK-SYSU has the subsets {' and '.join(SUBSETS)}, got '{name}'")
    path = annotation / "test" / "subset" / f"{name}.mat"
    variables = [v for k, v in load_matlab(path, TREE).items() if not k.startswith("_")]
    if len(variables) != 1 or not {"Query", "Gallery"} <= set(variables[0].dtype.names or ()):
        raise DataError(f"{path}: expected one variable with Query and Gallery, as in TestG50.mat")
    return variables[0].ravel()


def _protocol(folder: Path, size: int) -> np.ndarray:
    return _variable(folder / f"TestG{size}.mat", f"TestG{size}").ravel()


def _variable(path: Path, name: str) -> np.ndarray:
    content = load_matlab(path, TREE)
    if name not in content:
        raise DataError(f"{path}: expected the variable {name}, got {', '.join(k for k in content if k[0] != '_')}")
    return content[name]


def _images(path: Path, in_pool: bool, pool: set[str]) -> dict[str, np.ndarray]:
    """Image name -> (N, 4) x, y, w, h as written; boxes without width or height are dropped."""
    found = {}
    for item in _variable(path, "Img").ravel():
        name = _text(item["imname"])
        if (name in pool) != in_pool:
            continue
        rows = [_numbers(box["idlocate"]) for box in item["box"].ravel()]
        boxes = np.array([r for r in rows if len(r) == 4], np.float64).reshape(-1, 4)
        check_pixels(boxes, path, f"{name}, box")
        found[name] = boxes[(boxes[:, 2:] > 0).all(1)]
    return found


def _label_training(path: Path, raw: dict[str, np.ndarray], identities: dict[str, np.ndarray]) -> None:
    for label, cell in enumerate(_variable(path, "Train").ravel(), start=1):
        person: Any = cell
        while isinstance(person, np.ndarray) and person.dtype.names is None:
            person = person.ravel()[0]  # cells in cells, as MATLAB's versions differ in nesting
        for scene in np.asarray(person["scene"]).ravel()[0].ravel():
            _label(identities, raw, _text(scene["imname"]), _numbers(scene["idlocate"]), label)


def _label(identities: dict[str, np.ndarray], raw: dict[str, np.ndarray], name: str, box: np.ndarray, to: int) -> None:
    """Give the box with equal numbers this identity; an empty `box` (the person is absent) changes nothing."""
    if len(box) != 4 or name not in raw:
        return
    identities[name][(raw[name] == box).all(1)] = to


def _corners(xywh: np.ndarray, integer_boxes: bool) -> np.ndarray:
    boxes = xywh_to_xyxy(xywh)
    return as_boxes(boxes.astype(np.int32) if integer_boxes else boxes)


def _text(value: Any) -> str:
    return str(np.asarray(value).ravel()[0]) if np.asarray(value).dtype.kind != "O" else _text(value.ravel()[0])


def _numbers(value: Any) -> np.ndarray:
    """(k,) float64 of a 1xk matrix; k is 0 where MATLAB wrote an empty one."""
    return np.asarray(value).astype(np.float64).ravel()
