"""The journal's folder while no `journal.path` is set. What a killed run left behind is removed by the next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from personsearch.core.errors import UserError

PREFIX = "personsearch-journal-"
JOURNAL = "events.journal"
FRESH_S = 60.0  # a folder without a lock is just being made, or was left by a run killed at that moment


def temporary_journal() -> Path:
    """A path for a journal in a new folder. Raises UserError if there is nowhere to write."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        raise UserError(
            f"no folder to keep events in ({error.strerror}); set journal.path to a file on a disk that can be "
            "written, or TMPDIR to such a folder"
        ) from None
    remove_abandoned(folder.parent, folder)
    return folder / JOURNAL


def remove_abandoned(where: Path, own: Path, prefix: str = PREFIX, held_by: str = f"{JOURNAL}.lock") -> None:
    """Remove the folders of this user whose journals (or what else `held_by` locks) nobody holds any more."""
    for folder in where.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if folder == own or not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            lock = folder / held_by
            if not lock.exists():
                if time.time() - status.st_mtime > FRESH_S:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            with open(lock) as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its stream runs
                shutil.rmtree(folder, ignore_errors=True)
