#!/usr/bin/env python
"""How fast an archive is indexed: times real time a core, what motion saves, and what a second worker brings.

    python tests/archive_speed.py VIDEO ... [--minutes 10] [--quiet-share 0.75] [--json FILE]

The videos are repeated until they last --minutes, in two archives: as they are; and mixed with stretches in which
nobody passes (--quiet-share of the time; the video's median picture, with a sensor's noise). Each is indexed by the
real command, at 10 pictures a second, the first one, whose segments are alike, also by several workers. Beside the wall
clock stands the processor time: on a busy machine it is what holds. `speed-up` is the wall clock of one worker (in the
command's own process) over that of several (Ray, with its start); `of the work` counts from the first segment's begin.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from personsearch.core.errors import UserError, run_main
from personsearch.core.files import replace_file

REPOSITORY = Path(__file__).resolve().parent.parent
FPS, PIECE_S = 10, 20.0  # about so long do they move at a stretch


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each archive")
    parser.add_argument("--files", type=int, default=4, help="videos of an archive")
    parser.add_argument("--quiet-share", type=float, default=0.75, help="of the mixed archive in which nothing moves")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    for video in given.videos:
        if not Path(video).is_file():
            raise UserError(f"{video}: no such video")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = given.minutes * 60 / given.files
        for number in range(given.files):
            busy, mixed = folder / "busy" / f"a{number}.mp4", folder / "mixed" / f"a{number}.mp4"
            write(busy, given.videos, seconds, 0.0, number)
            write(mixed, given.videos, seconds, given.quiet_share, number)
        figures = {
            "mixed": run(folder / "mixed", folder / "out1", 1),
            "always somebody": run(folder / "busy", folder / "out2", 1),
            f"always somebody, {given.workers} workers": run(folder / "busy", folder / "out3", given.workers),
        }
    one, more = figures["always somebody"], figures[f"always somebody, {given.workers} workers"]
    figures["speed-up"] = round(one["wall_s"] / more["wall_s"], 2)
    figures["speed-up of the work"] = round(one["work_s"] / more["work_s"], 2)
    figures["processor time of segments, more workers over one"] = round(
        more["cpu_s_of_segments"] / one["cpu_s_of_segments"], 2
    )
    words = [Path(v).name for v in given.videos]
    command = f"python tests/archive_speed.py {' '.join(words)} --minutes {given.minutes:g} --files {given.files}"
    content = {
        "command": f"{command} --quiet-share {given.quiet_share:g}",
        "machine": f"{len(os.sched_getaffinity(0))} cores, no GPU", "load_average": round(os.getloadavg()[0], 1),
        **figures,
    }  # fmt: skip
    print(json.dumps(content, indent=1))
    if given.json:
        replace_file(given.json, json.dumps(content, indent=1).encode() + b"\n")
    return 0


def run(videos: Path, out: Path, workers: int) -> dict[str, Any]:
    """Index an archive; seconds of video, wall clock and processor time, and what came of it."""
    began = time.monotonic()
    command = [
        sys.executable, REPOSITORY / "archive" / "index.py", "--videos", videos, "--out", out, "--workers", workers,
        "--segment-s", 30, "--camera", "a",
    ]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - began
    report = json.loads((out / "report.json").read_bytes())
    video_s = 3600 * report["hours"]
    work, files = report["cpu_s_of_workers"], list(out.rglob("visits/*/*.parquet"))
    return {
        "video_s": round(video_s), "wall_s": round(wall, 1), "work_s": round(report["work_s"], 1),
        "cpu_s_of_segments": work, "times_real_time": round(video_s / wall, 2),
        "times_real_time_a_core_by_processor_time": round(video_s / work, 2), "segments": report["segments"],
        "pictures_analysed": report["pictures_analysed"], "people_described": report["people_described"],
        "visits": report["visits"],
        "bytes_a_visit": round(sum(file.stat().st_size for file in files) / max(1, report["visits"])),
    }  # fmt: skip


def write(path: Path, videos: list[str], seconds: float, quiet: float, offset: int) -> None:
    """A video of that length: pieces of the given ones, each followed by the empty scene for the quiet time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(offset)
    with av.open(str(path), "w") as container:
        stream = None
        stretches = max(1, round(seconds * (1 - quiet) / PIECE_S))
        moving, still = (round(seconds * share / stretches * FPS) for share in (1 - quiet, quiet))
        for count, image in enumerate(islice(pictures(videos, moving, still, noise, offset), round(seconds * FPS))):
            if stream is None:
                options = {"preset": "veryfast", "crf": "23", "threads": "1"}
                stream = container.add_stream("libx264", rate=FPS, options=options)
                stream.height, stream.width, stream.pix_fmt = *SIZE[::-1], "yuv420p"
                stream.codec_context.gop_size = 2 * FPS
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = count, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))


SIZE, SAMPLES = (1280, 720), 25


def pictures(
    videos: list[str], moving: int, still: int, noise: np.random.Generator, offset: int
) -> Iterator[np.ndarray]:
    """BGR pictures of SIZE at FPS, for ever: so many that move, then so many of the empty scene."""
    empty = {video: empty_scene(video) for video in videos} if still else {}
    for video in cycle(videos[offset % len(videos) :] + videos[: offset % len(videos)]):
        count, due = 0, 0.0
        with av.open(video) as container:
            for frame in container.decode(container.streams.video[0]):
                if frame.time is not None and frame.time < due:
                    continue
                due += 1 / FPS
                image = frame.to_ndarray(format="bgr24", width=SIZE[0], height=SIZE[1])
                yield image
                count += 1
                if still and count % moving == 0:
                    for _ in range(still):
                        grain = noise.integers(-2, 3, (*image.shape[:2], 1), np.int16)
                        yield np.clip(empty[video] + grain, 0, 255).astype(np.uint8)


def empty_scene(video: str) -> np.ndarray:
    """The median of SAMPLES pictures: whoever passes is in none of its pixels for half of the time."""
    with av.open(video) as container:
        stream = container.streams.video[0]
        every = max(1, stream.frames // SAMPLES)
        shown = (f for number, f in enumerate(container.decode(stream)) if number % every == 0)
        few = [frame.to_ndarray(format="bgr24", width=SIZE[0], height=SIZE[1]) for frame in islice(shown, SAMPLES)]
    median: np.ndarray = np.median(few, axis=0).astype(np.uint8)
    return median


if __name__ == "__main__":
    sys.exit(main())
