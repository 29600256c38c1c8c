"""A folder that one process holds at a time, and a file that one process changes at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from personsearch.core.errors import UserError
from personsearch.core.files import is_mount, real_path, replace_file

Entry = TypeVar("Entry")


@contextlib.contextmanager
def only_one(lock: Path, taken: str, advice: str, folder_mode: int = 0o777) -> Iterator[None]:
    """Holds the folder of the lock file; folder and file are made where they are missing, the file for its owner only.

    taken   what another process does there, and what to do about it
    advice  what to do where the folder cannot be written
    Raises UserError with one of them.
    """
    folder = lock.parent
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=folder_mode)
        file = open(os.open(lock, os.O_RDWR | os.O_CREAT, 0o600), "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); {advice}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: {taken}") from None
        yield


@contextlib.contextmanager
def one_writer(path: str | Path) -> Iterator[None]:
    """Waits until nobody else changes the file, by whatever name; for what reads a file and replaces it.

    The lock is a file beside it, because the file itself is exchanged; a mounted one never is, and its folder may be
    read-only. Raises OSError.
    """
    target = real_path(path)
    lock = target if is_mount(target) else target.with_name(f".{target.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def changing_entries(
    path: Path, load: Callable[[Path], Mapping[str, Entry]], content: Callable[[dict[str, Entry]], dict[str, Any]]
) -> Iterator[dict[str, Entry]]:
    """The entries of a JSON file for its owner only, which are written when the block is over; one process at a time.

    load     reads a file that is there
    content  of the file, of the entries
    Raises UserError.
    """
    try:
        with one_writer(path):
            entries = dict(load(path)) if path.exists() else {}
            yield entries
            replace_file(path, (json.dumps(content(entries), indent=1) + "\n").encode(), 0o600)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); nothing was changed") from None
