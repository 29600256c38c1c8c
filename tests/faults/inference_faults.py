"""Faults of the inference engine: killed, hanging, out of memory, failing for good."""

from __future__ import annotations

import os
import resource
import signal
import time

from harness import Outcome, Running, folder, street_video, wait_for
from nobody import network

from personsearch.runtime.pipeline import EXIT_ENGINE_GAVE_UP


def engine_fails(long: bool) -> Outcome:
    """kill -9, SIGSTOP, and no memory left (RLIMIT_AS set from outside); each replaced by a fresh engine."""
    times: dict[str, float] = {}
    reasons: dict[str, str] = {}
    with folder() as place:
        url = str(street_video(place / "v.avi"))
        inference = {"timeout_s": 4 if long else 2}
        camera = {"name": "a", "url": url, "end": "loop", "max_fps": 5}
        with Running([camera], inference=inference, **network(long)) as running:
            engine = running.pipeline.inference
            counters = running.pipeline.camera("a").counters
            for how in ["killed", "hung", "out of memory"] * (2 if long else 1):
                wait_for(lambda: engine.state == "ready" and engine.batches > 3, 300)
                engine.failures = 0  # as after a minute of health
                pid = engine.process.pid
                began = time.monotonic()
                if how == "killed":
                    os.kill(pid, signal.SIGKILL)
                elif how == "hung":
                    os.kill(pid, signal.SIGSTOP)
                else:
                    with open(f"/proc/{pid}/statm") as file:
                        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
                    resource.prlimit(pid, resource.RLIMIT_AS, (used, used))
                    # A camera with bigger pictures makes the engine ask for memory that it does not get.
                    running.add_camera({"name": f"big-{pid}", "url": "synthetic://street?width=2560&height=1440&fps=5"})
                failed, event = running.wait_event(90, began, type="engine", state="failed")
                if how == "out of memory":  # until then it worked: the camera had to come first
                    began = failed
                reasons[how] = event["reason"]
                captured = counters.captured
                when, _ = running.wait_event(90, began, type="engine", state="ready")
                drained = counters.captured - captured
                times[how] = max(times.get(how, 0.0), when - began)
    worst = max(times.values())
    return Outcome(
        "kill -9; SIGSTOP; no memory left (RLIMIT_AS)",
        "a fresh engine after " + ", ".join(f"{s:.1f} s ({how})" for how, s in times.items())
        + f"; meanwhile the camera gave {drained} frames",
        worst < (10 if long else 45) and drained > 5,  # the promise; on a busy machine five times what it takes
        {"seconds": {how: round(s, 2) for how, s in times.items()}, "reasons": reasons},
    )  # fmt: skip


def engine_gives_up(long: bool) -> Outcome:
    """Every engine is killed as soon as it starts."""
    with folder() as place:
        url = str(street_video(place / "v.avi"))
        with Running([{"name": "a", "url": url, "end": "loop"}], **network(long)) as running:
            engine, camera = running.pipeline.inference, running.pipeline.camera("a")
            running.ready()
            wait_for(lambda: camera.counters.captured > 10, 60)
            killed = 0
            began = time.monotonic()
            while engine.state != "given_up" and time.monotonic() - began < 300:
                process = engine.process
                if engine.channel is not None and process is not None and process.poll() is None:
                    process.kill()
                    killed += 1
                    wait_for(lambda p=process: engine.process is not p or engine.channel is None, 10)
                time.sleep(0.01)
            _, event = running.wait_event(5, type="engine", state="given_up")
            captured, dropped = camera.counters.captured, camera.counters.dropped["engine"]
            time.sleep(1.0)
            drained = camera.counters.captured - captured
            state, dropped = camera.state, camera.counters.dropped["engine"] - dropped
        status = running.pipeline.exit_status
        balance = camera.counters.captured - camera.counters.analysed - sum(camera.counters.dropped.values())
    return Outcome(
        "every engine is killed at once",
        f"gave up after {killed} failures ('{event['reason'][-40:]}'), exit status {status}; the camera stays {state}: "
        f"{drained} frames in the next second, counted as dropped",
        killed == 5 and status == EXIT_ENGINE_GAVE_UP and drained > 10 and dropped > 10 and balance == 0,
        {"failures": killed, "exit_status": status, "drained": drained},
    )
