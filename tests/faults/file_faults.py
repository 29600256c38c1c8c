"""Faults of files: slower than any timeout, the machine busy, nothing in them."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
from harness import Outcome, Running, folder, street_video, timed_video, wait_for
from nobody import network


def slower_than_the_timeout(long: bool) -> Outcome:
    """Our own waiting for the next frame's time is no silence of the source."""
    step = 4000 if long else 1500
    with folder() as place:
        url = str(timed_video(place / "v.mp4", [0, step, 2 * step]))
        with Running([{"name": "slow", "url": url, "read_timeout_s": 0.5}], **network(long)) as running:
            seen: list[tuple[int, float]] = []
            running.pipeline.watchers.append(lambda frame, *_: seen.append((frame.index, time.monotonic())))
            running.thread.join(60)
        words = [(e["state"], e["cause"]) for _, e in running.events if e["type"] == "camera"]
    gaps = [b - a for (_, a), (_, b) in itertools.pairwise(seen)]
    return Outcome(
        f"a file with a frame every {step / 1000:g} s, played at its own pace with a read timeout of 0.5 s",
        f"frames {', '.join(str(n) for n, _ in seen)} analysed, {', '.join(f'{g:.2f} s' for g in gaps)} apart, then "
        f"'{words[-1][1]}'",
        [n for n, _ in seen] == [0, 1, 2] and all(abs(g - step / 1000) < 0.5 for g in gaps)
        and words == [("online", ""), ("ended", "end")],
        {"gaps_s": [round(g, 3) for g in gaps]},
    )  # fmt: skip


def busy_machine(long: bool) -> Outcome:
    """Tracks and repeated matches depend on time, which is the file's own."""
    runs: list[list[tuple[Any, ...]]] = []
    spent = []
    with folder() as place:
        url = str(street_video(place / "v.avi", frames=200 if long else 50, fps=5, size=(640, 384)))
        for busy in (False, True):
            work = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * busy)]
            try:
                camera = {"name": "a", "url": url, "pace": "fast", "max_fps": 4}
                with Running([camera], match={"threshold": -1, "repeat_s": 1.5}) as running:
                    if busy:  # frames are done late and in bursts
                        running.pipeline.watchers.append(lambda frame, *_: time.sleep(0.05 * (frame.index % 3)))
                    running.ready()
                    began = time.monotonic()
                    running.thread.join(300)
                    spent.append(time.monotonic() - began)
            finally:
                for process in work:
                    process.kill()
                    process.wait()
            matches = [e for _, e in running.events if e["type"] == "match"]
            runs.append([(e["frame"]["index"], e["person"], e["track"], str(e["bounding_box"])) for e in matches])
    return Outcome(
        "a file at `pace: fast`, alone, then beside three processes that take all there is and with analysis held up",
        f"{len(runs[0])} and {len(runs[1])} match events, the same ones: {runs[0] == runs[1]} (in {spent[0]:.1f} s and "
        f"{spent[1]:.1f} s)",
        runs[0] == runs[1] and len(runs[0]) > 5,
        {"events": [len(run) for run in runs], "seconds": [round(s, 1) for s in spent]},
    )


def nothing_in_it(long: bool) -> Outcome:
    """A header without frames, looping, and half a file, beside a good one."""
    seconds = 20 if long else 4
    with folder() as place:
        good = street_video(place / "good.avi")
        cv2.VideoWriter(str(place / "empty.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 192)).release()
        half = Path(place / "half.avi")
        half.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
        cameras = [
            {"name": "good", "url": str(good), "end": "loop"},
            {"name": "empty", "url": str(place / "empty.avi"), "end": "loop"},
            {"name": "half", "url": str(half)},
        ]
        with Running(cameras, **network(long)) as running:
            running.ready()
            _, empty = running.wait_event(20, type="camera", camera="empty", state="offline")
            _, ended = running.wait_event(20, type="camera", camera="half", state="ended")
            time.sleep(seconds)
            opened = running.pipeline.camera("empty").counters.opened
            counters = running.pipeline.camera("good").counters
            before = counters.captured
            wait_for(lambda: counters.captured > before + 10, 20)
    return Outcome(
        f"a looping file without frames for {seconds} s, and half a file, beside a good one",
        f"without frames: {empty['cause']} ('{empty['reason'].rpartition(': ')[2]}'), opened {opened} times; half: "
        f"'{ended['reason']}'; the good one goes on",
        empty["cause"] == "codec" and opened <= 12 and "before the announced" in ended["reason"],
        {"opened": opened},
    )
