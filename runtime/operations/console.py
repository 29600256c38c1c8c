"""What the stream says on stdout and stderr, written by a thread: a reader that stops reading, a pipe that was closed
or a terminal that is gone never holds up or ends the watching."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import threading

from personsearch.core.redaction import redact

STDOUT, STDERR = 1, 2
WAITING = 2000  # texts that may wait for a slow reader; what comes then is left out
GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO)


class Console:
    def __init__(self) -> None:
        for descriptor in (0, STDOUT, STDERR):  # one that is closed would become that of the next file opened
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
        self._texts: queue.Queue[tuple[int, bytes] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()

    def say(self, text: str, descriptor: int = STDERR) -> None:
        """Lines; never waits, never fails."""
        self.put(redact(text), descriptor)

    def put(self, text: str, descriptor: int = STDERR) -> None:
        """The same for lines that hold no secrets any more."""
        with contextlib.suppress(queue.Full):
            self._texts.put_nowait((descriptor, f"{text}\n".encode(errors="backslashreplace")))

    def close(self, wait_s: float = 2.0) -> None:
        """Write what waits; a reader that does not read gets no more time than this."""
        with contextlib.suppress(queue.Full):
            self._texts.put_nowait(None)
        self._thread.join(wait_s)

    def _run(self) -> None:
        while (item := self._texts.get()) is not None:
            descriptor, data = item
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
            except OSError as error:  # a full disk may have room again
                if error.errno in GONE:
                    with contextlib.suppress(OSError):
                        nowhere = os.open(os.devnull, os.O_WRONLY)
                        os.dup2(nowhere, descriptor)  # also for libraries and for helpers that start later
                        os.close(nowhere)


class ConsoleHandler(logging.Handler):
    """Its formatters redact (logs.py): they know the parts of a line."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.put(self.format(record))
