"""Which videos there are, which camera took them and when: from a folder, a list or S3, without decoding anything."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personsearch.core.errors import UserError
from personsearch.core.redaction import cut, redact

ENDINGS = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv",
)  # fmt: skip
LISTS = (".txt", ".tsv", ".lst")
HEAD = 1 << 16  # bytes at the beginning that a video is told by, with its name and size
READ_AHEAD = 1 << 20  # bytes asked of a remote file at once
STAMP = re.compile(
    r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)[T_ -]?(\d\d)[-:.]?(\d\d)[-:.]?(\d\d)(Z?)(?!\d)"
)  # 20261125T140211Z, 2026-11-25_14-02-11
LONGEST_S = 400 * 86400.0  # a container that claims more is wrong


class Damaged(Exception):
    """A video, or a part of one, that cannot be read; says why in a few words."""


@dataclass(frozen=True)
class Found:
    """A file that may be a video. `source` is a path or an s3:// URI; `started` unix seconds where a list says it."""

    name: str  # within the archive: moves with the folder
    source: str
    size: int
    changed: float
    camera: str = ""
    started: float | None = None


@dataclass(frozen=True)
class Video:
    """key  20 hexadecimal digits of name, size and beginning: another file under that name is another video
    started  unix seconds of the first frame; `clock` says where that is from: list, name, metadata or file
    duration_s  by its own word, 0 = unknown; fps  nominal, 0 = unknown"""

    key: str
    name: str
    source: str
    camera: str
    started: float
    clock: str
    duration_s: float
    fps: float


def find_videos(where: str, camera: str = "") -> list[Found]:
    """All videos of a folder (with what lies below), of a list, or below an s3:// URI, by name.

    camera  of all of them; default: the list's word, else the first folder, else the name without its time
    Raises UserError.
    """
    if "://" in where:
        found = list(_remote(where))
    elif Path(where).is_dir():
        found = list(_folder(Path(where)))
    elif where.lower().endswith(LISTS):
        found = list(_list(Path(where)))
    elif Path(where).is_file():
        found = [_local(Path(where), Path(where).name)]
    else:
        raise UserError(f"{cut(redact(where))}: no such folder, list ({', '.join(LISTS)}) or video; check --videos")
    if not found:
        raise UserError(f"{cut(redact(where))}: holds no video; expected files that end with {', '.join(ENDINGS)}")
    if camera:
        found = [Found(f.name, f.source, f.size, f.changed, camera, f.started) for f in found]
    return sorted(found, key=lambda f: f.name)


def _local(path: Path, name: str, camera: str = "", started: float | None = None) -> Found:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return Found(name, str(path.resolve()), status.st_size, status.st_mtime, camera, started)


def _folder(root: Path) -> Iterator[Found]:
    seen, real = set[tuple[int, int]](), root.resolve()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_unlisted):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders[:] = []
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _leads_back(Path(folder, f), real))
        for file in files:
            path = Path(folder, file)
            if file.lower().endswith(ENDINGS) and not file.startswith(".") and path.is_file():
                yield _local(path, path.relative_to(root).as_posix())


def _list(path: Path) -> Iterator[Found]:
    """A line a video: its path, and after tabs its camera and the time of its first frame, if they are known."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of videos ({error})") from None
    for number, line in enumerate(lines, start=1):
        parts = [part.strip() for part in line.split("\t")]
        if not parts[0] or parts[0].startswith("#"):
            continue
        place, camera, when = (*parts, "", "")[:3]
        try:
            started = None if not when else datetime.datetime.fromisoformat(re.sub("Z$", "+00:00", when)).timestamp()
        except (ValueError, OverflowError):
            raise UserError(f"{path}:{number}: '{when}': expected a time such as 2026-11-25T14:00:00Z") from None
        if camera and plain(camera) != camera:
            raise UserError(f"{path}:{number}: '{camera}': expected a camera's name of letters, digits, - and _")
        if "://" in place:
            for one in _remote(place):
                yield Found(one.source, one.source, one.size, one.changed, camera, started)
        else:
            yield _local(path.parent / place, place, camera, started)


def _leads_back(folder: Path, root: Path) -> bool:
    """Is it a link into the archive itself, whose videos have their own names, or to where the archive lies?"""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    return target.is_relative_to(root) or root.is_relative_to(target)


def _unlisted(error: OSError) -> None:
    """Left out in silence, a folder that cannot be read now would be gone for --prune."""
    raise UserError(f"{error.filename}: cannot be listed ({error.strerror}); make it readable, or move it elsewhere")


def file_system(uri: str) -> tuple[Any, str]:
    """pyarrow's file system for an s3:// URI, and the path in it. Raises UserError."""
    from pyarrow import ArrowInvalid, fs

    if not uri.startswith("s3://"):
        raise UserError(f"{cut(redact(uri))}: expected a folder, a list, a video or s3://BUCKET/PREFIX")
    try:
        system, path = fs.FileSystem.from_uri(uri)
    except (ArrowInvalid, OSError) as error:
        raise UserError(f"{cut(redact(uri))}: cannot be used ({redact(str(error)[:200])})") from None
    return system, path


def _remote(uri: str) -> Iterator[Found]:
    from pyarrow import fs

    system, path = file_system(uri)
    address, _, options = uri.partition("?")
    bucket = path.partition("/")[0]
    try:
        infos = system.get_file_info([path])
        if infos[0].type != fs.FileType.File:
            infos = system.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise UserError(f"{address}: cannot be listed ({redact(str(error)[:200])})") from None
    for info in infos:
        if info.type == fs.FileType.File and info.path.lower().endswith(ENDINGS):
            source = f"s3://{info.path}" + (f"?{options}" if options else "")
            name = info.path.removeprefix(path).strip("/") or info.path.removeprefix(f"{bucket}/")
            yield Found(name, source, info.size, info.mtime_ns / 1e9)


@contextlib.contextmanager
def opened(source: str) -> Iterator[Any]:
    """The video's container. Raises Damaged for what is no video, OSError for what cannot be reached."""
    import av

    with contextlib.ExitStack() as open_files:
        try:
            if "://" in source:
                system, path = file_system(source)
                file = open_files.enter_context(system.open_input_file(path))
                container = av.open(file, buffer_size=READ_AHEAD)
            else:
                container = av.open(f"file:{source}")
            open_files.enter_context(container)
        except av.FFmpegError as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise OSError(error.errno, error.strerror, source) from None
            raise Damaged(f"no video that can be read ({error.strerror})") from None
        if not container.streams.video:
            raise Damaged("holds no video, only other streams")
        yield container


def probe(found: Found) -> Video:
    """What a file says of itself. Raises Damaged, or OSError if it cannot be reached."""
    if not found.size:
        raise Damaged("the file is empty")
    if any("\ud800" <= c <= "\udfff" for c in found.name + found.source):
        raise Damaged("its name is no UTF-8; rename it")
    with opened(found.source) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 0)
        if stream.duration and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        else:
            duration = (container.duration or 0) / 1e6
        written = str(container.metadata.get("creation_time", ""))
    if not 0 < duration < LONGEST_S:
        duration = 0.0
    started, clock = _begin(found, written, duration)
    return Video(
        _key(found), found.name, found.source, found.camera or camera_of(found.name), started, clock, duration, fps
    )


def _begin(found: Found, written: str, duration: float) -> tuple[float, str]:
    if found.started is not None:
        return found.started, "list"
    stamp = STAMP.search(Path(found.name).name)
    if stamp is not None:
        zone = datetime.timezone.utc if stamp[7] else None
        with contextlib.suppress(ValueError):
            return datetime.datetime(*(int(stamp[i]) for i in range(1, 7)), tzinfo=zone).timestamp(), "name"  # type: ignore[arg-type, misc]
    with contextlib.suppress(ValueError):
        moment = datetime.datetime.fromisoformat(written.replace("Z", "+00:00")).timestamp()
        if moment > 0:
            return moment, "metadata"
    return found.changed - duration, "file"


def _key(found: Found) -> str:
    if "://" in found.source:
        system, path = file_system(found.source)
        with system.open_input_file(path) as file:
            head = file.read(HEAD)
    else:
        with open(found.source, "rb") as local:
            head = local.read(HEAD)
    return hashlib.sha256(f"{found.name}\0{found.size}\0".encode() + head).hexdigest()[:20]


def camera_of(name: str) -> str:
    """`yard/14.mp4` and `yard.20261125T140211Z.mp4` -> `yard`."""
    folder, slash, last = name.partition("/")
    if slash and "://" not in name:
        return plain(folder)
    stem = STAMP.sub("", Path(last or folder).stem)
    stem = re.sub(r"\.s-[0-9a-f]+(-\d+)?$", "", stem)  # of a recorded sighting
    return plain(stem.strip("._- ")) or "camera"


def plain(name: str) -> str:
    """As cams.yaml wants a camera's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]
