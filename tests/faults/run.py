#!/usr/bin/env python
"""Reproduce every fault that the runtime promises to survive: `python tests/faults/run.py [--short] [--only WORD]`.

The long form (at most 30 minutes) writes docs/faults.md and docs/measurements/faults.json; with --only it renews
those rows. The short form has the same faults with fewer repeats; it writes nothing unless told to (--write), and
its rows are marked. Exit status 1 if a promise is broken. Everything listens on loopback only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import camera_faults
import delivery_faults
import detail_faults
import file_faults
import fleet_faults
import gallery_faults
import history_faults
import inference_faults
import input_faults
import machine_faults
import page_faults
import place_faults
import settings_faults
import sighting_faults
import soak
import speed_faults
import storage_faults
from harness import REPOSITORY, Outcome, Unavailable

DOCUMENT = REPOSITORY / "docs" / "faults.md"
MEASUREMENTS = REPOSITORY / "docs" / "measurements" / "faults.json"


@dataclass(frozen=True)
class Fault:
    name: str
    promised: str
    reproduce: Callable[[bool], Outcome]  # called with True for the long form


FAULTS = (
    Fault(
        "camera accepts TCP, never answers",
        "camera.offline within 3 s; other cameras' rate changes < 2 %",
        camera_faults.never_answers,
    ),
    Fault("stream stalls midway", "the same", camera_faults.stalls),
    Fault(
        "`read()` never returns", "capture process killed and replaced within 10 s", camera_faults.read_never_returns
    ),
    Fault("corrupt frames", "bad frames skipped and counted, stream not reopened", camera_faults.corrupt_frames),
    Fault("camera flaps", "full jitter 0.5 to 30 s; no growth of descriptors or memory", camera_faults.flaps),
    Fault(
        "inference slower than the cameras",
        "newest wins; age at inference <= 0.5 s; every dropped frame counted",
        camera_faults.too_many_cameras,
    ),
    Fault(
        "still scene, capture process killed",
        "back within 10 s, still frames left out again, looks go on, every frame accounted for",
        speed_faults.still_scene_is_interrupted,
    ),
    Fault(
        "main stream (`detail_url`) goes away and comes back",
        "no outage of the camera; people described from `url`; views again within 10 s",
        detail_faults.comes_and_goes,
    ),
    Fault(
        "main stream of another shape",
        "refused with both sizes, no view; views again once it is mended",
        detail_faults.another_shape,
    ),
    Fault(
        "main stream slower than the sub-stream",
        "nobody described from another moment; what it has no picture of is counted",
        detail_faults.slower,
    ),
    Fault(
        "main stream's reader killed, or hung",
        "replaced, views again within 10 s; the camera never notices",
        detail_faults.reader_killed,
    ),
    Fault(
        "file slower than the read timeout",
        "every frame once at its time, then the end: our own waiting is no silence",
        file_faults.slower_than_the_timeout,
    ),
    Fault(
        "hub killed amid events",
        "the journal is the outbox: none lost, none twice, in order",
        fleet_faults.hub_killed,
    ),
    Fault(
        "webhook's receiver down, box restarted",
        "tried again with a back-off, a line for each cause; none lost, none twice",
        fleet_faults.receiver_down,
    ),
    Fault("file on a busy machine", "same file, same events", file_faults.busy_machine),
    Fault(
        "file without frames, or broken off",
        "codec with a backoff; an end before the announced length says so",
        file_faults.nothing_in_it,
    ),
    Fault(
        "no descriptors left for helpers",
        "that camera and the engine are offline with a cause and tried again; nothing else notices",
        machine_faults.no_descriptors,
    ),
    Fault("output goes away", "the stream goes on watching", machine_faults.output_goes_away),
    Fault(
        "endpoint in use",
        "the second stream is refused; what a killed one left does not block",
        machine_faults.endpoint_in_use,
    ),
    Fault("slow subscriber", "publisher unaffected; gap seen within 2 s; 0 lost", delivery_faults.slow_subscriber),
    Fault("subscriber frozen", "0 lost after replay", delivery_faults.frozen_subscriber),
    Fault("late joiner", "0 lost", delivery_faults.late_joiner),
    Fault("publisher restarts", "numbers go on, new boot id, 0 lost", delivery_faults.publisher_restarts),
    Fault("kill -9 during enrolment", "old or new gallery, never torn", storage_faults.killed_enrolment),
    Fault("two enrolments at once", "nobody is lost", gallery_faults.two_enrolments),
    Fault(
        "kill -9 while the gallery changes",
        "old or new gallery, never torn; keys and undo log can be used",
        gallery_faults.killed_changes,
    ),
    Fault("kill -9 while somebody is forgotten", "asked again, nothing is left", gallery_faults.killed_forgetting),
    Fault(
        "forgotten while the stream runs",
        "no byte of the name is left, the stream goes on with the others",
        gallery_faults.forgotten_while_running,
    ),
    Fault("gallery on a full disk", "refused, unchanged; works once there is room", gallery_faults.full_disk),
    Fault(
        "gallery behind a link", "the file behind it is replaced, and read by the stream", place_faults.behind_a_link
    ),
    Fault("gallery with a wrong key, or cut off", "refused with the reason", gallery_faults.wrong_key),
    Fault("ten thousand people", "a look at 8 tracks < 100 ms, a reload < 5 s", gallery_faults.ten_thousand),
    Fault("nowhere to write", "one line that names the setting", place_faults.nowhere_to_write),
    Fault(
        "disk full",
        "matching and live events go on; recording stops first; enrolment refused; recovers",
        storage_faults.disk_full,
    ),
    Fault(
        "history: kill -9 while it and a video are written",
        "whole visits, none lost; what was recorded plays",
        history_faults.killed_writers,
    ),
    Fault(
        "history: disk full, then read-only",
        "the loop does not wait; every visit is written when there is room",
        history_faults.refused_by_the_disk,
    ),
    Fault(
        "history: truncated, damaged, clock put back",
        "the rest is found; nothing is erased early; forgetting reaches damaged files",
        history_faults.truncated_history,
    ),
    Fault(
        "inference engine crashes, hangs, runs out of memory",
        "a fresh engine within 10 s; cameras keep draining",
        inference_faults.engine_fails,
    ),
    Fault(
        "inference engine fails for good",
        "stops after 5 failures in a row, says so, cameras keep draining",
        inference_faults.engine_gives_up,
    ),
    Fault(
        "bad configuration on reload",
        "rejected whole, old one goes on, error names file, line and key",
        settings_faults.bad_reload,
    ),
    Fault(
        "clock steps by an hour", "monotonic clock for durations; both stamps in the event", settings_faults.clock_steps
    ),
    Fault(
        "password in a camera URL",
        "never in logs, events, metrics or errors, whatever characters it has",
        settings_faults.password_in_url,
    ),
    Fault(
        "operator's page killed",
        "it answers within 5 s, sessions go on; the stream never notices",
        page_faults.page_killed,
    ),
    Fault("addresses of IPv6", "works from end to end; who hears nothing is told once", place_faults.over_ipv6),
    Fault("unknown subscriber, encryption on", "refused; counted", delivery_faults.unknown_subscriber),
    Fault("malformed input", "clear error, nothing lost, service goes on", input_faults.malformed_input),
    Fault(
        "engine dies, camera goes away in a visit",
        "one sighting over it all; it ends after the grace time, with the camera's cause",
        sighting_faults.visit_goes_on,
    ),
    Fault("soak", "memory slope < 1 MB/h; p99 flat", soak.soak),
)


def reproduce(fault: Fault, long: bool) -> dict[str, object]:
    """One row; raises Unavailable where this machine lacks something."""
    began = time.monotonic()
    outcome = fault.reproduce(long)
    return {
        "fault": fault.name,
        "promised": fault.promised,
        **asdict(outcome),
        "seconds": round(time.monotonic() - began, 1),
    }


def merged(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows measured now, and for the other faults those of the last time."""
    known = json.loads(MEASUREMENTS.read_text(encoding="utf-8"))["rows"] if MEASUREMENTS.exists() else []
    latest = {row["fault"]: row for row in [*known, *rows]}
    return [latest[fault.name] for fault in FAULTS if fault.name in latest]


def write(rows: list[dict[str, object]], command: str) -> None:
    machine = f"{os.cpu_count()} cores ({platform.machine()}), no GPU"
    content = {"command": command, "machine": machine, "python": platform.python_version(), "rows": rows}
    MEASUREMENTS.parent.mkdir(parents=True, exist_ok=True)
    MEASUREMENTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Faults", "", "What the runtime survives, reproduced for real on loopback and measured. Written by",
        f"`{command}` on {machine}; the raw figures are in `docs/measurements/faults.json`,",
        "with the load average of the machine at that time.", "",
        "| fault | injected how | promised | measured | kept |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        cells = [str(row[key]).replace("|", "/") for key in ("fault", "injected", "promised", "measured")]
        cells[1] += " (short form)" if row.get("form") == "short" else ""
        lines.append(f"| {' | '.join(cells)} | {'yes' if row['passed'] else '**no**'} |")
    DOCUMENT.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer repeats; writes no file")
    parser.add_argument("--write", action="store_true", help="write the rows of the short form as well")
    parser.add_argument("--only", default="", metavar="WORD", help="only the faults whose name holds this")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # the faults provoke errors by the dozen
    rows, broken = [], 0
    for fault in FAULTS:
        if arguments.only not in fault.name:
            continue
        try:
            row = reproduce(fault, not arguments.short) | {
                "form": "short" if arguments.short else "long",
                "load_average": round(os.getloadavg()[0], 1),  # the machine may have had other work
            }
        except Unavailable as reason:
            print(f"skipped  {fault.name}: {reason}", flush=True)
            continue
        except Exception as error:
            row = {"fault": fault.name, "promised": fault.promised, "injected": "", "passed": False, "seconds": 0.0,
                   "measured": f"{type(error).__name__}: {error}", "figures": {}}  # fmt: skip
        rows.append(row)
        broken += not row["passed"]
        print(
            f"{'kept' if row['passed'] else 'BROKEN':8s} {fault.name} ({row['seconds']} s): {row['measured']}",
            flush=True,
        )
    if not arguments.short or arguments.write:
        write(merged(rows), "python tests/faults/run.py")
        print(f"wrote {Path(DOCUMENT).relative_to(REPOSITORY)} and {Path(MEASUREMENTS).relative_to(REPOSITORY)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
