"""A camera's zones and hours on its frames: whom they leave out, and where a person stands."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from personsearch.core.records import Detections
from personsearch.core.zones import inside_polygon
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.cameras.frames import Frame


def outside_zones(detections: Detections, frame: Frame, camera: CameraSettings) -> Detections:
    """Without the detections whose centre lies in an `ignore` box, or whose feet stand in a zone to ignore."""
    polygons = [np.array(zone.polygon) for zone in camera.zones if zone.kind == "ignore"]
    if not (camera.ignore or polygons) or not len(detections):
        return detections
    boxes = frame.to_picture(detections.boxes)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.asarray(frame.picture_size)
    keep = np.ones(len(detections), bool)
    for x, y, w, h in camera.ignore:
        inside = (centre >= [x, y]) & (centre <= [x + w, y + h])
        keep &= ~inside.all(1)
    for polygon in polygons:
        keep &= ~inside_polygon(feet_of(boxes, frame.picture_size), polygon)
    return detections[keep]


def feet_of(boxes: np.ndarray, picture_size: tuple[int, int]) -> np.ndarray:
    """(N, 4) xyxy in pixels of the upright picture -> (N, 2) middle of the lower edge, shares of the picture."""
    feet: np.ndarray = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], 1) / np.asarray(picture_size)
    return np.clip(feet, 0.0, 1.0)


def drop_outside_hours(cameras: Iterable[Camera], wall: float) -> None:
    """Outside its hours a camera's frames are not analysed; the camera itself goes on."""
    for camera in cameras:
        hours = camera.settings.active
        if hours is not None and camera.pending and not hours.active(wall):
            while camera.pending:
                camera.drop(camera.pending.popleft(), "hours")
