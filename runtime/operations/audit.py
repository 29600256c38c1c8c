"""An audit log that shows when it was changed: one JSON object a line, each with the hash of the one before.

Ids stand in it, names do not. The chain shows that entries were altered, taken out or put in; that the end was cut off
shows only to whoever noted the latest hash elsewhere (`runtime/audit.py --verify --expect HASH`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from personsearch.core.errors import UserError
from personsearch.core.files import flush_to_disk, open_finite, real_path, replace_file
from personsearch.core.json_text import parse_json
from personsearch.core.redaction import redact
from personsearch.core.text import json_bytes
from personsearch.runtime.delivery.events import from_iso, iso_time

BEGINNING = "0" * 64  # "previous" of the first entry
MAX_LINE = 1 << 20
Entry = dict[str, Any]


class AuditLog:
    """Appends to the file; any number of processes may do so. `path` empty: nothing is logged."""

    def __init__(self, path: str | Path, keep_days: float = 0.0) -> None:
        """keep_days  entries that are older are trimmed by `trim`; 0 keeps all"""
        self.path = Path(path) if path else None
        self.keep_days = keep_days

    def check(self) -> None:
        """Raises UserError if an entry could not be written now: ask before doing what must be on record."""
        if self.path is not None:
            with _locked(self.path):
                pass

    def add(self, kind: str, **facts: Any) -> None:
        """kind   what was done: enrolled, forgotten, settings, searched, exported, log-in, ...
        facts  values of JSON; ids instead of names

        On disk when it returns. Raises UserError if it cannot be written.
        """
        if self.path is None:
            return
        with _locked(self.path) as file:
            number, previous, torn = _end(self.path, file)
            if torn:  # a writer was killed in the middle of a line: that one never came to be
                file.truncate(file.tell())
                number, previous = _append(file, number, previous, "repaired", {"bytes": torn})
            _append(file, number, previous, kind, facts)
            file.flush()
            os.fsync(file.fileno())

    def trim(self, now: float) -> int:
        """Take out entries that are older than `keep_days`; the chain goes on from the last one that went. Gives how
        many went. Raises UserError."""
        if self.path is None or not self.keep_days or not self.path.exists():
            return 0
        with _locked(self.path):
            lines = self.path.read_bytes().splitlines(keepends=True)
            oldest = now - self.keep_days * 86400
            count = next((n for n, line in enumerate(lines) if _seconds(line) >= oldest), max(0, len(lines) - 1))
            if count:
                try:
                    replace_file(self.path, b"".join(lines[count:]), 0o600)
                except OSError as error:
                    raise _unwritten(self.path, error) from None
        return count


def _append(file: BinaryIO, number: int, previous: str, kind: str, facts: dict[str, Any]) -> tuple[int, str]:
    entry: Entry = {
        "number": number + 1, "time": iso_time(time.time()), "by": _user(), "kind": kind,
        **{key: redact(value) if isinstance(value, str) else value for key, value in facts.items()},
        "previous": previous,
    }  # fmt: skip
    entry["hash"] = hash_of(entry)
    file.write(json_bytes(entry) + b"\n")
    return number + 1, str(entry["hash"])


def hash_of(entry: Entry) -> str:
    """Of everything but the hash itself, in one spelling."""
    content = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file, opened at its end; one writer at a time. (`trim` replaces the file: look again after waiting.)"""
    try:
        target = real_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(target, os.O_RDWR | os.O_CREAT, 0o600)
            with os.fdopen(handle, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not target.exists() or os.fstat(file.fileno()).st_ino != target.stat().st_ino:
                    continue
                if file.seek(0, os.SEEK_END) == 0:
                    flush_to_disk(target.parent)
                yield file
                return
    except OSError as error:
        raise _unwritten(path, error) from None


def _unwritten(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: the audit log cannot be written ({error.strerror}); make room, or name another file")


def _end(path: Path, file: BinaryIO) -> tuple[int, str, int]:
    """Number and hash of the last entry, and the bytes of a torn one after it; the file stands behind the entry.
    Raises UserError if the last line is no entry."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2 * MAX_LINE))
    tail = file.read()
    whole = tail.rfind(b"\n") + 1
    torn = len(tail) - whole
    file.seek(size - torn)
    if not whole:
        return 0, BEGINNING, torn
    line = tail[:whole].rstrip(b"\n").rpartition(b"\n")[2]
    try:
        entry = _read(line)
    except ValueError as fault:
        raise UserError(f"{path}: the last line is no entry of an audit log ({fault}); begin another file") from None
    return entry["number"], entry["hash"], torn


def _read(line: bytes) -> Entry:
    entry = parse_json(line)
    if not isinstance(entry, dict) or not isinstance(entry.get("number"), int):
        raise ValueError("expected an object with a number")
    for key in ("kind", "time", "previous", "hash"):
        if not isinstance(entry.get(key), str):
            raise ValueError(f"'{key}' is missing")
    return entry


@dataclass
class Verdict:
    """What `verify` found. `fault` is empty for a whole chain; `head` is the hash to note elsewhere."""

    entries: int = 0
    first: int = 0  # its number: more than 1 after old entries were trimmed
    head: str = BEGINNING
    fault: str = ""
    torn: int = 0  # bytes of an entry whose writer was killed


def verify(path: str | Path, expect: str = "") -> Verdict:
    """Follow the chain from the first entry to the last.

    expect  a hash that was noted earlier and must still be in the chain
    Raises UserError if the file cannot be read.
    """
    verdict, met = Verdict(), not expect
    try:
        with open_finite(path) as file:
            for place, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    verdict.torn = len(line)
                    break
                try:
                    entry = _read(line)
                except ValueError as fault:
                    verdict.fault = f"line {place} is no entry: {fault}"
                    return verdict
                if place == 1:
                    verdict.first = entry["number"]
                    verdict.head = entry["previous"] if entry["number"] > 1 else BEGINNING
                expected = verdict.first + verdict.entries
                if entry["number"] != expected:
                    verdict.fault = f"line {place}: expected entry {expected}, got {entry['number']}: some are missing"
                elif entry["previous"] != verdict.head:
                    verdict.fault = f"line {place}: entry {expected} does not follow the one before"
                elif hash_of(entry) != entry["hash"]:
                    verdict.fault = f"line {place}: entry {expected} was changed"
                if verdict.fault:
                    return verdict
                verdict.entries, verdict.head = verdict.entries + 1, entry["hash"]
                met = met or entry["hash"].startswith(expect)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not met:
        verdict.fault = f"the noted hash {expect[:16]} is not in the chain: its end was cut off, or it was written anew"
    return verdict


def entries(path: str | Path) -> Iterator[Entry]:
    """All that can be read, the oldest first. Raises UserError."""
    try:
        with open_finite(path) as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    yield _read(line)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _seconds(line: bytes) -> float:
    try:
        return from_iso(_read(line)["time"])
    except ValueError:
        return float("inf")  # what is no entry is not ours to take out


def _user() -> str:
    """Who runs this program, as the system knows it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
