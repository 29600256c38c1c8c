"""What `runtime/calibrate.py` found out about cameras, kept beside the gallery and bound to model and camera."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field, ValidationError

from personsearch.core.config import Settings
from personsearch.core.errors import GalleryError
from personsearch.core.files import replace_file
from personsearch.core.json_text import parse_json
from personsearch.core.odds import Odds

FORMAT = "personsearch-calibration/1"
MAX_BYTES = 16 << 20


class CameraCalibration(Settings):
    odds: Odds
    passers_by_per_day: float = Field(0.0, ge=0)  # 0: not measured
    minutes: float = Field(0.0, ge=0)  # of video
    measured: str = ""  # ISO 8601, UTC


class CalibrationFile(Settings):
    format: str
    model: str
    cameras: dict[str, CameraCalibration]


def calibration_file(gallery: str | Path) -> Path:
    """people.gallery -> people.gallery.calibration.json"""
    return Path(f"{gallery}.calibration.json")


def load_calibration(path: str | Path, model_hash: str) -> dict[str, CameraCalibration]:
    """By camera; empty if there is no file. Raises GalleryError for a damaged one, and for another model's."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GalleryError(f"{path}: larger than {MAX_BYTES} bytes; this is no calibration")
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise GalleryError(f"{path}: not valid JSON; measure again with personsearch-calibrate") from None
    try:
        read = CalibrationFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise GalleryError(f"{path}: {where}: {first['msg']}; measure again with personsearch-calibrate") from None
    if read.format != FORMAT:
        raise GalleryError(f"{path}: expected format {FORMAT}, got {read.format[:40]!r}")
    if read.model != model_hash:
        raise GalleryError(
            f"{path}: was measured with model {read.model[:16]}, but the bundle is {model_hash}; measure again with "
            "runtime/calibrate.py, or remove the file"
        )
    return read.cameras


def save_calibration(path: str | Path, model_hash: str, cameras: dict[str, CameraCalibration]) -> None:
    """Replace the file in one step. Raises GalleryError."""
    content = CalibrationFile(format=FORMAT, model=model_hash, cameras=cameras).model_dump(mode="json")
    try:
        replace_file(path, (json.dumps(content, indent=1) + "\n").encode(), 0o600)
    except OSError as error:
        raise GalleryError(f"{path}: cannot be written ({error.strerror}); nothing was changed") from None
