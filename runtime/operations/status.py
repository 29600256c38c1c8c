"""What a stream says of itself on the console: a line for each camera now and then, and a summary at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from personsearch.runtime.pipeline import Pipeline


def status_lines(pipeline: Pipeline) -> list[str]:
    """One line per camera: rates since the start, and what was seen; one more if there is too much to do."""
    elapsed = max(time.monotonic() - pipeline.started, 1e-6)
    lines = []
    for camera in pipeline.cameras:
        s, c = pipeline.statistics[camera.name], camera.counters
        reader = pipeline.details.readers.get(camera.name)
        views = f"  main stream {reader.counts['given']} of {reader.counts.total()} views" if reader else ""
        lines.append(
            f"{camera.name:16s} {camera.state:8s} in {c.captured / elapsed:6.1f} fps  "
            f"analysed {c.analysed / elapsed:6.1f} fps  dropped {sum(c.dropped.values()):6d}  people {s.now:3d} "
            f"(tracks {s.tracks})  matches {s.matches}{views}"
        )
    return [*lines, *filter(None, [pipeline.overload.words()])]


def summary(pipeline: Pipeline) -> str:
    elapsed = time.monotonic() - pipeline.started
    analysed = sum(c.counters.analysed for c in pipeline.cameras)
    per_frame = 1000 * pipeline.inference.busy_s / max(1, analysed)
    return "\n".join([
        *status_lines(pipeline),
        f"total: {analysed} frames in {elapsed:.1f} s ({analysed / max(elapsed, 1e-6):.1f} frames/s, "
        f"{per_frame:.1f} ms inference a frame), {sum(s.matches for s in pipeline.statistics.values())} match events",
    ])  # fmt: skip
