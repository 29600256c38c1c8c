#!/usr/bin/env python
"""Draw a camera's zones, lines, ignored boxes and region on a still, to check what stands in the file.

  runtime/draw_zones.py --cams cams.yaml [--camera door] [--still PICTURE] [--out zones-door.png]

The still is one frame of the camera itself, or a picture that you give (unrotated, as the camera makes it). A line's
arrow points to the side that counts as `in`. The grid is in tenths of the picture: the numbers are what goes into
cams.yaml. Exit status 0, or 2 for wrong input.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.commands import command_line
from personsearch.core.config import load_settings
from personsearch.core.errors import CameraError, UserError, run_main
from personsearch.core.pictures import read_picture, write_picture
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.settings import StreamSettings

COLOURS = {"watch": (80, 200, 80), "ignore": (60, 60, 220), "entering": (220, 160, 40), "line": (40, 200, 240)}  # BGR
TRIES = 50  # frames until one can be decoded


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--cams", required=True, metavar="FILE", help="cams.yaml")
    parser.add_argument("--camera", default="", metavar="NAME", help="which camera (default: the only one)")
    parser.add_argument("--still", default="", metavar="PICTURE", help="draw on this instead of the camera's own frame")
    parser.add_argument("--out", default="", metavar="FILE", help="picture to write (default: zones-NAME.png)")
    given = parser.parse_args()
    cameras = {camera.name: camera for camera in load_settings(given.cams, StreamSettings).cameras}
    if not given.camera and len(cameras) > 1:
        raise UserError(f"--camera: {given.cams} has several: {', '.join(cameras)}")
    camera = cameras.get(given.camera) if given.camera else next(iter(cameras.values()))
    if camera is None:
        raise UserError(f"--camera {given.camera}: not in {given.cams}, which has {', '.join(cameras)}")
    image = upright(read_picture(given.still) if given.still else frame_of(camera), camera)
    out = Path(given.out or f"zones-{camera.name}.png")
    write_picture(out, draw(image, camera))
    print(f"wrote {out}: {len(camera.zones)} zones, {len(camera.lines)} lines, {len(camera.ignore)} ignored boxes")
    return 0


def frame_of(camera: CameraSettings) -> np.ndarray:
    """The first frame that the camera gives. Raises CameraError, without secrets."""
    from personsearch.core.video_files import SourceError
    from personsearch.runtime.cameras.sources import open_source
    from personsearch.runtime.cameras.urls import with_secrets

    options = camera.model_dump(mode="json") | {"url": with_secrets(camera.url, camera.name)}
    try:
        source = open_source(options)
    except SourceError as error:
        raise CameraError(f"camera {camera.name}: {error}; or give --still PICTURE") from None
    try:
        for _ in range(TRIES):
            image = source.retrieve() if source.grab() else None
            if image is not None:
                return image
    except SourceError as error:
        raise CameraError(f"camera {camera.name}: {error}; or give --still PICTURE") from None
    finally:
        source.close()
    raise CameraError(f"camera {camera.name}: gives no frame that can be decoded; or give --still PICTURE")


def upright(image: np.ndarray, camera: CameraSettings) -> np.ndarray:
    from personsearch.runtime.cameras.preparing import ROTATIONS

    return cv2.rotate(image, ROTATIONS[camera.rotate]) if camera.rotate else image


def draw(image: np.ndarray, camera: CameraSettings) -> np.ndarray:
    """The upright picture (h, w, 3) BGR with everything that `camera` says about places in it."""
    height, width = image.shape[:2]
    out, size = image.copy(), np.array([width, height])
    for tenth in range(1, 10):
        x, y = width * tenth // 10, height * tenth // 10
        cv2.line(out, (x, 0), (x, height), (128, 128, 128), 1)
        cv2.line(out, (0, y), (width, y), (128, 128, 128), 1)
        _write(out, f".{tenth}", (x + 2, 12), (200, 200, 200))
        _write(out, f".{tenth}", (2, y - 2), (200, 200, 200))
    for zone in camera.zones:
        _fill(out, np.array(zone.polygon) * size, COLOURS[zone.kind], f"{zone.name} ({zone.kind})")
    for left, top, wide, high in camera.ignore:
        corners = np.array([[left, top], [left + wide, top], [left + wide, top + high], [left, top + high]])
        _fill(out, corners * size, COLOURS["ignore"], "ignore")
    for line in camera.lines:
        first, last = np.array(line.points) * size
        cv2.line(out, _pixel(first), _pixel(last), COLOURS["line"], 2)
        along = (last - first) / max(float(np.linalg.norm(last - first)), 1e-9)
        right = np.array([-along[1], along[0]])  # y points down
        middle = (first + last) / 2
        cv2.arrowedLine(out, _pixel(middle), _pixel(middle + 0.08 * height * right), COLOURS["line"], 2, tipLength=0.3)
        _write(out, f"{line.name} (in)", _pixel(middle + 0.1 * height * right), COLOURS["line"])
    if camera.region:
        left, top, wide, high = camera.region
        corner, opposite = np.array([left, top]) * size, np.array([left + wide, top + high]) * size
        cv2.rectangle(out, _pixel(corner), _pixel(opposite), (255, 255, 255), 2)
        _write(out, "region", _pixel(corner + np.array([4, 16])), (255, 255, 255))
    return out


def _fill(image: np.ndarray, corners: np.ndarray, colour: tuple[int, int, int], text: str) -> None:
    polygon = [np.round(corners).astype(np.int32)]
    tinted = image.copy()
    cv2.fillPoly(tinted, polygon, colour)
    cv2.addWeighted(tinted, 0.35, image, 0.65, 0, dst=image)
    cv2.polylines(image, polygon, True, colour, 2)
    _write(image, text, _pixel(corners.mean(0)), colour)


def _write(image: np.ndarray, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


if __name__ == "__main__":
    sys.exit(main())
