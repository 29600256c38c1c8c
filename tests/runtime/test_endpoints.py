"""Where a stream publishes: nothing is stolen, left behind or silently missed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from conftest import REPOSITORY

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
from harness import free_port, wait_for

from personsearch.core.errors import UserError
from personsearch.runtime.client import Client
from personsearch.runtime.delivery.endpoints import needs_ipv6
from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.delivery.temporary import PREFIX
from personsearch.runtime.settings import JournalSettings, PublishSettings

PUBLISH = """
import sys, time
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.settings import PublishSettings
publisher = Publisher(PublishSettings(endpoint=sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
publisher.close()
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts publishers as processes of their own; gives each when it is ready."""
    started: list[subprocess.Popen[str]] = []

    def run(endpoint: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PUBLISH, endpoint], cwd=REPOSITORY, text=True, env={**os.environ, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def publisher(endpoint: str, replay: str = "") -> Publisher:
    return Publisher(PublishSettings(endpoint=endpoint, replay=replay))


def hears(endpoint: str) -> bool:
    """Whether a subscriber hears the box's heartbeat there."""
    with Client(endpoint) as client:
        client.receive(2.5)
        return client.status().silent_s < 2.5


def test_an_ipc_endpoint_in_use_is_not_taken_over(start: Start, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/events"
    start(endpoint)
    with pytest.raises(UserError, match=r"another stream running.*publish\.endpoint"):
        publisher(endpoint)
    with pytest.raises(UserError, match=r"another stream running.*publish\.replay"):
        publisher(f"ipc://{tmp_path}/other", f"{endpoint}.replay")
    assert hears(endpoint)
    assert not list(tmp_path.glob("other")) or not hears(f"ipc://{tmp_path}/other")


def test_a_listener_that_is_none_of_ours_is_left_alone(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/events"
    with zmq.Context() as context, context.socket(zmq.PUB) as other:
        other.bind(endpoint)
        with pytest.raises(UserError, match="another stream"):
            publisher(endpoint)
        assert (tmp_path / "events").exists()


def test_the_socket_of_a_killed_stream_does_not_block_the_next(start: Start, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/events"
    start(endpoint).kill()
    wait_for(lambda: (tmp_path / "events").exists(), 5)
    time.sleep(0.2)
    start(endpoint)
    assert hears(endpoint)


def test_a_file_under_the_name_of_a_socket_survives(tmp_path: Path) -> None:
    (tmp_path / "people.gallery").write_text("precious")
    with pytest.raises(UserError, match="a file of this name exists"):
        publisher(f"ipc://{tmp_path}/people.gallery")
    assert (tmp_path / "people.gallery").read_text() == "precious"


@pytest.mark.parametrize(
    ("endpoint", "word"),
    [
        ("ipc:///nowhere/at/all", "No such file"),
        ("ipc:///tmp/" + "x" * 200, "too long|expected"),
        ("tcp://127.3.3.3:x", "expected tcp"),
        ("ipc://@personsearch-test", ""),
    ],
)
def test_why_an_endpoint_cannot_be_bound_is_told(endpoint: str, word: str) -> None:
    if not word:
        publisher(endpoint).close()  # an abstract socket
        return
    with pytest.raises(UserError, match=word) as error:
        publisher(endpoint)
    assert "another stream" not in str(error.value)
    assert "publish.endpoint" in str(error.value)


def test_ipv6_works_from_end_to_end() -> None:
    endpoint = f"tcp://[::1]:{free_port()}"
    try:
        box = publisher(endpoint)
    except UserError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    try:
        box.publish(EventFactory("b").camera_state("door", "online", "", "", time.time()))
        listening = [sys.executable, "runtime/subscribe.py", "--connect", endpoint, "--since", "kept", "--count", "1"]
        result = subprocess.run(
            [*listening, "--timeout", "20"], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
    finally:
        box.close()
    assert "door: online" in result.stdout, result.stderr
    assert result.stderr == ""


def test_names_with_an_ipv4_address_stay_with_it() -> None:
    for endpoint in ("tcp://127.0.0.1:1", "tcp://*:1", "tcp://no.invalid:1", "ipc://[x]"):
        assert not needs_ipv6(endpoint)
    assert needs_ipv6("tcp://[::1]:1")


def test_a_subscriber_that_hears_nothing_says_so_once() -> None:
    """On a port where nobody publishes, and on one that is another's."""
    box = publisher("tcp://127.0.0.1:*")
    listeners = [
        subprocess.Popen(
            [sys.executable, "runtime/subscribe.py", "--connect", endpoint, "--timeout", "8"],
            cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for endpoint in (f"tcp://127.0.0.1:{free_port()}", box.replay_endpoint, box.endpoint)
    ]  # fmt: skip
    said = [process.communicate(timeout=60)[1] for process in listeners]
    box.close()
    assert [text.count("nothing was heard") for text in said] == [1, 1, 0]
    assert "publish.endpoint" in said[0]


def test_what_a_killed_stream_left_in_the_temporary_folder_is_removed(start: Start, tmp_path: Path) -> None:
    running = start("tcp://127.0.0.1:*", TMPDIR=str(tmp_path))
    start("tcp://127.0.0.1:*", TMPDIR=str(tmp_path)).kill()
    (tmp_path / f"{PREFIX}link").symlink_to(REPOSITORY)
    (tmp_path / f"{PREFIX}being-made").mkdir()
    wait_for(lambda: len(list(tmp_path.glob(f"{PREFIX}*/events.journal"))) == 2, 10)
    time.sleep(0.3)
    third = start("tcp://127.0.0.1:*", TMPDIR=str(tmp_path))
    assert len(list(tmp_path.glob(f"{PREFIX}*/events.journal"))) == 2
    for process in (running, third):
        process.communicate("", timeout=20)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{PREFIX}being-made", f"{PREFIX}link"]
    assert (REPOSITORY / "README.md").exists()


def test_nowhere_to_write_names_the_setting(tmp_path: Path) -> None:
    """No file may grow in this process: as on a machine whose folders are all read-only."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n" + PUBLISH
    head = "from personsearch.core.errors import run_main\n"
    code = f"{head}def main():\n    exec({limited!r})\nraise SystemExit(run_main(main))"
    for environment in ({}, {"TMPDIR": "/proc/none"}):
        result = subprocess.run(
            [sys.executable, "-c", code, "tcp://127.0.0.1:*"], cwd=REPOSITORY, capture_output=True, text=True,
            env={**os.environ, **environment}, check=False,
        )  # fmt: skip
        assert result.returncode == 2, result.stderr
        assert "journal.path" in result.stderr
        assert result.stderr.count("\n") == 1
    with pytest.raises(UserError, match=r"journal\.path"):
        Publisher(PublishSettings(endpoint="tcp://127.0.0.1:*"), JournalSettings(path="/proc/none/j"))
