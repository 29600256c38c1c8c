"""What FFmpeg says on stderr: OpenCV and PyAV tell no reasons, and not which pictures were repaired."""

from __future__ import annotations

import os
import re
import threading

CAUSES = (  # the first that fits is the cause
    ("auth", re.compile(r"\b40[13]\b|unauthorized|forbidden|authorization", re.I)),
    ("not_found", re.compile(r"\b404\b|not found|no such file|name or service not known|failed to resolve", re.I)),
    ("refused", re.compile(r"refused|no route|unreachable|reset by peer", re.I)),
    ("timeout", re.compile(r"timed? ?out|immediate exit", re.I)),
    ("codec", re.compile(r"invalid data|moov atom|unsupported|could not find codec|decod|corrupt", re.I)),
)
BAD_PICTURE = re.compile(r"error while decoding|concealing|corrupt|invalid nal|non-existing|overread|no frame!", re.I)


class Listener:
    """Reads what this process writes to stderr from now on, in a thread: `cause` of a failure (the first of CAUSES that
    was heard since it was last emptied), and `damaged`, the number of frames that the decoder repaired. `real` is a
    descriptor of the stderr that was there before."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self.real = os.dup(2)
        os.dup2(writing, 2)
        os.close(writing)
        self.cause, self.damaged = "", 0
        threading.Thread(target=self._read, args=(reading,), daemon=True).start()

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "r", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if BAD_PICTURE.search(line):
                    self.damaged += 1
                for cause, pattern in CAUSES:
                    if not self.cause and pattern.search(line):
                        self.cause = cause
