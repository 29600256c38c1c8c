"""Processes that were killed, until they are gone: one that hangs in a driver may take its time."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any


class Killed:
    """Nothing here blocks but `wait`."""

    def __init__(self) -> None:
        self._left: list[Any] = []

    def kill(self, process: Any) -> bool:
        """Whether there was a need to: it had not ended. A polite signal would not be heard by one that hangs in a
        decoder."""
        if process.poll() is not None:
            return False
        process.kill()
        if process.poll() is None:
            self._left.append(process)
        return True

    def reap(self) -> None:
        """Forget those that are gone."""
        self._left = [process for process in self._left if process.poll() is None]

    def wait(self, seconds: float) -> list[Any]:
        """Give each so long to end; those that have not."""
        for process in self._left:
            with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                process.wait(seconds)
        self.reap()
        return self._left
