#!/usr/bin/env python
"""How much the runtime takes: `python tests/faults/load.py cameras|many [--seconds 60]` and `... load.py delivery`.

cameras   four files at 10 fps through capture, the shipped model, tracking, matching, journal and sockets:
          analysed rate, capture-to-event latency, and the processor time of each stage
many      the detector alone, in frames/s; then eight cameras of 1080p at 10 fps, one busy and seven still, which may
          rest (`scheduling.motion`): the same, and the memory of each process
delivery  events/s through journal and socket to a subscriber, and the latency they add at 1000/s; inference and cameras
          are stubbed out here, and nowhere else

Results go to docs/measurements/load-cameras.json, load-many.json and load-delivery.json, and as tables into
docs/load.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zmq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness import REPOSITORY, Running, folder, percentile, start_python, wait_for
from idle_cost import SETTLE_S, encode, film

from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.street.street import Street, StreetSettings
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.settings import JournalSettings, PublishSettings, default_bundle

MEASUREMENTS = REPOSITORY / "docs" / "measurements"

LISTEN = """
import sys, time, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.setsockopt(zmq.RCVHWM, 0)
socket.subscribe(b"camera.")
socket.connect(sys.argv[1])
print("ready", flush=True)
delays, end, count = [], 0.0, int(sys.argv[2])
while len(delays) < count and socket.poll(8000):
    body = socket.recv_multipart()[1]
    end = time.monotonic()
    at = body.index(b'"reason":"') + 10
    delays.append(end - float(body[at : body.index(b'"', at)]))
print(len(delays), end, flush=True)
sys.stdout.write(" ".join(f"{d:.6f}" for d in delays))
"""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Its own memory, and its share of what it has in common with others."""
    fields = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return round(int(fields["Pss"].split()[0]) / 1000, 1)


def points(seconds: list[float]) -> dict[str, float]:
    """Quantiles in milliseconds."""
    return {f"p{p}": round(1000 * percentile(seconds, p), 1) for p in (50, 95, 99)}


def street_files(place: Path, cameras: int) -> tuple[list[dict[str, Any]], Gallery]:
    """Video files at 10 fps (H.264-like MPEG-4, as small cameras send it) and a gallery of people seen in them."""
    street = Street(StreetSettings(seed=7, cameras=cameras, people=5, identities=5 * cameras, fps=10))
    searcher = BundleSearcher(default_bundle())
    gallery = Gallery(searcher.manifest.model_hash, searcher.dimensions)
    files = []
    for camera in range(cameras):
        path = place / f"c{camera}.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (640, 384))
        for number in range(200):
            frame = street.frame(camera, number)
            writer.write(frame.image)
            if number == 60 and len(frame.boxes):
                row = searcher.embed(frame.image, frame.boxes[:1])[0]
                gallery.add(f"Person {frame.identities[0]}", EnrolledView(row))
        writer.release()
        files.append({"name": f"c{camera}", "url": str(path), "end": "loop"})
    return files, gallery


def cameras(seconds: float) -> dict[str, Any]:
    with folder() as place:
        return measure(place, *street_files(place, 4), seconds, settle_s=3)


def many(seconds: float) -> dict[str, Any]:
    with folder() as place:
        (small,), gallery = street_files(place, 1)
        busy, still = place / "busy.mp4", place / "still.mp4"
        encode(busy, "libx264", (1920, 1080), 10, enlarged(small["url"], (1920, 1080)))
        film(still, "libx264", 1920, 1080, 10, 20)
        urls = {"busy": busy, **{f"still{number}": still for number in range(7)}}
        files = [{"name": name, "url": str(path), "end": "loop"} for name, path in urls.items()]
        figures = measure(place, files, gallery, seconds, SETTLE_S, scheduling={"motion": True})
        return {"detector": detector(), **figures}


def enlarged(video: str, size: tuple[int, int]) -> Iterator[np.ndarray]:
    reader = cv2.VideoCapture(video)
    while (read := reader.read())[0]:
        yield cv2.resize(read[1], size, interpolation=cv2.INTER_CUBIC)


def detector(seconds: float = 10.0) -> dict[str, Any]:
    """People are found in frames of 1280x720, shrunk to the network's own size; the engine's own threads."""
    searcher = BundleSearcher(default_bundle())
    street = Street(StreetSettings(seed=7, people=5, width=1280, height=720))
    pictures = [street.frame(0, 20 * number).image for number in range(4)]
    searcher.find(pictures[:1])
    count, began, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        searcher.find([pictures[count % len(pictures)]])
        count += 1
    size = [searcher.manifest.height, searcher.manifest.width]
    rate, cpu_s = count / (time.perf_counter() - began), (time.process_time() - spent) / count
    return {"size": size, "frames_per_s": round(rate, 1), "cpu_ms_per_frame": round(1000 * cpu_s, 1)}


def measure(
    place: Path, files: list[dict[str, Any]], gallery: Gallery, seconds: float, settle_s: float, **sections: Any
) -> dict[str, Any]:
    """All of the runtime on these cameras, for so long after they were online and had settled."""
    load = round(os.getloadavg()[0], 1)  # of whatever else runs here
    journal = JournalSettings(path=str(place / "events.journal"))
    publisher = Publisher(PublishSettings(endpoint="tcp://127.0.0.1:*"), journal, "load")
    with Running(files, gallery, **sections) as running:
        running.publish_too = publisher.publish
        pipeline = running.pipeline
        running.ready()
        wait_for(lambda: all(c.state == "online" for c in pipeline.cameras), 120)
        time.sleep(settle_s)
        pids = {"inference": [pipeline.inference.process.pid], "capture": [c.process.pid for c in pipeline.cameras]}
        pipeline.recent.clear()
        moving: list[float] = []  # latencies of frames in which something moves,
        looks: list[float] = []  # and of looks at still scenes

        def note(frame: Frame, *_: object) -> None:
            if not frame.late:
                (looks if frame.look else moving).append(frame.told - frame.monotonic)

        pipeline.watchers.append(note)
        before = {name: sum(map(cpu_seconds, group)) for name, group in pids.items()}
        own, writer, began = time.process_time(), publisher.cpu_s, time.monotonic()
        counted = [(c.counters.captured, c.counters.analysed) for c in pipeline.cameras]
        busy = pipeline.inference.busy_s
        time.sleep(seconds)
        took = time.monotonic() - began
        spent = {name: sum(map(cpu_seconds, group)) - before[name] for name, group in pids.items()}
        spent["publisher"] = publisher.cpu_s - writer
        spent["pipeline"] = time.process_time() - own - spent["publisher"]
        latencies, moving, looks = (list(times) for times in (pipeline.recent, moving, looks))
        busy = pipeline.inference.busy_s - busy
        captured = sum(c.counters.captured - n for c, (n, _) in zip(pipeline.cameras, counted, strict=True))
        analysed = sum(c.counters.analysed - n for c, (_, n) in zip(pipeline.cameras, counted, strict=True))
        dropped = sum((camera.counters.dropped for camera in pipeline.cameras), Counter[str]())
        memory = {c.name: memory_mb(c.process.pid) for c in pipeline.cameras}
        memory |= {"inference": memory_mb(pipeline.inference.process.pid), "stream": memory_mb(os.getpid())}
        events = publisher.sent
    publisher.close()
    total = sum(spent.values())
    return {
        "cameras": len(files), "fps": 10, "load_before": load, "seconds": round(took, 1),
        "engine": pipeline.inference.name, "captured_per_s": round(captured / took, 2),
        "analysed_per_s": round(analysed / took, 2), "dropped": dict(dropped),
        "latency_ms": points(latencies),
        "moving_per_s": round(len(moving) / took, 2), "moving_latency_ms": points(moving),
        "looks_per_s": round(len(looks) / took, 2), "look_latency_ms": points(looks) if looks else None,
        "cpu_ms_per_frame": {name: round(1000 * s / max(1, analysed), 2) for name, s in spent.items()},
        "cpu_of_two_cores": round(total / took / (os.cpu_count() or 1), 3),
        "share_outside_inference": round(1 - spent["inference"] / total, 3), "engine_busy": round(busy / took, 3),
        "events": events, "memory_mb": memory,
    }  # fmt: skip


def deliver(count: int, rate: float) -> tuple[float, list[float], int]:
    """Events/s from the first hand-over to the last arrival, delays, and how many arrived; rate 0: all at once."""
    with folder() as place:
        publisher = Publisher(
            PublishSettings(endpoint="tcp://127.0.0.1:*"), JournalSettings(path=str(place / "events.journal")), "load"
        )
        # Nothing may be dropped while a rate is measured; the suite measures drops and replays on their own.
        publisher._socket.setsockopt(zmq.SNDHWM, 0)
        events = EventFactory("load")
        listener = start_python("-c", LISTEN, publisher.endpoint, count)
        assert listener.stdout is not None
        listener.stdout.readline()
        time.sleep(0.5)
        began = time.monotonic()
        for number in range(count):
            if rate and (wait := began + number / rate - time.monotonic()) > 0:
                time.sleep(wait)
            publisher.publish(
                events.camera_state(f"c{number % 4}", "online", "", f"{time.monotonic():.6f}", time.time())
            )
        arrived, end = listener.stdout.readline().split()
        delays = [float(part) for part in listener.stdout.read().split()]
        listener.wait(10)
        publisher.close()
    return int(arrived) / (float(end) - began), delays, int(arrived)


def delivery() -> dict[str, Any]:
    rate, _, arrived = deliver(200_000, 0)
    _, delays, arrived_slow = deliver(20_000, 1000)
    return {
        "stub": "events are made in a loop; no cameras, no inference",
        "sustained": {"events": 200_000, "arrived": arrived, "events_per_s": round(rate)},
        "at_1000_per_s": {
            "events": 20_000, "arrived": arrived_slow,
            **{f"p{p}_ms": round(1000 * percentile(delays, p), 3) for p in (50, 95, 99)},
            "worst_ms": round(1000 * max(delays), 2),
        },
    }  # fmt: skip


def write_tables() -> None:
    """docs/load.md from the measurements that are there."""
    lines = ["# Load", "", "Written by `tests/faults/load.py`; the raw figures are in `docs/measurements/`."]
    path = MEASUREMENTS / "load-cameras.json"
    if path.exists():
        m = json.loads(path.read_text(encoding="utf-8"))
        latency, cpu = m["latency_ms"], m["cpu_ms_per_frame"]
        lines += [
            "", "## Cameras", "",
            f"`{m['command']}` on {m['machine']}: {m['cameras']} files at {m['fps']} fps, engine {m['engine']}.", "",
            "| what | measured |", "|---|---|",
            f"| frames captured, analysed | {m['captured_per_s']}/s, {m['analysed_per_s']}/s |",
            f"| capture to event, p50 / p95 / p99 | {latency['p50']} / {latency['p95']} / {latency['p99']} ms |",
            f"| processor time a frame: inference | {cpu['inference']} ms |",
            f"| capture and decoding | {cpu['capture']} ms |",
            f"| pipeline (scheduling, tracking, matching) | {cpu['pipeline']} ms |",
            f"| journal and sockets | {cpu['publisher']} ms |",
            f"| share outside inference (goal: under 15 %) | {100 * m['share_outside_inference']:.1f} % |",
        ]  # fmt: skip
    path = MEASUREMENTS / "load-many.json"
    if path.exists():
        m = json.loads(path.read_text(encoding="utf-8"))
        memory = m["memory_mb"]
        kinds = {"latency_ms": "all", "moving_latency_ms": "something moves", "look_latency_ms": "still scenes"}
        latencies = [(words, m[key]) for key, words in kinds.items() if m.get(key)]
        still = [memory[name] for name in memory if name.startswith("still")]
        height, width = m["detector"]["size"]
        lines += [
            "", "## Many cameras", "",
            f"`{m['command']}` on {m['machine']}, other work beside it (load {m['load_before']}): one busy camera and "
            f"{len(still)} still ones, H.264, 1920x1080, {m['fps']} fps, engine {m['engine']}.", "",
            "| what | measured |", "|---|---|",
            f"| the detector alone, {height}x{width} | {m['detector']['frames_per_s']} frames/s, "
            f"{m['detector']['cpu_ms_per_frame']} ms of processor time each |",
            f"| frames captured, analysed | {m['captured_per_s']}/s, {m['analysed_per_s']}/s |",
            *(
                f"| capture to event, {words}: p50 / p95 / p99 | {t['p50']} / {t['p95']} / {t['p99']} ms |"
                for words, t in latencies
            ),
            f"| all processes, of the cores | {100 * m['cpu_of_two_cores']:.0f} % |",
            f"| memory of a capture process: busy, still (mean) | {memory['busy']:.0f} MB, "
            f"{sum(still) / len(still):.0f} MB |",
            f"| memory of inference, of the stream | {memory['inference']:.0f} MB, {memory['stream']:.0f} MB |",
        ]  # fmt: skip
    path = MEASUREMENTS / "load-delivery.json"
    if path.exists():
        m = json.loads(path.read_text(encoding="utf-8"))
        slow = m["at_1000_per_s"]
        lines += [
            "", "## Delivery", "", f"`{m['command']}` on {m['machine']}. Stub: {m['stub']}.", "",
            "| what | measured |", "|---|---|",
            f"| through journal and socket (goal: 20,000/s) | {m['sustained']['events_per_s']:,} events/s, "
            f"{m['sustained']['arrived']:,} of {m['sustained']['events']:,} arrived |",
            f"| added latency at 1000/s, p50 / p95 / p99 (goal: p99 5 ms) | {slow['p50_ms']} / {slow['p95_ms']} / "
            f"{slow['p99_ms']} ms |",
        ]  # fmt: skip
    (REPOSITORY / "docs" / "load.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cameras", "many", "delivery"))
    parser.add_argument("--seconds", type=float, default=60, help="length of the measurement with cameras")
    arguments = parser.parse_args()
    kinds = {"cameras": cameras, "many": many}
    figures = kinds[arguments.what](arguments.seconds) if arguments.what in kinds else delivery()
    command = f"python tests/faults/load.py {arguments.what}"
    if arguments.what in kinds:
        command += f" --seconds {arguments.seconds:g}"
    content = {"command": command, "machine": f"{os.cpu_count()} cores, no GPU", **figures}
    MEASUREMENTS.mkdir(parents=True, exist_ok=True)
    path = MEASUREMENTS / f"load-{arguments.what}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    write_tables()
    print(json.dumps(content, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
