"""Hours of running: accelerated without pixels, and in real time with everything (long form only)."""

from __future__ import annotations

import gc
import os
import time
from array import array

import numpy as np
from harness import Outcome, Running, folder, memory_mb, percentile, some_gallery, street_video

from personsearch.core.bundle import read_manifest
from personsearch.core.records import Detections
from personsearch.core.street.street import Street, StreetSettings
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.client import Client
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.pipeline import Pipeline
from personsearch.runtime.settings import JournalSettings, PublishSettings, StreamSettings, default_bundle

FPS, CAMERAS = 5.0, 2


class TruthCamera:
    """Stub for capture and inference: who is on the synthetic street, as detections with noisy embeddings."""

    def __init__(self, number: int, dimensions: int) -> None:
        self.street = Street(StreetSettings(seed=5, cameras=CAMERAS, people=6, identities=400, fps=FPS))
        self.number, self.dimensions = number, dimensions
        self.rng = np.random.default_rng(number)

    def look(self, identity: int) -> np.ndarray:
        return np.random.default_rng(identity).normal(size=self.dimensions)

    def detections(self, seconds: float) -> Detections:
        people = self.street.people(self.number, seconds)
        boxes = [[300 + 60 * x, 300 - 8 * z, 330 + 60 * x, 380 - 8 * z] for _, x, z, _, _ in people]
        rows = np.array([self.look(i) for i, *_ in people]) + self.rng.normal(size=(len(people), self.dimensions)) * 0.3
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return Detections(np.array(boxes, np.float32), np.full(len(people), 0.9), rows.astype(np.float32))


def accelerated(hours: float) -> dict[str, float]:
    """Virtual hours through tracks, matching, events, journal, sockets and a client: memory slope and durations."""
    manifest = read_manifest(default_bundle())
    gallery = some_gallery(0)
    cameras = [TruthCamera(n, manifest.dimensions) for n in range(CAMERAS)]
    for identity in range(40):
        row = cameras[0].look(identity)
        gallery.add(f"Person {identity}", EnrolledView((row / np.linalg.norm(row)).astype(np.float32)))
    settings = StreamSettings.model_validate(
        {
            "cameras": [{"name": f"c{n}", "url": "synthetic://street"} for n in range(CAMERAS)],
            "match": {"threshold": 0.6},
            "describe": {"min_quality": 0},  # there is nothing in these pictures
        }
    )
    with folder() as place:
        journal = JournalSettings(path=str(place / "events.journal"), max_mb=2)
        publisher = Publisher(PublishSettings(endpoint="tcp://127.0.0.1:*"), journal, "soak")
        pipeline = Pipeline(settings, default_bundle(), manifest, gallery, publisher.publish)
        client = Client(publisher.endpoint, since="now")
        client.receive(2.5)
        image = np.zeros((384, 640, 3), np.uint8)
        frames = round(hours * 3600 * FPS)
        marks: list[tuple[float, float]] = []  # virtual hours, MB
        spent = array("d")
        received = 0
        for number in range(frames):
            virtual = number / FPS
            for camera in cameras:
                frame = Frame(
                    f"c{camera.number}", image, number, time.time(), virtual, virtual, picture_size=(640, 384)
                )
                found = camera.detections(virtual)
                began = time.thread_time()  # not the wall: other threads and programs would count
                pipeline._follow(frame, found)
                pipeline._conclude()
                spent.append(time.thread_time() - began)
            if number % round(FPS) == 0:
                pipeline.telling.announcer.forget_older(600)
            while client.receive(0) is not None:
                received += 1
            if number % max(1, frames // 40) == 0:
                gc.collect()
                marks.append((virtual / 3600, memory_mb()))
        while client.receive(1.5) is not None:
            received += 1
        lost, sent = client.status().lost, publisher.sent
        client.close()
        publisher.close()
    settled = marks[len(marks) // 3 :]  # the first third fills caches
    slope = float(np.polyfit([h for h, _ in settled], [m for _, m in settled], 1)[0])
    quarter = len(spent) // 4
    return {
        "virtual_hours": hours, "frames": len(spent), "events": sent, "received": received, "lost": lost,
        "slope_mb_per_h": round(slope, 3), "memory_mb": round(marks[-1][1], 1),
        "grown_mb": round(settled[-1][1] - settled[0][1], 2),
        "p99_first_quarter_ms": round(1000 * percentile(list(spent[:quarter]), 99), 3),
        "p99_last_quarter_ms": round(1000 * percentile(list(spent[-quarter:]), 99), 3),
    }  # fmt: skip


def real_time(seconds: float) -> dict[str, float]:
    """Everything for real, two cameras at 5 fps: memory of all processes and latency, first against second half."""
    with folder() as place:
        url = str(street_video(place / "v.avi", frames=100, fps=5, size=(640, 384)))
        cameras = [{"name": f"c{n}", "url": url, "end": "loop"} for n in range(2)]
        with Running(cameras) as running:
            running.ready()
            pipeline = running.pipeline
            marks: list[tuple[float, float]] = []
            began = time.monotonic()
            while (now := time.monotonic() - began) < seconds:
                children = [pipeline.inference.process, *(camera.process for camera in pipeline.cameras)]
                pids = [child.pid for child in children if child is not None]
                if len(pids) == len(children):  # a camera whose video ended has no process until it starts again
                    marks.append((now / 3600, sum(memory_mb(pid) for pid in (os.getpid(), *pids))))
                time.sleep(1)
            latency = list(pipeline.recent)
    settled = marks[len(marks) // 2 :]
    return {
        "seconds": seconds, "memory_mb": round(marks[-1][1], 1),
        "grown_mb_second_half": round(settled[-1][1] - settled[0][1], 2),
        "p99_first_half_ms": round(1000 * percentile(latency[len(latency) // 10 : len(latency) // 2], 99), 1),
        "p99_second_half_ms": round(1000 * percentile(latency[len(latency) // 2 :], 99), 1),
    }  # fmt: skip


def soak(long: bool) -> Outcome:
    figures = accelerated(6.0 if long else 0.15)
    slope, before, after = (figures[k] for k in ("slope_mb_per_h", "p99_first_quarter_ms", "p99_last_quarter_ms"))
    flat = after < 1.5 * before + 0.2
    # In minutes of virtual time a slope means little: the short form bounds what was grown in all.
    steady = slope < 1.0 if long else figures["grown_mb"] < 5
    text = (
        f"{figures['virtual_hours']:g} h: memory slope {slope:+.2f} MB/h (in all {figures['grown_mb']:+.1f} "
        f"MB), p99 a frame "
        f"{before:.2f} ms at first, {after:.2f} ms at last, {figures['lost']} of {figures['events']} events lost"
    )
    if long:
        real = real_time(240)
        figures |= {f"real_{key}": value for key, value in real.items()}
        text += (
            f"; {real['seconds'] / 60:.0f} min with engine and cameras: {real['grown_mb_second_half']:+.1f} MB in "
            f"the second "
            f"half, p99 {real['p99_first_half_ms']:.0f} ms, then {real['p99_second_half_ms']:.0f} ms"
        )
    return Outcome(
        f"{CAMERAS} cameras at {FPS:g} fps in virtual time (capture and inference stubbed by the street's truth)",
        text,
        flat and steady and figures["lost"] == 0 and figures["events"] > 0,
        figures,
    )
