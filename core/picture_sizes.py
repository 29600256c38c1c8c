"""How large a picture will be, by the first bytes of its file: a few kilobytes may unpack to gigabytes."""

from __future__ import annotations

import struct

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG's markers with height and width
_ALONE = {0x01, *range(0xD0, 0xDA)}  # those without a length


def claimed_pixels(data: bytes) -> int:
    """Width times height of a PNG, JPEG, GIF, BMP or extended WebP; 0 for other formats and a head that is cut off."""
    try:
        if data.startswith(b"\x89PNG"):
            width, height = struct.unpack_from(">II", data, 16)
        elif data.startswith(b"GIF8"):
            width, height = struct.unpack_from("<HH", data, 6)
        elif data.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", data, 18)
        elif data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X":
            width, height = (1 + int.from_bytes(data[place : place + 3], "little") for place in (24, 27))
        elif data.startswith(b"\xff\xd8"):
            height, width = _of_jpeg(data)
        else:
            return 0
    except struct.error:
        return 0
    return int(abs(width * height))


def _of_jpeg(data: bytes) -> tuple[int, int]:
    """Height and width of the first frame. Raises struct.error where there is none."""
    place = 2
    while True:
        mark, kind = struct.unpack_from("BB", data, place)
        if mark != 0xFF:
            return 0, 0
        if kind == 0xFF:  # filling
            place += 1
        elif kind in _FRAMES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return height, width
        else:
            place += 2 if kind in _ALONE else 2 + struct.unpack_from(">H", data, place + 2)[0]
