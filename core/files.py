"""Files that are replaced: whole or not at all, also behind a symbolic link and where the file itself is a mount."""

from __future__ import annotations

import errno
import glob
import io
import logging
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

log = logging.getLogger("personsearch.files")
_STREAM = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/[^/]+/fd/\d+")
_OCTAL = re.compile(r"\\(\d{3})")
Entry = TypeVar("Entry")


def replace_file(path: str | Path, content: bytes | Callable[[BinaryIO], object], mode: int | None = None) -> None:
    """Write `path` in one step: a reader, or a crash, sees the old file or the new one. Missing folders are made.

    content  the bytes, or what writes them into the open file that it is given
    mode     permissions; default: those of the file that is replaced

    The target of a symbolic link is replaced, not the link. A mounted file (docker -v FILE:FILE) cannot be replaced:
    it is written in place, with a warning, after the room for it has been claimed. Devices and pipes are written to.
    Raises OSError; the old file is then as it was.
    """
    path = Path(path)
    if _is_stream(path):
        with open(path, "wb") as file:
            _write(file, content)
        return
    target = real_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_mount(target):
        _write_in_place(target, content)
        return
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):  # by a writer that was killed
        if not _alive(left):
            left.unlink(missing_ok=True)
    if mode is None and target.exists():
        mode = stat.S_IMODE(target.stat().st_mode)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        # From the first byte on nobody may read what only the owner may.
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666 if mode is None else mode)
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                os.fchmod(handle, mode)
            _write(file, content)
            file.flush()
            os.fsync(handle)
        os.replace(partial, target)
        flush_to_disk(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def open_finite(path: str | Path) -> BinaryIO:
    """A file or pipe to be read line by line; a device such as /dev/zero may have no end. Raises OSError."""
    file = open(path, "rb")  # noqa: SIM115 - the caller's
    if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is a device; expected a file", str(path))
    return file


def read_file(path: str | Path, most: int) -> bytes:
    """A file's bytes, for files that a user names: one without an end (/dev/zero) must not take the memory.

    Raises OSError; EFBIG for more than `most` bytes.
    """
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MB", str(path))
    return data


def real_path(path: str | Path) -> Path:
    """The end of a path's symbolic links, whether or not a file is there. Raises OSError for a circle of links."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def is_mount(path: str | Path) -> bool:
    """Is exactly this file or folder the place of a mount? Such a thing cannot be renamed or replaced."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            places = {_OCTAL.sub(lambda code: chr(int(code[1], 8)), line.split()[4]) for line in table}
    except (OSError, IndexError):  # not Linux
        return os.path.ismount(path)
    return os.path.realpath(path) in places


class Reread(Generic[Entry]):
    """Entries by name that a file holds, read again when the file has changed."""

    def __init__(self, path: Path, load: Callable[[Path], dict[str, Entry]]) -> None:
        self.path, self._load = path, load
        self._stamp: tuple[int, int] | None = None
        self._entries: dict[str, Entry] = {}

    def all(self) -> dict[str, Entry]:
        """Empty if there is no file. Raises what `load` raises for a damaged one."""
        try:
            status = self.path.stat()
        except OSError:
            self._entries, self._stamp = {}, None
            return self._entries
        if (stamp := (status.st_mtime_ns, status.st_ino)) != self._stamp:
            self._entries, self._stamp = self._load(self.path), stamp
        return self._entries


def flush_to_disk(path: Path) -> None:
    """Of a file or a folder: a power cut does not undo what was written before."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def wipe(path: Path) -> None:
    """Overwrite a file with zeros, then remove it: its bytes are not left on the disk, unless that (a flash drive, a
    copying file system) keeps old blocks. Raises OSError."""
    with open(path, "r+b", buffering=0) as file:
        left = os.fstat(file.fileno()).st_size
        while left > 0:
            left -= file.write(bytes(min(1 << 20, left)))
        os.fsync(file.fileno())
    path.unlink()


def _is_stream(path: Path) -> bool:
    if _STREAM.fullmatch(str(path)):
        return True
    try:
        kind = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(kind) and not stat.S_ISDIR(kind)


def _write(file: BinaryIO, content: bytes | Callable[[BinaryIO], object]) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content)


def _write_in_place(target: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    buffer = io.BytesIO()
    _write(buffer, content)
    data = buffer.getvalue()
    with open(target, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, len(data)))  # on a full disk it fails here, with nothing lost
        except OSError:
            file.truncate(size)
            raise
        log.warning(
            "%s is a mount and cannot be replaced in one step: it is written in place, and a crash at this moment "
            "would damage it; mount its folder instead",
            target,
        )
        file.write(data)
        file.truncate(len(data))
        file.flush()
        os.fsync(file.fileno())


def _alive(partial: Path) -> bool:
    """Is the process that this partial file names still there? Another writer's file is not ours to remove."""
    number = partial.suffixes[-2].removeprefix(".") if len(partial.suffixes) > 1 else ""
    return number.isdigit() and int(number) != os.getpid() and Path(f"/proc/{number}").exists()
