"""A picture's size is known before it is decoded, and too large ones never are."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from personsearch.core.errors import DataError
from personsearch.core.picture_sizes import claimed_pixels
from personsearch.core.pictures import decode_picture

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp"])
def test_the_size_in_the_head_is_that_of_the_picture(ending: str) -> None:
    data = cv2.imencode(ending, IMAGE)[1].tobytes()
    assert claimed_pixels(data) == 40 * 30
    progressive = cv2.imencode(".jpg", IMAGE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert claimed_pixels(progressive) == 40 * 30


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xff\xff", b"\xff\xd8\0\0\0\0", b"\x89PNG", b"GIF8", b"BM", b"x"]
)
def test_a_head_that_is_cut_off_says_nothing(data: bytes) -> None:
    assert claimed_pixels(data) == 0


def test_a_few_bytes_do_not_unpack_to_gigabytes() -> None:
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")):
        parts.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    with pytest.raises(DataError, match="claims to have 900 million pixels"):
        decode_picture(b"".join(parts), "ada.png")
    with pytest.raises(DataError, match="more than 0 million; it is damaged, or too large"):
        decode_picture(cv2.imencode(".png", IMAGE)[1].tobytes(), "ada.png", most_pixels=100)
