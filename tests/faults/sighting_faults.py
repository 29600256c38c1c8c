"""Faults in the middle of a visit: a dying engine and a camera that goes away."""

from __future__ import annotations

import os
import signal
import time

from harness import Outcome, PictureServer, Running, some_gallery, wait_for

GRACE_S = 6.0


def visit_goes_on(long: bool) -> Outcome:
    """Whoever is seen gets the only name there is, so all of it is one visit: the engine is killed in it, the camera
    breaks off and comes back within the grace time, and at last it goes away for good."""
    server = PictureServer(fps=10)
    camera = {"name": "a", "url": server.url, "open_timeout_s": 1, "read_timeout_s": 1}
    try:
        with Running(
            [camera], some_gallery(1), match={"threshold": -1}, sightings={"grace_s": GRACE_S, "correct_after_s": 60}
        ) as running:
            began, _ = running.wait_event(60, type="sighting", change="started")
            killed = 0
            for _ in range(3 if long else 1):
                engine = running.pipeline.inference
                when = time.monotonic()
                os.kill(engine.process.pid, signal.SIGKILL)
                killed += 1
                running.wait_event(90, when, type="engine", state="ready")
                batches = engine.batches
                wait_for(lambda e=engine, n=batches: e.batches > n + 15, 60)
            server.frames_before_close = 1
            wait_for(lambda: running.pipeline.camera("a").state == "offline", 20)
            server.frames_before_close = 0
            wait_for(lambda: running.pipeline.camera("a").state == "online", 20)
            time.sleep(1.0)
            early = [e["reason"] for _, e in running.events if e["type"] == "sighting" and e["change"] == "ended"]
            server.silent, gone = True, time.monotonic()
            ended, last = running.wait_event(60, type="sighting", change="ended")
    finally:
        server.close()
    changes = [event for _, event in running.events if event["type"] == "sighting"]
    started = sum(event["change"] == "started" for event in changes)
    causes = ("stall", "timeout", "refused", "crashed", "end")
    lasted = last["duration_s"]
    return Outcome(
        f"{killed} engines killed, the camera cut off and back, then silent for good",
        f"{started} sighting of {lasted:.0f} s; it ended {ended - gone:.1f} s after the silence: {last['reason']}",
        started == 1 and not early and last["reason"] in causes and 0 < lasted <= ended - began + 5
        and ended - gone >= GRACE_S,
        {"started": started, "reason": last["reason"], "duration_s": lasted},
    )  # fmt: skip
