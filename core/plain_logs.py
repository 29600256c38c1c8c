"""Logs as text on a terminal: no secret in them, and nothing that acts on the terminal."""

from __future__ import annotations

import logging

from personsearch.core.redaction import redact
from personsearch.core.text import printable


class PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)), keep="\n\t")


def plain_logs(level: int, form: str = "%(message)s") -> None:
    """Everything of that level to standard error; for commands that answer at once, or have no queue for their logs."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])


def without_set_up() -> None:
    """Warnings of commands that set up no logs go to standard error as well: Python's own handler shows them raw."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PlainFormatter())
