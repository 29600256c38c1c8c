"""The recorder's files in its folder: their names, who they show, and which have to go.

    CAMERA.TIME.mp4            everything of a camera, ten minutes each
    CAMERA.TIME.SIGHTING.mp4   a sighting in one camera; .jpg its picture, .json who and when

Other files in the folder are nobody's business here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from pathlib import Path

from personsearch.core.errors import UserError
from personsearch.core.files import replace_file, wipe
from personsearch.core.json_text import parse_json
from personsearch.core.wall_clock import may_be_right

OURS = re.compile(r"[A-Za-z0-9_-]{1,64}\.\d{8}T\d{6}Z(-\d+)?(\.s-[0-9a-f]+(-\d+)?)?\.(mp4|jpg|json)")


def name_of(camera: str, wall: float, sighting: str = "") -> str:
    """Without the ending. `wall` is unix seconds."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall))
    return ".".join(part for part in (camera, stamp, sighting) if part)


def rotate(folder: Path, keep_s: float, max_bytes: float) -> int:
    """Remove files that nobody has written for so long, then the oldest ones beyond the size; gives how many. A file
    that is being written stays. Raises OSError."""
    files = []
    for entry in os.scandir(folder):
        if OURS.fullmatch(entry.name):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                files.append((status.st_mtime, status.st_size, Path(entry.path)))
    total, removed, now = sum(size for _, size, _ in files), 0, time.time()
    for changed, size, path in sorted(files):
        over = now - changed > keep_s or (changed - now > keep_s and may_be_right(now))  # or written by a wrong clock
        if (over or total > max_bytes) and not _in_use(path):
            path.unlink(missing_ok=True)
            total, removed = total - size, removed + 1
    return removed


def _in_use(path: Path) -> bool:
    """Does somebody, in any process, write it?"""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def note(video: Path, **facts: object) -> None:
    """Write who a clip shows beside it, unless the clip was erased meanwhile. Raises OSError."""
    if video.exists():
        replace_file(video.with_suffix(".json"), json.dumps(facts).encode(), 0o600)


def name_clips(folder: Path, sighting: str, person: str | None) -> None:
    """A sighting has another name from now on: so have the files that were written of it. Raises OSError."""
    for path in folder.glob(f"*.{sighting}*.json"):
        try:
            known = dict(parse_json(path.read_bytes()))
        except (ValueError, TypeError):  # damaged: what else it said is lost
            known = {}
        replace_file(path, json.dumps(known | {"person": person}).encode(), 0o600)


def count_person(folder: str | Path, person: str) -> int:
    """How many sightings with clips or pictures `forget_person` would erase."""
    return len(_notes_of(Path(folder), person))


def _notes_of(folder: Path, person: str) -> list[Path]:
    """The files beside clips and pictures of sightings that say who it was."""
    notes = (path for path in sorted(folder.glob("*.json")) if OURS.fullmatch(path.name))
    return [path for path in notes if person in path.read_text(encoding="utf-8", errors="replace")]


def forget_person(folder: str | Path, person: str) -> int:
    """Overwrite and remove the clips and pictures of a person's sightings, by id; gives how many sightings. Videos of
    everything are not touched: they last `record.keep_hours`. Raises UserError."""
    folder, count = Path(folder), 0
    if not folder.is_dir():
        return 0
    try:
        for path in _notes_of(folder, person):
            for part in (path.with_suffix(".mp4"), path.with_suffix(".jpg"), path):
                if part.exists():
                    wipe(part)
            count += 1
    except OSError as error:
        raise UserError(
            f"{folder}: recordings cannot be erased ({error.strerror}); make the folder writable and forget again"
        ) from None
    return count
