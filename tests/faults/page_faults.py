"""Faults of the operator's page: its process is killed while people look."""

from __future__ import annotations

import os
import signal
import time
from importlib.util import find_spec

from harness import Outcome, Unavailable, folder


def page_killed(long: bool) -> Outcome:
    """kill -9 while a browser looks at a camera, several times; what the stream says and does meanwhile."""
    if find_spec("starlette") is None:
        raise Unavailable("needs personsearch[page]")
    from page_box import answers, box_with_page, unpacked, within

    kills, seconds, pictures = (5 if long else 2), [], []
    with folder() as place, box_with_page(place) as box:
        box.running.ready(300)
        with box.client() as client:
            before = box.running.rate("street-1", 5)
            for _ in range(kills):
                with box.look(client, "street-1") as socket:
                    socket.recv(30)
                    began = time.monotonic()
                    os.kill(box.page.process.pid, signal.SIGKILL)
                    within(60, lambda: answers(client))  # waits in the socket that the stream kept
                    said = client.get("/api/me").json()
                    seconds.append(time.monotonic() - began)
                with box.look(client, "street-1") as socket:
                    head, _ = unpacked(socket.recv(30))
                    pictures.append(head["frame"])
            after = box.running.rate("street-1", 5)
            engine = box.pipeline.inference.restarts
        failures = box.pipeline.camera("street-1").counters.failures
    return Outcome(
        f"kill -9 of the page's process {kills} times while a browser watched a camera",
        f"answered again after {', '.join(f'{s:.1f}' for s in seconds)} s, still {said['role']}; the camera gave "
        f"{before:.1f} frames/s before and {after:.1f} after, {engine} engines and {failures} cameras failed",
        max(seconds) < 5 and said["role"] == "operator" and not engine and not failures and after > 0.8 * before,
        {"seconds": [round(s, 2) for s in seconds], "rate": [round(before, 2), round(after, 2)]},
    )
