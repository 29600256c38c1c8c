"""Faults of what is around the stream: used-up descriptors, outputs that go away, endpoints in use."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from harness import REPOSITORY, Outcome, PictureServer, folder, free_port, some_gallery, street_video, wait_for
from nobody import network

from personsearch.core.errors import UserError
from personsearch.runtime.client import Client
from personsearch.runtime.decisions.gallery_file import save_gallery
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.settings import PublishSettings


def write_cams(place: Path, cameras: list[dict[str, Any]], **sections: Any) -> Path:
    save_gallery(some_gallery(bundle=sections.get("bundle", "")), place / "people.gallery")
    path = place / "cams.yaml"
    path.write_text(yaml.safe_dump({"cameras": cameras, "gallery": str(place / "people.gallery"), **sections}))
    return path


def stream_command(cams: Path) -> list[str]:
    return [sys.executable, "runtime/stream.py", "--cams", str(cams), "--keep-trying"]


@contextlib.contextmanager
def ended_at_last(stream: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    try:
        yield stream
    finally:
        stream.kill()
        stream.wait(10)


def hear(client: Client, timeout_s: float, **wanted: Any) -> dict[str, Any]:
    """The next event with these values."""
    end = time.monotonic() + timeout_s
    while (event := client.receive(max(0.0, end - time.monotonic()))) is not None:
        if all(event.get(key) == value for key, value in wanted.items()):
            return event
    raise TimeoutError(f"no event {wanted} within {timeout_s:g} s")


def no_descriptors(long: bool) -> Outcome:
    """While one camera has to be opened anew and the engine to be replaced, no descriptor is left to do it with."""
    server, port = PictureServer(), free_port(4)
    with folder() as place:
        good = {"name": "good", "url": str(street_video(place / "v.avi")), "end": "loop", "max_fps": 5}
        publish, operations = {"endpoint": f"tcp://127.0.0.1:{port}"}, {"port": port + 2}
        sections = {"publish": publish, "operations": operations, **network(long)}
        cams = write_cams(place, [good, {"name": "lost", "url": server.url}], **sections)
        with open(place / "log", "w+") as log, Client(f"tcp://127.0.0.1:{port}", since="kept") as client:
            with ended_at_last(
                subprocess.Popen(stream_command(cams), cwd=REPOSITORY, stdout=log, stderr=log)
            ) as stream:
                hear(client, 150, type="engine", state="ready")
                for name in ("good", "lost"):
                    wait_for(lambda name=name: f'camera_online{{camera="{name}"}} 1.0' in metrics(port + 2), 30)
                before = resource.prlimit(stream.pid, resource.RLIMIT_NOFILE)
                resource.prlimit(stream.pid, resource.RLIMIT_NOFILE, (16, before[1]))
                engine, lost = helper(stream.pid, "inference_process"), None
                server.frames_before_close = 1  # each connection ends: the camera is lost
                while lost is None or "cannot be started" not in lost["reason"]:
                    lost = hear(client, 60, type="camera", camera="lost", state="offline")
                os.kill(engine, signal.SIGKILL)
                failed = hear(client, 20, type="engine", state="failed")
                while "cannot be started" not in failed["reason"]:
                    failed = hear(client, 20, type="engine", state="failed")
                time.sleep(10 if long else 3)
                alive = stream.poll() is None
                resource.prlimit(stream.pid, resource.RLIMIT_NOFILE, before)
                freed = time.monotonic()
                server.frames_before_close = 0
                hear(client, 150, type="engine", state="ready")
                back_engine = time.monotonic() - freed
                wait_for(lambda: 'camera_online{camera="lost"} 1.0' in metrics(port + 2), 60)
                back_camera = time.monotonic() - freed
                failures = 'camera_failures_total{camera="good"} 0.0' in metrics(port + 2)
                stream.send_signal(signal.SIGTERM)
                status = stream.wait(30)
            log.seek(0)
            text = log.read()
    server.close()
    reason = lost["reason"].rpartition("(")[2].rstrip(")")
    return Outcome(
        "`prlimit --nofile=16` on the running stream; then a camera is lost and the engine is killed",
        f"the camera is offline ({lost['cause']}: {reason}), the engine failed, both are tried again: online "
        f"{back_camera:.1f} s and ready {back_engine:.1f} s after there was room; the other camera noticed nothing: "
        f"{failures}; exit status {status}",
        alive and failures and status == 0 and "Traceback" not in text,
        {"camera_s": round(back_camera, 1), "engine_s": round(back_engine, 1)},
    )  # fmt: skip


def metrics(port: int) -> str:
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()


def helper(pid: int, word: str) -> int:
    """A child of the stream by its module's name."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if word in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
    raise LookupError(word)


def closes_pipe(command: list[str]) -> tuple[subprocess.Popen[bytes], Callable[[], None]]:
    """`stream.py 2>&1 | head -4`"""
    stream = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert stream.stdout is not None
    output = stream.stdout

    def go_away() -> None:
        for _ in range(4):
            output.readline()
        output.close()

    return stream, go_away


def stops_reading(command: list[str]) -> tuple[subprocess.Popen[bytes], Callable[[], None]]:
    """`stream.py 2>&1 | less`, and nobody scrolls: the pipe fills up (it is made small here)."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    stream = subprocess.Popen(command, cwd=REPOSITORY, stdout=writing, stderr=writing)
    os.close(writing)
    return stream, lambda: os.set_blocking(reading, False)  # (it stays open, and nobody reads)


def closes_terminal(command: list[str]) -> tuple[subprocess.Popen[bytes], Callable[[], None]]:
    """The window with the stream is closed: SIGHUP, and every write fails."""
    ours, theirs = os.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    stream = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=take_terminal
    )
    os.close(theirs)
    return stream, lambda: os.close(ours)


def has_no_output(command: list[str]) -> tuple[subprocess.Popen[bytes], Callable[[], None]]:
    """`stream.py >&- 2>&-`"""
    text = " ".join(f"'{part}'" for part in command)
    return subprocess.Popen(["sh", "-c", f"exec {text} <&- >&- 2>&-"], cwd=REPOSITORY), lambda: None


def output_goes_away(long: bool) -> Outcome:
    """Whoever reads the output leaves; the events go on, and the stream ends when it is told to."""
    ways = {"pipe closed": closes_pipe, "terminal closed": closes_terminal, "reader stands still": stops_reading,
            "none from the start": has_no_output}  # fmt: skip
    if not long:
        del ways["none from the start"]
    results: dict[str, str] = {}
    with folder() as place:
        url = str(street_video(place / "v.avi", fps=10, size=(640, 384)))
        for way, begin in ways.items():
            port = free_port()
            cams = write_cams(
                place, [{"name": "a", "url": url, "end": "loop"}], publish={"endpoint": f"tcp://127.0.0.1:{port}"},
                match={"threshold": -1, "repeat_s": 0}, status_every_s=0.05,
            )  # fmt: skip
            stream, go_away = begin(stream_command(cams))
            with ended_at_last(stream), Client(f"tcp://127.0.0.1:{port}") as client:
                hear(client, 150, type="match")
                go_away()
                end, heard = time.monotonic() + (10 if long else 2), 0
                while time.monotonic() < end:
                    heard += client.receive(1) is not None
                stream.send_signal(signal.SIGTERM)
                results[way] = f"{stream.wait(30)}" if heard > 5 else f"{heard} events"
    return Outcome(
        ", ".join(ways), "watching went on each time; exit statuses " + ", ".join(results.values()),
        set(results.values()) == {"0"}, results,
    )  # fmt: skip


def endpoint_in_use(long: bool) -> Outcome:
    """A second stream is told to publish where the first does; then the first is killed, and a third comes."""
    with folder() as place:
        endpoint = f"ipc://{place}/events"
        video = {"name": "a", "url": str(street_video(place / "v.avi")), "end": "loop"}
        cams = write_cams(place, [video], publish={"endpoint": endpoint}, **network(long))
        first = subprocess.Popen(stream_command(cams), cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        with ended_at_last(first), Client(endpoint, since="kept") as client:
            hear(client, 150, type="engine", state="ready")
            second = subprocess.run(stream_command(cams), cwd=REPOSITORY, capture_output=True, text=True, check=False)
            client.receive(1.5)
            silent = client.status().silent_s
        refused = second.returncode == 2 and "is another stream running?" in second.stderr
        replay = ""
        try:
            Publisher(PublishSettings(endpoint=endpoint)).close()  # the killed one left its sockets
            held = Publisher(PublishSettings(endpoint=endpoint))
            try:
                Publisher(PublishSettings(endpoint=f"{endpoint}-2", replay=f"{endpoint}.replay"))
            except UserError as error:
                replay = str(error)
            held.close()
        except UserError as error:
            replay = f"blocked: {error}"
    return Outcome(
        "two streams on one ipc:// endpoint, then kill -9 of the first; two on one replay endpoint",
        f"the second ends with {second.returncode} ('is another stream running?': {refused}), the first is heard on; "
        f"the sockets of the killed one block nobody; the replay endpoint likewise: {'another stream' in replay}",
        refused and silent < 3 and "another stream" in replay,
        {"stderr": json.dumps(second.stderr[-200:])},
    )
