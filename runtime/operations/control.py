"""The control socket: what a program on this machine may ask the stream for beyond events, and what the operator's page
uses. A ZeroMQ ROUTER in a private folder (0700), JSON questions, answers of a JSON head and bytes.

    {"id": 1, "request": "picture", "camera": "door", "width": 640}   the next analysed frame, as JPEG, with its people
    {"id": 2, "request": "state"}                                     cameras, engine, disk, latency
    {"id": 3, "request": "reload"}                                    look at the files again, as SIGHUP does
    {"id": 4, "request": "correct", "sighting": "s-...", "was": "p-...", "person": null}   `corrections.py`

Pictures are asked for one by one, so nothing is encoded, copied or shrunk while nobody looks (`pictures.py`). Encoding
happens in the socket's own thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import zmq

from personsearch.core.errors import UserError
from personsearch.core.json_text import parse_json
from personsearch.runtime.delivery.endpoints import bind
from personsearch.runtime.delivery.events import encode_text
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.delivery.temporary import remove_abandoned
from personsearch.runtime.operations.box_state import box_state
from personsearch.runtime.operations.corrections import Corrections
from personsearch.runtime.operations.pictures import Answer, Pictures
from personsearch.runtime.pipeline import Pipeline

log = logging.getLogger("personsearch.control")
PREFIX = "personsearch-control-"
MOST_BYTES = 65536
LOOK_MS = 200  # how often questions are looked through for those whose time is over
IDLE_MS = 2000  # ... when nobody asks


class Control:
    """Binds at once and answers in a thread of its own. `endpoint` is its ipc:// address; `see` belongs among the
    pipeline's watchers."""

    def __init__(self, pipeline: Pipeline, publisher: Publisher, reload: Callable[[], None]) -> None:
        """reload  asks for a reload; called from another thread. Raises UserError if there is no place for a socket."""
        self.pipeline, self.publisher, self._reload = pipeline, publisher, reload
        cv2.setNumThreads(1)  # to wake others for so small a picture costs more than to shrink it
        self.encoded = 0  # pictures so far
        self.cpu_s = 0.0  # of this thread
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # 0700
        except OSError as error:
            raise UserError(f"no folder for the control socket ({error.strerror}); set TMPDIR to one") from None
        self.endpoint = f"ipc://{self._folder}/control"
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
        try:
            self._claim = bind(self._socket, self.endpoint, "TMPDIR")
        except UserError:
            self._context.destroy(linger=0)
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        remove_abandoned(self._folder.parent, self._folder, PREFIX, "control.lock")
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.pictures = Pictures(pipeline, self._awake)
        self.corrections = Corrections(pipeline, publisher.journal.path)
        self.see = self.pictures.see
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._thread.start()

    def state(self) -> dict[str, Any]:
        """Counters since the start, and how everything is now. Reads only; from any thread."""
        state = box_state(self.pipeline, self.publisher)
        return {**state, "cpu_s": {**state["cpu_s"], "control": self.cpu_s}, "pictures_encoded": self.encoded}

    def _awake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._wake, 1)

    # --- in the socket's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while not self._stop.is_set():
            ready = dict(poller.poll(LOOK_MS if self.pictures.asked else IDLE_MS))
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            try:
                if self._socket in ready:
                    for _ in range(100):
                        self._hear(self._socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                pass
            for answer in self.pictures.take():
                self._deliver(answer)
            for late in self.pictures.late(time.monotonic()):
                self._send(late.envelope, {"id": late.number, "reply": "none", "camera": late.camera})
            self.cpu_s = time.thread_time()
        self._socket.close()
        os.close(self._wake)

    def _hear(self, parts: list[bytes]) -> None:
        envelope, number = parts[:-1], 0
        try:
            question = parse_json(parts[-1])
            number = int(question["id"])
            kind = question["request"]
            if kind == "picture":
                self.pictures.ask(envelope, number, question)
            elif kind == "state":
                self._send(envelope, {"id": number, "reply": "state", **self.state()})
            elif kind == "reload":
                self._reload()
                self._send(envelope, {"id": number, "reply": "reload"})
            elif kind == "correct":
                done = self.corrections.correct(question["sighting"], question["was"], question["person"])
                self._send(envelope, {"id": number, "reply": "correct", "done": done})
            else:
                raise ValueError("expected request picture, state, reload or correct")
        except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._send(envelope, {"id": number, "reply": "error", "error": str(error)[:300]})

    def _deliver(self, answer: Answer) -> None:
        """Encoded once for everybody who asked for the same picture."""
        quality = [cv2.IMWRITE_JPEG_QUALITY, answer.questions[0].quality]
        picture = cv2.imencode(".jpg", answer.image, quality)[1].tobytes()
        self.encoded += 1
        zones = self._zones(answer.questions[0].camera)
        for question in answer.questions:
            head = {"id": question.number, "reply": "picture", **answer.head, "zones": zones}
            self._send(question.envelope, head, picture)

    def _zones(self, camera: str) -> dict[str, Any]:
        settings = next((c for c in self.pipeline.settings.cameras if c.name == camera), None)
        if settings is None:
            return {"region": None, "ignore": [], "zones": [], "lines": []}
        return settings.model_dump(mode="json", include={"region", "ignore", "zones", "lines"})

    def _send(self, envelope: list[bytes], head: dict[str, Any], body: bytes = b"") -> None:
        try:
            self._socket.send_multipart([*envelope, encode_text(head).encode(), body], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.debug("an answer could not be given: %s", error)

    def close(self) -> None:
        self._stop.set()
        self._awake()
        self._thread.join(5)
        self._context.destroy(linger=0)
        if self._claim is not None:
            self._claim.close()
        shutil.rmtree(self._folder, ignore_errors=True)
