"""What was found: as a table, as JSON, and as a contact sheet."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.history.searching import Found, Hit

TILE, PICTURE, GAP, ACROSS = (190, 270), (150, 170), 8, 6  # (width, height) in pixels; tiles in a row
PAPER, INK, FAINT = (245, 245, 245), (30, 30, 30), (205, 205, 205)


def table(found: Found, names: Mapping[str, str]) -> str:
    """A line a visit. `others`: visits of somebody else that would look so alike, among all that were searched."""
    rows = [("camera", "from", "to", "similarity", "somebody else", "others", "who")]
    for hit in found.hits:
        rows.append((
            hit.camera, _local(hit.started), _local(hit.ended)[11:] if _same_day(hit) else _local(hit.ended),
            f"{hit.similarity:.3f}", one_in(hit.false_match_rate), _few(hit.expected_false), who(hit, names),
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def as_json(found: Found, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "searched": dict(found.searched), "visits": found.searched.total(),
        "hits": [
            {
                "camera": hit.camera, "from": iso_time(hit.started), "to": iso_time(hit.ended),
                "similarity": round(hit.similarity, 4), "false_match_rate": float(f"{hit.false_match_rate:.3g}"),
                "expected_false": float(f"{hit.expected_false:.3g}"),
                "log_likelihood_ratio": round(hit.log_likelihood_ratio, 2), "sighting": hit.sighting,
                "person": hit.person or None, "name": names.get(hit.person), "stranger": hit.stranger or None,
                "track": hit.track, "views": hit.views, "box": [round(v, 1) for v in hit.box],
                **({"video": hit.video, "video_s": round(hit.video_s, 3)} if hit.video else {}),
            }
            for hit in found.hits
        ],
    }  # fmt: skip


def sheet(found: Found, query: np.ndarray | None) -> np.ndarray:
    """A picture uint8 (h, w, 3) BGR: the query (a picture, or None), then a tile for each visit. A visit of which no
    crop was kept is a box of text. No names: ids stand for them."""
    tiles = [] if query is None else [_tile(query, ["searched for"])]
    for number, hit in enumerate(found.hits, start=1):
        lines = [
            f"{number}. {hit.camera}", _local(hit.started), f"to {_local(hit.ended)[11:]}",
            f"similarity {hit.similarity:.3f}", f"others: {_few(hit.expected_false)}", hit.person or hit.stranger,
        ]  # fmt: skip
        crop = cv2.imdecode(np.frombuffer(hit.crop, np.uint8), cv2.IMREAD_COLOR) if hit.crop else None
        tiles.append(_tile(crop, lines))
    across = max(1, min(ACROSS, len(tiles)))
    down = max(1, math.ceil(len(tiles) / across))
    width, height = TILE
    page = np.full((down * (height + GAP) + GAP, across * (width + GAP) + GAP, 3), PAPER, np.uint8)
    for number, tile in enumerate(tiles):
        y, x = GAP + number // across * (height + GAP), GAP + number % across * (width + GAP)
        page[y : y + height, x : x + width] = tile
    return page


def _tile(picture: np.ndarray | None, lines: list[str]) -> np.ndarray:
    width, height = TILE
    tile = np.full((height, width, 3), PAPER, np.uint8)
    cv2.rectangle(tile, (0, 0), (width - 1, height - 1), FAINT)
    if picture is not None:
        scale = min(PICTURE[0] / picture.shape[1], PICTURE[1] / picture.shape[0])
        size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        x = (width - size[0]) // 2
        tile[4 : 4 + size[1], x : x + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    else:
        cv2.rectangle(tile, ((width - PICTURE[0]) // 2, 4), ((width + PICTURE[0]) // 2, 4 + PICTURE[1]), FAINT, -1)
        cv2.putText(tile, "no crop kept", (50, 95), cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    for number, line in enumerate(lines):
        text = line.encode("ascii", "backslashreplace").decode()[:28]  # OpenCV's font has no other letters
        place = (6, PICTURE[1] + 20 + 15 * number)
        cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    return tile


def who(hit: Hit, names: Mapping[str, str]) -> str:
    return names.get(hit.person, hit.person) or hit.stranger


def one_in(rate: float) -> str:
    return f"1 in {1 / max(rate, 1e-12):,.0f}"


def _few(count: float) -> str:
    return f"{count:.2g}" if count < 10 else f"{count:.0f}"


def _local(moment: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(moment).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):  # an index that somebody else made
        return "at no time of a calendar"


def _same_day(hit: Hit) -> bool:
    return _local(hit.started)[:10] == _local(hit.ended)[:10]
