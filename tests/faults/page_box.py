"""A running box with the operator's page, for tests and faults: real cameras, engine, events and page process."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import yaml
from harness import Running, some_gallery, wait_for
from websockets.sync.client import ClientConnection, connect

from personsearch.runtime.decisions.gallery_file import save_gallery
from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.history.store import History
from personsearch.runtime.operations.control import Control
from personsearch.runtime.operations.reload import Reloader
from personsearch.runtime.page.supervisor import PageProcess
from personsearch.runtime.settings import StreamSettings, default_bundle

STREET = "synthetic://street?seed=7&cameras=10&people=5&identities=50&fps=8&camera=%d"


PATIENT = {"open_timeout_s": 60, "read_timeout_s": 60}  # a busy machine is no fault here


class Box:
    def __init__(self, running: Running, publisher: Publisher, control: Control, page: PageProcess, cams: Path) -> None:
        self.running, self.publisher, self.control, self.page, self.cams = running, publisher, control, page, cams
        self.url = page.address.rstrip("/")
        self.gallery = cams.with_name("people.gallery")

    @property
    def pipeline(self) -> Any:
        return self.running.pipeline

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """Logged in by the key of the log; waits until the page answers."""
        with httpx.Client(base_url=self.url, headers={"origin": self.url}, timeout=300) as client:
            wait_for(lambda: answers(client), 120)
            key = self.page.link.partition("#key=")[2]
            assert client.post("/api/login", json={"key": key}).status_code == 200
            yield client

    def look(self, client: httpx.Client, *cameras: str) -> ClientConnection:
        """A WebSocket that has asked for these cameras."""
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        socket = connect(
            self.url.replace("http", "ws") + "/api/live", origin=self.url, additional_headers={"cookie": cookie}
        )
        socket.send(json.dumps({"cameras": list(cameras)}))
        return socket


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/api/me").status_code == 200
    except httpx.TransportError:
        return False


def unpacked(message: bytes | str) -> tuple[dict[str, Any], bytes]:
    """The head and the JPEG of a live picture."""
    assert isinstance(message, bytes)
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length]), message[4 + length :]


@contextmanager
def box_with_page(place: Path, cameras: int = 2, **sections: Any) -> Iterator[Box]:
    """cameras  synthetic ones, called street-1 and so on"""
    save_gallery(some_gallery(), place / "people.gallery")
    content = {
        "cameras": [{"name": f"street-{n}", "url": STREET % n, "max_fps": 6, **PATIENT} for n in range(1, cameras + 1)],
        "gallery": str(place / "people.gallery"), "publish": {"endpoint": "tcp://127.0.0.1:*"},
        "inference": {"load_timeout_s": 600, "timeout_s": 60}, "scheduling": {"max_age_s": 60},
        "page": {"enabled": True, "port": 0, "users": str(place / "page.users")},
        "history": {"path": str(place / "history"), "crops": True}, "sightings": {"grace_s": 3},
        "audit": {"path": str(place / "people.gallery.audit")}, **sections,
    }  # fmt: skip
    cams = place / "cams.yaml"
    cams.write_text("# A box for tests.\n" + yaml.safe_dump({"box": "fault", **content}, sort_keys=False))
    publisher = Publisher(StreamSettings.model_validate(content).publish, box="fault")
    running = Running(content.pop("cameras"), **{key: part for key, part in content.items() if key != "gallery"})
    running.publish_too = publisher.publish
    pipeline = running.pipeline
    publisher.serve_views(pipeline.people.views_of)
    publisher.serve_names(pipeline.people.names)
    reloader = Reloader(cams, place / "people.gallery", "", pipeline)
    control = Control(pipeline, publisher, reloader.ask)
    page = PageProcess(pipeline.settings, cams, place / "people.gallery", default_bundle(), control, publisher)
    model = pipeline.manifest.model_hash, pipeline.manifest.dimensions
    history = History(pipeline.settings.history, *model)
    pipeline.sightings.stay_listeners.append(history.add)
    pipeline.watchers += [history.look, control.see]
    pipeline.every_second += [reloader.look, page.look]
    try:
        with running:
            yield Box(running, publisher, control, page, cams)
    finally:
        page.close()
        history.close()
        control.close()
        publisher.close()


def within(seconds: float, look: Callable[[], Any]) -> Any:
    """What `look` gives as soon as it gives something; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.1)
    return found


def candidate(box: Box, track: int) -> dict[str, Any]:
    """An event that says that a track in sight of street-2 may be Person 1."""
    now = iso_time(time.time())
    return {
        "schema_version": 2, "type": "candidate", "box": "fault", "time": now, "camera": "street-2",
        "frame": {"index": 1, "time": now, "monotonic": 0.0, "stream_s": None, "width": 8, "height": 8},
        "track": track, "person": "Person 1", "similarity": 0.3, "threshold": 0.4, "log_likelihood_ratio": 1.0,
        "runner_up": "", "margin": None, "views": 3, "quality": 0.5, "false_names_per_day": 50.0, "score": 0.9,
        "bounding_box": {"x": 0.0, "y": 0.0, "w": 1.0, "h": 1.0}, "model": box.pipeline.manifest.model_hash,
    }  # fmt: skip
