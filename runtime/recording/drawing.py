"""What is drawn into recorded pictures: boxes and names, and people who are made unrecognisable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import cv2
import numpy as np

GREY, GREEN = (160, 160, 160), (60, 200, 60)
BLOCKS = (4, 8)  # (across, down): what is left of a hidden person; enough to see that somebody is there
MARGIN = 0.1  # of the box, on each side


def annotate(image: np.ndarray, boxes: Mapping[int, np.ndarray], labels: Mapping[int, str]) -> None:
    """Draw boxes, by track, into the picture; those with a label in green with it."""
    size = max(0.4, image.shape[0] / 1100)
    for number, box in sorted(boxes.items(), key=lambda item: item[0] in labels):
        x1, y1, x2, y2 = (int(v) for v in box)
        colour = GREEN if number in labels else GREY
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, max(1, round(size * 2)))
        label = labels.get(number, str(number))
        (w, h), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        top = max(h + 4, y1)
        left = max(0, min(x1, image.shape[1] - w - 4))  # a label at the right edge stays readable
        cv2.rectangle(image, (left, top - h - 4), (left + w + 4, top), colour, -1)
        cv2.putText(image, label, (left + 2, top - 3), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)


def hide(image: np.ndarray, boxes: Iterable[np.ndarray]) -> None:
    """Make the people at these boxes (4,) xyxy unrecognisable: a few blocks of mean colour, which nothing undoes."""
    height, width = image.shape[:2]
    for box in boxes:
        margin = MARGIN * (box[2:] - box[:2])
        x1, y1 = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
        x2, y2 = np.minimum(np.ceil(box[2:] + margin), [width, height]).astype(int)
        if x2 - x1 < 1 or y2 - y1 < 1:
            continue
        part = image[y1:y2, x1:x2]
        few = cv2.resize(part, (min(BLOCKS[0], x2 - x1), min(BLOCKS[1], y2 - y1)), interpolation=cv2.INTER_AREA)
        image[y1:y2, x1:x2] = cv2.resize(few, (x2 - x1, y2 - y1), interpolation=cv2.INTER_NEAREST)
