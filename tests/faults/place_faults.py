"""Faults of places: a gallery behind a link, an address of the other protocol, no folder to write into."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import yaml
from harness import (
    REPOSITORY,
    Outcome,
    Running,
    Unavailable,
    folder,
    free_port,
    some_gallery,
    start_python,
    street_video,
    wait_for,
)
from nobody import network

from personsearch.core.errors import UserError
from personsearch.runtime.client import Client
from personsearch.runtime.decisions.gallery import EnrolledView
from personsearch.runtime.decisions.gallery_file import enrol, load_gallery, save_gallery
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.operations.reload import Reloader
from personsearch.runtime.settings import PublishSettings


def behind_a_link(long: bool) -> Outcome:
    """A stream reads its gallery through a link, of a link; somebody is enrolled under the link's name."""
    with folder() as place:
        (place / "kept").mkdir()
        target, link = place / "kept" / "people.gallery", place / "people.gallery"
        engine = network(long)
        gallery = some_gallery(bundle=engine.get("bundle", ""))
        save_gallery(gallery, target)
        (place / "latest").symlink_to("kept/people.gallery")
        link.symlink_to("latest")
        camera = {"name": "a", "url": str(street_video(place / "v.avi")), "end": "loop", "max_fps": 5}
        cams = place / "cams.yaml"
        cams.write_text(yaml.safe_dump({"cameras": [camera], "gallery": str(link), "box": "fault", **engine}))
        with Running([camera], gallery=gallery, **engine) as running:
            pipeline = running.pipeline
            pipeline.settings = pipeline.settings.model_copy(update={"gallery": str(link)})
            pipeline.every_second.append(Reloader(cams, "", "", pipeline).look)
            running.ready()
            view = EnrolledView(np.eye(gallery.dimensions, dtype=np.float32)[0])
            enrol(link, gallery.model_hash, gallery.dimensions, "Newcomer", [view])
            took = wait_for(lambda: "Newcomer" in pipeline.gallery.people, 60)
        links = link.is_symlink() and (place / "latest").is_symlink()
        names = load_gallery(target, gallery.model_hash, gallery.dimensions).people
    return Outcome(
        "a gallery read through a link to a link, somebody enrolled under the link's name",
        f"both are links still: {links}; the file behind them holds {len(names)} people; the running stream knew the "
        f"new one after {took:.1f} s",
        links and "Newcomer" in names and len(names) == 4 and took < 5,
        {"reload_s": round(took, 2)},
    )


def over_ipv6(long: bool) -> Outcome:
    """A whole stream publishes on ::1; subscribers there, and on a port where nobody is."""
    port = free_port()
    endpoint = f"tcp://[::1]:{port}"
    try:
        Publisher(PublishSettings(endpoint=endpoint)).close()
    except UserError as error:
        raise Unavailable(f"no IPv6 on this machine: {error}") from None
    with folder() as place:
        video, gallery, engine = str(street_video(place / "v.avi")), place / "people.gallery", network(long)
        save_gallery(some_gallery(bundle=engine.get("bundle", "")), gallery)
        (place / "cams.yaml").write_text(yaml.safe_dump({
            "cameras": [{"name": "a", "url": video, "end": "loop"}], "publish": {"endpoint": endpoint}, "box": "fault",
            "gallery": str(gallery), **engine,
        }))  # fmt: skip
        stream = start_python("runtime/stream.py", "--cams", place / "cams.yaml", stderr=subprocess.DEVNULL)
        deaf = start_python("runtime/subscribe.py", "--connect", f"tcp://[::1]:{free_port()}", "--timeout", "7",
                            stderr=subprocess.PIPE)  # fmt: skip
        try:
            with Client(endpoint, ["camera."], since="kept") as client:
                event = client.receive(60)
                lost = client.status().lost
            told = deaf.communicate(timeout=60)[1]
        finally:
            for process in (stream, deaf):
                process.terminate()
                process.wait(30)
    heard = event is not None and event["camera"] == "a"
    return Outcome(
        "a stream that publishes on tcp://[::1], a subscriber there and one on a wrong port",
        f"heard: {heard}, {lost} events lost; on the wrong port: {told.strip()[:60]!r}, "
        f"said {told.count(chr(10))} time(s)",
        heard and lost == 0 and told.count("nothing was heard") == 1,
    )


NO_FILE_GROWS = (
    "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def nowhere_to_write(long: bool) -> Outcome:
    """No file may grow, as where all folders are read-only: without journal.path, and with one."""
    said: list[str] = []
    with folder() as place:
        gallery = place / "people.gallery"
        save_gallery(some_gallery(), gallery)
        before = {"v.avi", "cams.yaml"} | {p.name for p in place.iterdir()}
        base = {"cameras": [{"name": "a", "url": str(street_video(place / "v.avi"))}], "gallery": str(gallery),
                "publish": {"endpoint": "tcp://127.0.0.1:*"}}  # fmt: skip
        for extra in ({}, {"journal": {"path": "/proc/none/events.journal"}}):
            cams = place / "cams.yaml"
            cams.write_text(yaml.safe_dump({**base, **extra}))
            began = time.monotonic()
            result = subprocess.run(
                [sys.executable, "-c", NO_FILE_GROWS, "runtime/stream.py", "--cams", str(cams)],
                cwd=REPOSITORY, capture_output=True, text=True, check=False,
            )  # fmt: skip
            good = result.returncode == 2 and result.stderr.count("\n") == 1 and "journal.path" in result.stderr
            said.append(
                "" if good else f"exit {result.returncode} after {time.monotonic() - began:.1f} s: {result.stderr}"
            )
        left = {p.name for p in place.iterdir()} - before
    return Outcome(
        "a process that may not make a file grow, without journal.path and with one in a folder that is none",
        f"exit status 2 and one line that names journal.path: {not any(said)}{''.join(said)[:200]}; {len(left)} "
        "files left",
        not any(said) and not left,
    )
