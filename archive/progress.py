"""How far an index is, on stderr, with the time that is left; and the report at its end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from personsearch.core.files import replace_file
from personsearch.core.text import json_bytes, printable

EVERY_S, EVERY_S_IN_A_LOG = 0.5, 10.0


class Progress:
    """seconds are those of the videos."""

    def __init__(self, segments: int, seconds: float, done_before: int) -> None:
        self.segments, self.seconds, self.done_before = segments, seconds, done_before
        self.states: Counter[str] = Counter()
        self.rows = 0
        self.done_s = self.cpu_s = 0.0
        self._began, self._next = time.monotonic(), 0.0
        self._line = sys.stderr.isatty()

    @property
    def wall_s(self) -> float:
        """Since the first segment was begun: workers take a while to start."""
        return time.monotonic() - self._began

    def note(self, done: dict[str, Any]) -> None:
        begun = time.monotonic() - done["wall_s"]
        self._began = min(self._began, begun) if self.states else begun
        self.states[done["state"]] += 1
        self.rows += done["rows"]
        self.done_s += done["seconds"]
        self.cpu_s += done["cpu_s"]
        if done["state"] in ("damaged", "failed"):
            self.say(f"{done['video']}: {done['note']} ({done['state']}, segment {done['segment'].rpartition('/')[2]})")
        if time.monotonic() >= self._next or self.states.total() == self.segments:
            self._next = time.monotonic() + (EVERY_S if self._line else EVERY_S_IN_A_LOG)
            print(f"\r{self.words()}" if self._line else self.words(), end="" if self._line else "\n", file=sys.stderr)
            sys.stderr.flush()

    def words(self) -> str:
        speed = self.done_s / max(self.wall_s, 1e-6)
        left = (self.seconds - self.done_s) / speed if self.done_s else 0.0
        still = f", {self.states['still']} without motion" if self.states["still"] else ""
        bad = self.states["damaged"] + self.states["failed"]
        return (
            f"{self.done_before + self.states.total()} of {self.done_before + self.segments} segments{still}"
            f"{f', {bad} damaged' if bad else ''}, {self.rows} visits, {speed:.1f} x real time, "
            f"{duration(left)} left   "
        ).rstrip(None if not self._line else "")

    def say(self, text: str) -> None:
        print(f"{chr(10) if self._line and self.states.total() > 1 else ''}{printable(text)}", file=sys.stderr)

    def end(self) -> None:
        if self._line and self.states:
            print(file=sys.stderr)


def duration(seconds: float) -> str:
    """`3 h 12 min`, `4 min`, `12 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def write_report(out: Path, content: dict[str, Any]) -> None:
    replace_file(out / "report.json", json_bytes(content, indent=1) + b"\n", 0o600)
