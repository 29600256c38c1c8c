"""The stream as operators meet it: a real process with metrics, health, signals, logs and exit statuses."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import pytest
import yaml
from conftest import REPOSITORY, assert_user_error, call, run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import free_port, some_gallery, street_video, wait_for
from nobody import network

from personsearch.runtime.client import Client
from personsearch.runtime.decisions.gallery_file import save_gallery
from personsearch.runtime.operations.logs import JsonFormatter, RateLimit, TextFormatter


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return street_video(tmp_path_factory.mktemp("film") / "street.avi", frames=40, fps=10)


@pytest.fixture
def place(tmp_path: Path, film: Path) -> Path:
    save_gallery(some_gallery(), tmp_path / "people.gallery")
    (tmp_path / "street.avi").symlink_to(film)
    return tmp_path


def write_cams(place: Path, port: int = 0, **changes: object) -> Path:
    content = {
        "cameras": [{"name": "file", "url": str(place / "street.avi"), "end": "loop"}],
        "gallery": str(place / "people.gallery"), "box": "test", "match": {"threshold": -1},
        "publish": {"endpoint": f"tcp://127.0.0.1:{port}" if port else "tcp://127.0.0.1:*"},
        **changes,
    }  # fmt: skip
    path = place / "cams.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "runtime/stream.py", *map(str, arguments)], cwd=REPOSITORY, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment},
    )  # fmt: skip


def test_metrics_health_reload_and_notifications_of_a_running_stream(place: Path) -> None:
    port = free_port(3)
    operations = {"port": port + 2, "log": "json", "watch_files": False}
    journal = {"path": str(place / "events.journal")}
    cams = write_cams(place, port, operations=operations, journal=journal, status_every_s=1)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(place / "notify"))
    notify.settimeout(20)
    stream = start("--cams", cams, "--record", place / "rec", NOTIFY_SOCKET=str(place / "notify"))
    try:
        told = {notify.recv(100).decode() for _ in range(2)}
        while "READY=1" not in told:
            told.add(notify.recv(100).decode())
        assert told == {"READY=1", "WATCHDOG=1"}
        assert get(port + 2, "/healthz") == (200, "ok\n")
        assert get(port + 2, "/readyz") == (200, "ok\n")
        assert get(port + 2, "/secret")[0] == 404
        wait_for(lambda: 'personsearch_matches_total{camera="file"} ' in get(port + 2, "/metrics")[1], 20)
        metrics = get(port + 2, "/metrics")[1]
        for name in (
            "frames_captured_total",
            "frames_analysed_total",
            "latency_seconds_bucket",
            "engine_ready 1.0",
            "cpu_seconds_total",
        ):
            assert f"personsearch_{name}" in metrics
        with Client(f"tcp://127.0.0.1:{port}", ["settings"], since="kept") as client:
            content = yaml.safe_load(cams.read_text())
            content["cameras"].append({"name": "second", "url": "synthetic://street?fps=5"})
            cams.write_text(yaml.safe_dump(content))
            stream.send_signal(signal.SIGHUP)
            event = client.receive(10)
            assert event
            assert event["state"] == "applied"
            assert "second" in event["reason"]
        wait_for(lambda: 'personsearch_camera_online{camera="second"} 1.0' in get(port + 2, "/metrics")[1], 15)
        stream.send_signal(signal.SIGTERM)
        output, log = stream.communicate(timeout=30)
    finally:
        stream.kill()
        notify.close()
    assert stream.returncode == 0, log
    assert "total:" in output
    records = [json.loads(line) for line in log.splitlines()]
    assert any(r["logger"] == "personsearch.status" and "analysed" in r["message"] for r in records)
    assert {r["level"] for r in records} <= {"info", "warning"}
    assert any(r.get("camera") == "file" for r in records)
    (video,) = (place / "rec").glob("file.*.mp4")
    assert cv2.VideoCapture(str(video)).read()[0]
    assert not list(Path("/dev/shm").glob("personsearch*"))


def test_helpers_die_with_the_stream(place: Path) -> None:
    stream = start("--cams", write_cams(place))
    children = Path(f"/proc/{stream.pid}/task/{stream.pid}/children")
    try:
        wait_for(lambda: len(children.read_text().split()) >= 2, 30)
        helpers = children.read_text().split()
    finally:
        stream.kill()  # no time for a clean end
        stream.wait(10)
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in helpers), 10)


def test_exit_status_four_when_the_engine_fails_for_good(place: Path) -> None:
    """The stream ends by itself, as `after_giving_up: exit` says, when every engine is killed."""
    inference = {"after_giving_up": "exit", "give_up_after": 2}
    stream = start("--cams", write_cams(place, inference=inference))
    end = time.monotonic() + 60
    while stream.poll() is None and time.monotonic() < end:
        for pid in Path(f"/proc/{stream.pid}/task/{stream.pid}/children").read_text().split():
            if b"inference_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)
    _, log = stream.communicate(timeout=10)
    assert stream.returncode == 4, log
    assert "2 failures in a row" in log


PATIENT = {"open_timeout_s": 60}  # a busy machine is no fault here


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"operations": {"port": "PORT"}}, ["operations.port", "choose another"]),
        ({"publish": {"endpoint": "tcp://127.0.0.1:PORT"}}, ["cannot publish", "another stream"]),
        ({"publish": {"endpoint": "tcp://127.0.0.1:*", "keys": "/none"}}, ["/none/server.key", "personsearch-keys"]),
        ({"journal": {"path": "/proc/none/j"}}, ["journal", "cannot be written"]),
        ({"engine": "abacus"}, ["unknown engine 'abacus'"]),
        ({"bundle": "/none"}, ["not a bundle"]),
        ({"gallery": "/none.gallery"}, ["no such gallery"]),
        ({"cameras": [{"name": "a", "url": "rtsp://${env:NO_SUCH}@h/x"}]}, ["cams.yaml:", "NO_SUCH"]),
        ({"cameras": [{"name": "a", "url": "synthetic://street?colour=red", **PATIENT}]}, ["colour", "known keys"]),
        ({"cameras": [{"name": "a", "url": "garbage.avi", **PATIENT}]}, ["cannot be opened"]),
    ],
)  # fmt: skip
def test_wrong_input_ends_with_one_line(place: Path, changes: dict, words: list[str]) -> None:
    (place / "garbage.avi").write_bytes(b"no video at all" * 100)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = json.dumps(changes).replace('"PORT"', str(port)).replace("PORT", str(port))
        cams = write_cams(place, **json.loads(text.replace("garbage.avi", str(place / "garbage.avi"))))
        assert_user_error(call("runtime/stream.py", "--cams", cams), *words)


def test_validation_loads_everything_and_starts_nothing(place: Path) -> None:
    result = run("runtime/stream.py", "--cams", write_cams(place), "--validate")
    assert result.returncode == 0, result.stderr
    assert "valid: 1 cameras, 3 people" in result.stdout
    assert_user_error(call("runtime/stream.py", "--cams", write_cams(place, colour="red"), "--validate"), "colour")


def test_an_open_endpoint_without_keys_needs_an_explicit_flag_and_warns(place: Path) -> None:
    # Written as the name of an interface, which could be any; the loopback one, so that nobody reaches this test.
    endpoint = f"tcp://lo:{free_port()}"
    cams = write_cams(place, publish={"endpoint": endpoint})
    assert_user_error(call("runtime/stream.py", "--cams", cams), "insecure")
    publish, engine = {"endpoint": endpoint, "insecure": True}, network()
    save_gallery(some_gallery(bundle=engine["bundle"]), place / "people.gallery")
    film = {"name": "file", "url": str(place / "street.avi"), "pace": "fast"}
    result = run("runtime/stream.py", "--cams", write_cams(place, publish=publish, cameras=[film], **engine))
    assert result.returncode == 0, result.stderr
    assert "anybody who reaches" in result.stderr
    assert "analysed" in result.stdout


def record(message: str, *values: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("personsearch", level, "", 0, message, values, None)


def test_logs_are_rate_limited_and_say_what_they_swallowed() -> None:
    limit = RateLimit()
    passed = [limit.filter(record("camera %s is away", n)) for n in range(1000)]
    assert sum(passed) == 10
    assert limit.filter(record("something else"))
    key = next(k for k in limit._buckets if "away" in k[1])
    tokens, when, swallowed = limit._buckets[key]
    limit._buckets[key] = (tokens, when - 60, swallowed)
    later = record("camera %s is away", 1)
    assert limit.filter(later)
    assert "990 like this" in later.getMessage()


def test_logs_hold_no_credentials() -> None:
    message = record("cannot open %s", "rtsp://user:hunter2@host/x")
    assert "hunter2" not in TextFormatter().format(message)
    assert json.loads(JsonFormatter().format(message))["message"] == "cannot open rtsp://***@host/x"
