"""Logs: text or one JSON object a line, without secrets, and without floods."""

from __future__ import annotations

import logging
import sys
import threading
import time

from personsearch.core.plain_logs import PlainFormatter
from personsearch.core.redaction import redact
from personsearch.core.text import json_line
from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.operations.console import Console, ConsoleHandler

BURST, REFILL_PER_S = 10, 1 / 6  # of one message: ten at once, then ten a minute


class RateLimit(logging.Filter):
    """Lets each kind of message (logger, template and camera) through a few times, then says how many it swallowed."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets: dict[tuple[str, str, str], tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.CRITICAL:
            return True
        key = (record.name, str(record.msg)[:100], getattr(record, "camera", ""))
        now = time.monotonic()
        tokens, when, swallowed = self._buckets.get(key, (float(BURST), now, 0))
        tokens = min(float(BURST), tokens + (now - when) * REFILL_PER_S)
        passes = tokens >= 1
        if passes and swallowed:
            record.msg = f"{record.msg} [{swallowed} like this were left out]"
        self._buckets[key] = (tokens - 1, now, 0) if passes else (tokens, now, swallowed + 1)
        if len(self._buckets) > 1000:
            self._buckets.pop(next(iter(self._buckets)))
        return passes


class TextFormatter(PlainFormatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": iso_time(record.created), "level": record.levelname.lower(), "logger": record.name,
            "message": redact(record.getMessage()),
        }  # fmt: skip
        if camera := getattr(record, "camera", ""):
            content["camera"] = camera
        if record.exc_info:
            content["exception"] = redact(self.formatException(record.exc_info))
        return json_line(content, sys.stderr)


def status_text(kind: str, lines: list[str]) -> str:
    """kind: text or json. The status lines in the form of the logs beside them; they pass no rate limit."""
    if kind == "text":
        return "\n".join(lines)
    records = (
        logging.makeLogRecord({"name": "personsearch.status", "levelname": "INFO", "msg": line}) for line in lines
    )
    return "\n".join(map(JsonFormatter().format, records))


def set_up_logs(kind: str, console: Console) -> None:
    """kind: text or json; everything goes to stderr, also what a thread dies of."""
    handler = ConsoleHandler(console)
    handler.setFormatter(JsonFormatter() if kind == "json" else TextFormatter())
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    threading.excepthook = _log_death


def _log_death(death: threading.ExceptHookArgs) -> None:
    if death.exc_value is not None:
        what = (death.exc_type, death.exc_value, death.exc_traceback)
        logging.getLogger("personsearch").error("a thread ended with an error", exc_info=what)
