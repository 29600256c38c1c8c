"""Faults of what is kept of people: the history that is searched back, and recordings."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from harness import HERE, Outcome, Unavailable, fill_up, folder, small_disk, start_python, wait_for

sys.path.insert(0, str(HERE.parent / "runtime"))
from stays import MANIFEST, NOON, frame, open_history, open_recorder, rows, visit

from personsearch.core.odds import Odds
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.decisions.people import odds_of
from personsearch.runtime.history.folder import expire, forget_person
from personsearch.runtime.history.searching import Found, Range, search

ODDS: Odds = odds_of(MANIFEST)
LIVES = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from stays import frame, open_history, open_recorder, rows, visit
place, row = Path(sys.argv[1]), rows(1)[0]
for line in sys.stdin:                 # each line is one life: a forked child that writes until it is killed
    child = os.fork()
    if child == 0:
        history, recorder = open_history(place / "history"), open_recorder(place / "video")
        number = 0
        while True:
            visit(history, row)
            recorder.write(frame(number), [], [])
            number += 1
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def found_in(root: Path, row: np.ndarray, limit: int = 10_000) -> Found:
    return search(root, [EnrolledView(row)], MANIFEST.model_hash, Range(), lambda _: None, lambda _: ODDS, limit)


def frames_of(video: Path) -> int:
    reader, count = cv2.VideoCapture(str(video)), 0
    while reader.grab():
        count += 1
    return count


def recorded(folder: Path) -> int:
    """Videos that hold more than a second."""
    return sum(path.stat().st_size > 60_000 for path in folder.glob("*.mp4"))


def killed_writers(long: bool) -> Outcome:
    """SIGKILL at random moments while visits and video are written."""
    kills, rng = (40 if long else 5), random.Random(3)
    with folder() as place:
        process = start_python("-c", LIVES, place, HERE.parent / "runtime")
        assert process.stdin is not None
        assert process.stdout is not None
        lost, before = 0, 0
        for number in range(kills):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            wait_for(lambda n=number: recorded(place / "video") > n, 60)
            time.sleep(rng.uniform(0, 0.3))
            os.kill(child, signal.SIGKILL)
            process.stdout.readline()
            found = found_in(place / "history", rows(1)[0])
            torn = min(10_000, found.searched.total()) - len(found.hits)
            lost += found.searched.total() < before
            before = found.searched.total()
        process.stdin.close()
        process.wait(10)
        videos = [frames_of(path) for path in (place / "video").glob("*.mp4")]
        playing = sum(count > 0 for count in videos)
    return Outcome(
        f"kill -9 {kills} times while a history and a video are written",
        f"{before} visits whole, {torn} torn, none of before lost; {len(videos)} videos, {playing} play "
        f"({sum(videos)} frames)",
        torn == lost == 0 and len(videos) == playing == kills,
        {"kills": kills, "visits": before, "torn": torn, "videos": len(videos), "playing": playing},
    )


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    def remount(option: str) -> bool:
        command = ["mount", "-o", f"remount,{option}", str(disk)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    try:
        wait_for(lambda: remount("ro"), 10)  # not while a file is just being written
    except TimeoutError:
        raise Unavailable("making a disk read-only needs the right to mount") from None
    yield
    remount("rw")


def refused_by_the_disk(long: bool) -> Outcome:
    """A history and a recording on a 4 MB disk that gets full, then empty, then read-only, then writable."""
    people = rows(60)
    with small_disk(4) as disk:
        history, recorder = open_history(disk / "history"), open_recorder(disk / "video")
        slowest, number = 0.0, 0

        def go_on(count: int) -> None:
            nonlocal slowest, number
            for _ in range(count):
                began = time.monotonic()
                visit(history, people[number])
                recorder.write(frame(number), [], [])
                slowest, number = max(slowest, time.monotonic() - began), number + 1

        go_on(10)
        wait_for(lambda: history.kept == 10 and list((disk / "video").glob("*.mp4")), 20)
        filler = fill_up(disk)
        go_on(20)
        wait_for(lambda: history.failing, 20)
        full = history.failing
        filler.unlink()
        recovery = wait_for(lambda: history.kept == 30, 20)
        kept_open = recorder  # its file is open for writing, which a disk that becomes read-only does not allow
        kept_open.close()
        with read_only(disk):
            go_on(10)
            wait_for(lambda: history.failing, 20)
            locked = history.failing
        wait_for(lambda: history.kept == 40, 20)
        history.close()
        found = found_in(disk / "history", people[39])
        shutil.rmtree(disk / "video", ignore_errors=True)
    return Outcome(
        "a 4 MB tmpfs with history and recording: full, empty again, read-only, writable again",
        f"'{full}', '{locked}': visits waited in memory; {found.searched.total()} of 40 are kept, those that waited "
        f"{recovery:.1f} s after room was made; the loop waited {1000 * slowest:.0f} ms at most",
        # The short form runs on busy machines, where this thread may not run for seconds; who waits, waits for ever.
        found.searched.total() == 40 and history.left_out == 0 and slowest < (1 if long else 10),
        {"kept": found.searched.total(), "recovery_s": round(recovery, 2), "slowest_ms": round(1000 * slowest, 1)},
    )


def truncated_history(long: bool) -> Outcome:
    """Cut off and overwritten files, a clock that is put back, and forgetting in all of that."""
    people, ada = rows(20), "p-aaaaaaaaaaaa"
    with folder() as place:
        history = open_history(place)
        for number, row in enumerate(people):
            visit(history, row, "door" if number % 2 else "yard", person=ada if number < 4 else None)
        history.close()
        door, yard = sorted(place.rglob("*.visits"))
        os.truncate(door, door.stat().st_size - 100)
        with open(yard, "r+b") as file:
            file.write(b"rubbish")
        after = found_in(place, people[1]).searched.total()
        history = open_history(place)
        visit(history, people[0], "yard")
        history.close()
        back = found_in(place, people[0]).searched.total()
        early = expire(place, 3600, NOON - 3600, {})  # the clock is put back by an hour
        erased = forget_person(place, ada)
        left = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    return Outcome(
        "a history's last record cut off, another file's header overwritten, the clock put back by an hour, and a "
        "person forgotten",
        f"{after} of the 9 whole visits of the readable file found, the damaged one put aside and {back - after} "
        f"written anew; {early} erased early; {erased} visits of the person erased, the id "
        f"{left.count(ada.encode())} times in what is left, the damaged file included",
        (after, back, early, erased) == (9, 10, 0, 2) and ada.encode() not in left,
        {"found": after, "erased": erased},
    )
