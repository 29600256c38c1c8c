"""Pictures from and to files: the one place where they are decoded, because a decoder may also raise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from personsearch.core.errors import DataError
from personsearch.core.files import read_file
from personsearch.core.picture_sizes import claimed_pixels
from personsearch.core.redaction import redact

MOST_BYTES = 256 << 20  # of a picture's file
MOST_PIXELS = 1 << 28  # more than any camera has
_CONVERT = "is not supported; convert it to JPEG or PNG"
# What a file begins with (after `offset` bytes), and what to say of it if it cannot be decoded.
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    *((4, b"ftyp" + brand, f"HEIC {_CONVERT}") for brand in (b"hei", b"hev", b"mif", b"msf")),
    (4, b"ftypavi", f"AVIF {_CONVERT}"),
    (4, b"ftypcrx ", f"a raw photograph (CR3) {_CONVERT}"),
    (4, b"ftyp", "is a video; a picture is expected"),
    (0, b"\x1a\x45\xdf\xa3", "is a video; a picture is expected"),
    (8, b"AVI ", "is a video; a picture is expected"),
    (0, b"\xff\x0a", f"JPEG XL {_CONVERT}"),
    (4, b"JXL ", f"JPEG XL {_CONVERT}"),
    (4, b"jP  ", f"JPEG 2000 {_CONVERT}"),
    (0, b"8BPS", f"Photoshop's format {_CONVERT}"),
    (0, b"II*\0", f"this kind of TIFF or raw photograph {_CONVERT}"),
    (0, b"MM\0*", f"this kind of TIFF or raw photograph {_CONVERT}"),
    (0, b"%PDF", f"PDF {_CONVERT}"),
    (0, b"version https://git-lfs", "is a pointer of Git LFS; fetch the file itself with `git lfs pull`"),
)  # fmt: skip
_GREY_DIFFERENCE = 3.0  # of 255; JPEG's rounding of a grey picture stays below


cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # our own line says what could not be read


def read_picture(path: str | Path) -> np.ndarray:
    """uint8 (h, w, 3) BGR, turned upright as its EXIF data says; 16 bits, grey and transparency are converted.

    Raises DataError, in one line, for a file that is missing, damaged, of a format that is not supported, or that
    claims more pixels than any camera has.
    """
    try:
        data = read_file(path, MOST_BYTES)
    except FileNotFoundError:
        known = "a picture is read from a file, not from a URL" if "://" in str(path) else "no such file"
        raise DataError(f"{redact(str(path))}: cannot be read ({known})") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason})") from None
    return decode_picture(data, path)


def decode_picture(data: bytes, path: str | Path, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """`read_picture` of a file's bytes; `path` is what messages call it."""
    if not data:
        raise DataError(f"{path}: is empty")
    if (pixels := claimed_pixels(data)) > most_pixels:
        most = f"{most_pixels / 1e6:.0f} million"
        raise DataError(
            f"{path}: claims to have {pixels / 1e6:,.0f} million pixels, more than {most}; it is damaged, or too large"
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError) as error:
        if "IMAGE_" in str(error):
            raise DataError(f"{path}: claims to have more pixels than a picture can have; it is damaged") from None
        image = None
    if image is None or image.size == 0:
        raise DataError(f"{path}: {_why_not(data)}")
    return image


def _why_not(data: bytes) -> str:
    for offset, mark, reason in _OTHERS:
        if data[offset : offset + len(mark)] == mark:
            return reason
    start = data[:512].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a picture; was the download refused?"
    if b"<svg" in start:
        return f"SVG {_CONVERT}"
    return "cannot be read as an image (damaged, or of an unknown format)"


def write_picture(path: str | Path, image: np.ndarray, quality: int = 95) -> None:
    """Write uint8 (h, w, 3) BGR in the format that the name ends with. Raises DataError if that cannot be done.

    quality  of a JPEG, 1 to 100
    """
    path = Path(path)
    try:
        parameters = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in (".jpg", ".jpeg") else []
        done, data = cv2.imencode(path.suffix or ".jpg", image, parameters)
    except cv2.error:
        done = False
    if not done:
        raise DataError(f"{path}: cannot be written as a picture; name it .jpg or .png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def is_grey(image: np.ndarray) -> bool:
    """Has a picture, uint8 (h, w, 3), no colour at all?"""
    small = image[:: max(1, image.shape[0] // 200), :: max(1, image.shape[1] // 200)].astype(np.int16)
    return float((small.max(2) - small.min(2)).mean()) < _GREY_DIFFERENCE
