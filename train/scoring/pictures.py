"""Pictures of data and results: samples with boxes, samples per identity (Fig. 4), a query's retrieval (Fig. 6)."""

from __future__ import annotations

import colorsys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.boxes import iou
from personsearch.core.errors import DataError
from personsearch.core.pictures import write_picture
from personsearch.core.records import Detections, ImageTruth
from personsearch.train.data.prw import SearchData
from personsearch.train.data.samples import read_image

UNLABELLED_COLOUR = (150, 150, 150)
GREEN, RED, BLUE, ORANGE = (60, 170, 40), (40, 40, 210), (200, 120, 30), (0, 140, 255)


def draw_samples(data: SearchData, out: Path, count: int) -> list[Path]:
    """`count` frames spread over the split, one colour and number per identity, grey for unlabelled people.

    Frames that cannot be read are left out: `problems` names them.
    """
    paths = []
    for position in np.unique(np.linspace(0, len(data.images) - 1, count).astype(int)):
        truth = data.images[position]
        try:
            image = read_image(truth).copy()
        except DataError:
            continue
        for box, identity in zip(truth.boxes.astype(int), truth.identities.tolist(), strict=True):
            colour = identity_colour(identity) if identity >= 0 else UNLABELLED_COLOUR
            frame_box(image, box, colour, str(identity) if identity >= 0 else "?")
        path = out / f"sample_{Path(truth.name).stem}.jpg"
        write_picture(path, image)
        paths.append(path)
    return paths


def identity_colour(identity: int) -> tuple[int, int, int]:
    """BGR; neighbours in number are far apart in hue."""
    r, g, b = colorsys.hsv_to_rgb(identity * 0.618 % 1, 0.9, 0.95)
    return int(255 * b), int(255 * g), int(255 * r)


def frame_box(image: np.ndarray, box: np.ndarray, colour: tuple[int, int, int], text: str = "") -> None:
    """Draw a box (xyxy) with a label above it, in place."""
    x1, y1, x2, y2 = (int(v) for v in box)
    thick = max(1, round(max(image.shape[:2]) / 500))
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, thick)
    if text:
        scale = max(0.4, max(image.shape[:2]) / 1600)
        (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        top = max(0, y1 - h - 6)
        cv2.rectangle(image, (x1, top), (x1 + w + 4, top + h + 6), colour, -1)
        cv2.putText(
            image, text, (x1 + 2, top + h + 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA
        )


def draw_detections(truth: ImageTruth, found: Detections, path: Path) -> Path:
    """A frame with the people who were found (green), missed (red), and what is nobody (orange, with its score)."""
    image = read_image(truth).copy()
    missed, false = detection_failures(truth, found)
    for row, box in enumerate(truth.boxes):
        frame_box(image, box, RED if row in missed else GREEN)
    for row in false:
        frame_box(image, found.boxes[row], ORANGE, f"{found.scores[row]:.2f}")
    write_picture(path, image)
    return path


def detection_failures(truth: ImageTruth, found: Detections) -> tuple[list[int], list[int]]:
    """Rows of annotated people without a detection of IoU >= 0.5, and of detections on no annotated person."""
    overlap = iou(truth.boxes, found.boxes)
    if 0 in overlap.shape:
        return list(range(len(truth.boxes))), list(range(len(found.boxes)))
    return np.flatnonzero(overlap.max(1) < 0.5).tolist(), np.flatnonzero(overlap.max(0) < 0.5).tolist()


def draw_histogram(data: SearchData, path: Path) -> Path:
    """Samples per identity, most frequent first: the long tail of the paper's Fig. 4."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = sorted(Counter(int(k) for t in data.images for k in t.identities if k >= 0).values(), reverse=True)
    figure, axes = pyplot.subplots(figsize=(7, 3.5))
    axes.bar(range(len(counts)), counts, width=1.0)
    if counts:
        axes.axhline(float(np.median(counts)), color="black", lw=1, ls="--", label=f"median {np.median(counts):g}")
        axes.legend()
    axes.set(
        xlabel="identity, by frequency", ylabel="samples", title=f"{len(counts)} identities, {sum(counts)} samples"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


Match = tuple[ImageTruth, np.ndarray, float, bool]  # image, box (4,) xyxy, similarity, whether it is a true positive


def draw_retrieval(query: tuple[ImageTruth, np.ndarray], rankings: dict[str, list[Match]], path: Path) -> Path:
    """A query (left) and its best matches, right ones green, wrong ones red: whole frames with the person enlarged.

    query     its image and box (4,) xyxy
    rankings  best first; of several models, by name, each has a row of its own (Fig. 6)
    """
    rows = []
    for name, ranking in rankings.items():
        panels = [_panel(*query, BLUE, name if len(rankings) > 1 else "query")]
        for place, (truth, box, similarity, right) in enumerate(ranking, start=1):
            panels.append(_panel(truth, box, GREEN if right else RED, f"{place}: {similarity:.2f}"))
        rows.append(np.concatenate(panels, 1))
    widest = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    write_picture(path, np.concatenate(rows, 0))
    return path


def _panel(truth: ImageTruth, box: np.ndarray, colour: tuple[int, int, int], text: str) -> np.ndarray:
    width, height = 360, 240
    image = read_image(truth)
    h, w = image.shape[:2]
    x1, y1, x2, y2 = np.clip(np.round(box), 0, [w, h, w, h]).astype(int)
    crop = image[y1 : max(y1 + 1, y2), x1 : max(x1 + 1, x2)]
    scale = min(width / w, height / h)
    canvas = np.full((height, width + 8, 3), 255, np.uint8)
    small = cv2.resize(image, (max(1, int(w * scale)), max(1, int(h * scale))), interpolation=cv2.INTER_AREA)
    frame_box(small, np.array([x1, y1, x2, y2]) * scale, colour)
    tall = int(height * 0.55)
    wide = min(int(width * 0.4), max(12, int(crop.shape[1] * tall / crop.shape[0])))
    # The person is enlarged in the corner that it does not stand in.
    left = 0 if (x1 + x2) / 2 > w * 0.4 else small.shape[1] - wide
    canvas[: small.shape[0], : small.shape[1]] = small
    canvas[:tall, left : left + wide] = cv2.resize(crop, (wide, tall))
    cv2.rectangle(canvas, (left, 0), (left + wide - 1, tall - 1), colour, 2)
    cv2.putText(canvas, text, (6, height - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.putText(canvas, text, (6, height - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 1, cv2.LINE_AA)
    return canvas
