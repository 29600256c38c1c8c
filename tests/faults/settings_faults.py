"""Faults of configuration, clock and secrets: bad reload, stepped clock, password in a URL."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import string
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import yaml
from harness import (
    HERE,
    REPOSITORY,
    Outcome,
    Running,
    Unavailable,
    folder,
    free_port,
    some_gallery,
    street_video,
    wait_for,
)
from nobody import network

from personsearch.core.processor import kernel_text
from personsearch.runtime.client import Client
from personsearch.runtime.decisions.gallery_file import save_gallery
from personsearch.runtime.delivery.events import from_iso
from personsearch.runtime.operations.reload import Reloader

PRINTABLE = sorted(set(string.printable) - set("\r\n\t\x0b\x0c"))
BAD_FILES = {
    "unknown key": (
        "cameras:\n  - {name: a, url: URL, end: loop}\n  - name: b\n    url: URL\n    colour: red\n",
        [":5:", "colour"],
    ),
    "wrong type": (
        "cameras:\n  - {name: a, url: URL, end: loop}\nmatch:\n  threshold: high\n",
        [":4:", "match.threshold"],
    ),
    "no YAML": ("cameras: [\n", ["not valid YAML"]),
    "two of one name": ("cameras:\n  - {name: a, url: URL}\n  - {name: a, url: URL}\n", ["'a' stands twice"]),
    "missing secret": (
        "cameras:\n  - {name: b, url: 'rtsp://${env:NO_SUCH_SECRET}@127.0.0.1/x'}\n",
        [":2:", "NO_SUCH_SECRET"],
    ),
    "needs a restart": ("cameras:\n  - {name: a, url: URL, end: loop}\nthreads: 3\n", [":3:", "'threads'", "restart"]),
}


def bad_reload(long: bool) -> Outcome:
    """A running stream is given bad files, then a good one that adds a camera."""
    with folder() as place:
        url = str(street_video(place / "v.avi"))
        gallery, cams = place / "people.gallery", place / "cams.yaml"
        engine = network(long)
        save_gallery(some_gallery(bundle=engine.get("bundle", "")), gallery)
        first = {"name": "a", "url": url, "end": "loop", "max_fps": 5}
        base = {"gallery": str(gallery), "box": "fault", **engine}
        rest = yaml.safe_dump(base)
        cams.write_text(yaml.safe_dump({"cameras": [first], **base}))
        with Running([first], **engine) as running:
            pipeline = running.pipeline
            pipeline.settings = pipeline.settings.model_copy(update={"gallery": str(gallery)})
            reloader = Reloader(cams, "", "", pipeline)
            pipeline.every_second.append(reloader.look)
            running.ready()
            camera = pipeline.camera("a")
            wait_for(lambda: camera.state == "online", 120)
            process, settings = camera.process.pid, pipeline.settings
            named = 0
            bad_files = list(BAD_FILES.values()) if long else list(BAD_FILES.values())[::2]
            for text, words in bad_files:
                began = time.monotonic()
                cams.write_text(text.replace("URL", url) + rest)
                reloader.ask()  # as SIGHUP does; the good file below is noticed without
                _, event = running.wait_event(60, began, type="settings", state="rejected")
                named += all(word in event["reason"] for word in words)
            untouched = pipeline.settings is settings and camera.process.pid == process
            began = time.monotonic()
            second = {**first, "name": "b"}
            cams.write_text(yaml.safe_dump({"cameras": [first, second], **base}))
            when, _ = running.wait_event(60, began, type="settings", state="applied")
            running.wait_event(60, began, type="camera", camera="b", state="online")
            kept = pipeline.camera("a").process.pid == process
    return Outcome(
        f"{len(bad_files)} bad files of the kinds {', '.join(BAD_FILES)}; then a good one",
        f"all rejected whole: {untouched}; {named} errors name what is wrong; the good one applied after "
        f"{when - began:.1f} s, the unchanged camera kept its process: {kept}",
        untouched and named == len(bad_files) and kept,
        {"rejected": reloader.rejected, "named": named},
    )


def clock_steps(long: bool) -> Outcome:
    """The whole stream, helpers included, runs with a wall clock that steps by an hour, forward and back.

    (The clock of a small preloaded library: the machine's own clock belongs to others. libfaketime makes the engine
    hang while it loads.)
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Unavailable("stepping the clock needs a C compiler; install the Debian package gcc")
    with folder() as place:
        library = place / "stepped_clock.so"
        source = [str(HERE / "stepped_clock.c"), "-o", str(library)]
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", *source, "-ldl"], check=True, capture_output=True)
        port, gallery, offset = free_port(), place / "people.gallery", place / "offset"
        save_gallery(some_gallery(), gallery)
        offset.write_bytes(struct.pack("q", 0))
        (place / "cams.yaml").write_text(
            yaml.safe_dump({
                "cameras": [{"name": "a", "url": "synthetic://street?seed=7&people=4&fps=10&width=320&height=192"}],
                "gallery": str(gallery), "publish": {"endpoint": f"tcp://127.0.0.1:{port}"},
                "match": {"threshold": -1, "repeat_s": 0}, "operations": {"port": port + 2, "log": "json"},
            })
        )  # fmt: skip
        environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(offset)}
        log = open(place / "log", "w+")  # noqa: SIM115
        stream = subprocess.Popen(
            [sys.executable, "runtime/stream.py", "--cams", str(place / "cams.yaml")],
            cwd=REPOSITORY, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        events: list[dict] = []
        visits: list[dict] = []
        try:
            with Client(f"tcp://127.0.0.1:{port}", ["match.", "sighting."]) as client:
                for step in (0, 3600, -3600, 0):
                    with open(offset, "r+b") as file:  # in place: the processes have it mapped
                        file.write(struct.pack("q", step))
                    # The engine's start takes a while; later a second of events for each step is enough.
                    end = time.monotonic() + (4.0 if long else 1.2)
                    while time.monotonic() < end or not events:
                        event = client.receive(30 if not events else 1)
                        if event is None:
                            break
                        (visits if event["type"] == "sighting" else events).append(event)
                lost = client.status().lost
                metrics = urllib.request.urlopen(f"http://127.0.0.1:{port + 2}/metrics", timeout=5).read().decode()
                stream.terminate()
                while (event := client.receive(3)) is not None:
                    visits += [event] if event["type"] == "sighting" else []
        finally:
            stream.terminate()
            stream.wait(20)
            log.seek(0)
            text = log.read()
            log.close()
    walls = [from_iso(e["frame"]["time"]) for e in events]
    monotonic = [e["frame"]["monotonic"] for e in events]
    steps = [round(b - a) for a, b in itertools.pairwise(walls) if abs(b - a) > 1000]
    forward = all(b >= a for a, b in itertools.pairwise(monotonic))
    longest = max(b - a for a, b in itertools.pairwise(monotonic))
    ages = [from_iso(e["time"]) - w for e, w in zip(events, walls, strict=True)]
    over = [visit for visit in visits if visit["change"] == "ended"]
    known = monotonic[-1] - monotonic[0] + 60  # seconds that no visit can exceed; an hour would
    sane = all(
        0 <= v["duration_s"] < known
        and abs(from_iso(v["last_seen"]) - from_iso(v["started"]) - v["duration_s"]) < 0.01 for v in visits
    )  # fmt: skip
    calm = [age for age in ages if abs(age) < 1000]  # an event may straddle a step
    total = next(float(s.split()[-1]) for s in metrics.splitlines() if s.startswith("personsearch_latency_seconds_sum"))
    return Outcome(
        "a preloaded clock: +1 h, -2 h, +1 h while the stream runs",
        f"wall stamps follow ({', '.join(f'{s:+d} s' for s in steps)}), monotonic stamps only grow: "
        f"{forward}, largest step "
        f"{longest:.2f} s; {len(events)} events, {lost} lost; no negative duration; {len(over)} visits over the "
        f"steps, the longest of {max((v['duration_s'] for v in over), default=0.0):.1f} s",
        len(steps) == 3 and forward and longest < 3 and lost == 0 and total > 0 and min(calm) > -0.05
        and sane and len(over) > 0
        and "Traceback" not in text,
        {"steps": steps, "events": len(events), "visits": len(over)},
    )  # fmt: skip


def password_in_url(long: bool) -> Outcome:
    """Cameras whose URLs hold a password fail in every way; then everything that came out is searched for it."""
    from harness import DeadServer, PictureServer, RtspServer

    secret = "s3cr3t-hunter2"
    rng = random.Random(time.time_ns())  # other passwords each time, of all printable characters
    drawn = ["".join(rng.choices(PRINTABLE, k=12)) for _ in range(12 if long else 3)]
    forms = itertools.cycle(
        ("rtsp://admin:{}@127.0.0.1:9/s", "rtps://admin:{}@127.0.0.1:9/s", "rtsp:/admin:{}@127.0.0.1:9/s")
    )
    secrets = ["Tiger/7788-hunter", *drawn]
    environment = {**os.environ, "FAULT_SECRET": secret}
    dead, pictures = DeadServer(), PictureServer()
    servers = []
    urls = {
        "refused": f"rtsp://user:{secret}@127.0.0.1:{free_port()}/x",
        "dead": f"rtsp://user:{secret}@127.0.0.1:{dead.port}/x",
        "works": f"http://user:{secret}@127.0.0.1:{pictures.port}/stream.mjpg?token={secret}",
        "no_host": f"rtsp://user:{secret}@no-such-host.invalid/x",
        "from_env": "rtsp://user:${env:FAULT_SECRET}@127.0.0.1:9/x",
    }
    for number, password in enumerate(secrets):
        environment[f"FAULT_SECRET_{number}"] = password
        urls[f"drawn_{number}"] = next(forms).format(password)
        urls[f"drawn_env_{number}"] = f"rtsp://admin:${{env:FAULT_SECRET_{number}}}@127.0.0.1:9/s"
    try:
        servers.append(RtspServer(user="user", password="another"))
        urls["wrong"] = servers[0].url.replace("rtsp://", f"rtsp://user:{secret}@")
    except Unavailable:
        pass
    with folder() as place:
        port, gallery = free_port(4), place / "people.gallery"
        save_gallery(some_gallery(), gallery)
        cams = place / "cams.yaml"
        content = {
            "cameras": [{"name": name, "url": url} for name, url in urls.items()], "gallery": str(gallery),
            "publish": {"endpoint": f"tcp://127.0.0.1:{port}"}, "operations": {"port": port + 2},
            "journal": {"path": str(place / "events.journal")},
        }  # fmt: skip
        cams.write_text(yaml.safe_dump(content))
        log = open(place / "log", "w+")  # noqa: SIM115
        stream = subprocess.Popen(
            [sys.executable, "runtime/stream.py", "--cams", str(cams), "--keep-trying"],
            cwd=REPOSITORY, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        seen: dict[str, str] = {}
        heard = ""
        try:
            with Client(f"tcp://127.0.0.1:{port}", since="kept") as client:
                end = time.monotonic() + 90
                while time.monotonic() < end and len(seen) < len(urls):
                    event = client.receive(1)
                    if event is not None:
                        heard += json.dumps(event)
                        if event["type"] == "camera":
                            seen[event["camera"]] = event["cause"] or event["state"]
                more = [{"name": "x y", "url": url} for url in urls.values()]
                bad = {**content, "cameras": [*content["cameras"], urls["dead"], *more]}
                cams.write_text(yaml.safe_dump(bad))  # a bad reload must not tell it either
                while (event := client.receive(5)) is not None:
                    heard += json.dumps(event)
                    if event["type"] == "settings":
                        break
            metrics = urllib.request.urlopen(f"http://127.0.0.1:{port + 2}/metrics", timeout=5).read().decode()
            arguments = "".join(kernel_text(f"/proc/{pid}/cmdline") for pid in [stream.pid, *children(stream.pid)])
        finally:
            stream.terminate()
            stream.wait(20)
        error = subprocess.run(
            [sys.executable, "runtime/stream.py", "--cams", str(cams)],
            cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        log.seek(0)
        places = {
            "logs": log.read(), "events": heard, "metrics": metrics, "errors": error.stderr + error.stdout,
            "journal": (place / "events.journal").read_bytes().decode(errors="replace"), "arguments": arguments,
        }  # fmt: skip
        log.close()
    for server in (dead, pictures, *servers):
        server.close()
    # In JSON some characters are written in another way; what the form of a URL itself has does not count.
    written = {part for s in (secret, *secrets) for part in (s, s.strip(), json.dumps(s)[1:-1], repr(s)[1:-1])}
    leaks = [name for name, text in places.items() if any(part in text for part in written)]
    expected = {
        "refused": "refused",
        "dead": "timeout",
        "works": "online",
        "no_host": "not_found",
        "from_env": "refused",
    }
    wrong = {
        k: seen.get(k) for k, v in {**expected, **({"wrong": "auth"} if servers else {})}.items() if seen.get(k) != v
    }
    return Outcome(
        f"passwords in {len(urls)} camera URLs that fail in different ways ({len(drawn)} drawn from all printable "
        f"characters, plain and from the environment), and a bad reload",
        f"searched {', '.join(places)}: found in {', '.join(leaks) or 'none'}; "
        f"causes told: {', '.join(sorted(set(seen.values())))}; to percent-encode them: "
        f"{'percent-encode' in heard}",
        not leaks
        and not wrong
        and len(seen) == len(urls)
        and "percent-encode" in heard
        and error.returncode == 2
        and "rejected" in heard,
        {"leaks": leaks, "causes": seen, "wrong": wrong, "drawn": drawn},
    )


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(part) for part in text.split()]
