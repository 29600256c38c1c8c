"""What an engine compiled, kept in a folder of the user's own for the next start.

The files are read by a native library, so they are as much to be trusted as a program. The folder is therefore the
user's alone, never one that comes with a bundle: it is used only if it belongs to the user who runs this and nobody
else may write there, and so is each file. Whatever is wrong with it costs time, nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("personsearch.engines")
VARIABLE = "PERSONSEARCH_CACHE"  # a folder, or `off`
MOST_BYTES = 256 << 20  # of all files; a network's parts are 31 MB
LEFT_BEHIND_S = 600.0  # after which a file that is still being written belongs to a process that was killed
MAGIC = b"personsearch compiled 1\n"
DIGEST = hashlib.sha256().digest_size
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe is no reason to wait
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
ENDING, PARTIAL = ".blob", ".partial"


def cache_folder() -> Path | None:
    """The user's folder for what can be made anew; None where it is turned off or the user has no place for it.

    `PERSONSEARCH_CACHE`, else what systemd gives a service (`CacheDirectory=`), else the desktop's (`XDG_CACHE_HOME`,
    `~/.cache`).
    """
    if chosen := os.environ.get(VARIABLE, ""):
        return None if chosen == "off" else Path(os.path.expanduser(chosen)).absolute()
    if given := os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    try:
        home = Path.home()
        if home.stat().st_uid != os.geteuid():  # sudo: root's files in there would be in the user's way
            return None
    except (OSError, RuntimeError):
        return None
    shared = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(shared) if os.path.isabs(shared) else home / ".cache") / "personsearch"


class CompiledStore:
    """Files of bytes by key, at most `most_bytes` of them: those that were not used for the longest time go first.

    Processes may share a folder: a file appears whole or not at all, and whoever finds one damaged makes it anew.
    """

    def __init__(self, folder: Path | None, most_bytes: int = MOST_BYTES) -> None:
        """folder  None: nothing is kept"""
        self.folder, self._most_bytes = folder, most_bytes

    def load(self, key: str) -> bytes | None:
        """What was saved under a key (hexadecimal digits), if it is there and as it was written."""
        with self._opened() as folder:
            if folder is None:
                return None
            try:
                handle = os.open(key + ENDING, READ, dir_fd=folder)
            except FileNotFoundError:
                return None
            with os.fdopen(handle, "rb") as file:
                _check_owner(os.fstat(handle), f"{self.folder}/{key}{ENDING}")
                content = file.read(self._most_bytes + 1)
            start = len(MAGIC) + DIGEST
            blob = content[start:]
            if content[:start] != MAGIC + hashlib.sha256(blob).digest():
                self.remove(key, "it is damaged")
                return None
            os.utime(key + ENDING, dir_fd=folder)  # used last
            return blob
        return None

    def save(self, key: str, blob: bytes) -> None:
        """Keep bytes under a key. What cannot be written is not kept."""
        with self._opened() as folder:
            if folder is None or len(blob) > self._most_bytes:
                return
            partial = f"{key}.{secrets.token_hex(4)}{PARTIAL}"
            try:
                with os.fdopen(os.open(partial, WRITE, 0o600, dir_fd=folder), "wb") as file:
                    for part in (MAGIC, hashlib.sha256(blob).digest(), blob):
                        file.write(part)
                os.replace(partial, key + ENDING, src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(partial, dir_fd=folder)
            self._make_room(folder)

    def remove(self, key: str, reason: str) -> None:
        """Take back what cannot be used; the reason is logged."""
        log.warning("%s/%s%s: %s; it is made anew", self.folder, key, ENDING, reason)
        with self._opened() as folder:
            if folder is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(key + ENDING, dir_fd=folder)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """A descriptor of the folder; None if nothing can may be kept there. What fails inside is told, not raised."""
        handle = self._open()
        try:
            yield handle
        except OSError as error:
            self._give_up(error)
        finally:
            if handle is not None:
                os.close(handle)

    def _open(self) -> int | None:
        if self.folder is None:
            return None
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Checked and used by its descriptor: what is put in its place meanwhile does not matter.
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _check_owner(os.fstat(handle), str(self.folder))
            except PermissionError:
                os.close(handle)
                raise
        except OSError as error:
            self._give_up(error)
            return None
        return handle

    def _give_up(self, error: OSError) -> None:
        log.info("compiled networks are not kept, so each start compiles them anew: %s", error)
        self.folder = None  # told once

    def _make_room(self, folder: int) -> None:
        found, now = [], time.time()
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # another process makes room, too
                entry = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if name.endswith(ENDING):
                    found.append((entry.st_mtime, entry.st_size, name))
                elif name.endswith(PARTIAL) and now - entry.st_mtime > LEFT_BEHIND_S:
                    os.unlink(name, dir_fd=folder)
        kept = 0
        for _, size, name in sorted(found, reverse=True):
            kept += size
            if kept > self._most_bytes:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)


def _check_owner(entry: os.stat_result, name: str) -> None:
    """Raises PermissionError for what somebody else owns or may write to, and for what is no file or folder."""
    if not (stat.S_ISREG(entry.st_mode) or stat.S_ISDIR(entry.st_mode)):
        raise PermissionError(f"{name} is no file")
    if entry.st_uid != os.geteuid():
        raise PermissionError(f"{name} belongs to another user")
    if entry.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{name} can be written by other users; run chmod go-w on it")
