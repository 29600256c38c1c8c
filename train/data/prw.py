"""PRW's on-disk layout: frames/, annotations/*.mat, frame_{train,test}.mat and query_info.txt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from personsearch.core.boxes import as_boxes, xywh_to_xyxy
from personsearch.core.config import LARGEST, LARGEST_PIXEL
from personsearch.core.errors import DataError
from personsearch.core.metrics import degenerate
from personsearch.core.records import ImageTruth, Query

TREE = """expected PRW's layout:
  ROOT/frames/cXsY_NNNNNN.jpg
  ROOT/annotations/cXsY_NNNNNN.jpg.mat
  ROOT/frame_train.mat  ROOT/frame_test.mat  ROOT/query_info.txt"""
# Published loaders treat these two training identities as unlabelled.
UNLABELLED_IN_TRAINING = (483, 932)


@dataclass
class SearchData:
    """One split of a person-search data set. Identities are the data set's own numbers, -1 = unlabelled.

    `galleries` holds the image names of each query's gallery; None = all images. With `tracks` an identity is one
    track: two of them may be one person, unless they are in one image together.
    """

    images: list[ImageTruth]
    queries: list[Query] = field(default_factory=list)
    galleries: list[list[str]] | None = None
    tracks: bool = False


def load_prw(root: str | Path, split: str, *, integer_boxes: bool = True) -> SearchData:
    """Read the `train` or `test` split.

    integer_boxes  truncate to whole pixels after xywh -> xyxy, as the loaders behind published figures do
    Raises DataError that names the missing file and the expected tree.
    """
    root = Path(root)
    listing = root / f"frame_{split}.mat"
    if not listing.is_file():
        raise DataError(f"{listing}: not found; {TREE}")
    with laid_out(listing, TREE):
        names = [str(np.squeeze(cell[0])) for cell in _listing(listing, split)]
    if not names:
        raise DataError(f"{listing}: the {split} split is empty")
    published = _is_published_prw(root)
    images = []
    for name in names:
        boxes, identities = _annotation(root / "annotations" / f"{name}.jpg.mat", integer_boxes)
        if split == "train" and published:
            identities = np.where(np.isin(identities, UNLABELLED_IN_TRAINING), -1, identities)
        images.append(ImageTruth(f"{name}.jpg", str(root / "frames" / f"{name}.jpg"), boxes, identities, _camera(name)))
    queries = _queries(root / "query_info.txt", integer_boxes) if split == "test" else []
    return SearchData(images, queries)


def _is_published_prw(root: Path) -> bool:
    """PRW itself has 5,704 training frames; its two odd identities mean nothing in other data of this layout."""
    return len(_listing(root / "frame_train.mat", "train")) == 5704


def _listing(path: Path, split: str) -> np.ndarray:
    content = load_matlab(path, TREE)
    if f"img_index_{split}" not in content:
        raise DataError(f"{path}: expected the variable img_index_{split}")
    return content[f"img_index_{split}"]


def load_matlab(path: Path, tree: str) -> dict:
    """The variables of a .mat file; DataError with the expected `tree` if it is missing."""
    try:
        return loadmat(str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: not found; {tree}") from None
    except NotImplementedError:
        raise DataError(f"{path}: is of MATLAB 7.3; save it as version 7 (`save -v7`)") from None
    except (Exception, MemoryError) as error:  # scipy's parser raises whatever a damaged file leads it to
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise DataError(f"{path}: not a readable MATLAB file ({reason})") from None


@contextmanager
def laid_out(path: Path, tree: str) -> Iterator[None]:
    """What stands elsewhere than this layout has it becomes a DataError that names the file."""
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{path}: holds other variables than expected ({error}); {tree}") from None


def check_pixels(xywh: np.ndarray, path: Path, kind: str = "row") -> None:
    """Raises DataError with file and row if a box (N, 4) has a number that no picture has."""
    bad = ~(np.isfinite(xywh) & (np.abs(xywh) <= LARGEST_PIXEL)).all(1)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{path}: {kind} {row + 1}: expected x, y, w, h in pixels, got {xywh[row].tolist()}")


def _annotation(path: Path, integer_boxes: bool) -> tuple[np.ndarray, np.ndarray]:
    content = load_matlab(path, TREE)
    for key in ("box_new", "anno_file", "anno_previous"):
        if key in content:
            break
    else:
        raise DataError(f"{path}: holds none of box_new, anno_file, anno_previous")
    with laid_out(path, TREE):
        rows = np.asarray(content[key], np.float64)
    if rows.size == 0:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise DataError(f"{path}: expected rows of id, x, y, w, h, got shape {rows.shape}")
    check_pixels(rows[:, 1:], path)
    bad = ~(np.isfinite(rows[:, 0]) & (np.abs(rows[:, 0]) <= LARGEST) & (rows[:, 0] == np.round(rows[:, 0])))
    if bad.any():
        raise DataError(f"{path}: row {int(bad.argmax()) + 1}: expected a whole number as id, got {rows[bad][0, 0]}")
    rows = np.maximum(rows, [-np.inf, 0, 0, -np.inf, -np.inf])  # clipped before w and h are added
    boxes = _boxes(rows[:, 1:], integer_boxes)
    keep = ~degenerate(boxes)
    identities = rows[:, 0].astype(np.int64)
    return boxes[keep], np.where(identities < 0, -1, identities)[keep]


def _boxes(xywh: np.ndarray, integer_boxes: bool) -> np.ndarray:
    boxes = xywh_to_xyxy(xywh)
    return as_boxes(boxes.astype(np.int32) if integer_boxes else boxes)


def _camera(name: str) -> int:
    return int(name[1]) if len(name) > 1 and name[0] == "c" and name[1] in "0123456789" else 0


def _queries(path: Path, integer_boxes: bool) -> list[Query]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: not found; {TREE}") from None
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8 text'})") from None
    queries = []
    for number, line in enumerate((text.strip() for text in lines), start=1):
        if not line:
            continue
        parts = line.split()
        try:
            identity, xywh, name = float(parts[0]), np.array([float(v) for v in parts[1:5]]), parts[5]
        except (IndexError, ValueError):
            raise DataError(f"{path}:{number}: expected `id x y w h name`, got {line[:60]!r}") from None
        if not (identity.is_integer() and abs(identity) <= LARGEST):
            raise DataError(f"{path}:{number}: expected a whole number as id, got {parts[0][:40]!r}")
        check_pixels(xywh[None], path, f"line {number}, box")
        box = _boxes(xywh[None], integer_boxes)[0]
        queries.append(Query(f"{name.removesuffix('.jpg')}.jpg", box, int(identity)))
    return queries
