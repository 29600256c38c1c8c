"""Finds and describes the people in pictures that somebody uploads. A process of its own: a picture that makes a
decoder crash or a model that does not load ends neither the page nor the stream, and the engine that watches is not
held up.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import cv2
import numpy as np

from personsearch.core.boxes import iou
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError
from personsearch.core.pictures import decode_picture, is_grey
from personsearch.runtime.decisions.enrolment import SAME_BOX, describe_person
from personsearch.runtime.processes.channel import Closed, channel_of_child

MOST_PEOPLE = 32
SHOWN_WIDTH, SHOWN_QUALITY = 1280, 85  # of the picture that the browser gets back


def main() -> None:
    channel = channel_of_child()
    with contextlib.suppress(Closed):
        first = channel.receive()
        assert first is not None
        searcher: BundleSearcher | None = None
        while (message := channel.receive()) is not None:
            header, data, _ = message
            try:
                image = decode_picture(data, header["name"])
                if searcher is None:
                    searcher = BundleSearcher(first[0]["bundle"], first[0]["engine"], threads=1)
                channel.send(*_described(searcher, image, [np.array(box, np.float32) for box in header["boxes"]]))
            except UserError as error:
                channel.send({"error": str(error)})
    os._exit(0)


def _described(searcher: BundleSearcher, image: np.ndarray, shares: list[np.ndarray]) -> tuple[dict[str, Any], bytes]:
    """shares  boxes [x, y, w, h] of people who are to be described too, as shares of the picture

    The payload is the embeddings (N, D) float32, then the picture as JPEG, turned upright."""
    height, width = image.shape[:2]
    size = np.array([width, height] * 2, np.float32)
    (found,) = searcher.find([image])
    boxes = [box for box, _ in sorted(zip(found.boxes, found.scores, strict=True), key=lambda pair: -pair[1])]
    for x, y, w, h in shares:
        box = np.array([x, y, x + w, y + h], np.float32) * size
        if not boxes or iou(box[None], np.array(boxes))[0].max() < SAME_BOX:
            boxes.append(box)
    people, rows = [], []
    for box in boxes[:MOST_PEOPLE]:
        embedding, quality = describe_person(searcher, image, box, found, "the picture")
        rows.append(embedding)
        x1, y1, x2, y2 = (box / size).tolist()
        people.append({
            "box": [round(x1, 5), round(y1, 5), round(x2 - x1, 5), round(y2 - y1, 5)],
            "quality": round(min(1.0, quality.value), 4), "complaints": quality.complaints(),
        })  # fmt: skip
    scale = min(1.0, SHOWN_WIDTH / width)
    shown = cv2.resize(image, (round(width * scale), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    picture = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, SHOWN_QUALITY])[1].tobytes()
    embeddings = b"".join(np.asarray(row, np.float32).tobytes() for row in rows)
    head = {"people": people, "width": width, "height": height, "grey": is_grey(image), "embeddings": len(embeddings)}
    return head, embeddings + picture


if __name__ == "__main__":
    main()
