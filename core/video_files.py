"""What stands behind the name of a local source: a video file, a sequence of pictures, a FIFO, or nothing usable."""

from __future__ import annotations

import itertools
import os
import re
import stat
from dataclasses import dataclass
from urllib.parse import unquote

from personsearch.core.redaction import cut

NUMBER = re.compile(r"%(?:0(?P<width>\d+))?d")


class SourceError(Exception):
    """Opening failed. `cause` is one of refused, timeout, auth, not_found, codec, settings; empty if not known."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class LocalFile:
    target: str  # as FFmpeg opens it, whatever characters the name has
    options: str = ""  # for FFmpeg: key;value|key;value
    fifo: str = ""  # path, if it is one
    gap: str = ""  # of numbered pictures: which one is missing, in a sentence


def find_file(url: str) -> LocalFile:
    """A plain name, `~/name`, `file://` URL (percent-encoded or not) or `NAME%03d.jpg`. What exists under the very
    name comes first. Raises SourceError with a sentence about what is wrong."""
    names = _names(url)
    existing = next((n for n in names if os.path.lexists(n)), None)
    if existing is not None:
        return _checked(existing)
    sequences = [name for name in dict.fromkeys(names) if NUMBER.search(os.path.basename(name))]
    for name in sequences:
        try:
            return _sequence(name)
        except SourceError:
            if name == sequences[-1]:
                raise
    shown = cut(names[0])
    if len(os.fsencode(os.path.basename(names[0]))) > 255:
        raise SourceError("not_found", f"{shown[:60]}...: the name is too long for a file")
    raise SourceError("not_found", f"{shown}: no such file; give a video file, a webcam number or a URL")


def _names(url: str) -> list[str]:
    """The names that may be meant, the most literal one first."""
    if os.path.lexists(url) or not re.match("file:", url, re.I):
        return [url, os.path.expanduser(url)]
    name = re.sub("^file:(?://(?:localhost(?=/))?)?", "", url, flags=re.I)
    folder, slash, last = name.rpartition("/")
    # Of a sequence's name the number is no percent-encoding.
    last = re.sub(f"{NUMBER.pattern}|%[0-9A-Fa-f]{{2}}", lambda m: m[0] if m[0].endswith("d") else unquote(m[0]), last)
    return [name, unquote(name), os.path.expanduser(unquote(name)), f"{unquote(folder)}{slash}{last}"]


def _checked(name: str) -> LocalFile:
    shown, path = cut(name), os.path.abspath(name)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            with open(path, "rb") as file:
                if not file.read(1):
                    raise SourceError("codec", f"{shown}: the file is empty; it holds no frame")
    except OSError as error:
        raise SourceError("not_found", f"{shown}: cannot be read ({error.strerror})") from None
    if stat.S_ISDIR(mode):
        raise SourceError("not_found", f"{shown}: is a folder; give a file in it, or pictures as {shown}/%03d.jpg")
    if stat.S_ISFIFO(mode):
        return LocalFile(f"file:{path}", fifo=path)
    if not stat.S_ISREG(mode):
        raise SourceError(
            "not_found",
            f"{shown}: is a device or socket; expected a file, a FIFO, or a webcam such as 0 or /dev/video0",
        )
    return LocalFile(f"file:{path}", "pattern_type;none")  # a % in the name of a picture is only a letter


def _sequence(name: str) -> LocalFile:
    """Pictures numbered as FFmpeg's image2 reads them: from the lowest number on, until one is missing."""
    shown, (folder, last) = cut(name), os.path.split(os.path.abspath(name))
    if len(NUMBER.findall(last)) > 1:
        raise SourceError("not_found", f"{shown}: no such file, and a sequence has one number only, such as %03d.jpg")
    before, after = NUMBER.split(last)[0], NUMBER.split(last)[-1]
    width = int(NUMBER.search(last)["width"] or 0)  # type: ignore[index]
    form = re.compile(rf"{re.escape(before)}(\d{{{max(1, width)},}}){re.escape(after)}")
    try:
        found = [match[1] for file in os.listdir(folder) if (match := form.fullmatch(file))]
    except OSError as error:
        raise SourceError(
            "not_found", f"{shown}: the folder of the pictures cannot be read ({error.strerror})"
        ) from None
    numbers = sorted({int(digits) for digits in found if digits == f"{int(digits):0{width}d}"})
    if not numbers:
        raise SourceError("not_found", f"{shown}: no such file, and no picture of such a name with a number")
    escaped = f"{folder}/{before}".replace("%", "%%") + NUMBER.search(last)[0] + after.replace("%", "%%")  # type: ignore[index]
    gap = next((before + 1 for before, after in itertools.pairwise(numbers) if after != before + 1), None)
    missing = f"picture {gap} is missing, though later ones are there: number them without a gap" if gap else ""
    return LocalFile(f"file:{escaped}", f"start_number;{numbers[0]}", gap=missing)
