#!/usr/bin/env python
"""What does a camera cost in which nothing moves, decoding included? `python tests/idle_cost.py [--json FILE]`

A still street with sensor noise is encoded as H.264 and H.265 (a keyframe every two seconds) and as motion JPEG, and
read at its own pace by real capture processes: every frame; with `scheduling.motion` and `rest: false`, so that all is
decoded; and with `scheduling.motion` alone, so that the source rests. The figure is the processor time of the capture
process as a share of one core, after the first 15 s. There is no engine: frames are taken and dropped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import av
import cv2
import numpy as np

from personsearch.core.errors import run_main
from personsearch.core.street.street import Street, StreetSettings
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import Camera
from personsearch.runtime.settings import SchedulingSettings

FORMS = (("h264", "libx264", 1920, 1080, 10), ("h264", "libx264", 1920, 1080, 25), ("hevc", "libx265", 1920, 1080, 10),
         ("h264", "libx264", 3840, 2160, 20), ("mjpeg", "mjpeg", 1920, 1080, 10))  # fmt: skip
SETTLE_S = 15.0


def film(path: Path, codec: str, width: int, height: int, fps: int, seconds: float) -> None:
    """Eight different pictures again and again: the same scene, other noise."""
    still = Street(StreetSettings(seed=7, people=1, width=960, height=540)).frame(0, 0).image
    still = cv2.resize(still, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 1.2, (height, width, 1)).astype(np.int16) for _ in range(8)]
    pictures = [np.clip(still + n, 0, 255).astype(np.uint8) for n in noise]
    encode(path, codec, (width, height), fps, (pictures[n % len(pictures)] for n in range(round(seconds * fps))))


def encode(path: Path, codec: str, size: tuple[int, int], fps: int, pictures: Iterable[np.ndarray]) -> None:
    """A keyframe every two seconds, as quickly as it goes."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 2 * fps
        if codec != "mjpeg":
            limits = f"keyint={2 * fps}:min-keyint={2 * fps}:scenecut=0:log-level=none"
            stream.options = {"preset": "ultrafast", "tune": "zerolatency", f"{codec[3:]}-params": limits}
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        file.mux(stream.encode(None))


def cost(path: Path, motion: bool, rests: bool, seconds: float) -> dict[str, float]:
    """Share of a core, and frames delivered a second."""
    camera = Camera(CameraSettings.model_validate({"name": "c", "url": str(path)}), lambda *_: None)
    scheduling = SchedulingSettings(motion=motion, rest=rests)
    camera.leave_out_still(scheduling, watch_every_s=math.inf)
    began = start = end = 0.0
    delivered = 0
    try:
        while camera.state != "ended":
            camera.tick(time.monotonic())
            camera.read()
            camera.leave_out_still(scheduling, watch_every_s=math.inf)
            while camera.pending:
                camera.pending.popleft().release()
                delivered += 1
            if camera.state == "online" and not start:
                start = time.monotonic()
            if start and not began and time.monotonic() - start > SETTLE_S:
                began, used, delivered = time.monotonic(), processor_s(camera.process.pid), 0
            if began and time.monotonic() - began > seconds:
                break
            time.sleep(0.005)
        end = time.monotonic()
        used, passed = processor_s(camera.process.pid) - used, end - began
        return {"core": used / passed, "delivered_fps": delivered / passed}
    finally:
        camera.stop()


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="measured, after the first 15 (default 20)")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, codec, width, height, fps in FORMS:
            path = Path(folder) / f"{name}{width}{fps}.{'avi' if codec == 'mjpeg' else 'mp4'}"
            film(path, codec, width, height, fps, SETTLE_S + given.seconds + 3)
            for kind, motion, rests in (
                ("every frame", False, False),
                ("motion", True, False),
                ("resting", True, True),
            ):
                found = cost(path, motion, rests, given.seconds)
                rows.append({"codec": name, "size": [width, height], "fps": fps, "kind": kind, **found})
                print(f"{name} {width}x{height} at {fps}/s, {kind:11s}: {found['core']:6.2%} of a core, "
                      f"{found['delivered_fps']:.1f} frames/s delivered", flush=True)  # fmt: skip
            path.unlink()
    if given.json:
        content = {"command": "python tests/idle_cost.py", "cores": os.cpu_count(), "rows": rows}
        Path(given.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(_main))
