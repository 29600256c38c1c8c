"""The forwarder as a process of the stream's: started with it, started again when it dies, ended before it."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from pathlib import Path

log = logging.getLogger("personsearch.fleet")
PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
ENDS_WITHIN_S = 6.0


class ForwarderProcess:
    """Used from the pipeline's thread; nothing here waits but `close`."""

    def __init__(self, cams: str | Path, endpoint: str, replay: str, gallery: str = "", bundle: str = "") -> None:
        """endpoint, replay  where this stream really publishes and answers; gallery, bundle: what it really uses"""
        command = ["--cams", str(cams), "--connect", endpoint, "--replay", replay, "--attached"]
        command += [word for option, value in (("--gallery", gallery), ("--bundle", bundle)) if value
                    for word in (option, value)]  # fmt: skip
        self._command = [sys.executable, "-m", "personsearch.runtime.forward", *command]
        self.restarts = 0
        self._pause, self._again, self._since = PAUSE_S, 0.0, 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def look(self, now: float) -> None:
        """Once a second: start it, and again when it has ended.

        now  monotonic seconds
        """
        if self.process is not None and self.process.poll() is not None:
            status = self.process.returncode
            self._release(self.process)
            self._pause = PAUSE_S if now - self._since > LONGEST_PAUSE_S else min(LONGEST_PAUSE_S, 2 * self._pause)
            self._again = now + self._pause
            self.restarts += 1
            log.error("the forwarder ended (status %d); it is started again in %.0f s", status, self._pause)
        if self.process is None and now >= self._again:
            try:
                # Its standard input closes with us, even if we are killed; Ctrl-C goes to the stream alone.
                self.process = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)
                self._since = now
            except (OSError, MemoryError) as error:
                self._again = now + LONGEST_PAUSE_S
                log.error("the forwarder cannot be started (%s); it is tried again", error)

    def close(self) -> None:
        """Let it send what is left; the publisher has to be open still."""
        if self.process is not None:
            self._release(self.process)

    def _release(self, process: subprocess.Popen[bytes]) -> None:
        self.process = None
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
