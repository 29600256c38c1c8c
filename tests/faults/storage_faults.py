"""Faults of storage: killed enrolment, full disk."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import numpy as np
from harness import (
    Outcome,
    Running,
    end_a_life,
    fill_up,
    folder,
    small_disk,
    start_python,
    street_video,
    wait_for,
)
from nobody import network

from personsearch.core.errors import GalleryError
from personsearch.runtime.client import Client
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.decisions.gallery_file import enrol, load_gallery
from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.recording.recorder import Recorder
from personsearch.runtime.settings import JournalSettings, PublishSettings, RecordSettings

ENROL_LOOP = """
import os, sys, numpy as np
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.decisions.gallery_file import enrol
row = np.zeros(256, np.float32); row[0] = 1
for line in sys.stdin:                 # each line is one life: a forked child that enrols until it is killed
    child = os.fork()
    if child == 0:
        number = int(line)
        while True:
            enrol(sys.argv[1], "a" * 16, 256, f"Person {number}", [EnrolledView(row)])
            number += 1
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def killed_enrolment(long: bool) -> Outcome:
    """SIGKILL at random moments while people are enrolled one after the other."""
    kills, rng = (1000 if long else 60), random.Random(3)
    torn = people = lost = 0
    with folder() as place:
        path = place / "people.gallery"
        enrol(path, "a" * 16, 256, "First", [EnrolledView(np.eye(256, dtype=np.float32)[0])])
        process = start_python("-c", ENROL_LOOP, path)
        assert process.stdin is not None
        known = 1
        for number in range(kills):
            end_a_life(process, number * 1000, rng.uniform(0, 0.02))
            try:
                people = len(load_gallery(path, "a" * 16, 256).people)
            except GalleryError:
                torn += 1
                continue
            lost += people < known  # nobody who was there may be gone
            known = people
            if people > 300:  # keep the file small, so that many kills fit into a minute
                path.unlink()
                enrol(path, "a" * 16, 256, "First", [EnrolledView(np.eye(256, dtype=np.float32)[0])])
                known = 1
        process.stdin.close()
        process.wait(10)
        left = len(list(place.glob(".*.partial")))
        enrol(path, "a" * 16, 256, "Last", [EnrolledView(np.eye(256, dtype=np.float32)[1])])
        left_after = len(list(place.glob(".*.partial")))
    return Outcome(
        f"kill -9 {kills} times at random moments of enrolment",
        f"{torn} torn, {lost} people lost; {left} partial file(s) left, {left_after} after the next enrolment",
        torn == 0 and lost == 0 and left_after == 0,
        {"kills": kills, "torn": torn, "lost": lost},
    )


def disk_full(long: bool) -> Outcome:
    """Journal, gallery and recording on a 4 MB disk that is filled up, then emptied."""
    with small_disk(4) as disk, folder() as place:
        gallery = disk / "people.gallery"
        enrol(gallery, "a" * 16, 256, "Ada", [EnrolledView(np.eye(256, dtype=np.float32)[0])])
        settings = JournalSettings(path=str(disk / "events.journal"))
        publisher = Publisher(PublishSettings(endpoint="tcp://127.0.0.1:*"), settings, "full")
        events = EventFactory("full")
        client = Client(publisher.endpoint, since="now")
        client.receive(2)
        url = str(street_video(place / "v.avi"))
        recorder = Recorder(RecordSettings(mode="all", folder=str(disk / "rec")), min_free_mb=1)
        with Running([{"name": "a", "url": url, "end": "loop", "max_fps": 5}], **network(long)) as running:
            running.pipeline.watchers.append(recorder.write)
            running.ready()
            counters = running.pipeline.camera("a").counters
            wait_for(lambda: counters.analysed > 5, 60)
            filler = fill_up(disk)
            analysed = counters.analysed
            for number in range(3000):
                publisher.publish(events.camera_state("a", "online", "", str(number), time.time()))
            live = sum(client.receive(3) is not None for _ in range(3000))
            failing = publisher.journal.failing
            refused = ""
            try:
                rows = np.random.default_rng(0).normal(size=(4000, 256)).astype(np.float32)
                rows /= np.linalg.norm(rows, axis=1, keepdims=True)
                enrol(gallery, "a" * 16, 256, "Bo", [EnrolledView(row) for row in rows])
            except GalleryError as error:
                refused = str(error)
            people = load_gallery(gallery, "a" * 16, 256).people
            wait_for(lambda: recorder.paused, 60)
            wait_for(lambda: counters.analysed > analysed + 5, 60)
            filler.unlink()
            recovery = wait_for(lambda: not publisher.journal.failing, 60)
            wait_for(lambda: not recorder.paused or disk_free(disk) < 1.1, 60)
        recorder.close()
        with Client(publisher.endpoint, since="kept") as late:
            kept = 0
            while kept < 3000 and late.receive(4) is not None:
                kept += 1
        client.close()
        publisher.close()
    return Outcome(
        "a 4 MB tmpfs with journal, gallery and recording, filled to the last byte",
        f"{live} of 3000 events came live, matching went on, recording paused, enrolment refused "
        f"('{refused.rpartition('(')[2][:23]}...'); {recovery:.1f} s after room was made the journal held "
        f"{kept} of 3000",
        live == 3000 and kept == 3000 and bool(failing) and "cannot be written" in refused and people == ["Ada"],
        {"live": live, "kept_after": kept, "recovery_s": round(recovery, 2)},
    )


def disk_free(path: Path) -> float:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize / 1e6
