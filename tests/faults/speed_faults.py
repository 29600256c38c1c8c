"""Faults while frames without motion are left out."""

from __future__ import annotations

import os
import signal
import time

import cv2
from harness import Outcome, Running, folder, picture, wait_for
from nobody import network

from personsearch.runtime.cameras.camera import Camera


def more_still_frames(camera: Camera) -> None:
    before = camera.counters.dropped["still"]
    wait_for(lambda: camera.counters.dropped["still"] >= before + 20, 60)


def still_scene_is_interrupted(long: bool) -> Outcome:
    """The capture process of a scene where nothing moves is killed: the new one must leave still frames out as well."""
    back = []
    with folder() as place:
        writer = cv2.VideoWriter(str(place / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (320, 192))
        for _ in range(200):
            writer.write(picture(1))
        writer.release()
        camera = {"name": "yard", "url": str(place / "v.avi"), "end": "loop"}
        with Running([camera], scheduling={"motion": True, "look_every_s": 1}, **network(long)) as running:
            running.ready()
            yard = running.pipeline.camera("yard")
            for _ in range(5 if long else 2):
                more_still_frames(yard)
                began = time.monotonic()
                os.kill(yard.process.pid, signal.SIGKILL)
                when, _ = running.wait_event(30, began, type="camera", camera="yard", state="online")
                back.append(when - began)
            more_still_frames(yard)
            analysed, still = yard.counters.analysed, yard.counters.dropped["still"]
            wait_for(lambda: yard.counters.analysed > analysed, 20)  # a look, though nothing moves
            still = yard.counters.dropped["still"] - still
        counters = yard.counters
        counted = counters.captured == counters.analysed + sum(counters.dropped.values())
    return Outcome(
        f"capture process of a still scene killed {len(back)} times, looks every second",
        f"online again after {max(back):.2f} s at worst, still frames left out again, {still} between two looks; every "
        f"frame accounted for: {counted}",
        max(back) < 10 and counted and still >= 3,
        {"back_s": round(max(back), 2), "between_looks": still},
    )
