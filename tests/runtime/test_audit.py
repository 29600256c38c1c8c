"""The audit log: whoever changes it, takes something out or cuts it off is found out; a killed writer is not."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from conftest import assert_user_error, call

from personsearch.core.errors import UserError
from personsearch.runtime.operations.audit import AuditLog, entries, hash_of, verify


@pytest.fixture
def log(tmp_path: Path) -> Path:
    audit = AuditLog(tmp_path / "audit")
    for number in range(5):
        audit.add("enrolled", person=f"p-{number:012x}", views=number, note="ünï")
    return tmp_path / "audit"


def rewrite(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    AuditLog("").add("enrolled")
    AuditLog("").check()
    assert list(tmp_path.iterdir()) == []


def test_entries_follow_each_other(log: Path) -> None:
    read = list(entries(log))
    assert [entry["number"] for entry in read] == [1, 2, 3, 4, 5]
    assert read[2]["person"] == "p-000000000002"
    assert read[2]["note"] == "ünï"
    verdict = verify(log)
    assert (verdict.fault, verdict.entries, verdict.first, verdict.head) == ("", 5, 1, read[-1]["hash"])
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("changed", "was changed"), ("changed, with a new hash", "does not follow"), ("taken out", "missing"),
        ("put in", "expected entry 3"), ("swapped", "missing"), ("emptied", "no entry"), ("first gone", ""),
    ],
)  # fmt: skip
def test_what_was_done_to_it_is_found(log: Path, how: str, words: str) -> None:
    lines = log.read_bytes().splitlines()
    entry = json.loads(lines[1])
    head = json.loads(lines[0])["hash"]
    if how.startswith("changed"):
        entry["views"] = 99
        if "hash" in how:
            entry["hash"] = hash_of(entry)
        lines[1] = json.dumps(entry).encode()
    elif how == "taken out":
        del lines[1]
    elif how == "put in":
        lines.insert(1, lines[1])
    elif how == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    elif how == "emptied":
        lines[1] = b"{}"
    else:
        del lines[0]  # as trimming does: only whoever noted the first hash can tell
    rewrite(log, lines)
    verdict = verify(log, expect=head if how == "first gone" else "")
    assert words in verdict.fault
    assert verdict.fault
    assert call("runtime/audit.py", log, "--verify").returncode == (0 if how == "first gone" else 1)


def test_a_log_that_was_cut_off_shows_by_a_hash_noted_before(log: Path) -> None:
    noted = verify(log).head
    AuditLog(log).add("forgotten", person="p-1")
    assert not verify(log, noted).fault
    rewrite(log, log.read_bytes().splitlines()[:3])
    assert not verify(log).fault
    assert "cut off" in verify(log, noted).fault
    assert call("runtime/audit.py", log, "--verify", "--expect", noted[:16]).returncode == 1


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_writer_that_was_killed_leaves_a_log_that_goes_on(log: Path, kept: int) -> None:
    whole = log.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    log.write_bytes(whole + last[:kept])
    assert (verify(log).fault, verify(log).entries) == ("", 5)
    assert verify(log).torn
    AuditLog(log).add("exported", people=3)
    assert [entry["kind"] for entry in entries(log)][5:] == ["repaired", "exported"]
    assert not verify(log).fault
    assert not verify(log).torn


def _add_many(path: Path, who: int) -> None:
    for number in range(25):
        AuditLog(path).add("searched", who=who, number_of_search=number)


def test_programs_that_write_at_once_make_one_chain(tmp_path: Path) -> None:
    start = multiprocessing.get_context("fork")
    writers = [start.Process(target=_add_many, args=(tmp_path / "audit", who)) for who in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert (verify(tmp_path / "audit").entries, verify(tmp_path / "audit").fault) == (100, "")


def test_old_entries_are_trimmed_and_the_rest_is_still_a_chain(log: Path) -> None:
    now = time.time()
    audit = AuditLog(log, keep_days=180)
    assert audit.trim(now) == 0
    lines = log.read_bytes().splitlines()
    assert audit.trim(now + 200 * 86400) == len(lines) - 1  # the last one stays, so that the chain goes on
    audit.add("trimmed-after")
    verdict = verify(log)
    assert (verdict.fault, verdict.first, verdict.entries) == ("", 5, 2)
    assert AuditLog(log).trim(now + 1e9) == 0


def test_a_file_that_is_no_audit_log_is_neither_continued_nor_read(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("do not touch\n")
    with pytest.raises(UserError, match="no entry of an audit log"):
        AuditLog(other).add("enrolled")
    assert other.read_text() == "do not touch\n"
    assert_user_error(call("runtime/audit.py", tmp_path / "none", "--verify"), "cannot be read")
    assert_user_error(call("runtime/audit.py", other, "--verify", "--expect", "xyz"), "hexadecimal")
    os.mkdir(tmp_path / "folder")
    with pytest.raises(UserError, match="cannot be written"):
        AuditLog(tmp_path / "folder").check()
