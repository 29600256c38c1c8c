#!/usr/bin/env python
"""What the operator's page costs: processor seconds of live pictures above streaming, and the time until it is usable.

`python tests/page_cost.py [--cameras 9] [--viewers 2] [--seconds 20]` gives frames of a street to the control socket as
the pipeline does (without an engine, whose work does not depend on viewers), for real viewers at a real page process.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "faults"))
from harness import some_gallery
from page_box import Box, answers, unpacked

from personsearch.core.bundle import read_manifest
from personsearch.core.street.street import Street, StreetSettings
from personsearch.core.tracking.tracker import Track
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.gallery_file import save_gallery
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.operations.control import Control
from personsearch.runtime.page.supervisor import PageProcess
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import StreamSettings, default_bundle

GOAL = 5  # pictures a second of each camera
RATE = 6.0  # analysed frames a second of each camera: a little more than the five that are shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=9)
    parser.add_argument("--viewers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--width", type=int, default=0, help="pixels of a camera on the viewers' screens, 0 for most")
    parser.add_argument("--json", default="", metavar="FILE", help="also write the figures there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        told = measure(Path(name), given.cameras, given.viewers, given.seconds, given.width)
    if given.json:
        content = {"command": " ".join(["python", *sys.argv]), **told}
        Path(given.json).write_text(json.dumps(content, indent=1) + "\n")


def measure(place: Path, cameras: int, viewers: int, seconds: float, width: int = 0) -> dict[str, float]:
    """Processor time, which other work on the machine hardly changes: it is told for each picture, and for the goal of
    five pictures a second of each camera, however many could be shown meanwhile."""
    names = [f"camera-{n}" for n in range(cameras)]
    settings = StreamSettings.model_validate({
        "cameras": [{"name": name, "url": "synthetic://street"} for name in names],
        "publish": {"endpoint": "tcp://127.0.0.1:*"}, "page": {"port": 0, "users": str(place / "page.users")},
    })  # fmt: skip
    save_gallery(some_gallery(), place / "people.gallery")
    (place / "cams.yaml").write_text("cameras: [{name: camera-0, url: 'synthetic://street'}]\n")
    publisher = Publisher(settings.publish)
    manifest = read_manifest(default_bundle())
    pipeline = Pipeline(settings, default_bundle(), manifest, some_gallery(), publisher.publish)
    control = Control(pipeline, publisher, lambda: None)
    began = time.monotonic()
    page = PageProcess(settings, place / "cams.yaml", place / "people.gallery", default_bundle(), control, publisher)
    box = Box(None, publisher, control, page, place / "cams.yaml")  # type: ignore[arg-type]
    frames = Frames(control, names)
    frames.start()
    with box.client() as client:
        print(f"the page answers {time.monotonic() - began:.1f} s after its process was started")
        assert answers(client)
        alone = Used(page, control, frames, seconds)
        stop, counts = threading.Event(), [0] * viewers
        eyes = [
            threading.Thread(target=watch, args=(box, client, names, stop, counts, n, width)) for n in range(viewers)
        ]
        for eye in eyes:
            eye.start()
        time.sleep(2)
        before, encoded = sum(counts), control.encoded
        watched = Used(page, control, frames, seconds)
        shown, encoded = sum(counts) - before, control.encoded - encoded
        stop.set()
        for eye in eyes:
            eye.join()
    frames.stop.set()
    frames.join()
    extra = watched.less(alone)
    print(
        f"{cameras} cameras, {viewers} viewers, {shown / viewers / cameras / seconds:.1f} pictures/s of each camera: "
        f"{100 * sum(extra.values()) / seconds:.1f} % of a core above streaming "
        f"({', '.join(f'{part} {100 * cost / seconds:.1f} %' for part, cost in extra.items())}); "
        f"nobody looking: {100 * sum(alone.spent.values()) / seconds:.1f} %"
    )
    print("nobody looking:", ", ".join(f"{part} {100 * s / seconds:.2f} %" for part, s in alone.spent.items()))
    each_ms = {part: 1000 * cost / max(1, encoded) for part, cost in extra.items()}
    goal = GOAL * cameras * sum(each_ms.values()) / 10
    print(
        f"{encoded} pictures: {sum(each_ms.values()):.2f} ms each "
        f"({', '.join(f'{part} {ms:.2f}' for part, ms in each_ms.items())}); {GOAL} a second of {cameras} cameras: "
        f"{goal:.1f} % of a core"
    )
    page.close()
    control.close()
    publisher.close()
    return {
        "cameras": cameras, "viewers": viewers, "width": width, "seconds": seconds, "encoded": encoded, "shown": shown,
        **{f"{part}_ms": round(ms, 3) for part, ms in each_ms.items()}, "percent_of_a_core_at_goal": round(goal, 2),
        "percent_nobody_looking": round(100 * sum(alone.spent.values()) / seconds, 2),
    }  # fmt: skip


class Frames(threading.Thread):
    """The pipeline's part: every analysed frame is offered. `spent` is what offering costs, processor seconds."""

    def __init__(self, control: Control, names: list[str]) -> None:
        super().__init__(daemon=True)
        street = Street(StreetSettings(seed=7, people=5, cameras=1, identities=10, width=1280, height=720))
        self.pictures = [street.frame(0, n) for n in range(0, 40, 4)]
        self.control, self.names, self.spent, self.stop = control, names, 0.0, threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stop.wait(1 / RATE):
            seen = self.pictures[number % len(self.pictures)]
            tracks = [
                Track(n, np.asarray(box, np.float32), 0.9, 0.0, 0.0, n, np.zeros((5, 4)))
                for n, box in enumerate(seen.boxes)
            ]
            for name in self.names:
                frame = Frame(name, seen.image, number, time.time(), time.monotonic(), picture_size=(1280, 720))
                before = time.thread_time()
                self.control.see(frame, tracks, [])
                self.spent += time.thread_time() - before
            number += 1


class Used:
    """Processor seconds within a time, by part."""

    def __init__(self, page: PageProcess, control: Control, frames: Frames, seconds: float) -> None:
        def parts() -> dict[str, float]:
            return {"page": cpu_of(page.process.pid), "encoding": control.cpu_s, "shrinking": frames.spent}

        before = parts()
        time.sleep(seconds)
        self.spent = {part: now - before[part] for part, now in parts().items()}

    def less(self, other: Used) -> dict[str, float]:
        return {part: cost - other.spent[part] for part, cost in self.spent.items()}


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def watch(
    box: Box, client: object, names: list[str], stop: threading.Event, counts: list[int], number: int, width: int
) -> None:
    with box.look(client, *names) as socket:  # type: ignore[arg-type]
        socket.send(json.dumps({"cameras": names, "width": width}))
        while not stop.is_set():
            unpacked(socket.recv(30))
            socket.send("ok")
            counts[number] += 1


if __name__ == "__main__":
    main()
