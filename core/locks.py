"""A folder that one process holds at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from personsearch.core.errors import UserError


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
