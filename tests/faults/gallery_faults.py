"""Faults of the gallery and of forgetting: killed in every write, two at once, a full disk, ten thousand people."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import yaml
from harness import REPOSITORY, Outcome, end_a_life, fill_up, folder, small_disk, start_python, street_video, wait_for

from personsearch.core.bundle import read_manifest
from personsearch.core.errors import GalleryError, UserError
from personsearch.runtime.decisions import gallery_copies
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import changing, enrol, load_gallery, save_gallery, undo
from personsearch.runtime.decisions.lineup import Lineup
from personsearch.runtime.delivery.journal import Journal
from personsearch.runtime.operations.audit import verify
from personsearch.runtime.operations.forget import forget
from personsearch.runtime.operations.place import Place
from personsearch.runtime.settings import JournalSettings, default_bundle

MODEL, D = "a" * 16, 256
NAME = "Xanthippe Ø"
CHANGES = """
import os, random, sys
from personsearch.runtime.decisions.gallery_file import changing, undo
for line in sys.stdin:                 # each line is one life: a forked child that changes names until it is killed
    child = os.fork()
    if child == 0:
        chance = random.Random(int(line))
        while True:
            kind = chance.choice(["rename", "merge", "unmerge", "undo"])
            try:
                if kind == "undo":
                    undo(sys.argv[1], "a" * 16, 256, sys.argv[2])
                    continue
                with changing(sys.argv[1], "a" * 16, 256, kind, sys.argv[2]) as gallery:
                    if kind == "rename":
                        gallery.rename(chance.choice(gallery.people), f"Person {chance.randrange(10**6)}")
                    elif kind == "merge":
                        gallery.merge(*chance.sample(gallery.people, 2))
                    else:
                        merged = [m.name for p in gallery.everybody().values() for m in p.merged]
                        gallery.unmerge(chance.choice(merged))
            except (Exception,):       # nobody to merge, nothing to undo: the next change
                pass
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""
FORGET = """
import sys
from pathlib import Path
from personsearch.runtime.operations.forget import forget
from personsearch.runtime.operations.place import Place
print("go", flush=True)
forget(Place(Path(sys.argv[1]), "a" * 16, 256, "", sys.argv[2]), sys.argv[3])
"""
ENROL = """
import sys, numpy as np
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.decisions.gallery_file import enrol
for number in range(int(sys.argv[3])):
    enrol(sys.argv[1], "a" * 16, 256, f"{sys.argv[2]} {number}", [EnrolledView(np.eye(256, dtype=np.float32)[number])])
"""


def row(number: int) -> EnrolledView:
    vector = np.random.default_rng(number).normal(size=D).astype(np.float32)
    return EnrolledView(vector / np.linalg.norm(vector), "yard")


def killed_changes(long: bool) -> Outcome:
    """SIGKILL at random moments of renames, merges and undo, on a plain and on an encrypted gallery."""
    kills, chance = (300 if long else 20), random.Random(5)
    torn = lost = 0
    for key in ("", "file:box.key"):
        with folder() as place:
            path, key = place / "people.gallery", key.replace("box.key", str(place / "box.key"))
            made = Gallery(MODEL, D)
            for number in range(6):
                made.add(f"Person {number}", row(number))
            save_gallery(made, path)
            if key:
                gallery_copies.encrypt(path, MODEL, D, key)
            process = start_python("-c", CHANGES, path, key)
            assert process.stdin is not None
            for number in range(kills):
                end_a_life(process, number, chance.uniform(0, 0.08))
                try:
                    gallery = load_gallery(path, MODEL, D, key)
                    enrol(path, MODEL, D, "Next", [row(99)], key)  # the undo log and the keys can be used
                    undo(path, MODEL, D, key)
                except GalleryError:
                    torn += 1
                    continue
                lost += len(gallery.names) != 6  # whoever is called what: six views in all
            process.stdin.close()
            process.wait(10)
    return Outcome(
        f"kill -9 {2 * kills} times at random moments of rename, merge, unmerge and undo, half of them encrypted",
        f"{torn} torn, {lost} times a view was lost; the next change and its undo always worked",
        torn == 0 and lost == 0,
        {"kills": 2 * kills, "torn": torn, "lost": lost},
    )


def two_enrolments(long: bool) -> Outcome:
    """Two programs that enrol at the same time."""
    each = 60 if long else 12
    with folder() as place:
        path = place / "people.gallery"
        both = [start_python("-c", ENROL, path, who, each) for who in ("Left", "Right")]
        statuses = [process.wait(120) for process in both]
        people = len(load_gallery(path, MODEL, D).people)
    return Outcome(
        f"two programs enrol {each} people each at the same time",
        f"{people} of {2 * each} people are there",
        people == 2 * each and statuses == [0, 0],
        {"people": people},
    )


def _holders(place: Path, *marks: bytes) -> list[str]:
    return [f.name for f in place.rglob("*") if f.is_file() and any(mark in f.read_bytes() for mark in marks)]


def _with_events(place: Path, events: int) -> Place:
    path = place / "people.gallery"
    for number, name in enumerate([NAME, "Bo"]):
        enrol(path, MODEL, D, name, [row(number)])
    gallery_copies.backup(path, MODEL, D, place / "backup")
    journal = Journal(place / "events.journal", JournalSettings())
    about = {"type": "match", "camera": "door", "runner_up": "", "margin": None}
    journal.append([{**about, "person": NAME if n % 2 else "Bo"} for n in range(events)])
    journal.close()
    return Place(path, MODEL, D, journal=str(place / "events.journal"))


def killed_forgetting(long: bool) -> Outcome:
    """SIGKILL in the middle of an erasure, then the same request again."""
    kills, chance = (60 if long else 6), random.Random(6)
    left = unfinished = 0
    for _ in range(kills):
        with folder() as place:
            where = _with_events(place, 2000)
            process = start_python("-c", FORGET, where.gallery, where.journal, NAME)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.12))
            process.kill()
            process.wait()
            try:
                forget(where, NAME)
            except GalleryError as error:
                unfinished += "nothing to erase" not in str(error)  # it was done already
            left += bool(_holders(place, NAME.encode(), row(0).embedding.tobytes()))
            left += load_gallery(where.gallery, MODEL, D).people != ["Bo"]
    return Outcome(
        f"kill -9 {kills} times at random moments of an erasure, then asked again",
        f"{left} times a trace was left or somebody else was gone; {unfinished} could not be finished",
        left == 0 and unfinished == 0,
        {"kills": kills, "left": left, "unfinished": unfinished},
    )


def full_disk(long: bool) -> Outcome:
    """A merge and an erasure on a disk that is full, then has room again."""
    with small_disk(8) as disk:
        where = _with_events(disk, 2000)
        with changing(where.gallery, MODEL, D, "enrolled") as gallery:
            for number in range(200):
                gallery.add(f"Person {number}", row(number + 10))
        filler = fill_up(disk)
        refused = 0
        before = where.gallery.read_bytes()
        for attempt in ("merge", "forget"):
            try:
                if attempt == "merge":
                    with changing(where.gallery, MODEL, D, "merged") as gallery:
                        gallery.merge("Person 1", "Person 2")
                else:
                    forget(where, NAME)
            except UserError as error:
                refused += "cannot be written" in str(error)
        unchanged = where.gallery.read_bytes() == before
        filler.unlink()
        complete = forget(where, NAME)["complete"]
        left = _holders(disk, NAME.encode(), row(0).embedding.tobytes()[:64])
        people = len(load_gallery(where.gallery, MODEL, D).people)
    return Outcome(
        "a merge and an erasure on a full 8 MB tmpfs, then with room again",
        f"{refused} of 2 refused with a reason, gallery {'unchanged' if unchanged else 'CHANGED'}; afterwards erased, "
        f"{len(left)} files with traces, {people} of 201 people left",
        refused == 2 and unchanged and complete and not left and people == 201,
        {"refused": refused, "left": len(left), "people": people},
    )


def ten_thousand(long: bool) -> Outcome:
    """Ten thousand people with three views each: file, reload, and a look at eight tracks."""
    with folder() as place:
        path, chance = place / "people.gallery", np.random.default_rng(0)
        made = Gallery(MODEL, D)
        for number in range(10_000):
            for vector in chance.normal(size=(3, D)).astype(np.float32):
                made.add(f"人 {number}", EnrolledView(vector, "yard"))
        save_gallery(made, path)
        began = time.process_time()
        made = load_gallery(path, MODEL, D)
        lineup = Lineup(made, lambda _: None)
        reload_s = time.process_time() - began
        tracks = chance.normal(size=(8, D)).astype(np.float32)
        looks = []
        for _ in range(5):
            began = time.perf_counter()
            lineup.similarities(tracks)
            looks.append(time.perf_counter() - began)
        enrol(path, MODEL, D, "Last", [row(1)])
        people = len(load_gallery(path, MODEL, D).people)
        size = path.stat().st_size / 1e6
    look_ms = 1000 * min(looks)
    return Outcome(
        "10,000 people with 3 views each",
        f"a look at 8 tracks {look_ms:.0f} ms, reload {reload_s:.1f} s of processor time, {size:.0f} MB",
        people == 10_001 and look_ms < 100 and reload_s < 5,
        {"look_ms": round(look_ms, 1), "reload_s": round(reload_s, 2), "file_mb": round(size, 1)},
    )


def forgotten_while_running(long: bool) -> Outcome:
    """A real stream that names somebody all the time, while that person is erased."""
    with folder() as place:
        manifest = read_manifest(default_bundle())
        made = Gallery(manifest.model_hash, manifest.dimensions)
        rows = np.random.default_rng(1).normal(size=(2, manifest.dimensions))
        for name, vector in zip([NAME, "Bo"], rows, strict=True):
            made.add(name, EnrolledView(vector))
        save_gallery(made, place / "people.gallery")
        street_video(place / "street.avi", frames=40, fps=10)
        journal, log = place / "events.journal", place / "people.gallery.audit"
        (place / "cams.yaml").write_text(yaml.safe_dump({
            "cameras": [{"name": "file", "url": str(place / "street.avi"), "end": "loop"}], "box": "fault",
            "gallery": str(place / "people.gallery"), "match": {"threshold": -1, "repeat_s": 0},
            "journal": {"path": str(journal)}, "publish": {"endpoint": "tcp://127.0.0.1:*"},
            "audit": {"path": str(log)},
        }))  # fmt: skip
        environment = {**os.environ, "TMPDIR": str(place)}
        stream = start_python("runtime/stream.py", "--cams", place / "cams.yaml", env=environment,
                              stderr=subprocess.DEVNULL)  # fmt: skip

        def said(name: str) -> int:
            query = "select count(*) from events where instr(body, ?)"
            try:
                with sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True) as database:
                    return int(database.execute(query, (f'"person":"{name}"'.encode(),)).fetchone()[0])
            except sqlite3.OperationalError:  # it is just being made
                return 0

        try:
            wait_for(lambda: said(NAME) + said("Bo") > 3, 300)
            named = said(NAME)
            command = [sys.executable, "runtime/forget.py", "--cams", str(place / "cams.yaml"), NAME, "--wait", "300"]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment, check=False)
            receipt = json.loads(done.stdout) if done.returncode == 0 else {}
            at_once = _holders(place, NAME.encode())
            before = said("Bo")
            wait_for(lambda: said("Bo") > before + 3, 300)
        finally:
            stream.send_signal(signal.SIGTERM)
            stream.wait(60)
        left = _holders(place, NAME.encode())
        broken = verify(log).fault
    return Outcome(
        "personsearch-forget while a stream names the person at every frame",
        f"{named} events before; {len(at_once)} files with traces after it and {len(left)} at the end; the stream went "
        "on with the others, the audit log is unbroken",
        bool(receipt.get("complete")) and not at_once and not left and not broken,
        {"events_before": named, "left": len(left)},
    )


def wrong_key(long: bool) -> Outcome:
    """Keys that are missing, wrong or damaged; a gallery cut off at every length."""
    refused = attempts = 0
    with folder() as place, patch.dict(os.environ):
        os.environ.pop("PERSONSEARCH_BOX_KEY", None)
        path, key = place / "people.gallery", f"file:{place / 'box.key'}"
        enrol(path, MODEL, D, NAME, [row(0)])
        gallery_copies.encrypt(path, MODEL, D, key)
        (place / "other.key").write_bytes(b"x" * 32)
        (place / "short.key").write_bytes(b"x" * 31)
        keys = (place / "people.gallery.keys").read_bytes()
        files = (f"file:{place}/other.key", f"file:{place}/short.key")
        for where in ("", *files, "env:NOTHING", "credential:nothing", "what"):
            attempts += 1
            refused += _refused(path, where)
        for damaged in (b"", b"{}", keys[: len(keys) // 2], keys.replace(b'"key": "', b'"key": "AAAA'), b"\xff" * 99):
            (place / "people.gallery.keys").write_bytes(damaged)
            attempts += 1
            refused += _refused(path, key)
        (place / "people.gallery.keys").write_bytes(keys)
        whole = path.read_bytes()
        for length in range(1, len(whole), len(whole) // (200 if long else 25)):
            path.write_bytes(whole[:length])
            attempts += 1
            refused += _refused(path, key)
        path.write_bytes(whole)
        opened = load_gallery(path, MODEL, D, key).people == [NAME]
    return Outcome(
        "an encrypted gallery with missing, wrong and damaged keys, and cut off at many lengths",
        f"{refused} of {attempts} refused with a reason; the right key opens it",
        refused == attempts and opened,
        {"refused": refused, "attempts": attempts},
    )


def _refused(path: Path, key: str) -> bool:
    try:
        load_gallery(path, MODEL, D, key)
    except GalleryError:
        return True
    return False
