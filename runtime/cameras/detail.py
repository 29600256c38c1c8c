"""The main stream of a camera whose sub-stream is analysed, as the pipeline sees it: its reader is started, watched,
killed and replaced here.

Nothing here blocks. A view that the reader cannot give, for whatever reason, is answered with None and counted: the
person is described from the analysed stream then, and the camera stays as it is.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from personsearch.core.errors import ConfigError
from personsearch.core.redaction import redact, remember_url
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.camera import FIRST_RETRY_S, HEALTHY_S, LAST_RETRY_S, START_S
from personsearch.runtime.cameras.frames import Shot
from personsearch.runtime.cameras.urls import with_secrets, without_secrets
from personsearch.runtime.processes.channel import CannotStart, Channel, Closed, start_process
from personsearch.runtime.processes.killed import Killed

log = logging.getLogger("personsearch.camera")
LATE_S = 1.5  # of a live camera; a file's views are waited for
HUNG_S = 10.0  # a reader that has not answered for so long is replaced
MOST_ASKED = 8  # views that wait for the reader: their questions fit into the socket
CAUSES = ("none", "differs", "shape", "late", "reader")  # why a view is not given


@dataclass
class DetailView:
    """uint8 (h, w, 3) BGR of the main stream, and the person's box (4,) xyxy in it."""

    picture: np.ndarray
    box: np.ndarray


@dataclass
class _Asked:
    token: Any
    when: float
    told: bool = False  # answered with None meanwhile


class DetailReader:
    """`state` is one of starting, online, offline, refused (the two streams have not the same shape); `reason` is a
    sentence without secrets."""

    def __init__(self, settings: CameraSettings) -> None:
        self.settings, self.name = settings, settings.name
        self.state, self.cause, self.reason = "starting", "", ""
        self.size = (0, 0)  # width and height of its pictures, as encoded
        self.counts: Counter[str] = Counter()  # given, and by CAUSES what was not
        self.answers: deque[tuple[Any, DetailView | None]] = deque()
        self.channel: Channel | None = None
        self.process: Any = None
        remember_url(settings.detail_url)
        self._asked: dict[int, _Asked] = {}
        self._number = 0
        self._deadline: float | None = None
        self._overdue = ("", "")  # cause and reason of what is wrong by then
        self._retry_at: float | None = 0.0
        self._delay, self._online_since = FIRST_RETRY_S, 0.0
        self._killed = Killed()

    @property
    def waiting(self) -> bool:
        """Is there a view that was asked for and not answered, an answer that was not taken, or a file to be opened?"""
        opens = self.state == "starting" and not self.settings.live
        return opens or bool(self.answers) or any(not asked.told for asked in self._asked.values())

    # --- views ------------------------------------------------------------------------------------------------------

    def ask(self, token: Any, shot: Shot, corners: np.ndarray, box: np.ndarray, reference: np.ndarray) -> None:
        """The answer comes with `token`, in `answers`.

        shot            of the analysed image
        corners, box    (4,) xyxy in pixels of that image: the wanted part, and the person
        reference       uint8 (h, w) grey: the wanted part there, see `reference_of`"""
        ready = self.state in ("online", "refused") or (self.state == "starting" and not self.settings.live)
        if not ready or self.channel is None or len(self._asked) >= MOST_ASKED:
            self._none(token, "late" if ready else "reader")
            return
        self._number += 1
        header = {
            "kind": "view", "number": self._number, "clocks": dict(shot.clocks), "size": shot.picture_size,
            "corners": [float(v) for v in shot.shares(corners)], "box": [float(v) for v in shot.shares(box)],
            "shape": reference.shape,
        }  # fmt: skip
        now = time.monotonic()
        try:
            self.channel.send(header, np.ascontiguousarray(reference).tobytes())
            self._asked[self._number] = _Asked(token, now)
        except Closed:
            self._none(token, "reader")

    def _none(self, token: Any, cause: str) -> None:
        self.counts[cause] += 1
        self.answers.append((token, None))

    # --- the process ------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Start, restart, or give up waiting."""
        self._killed.reap()
        if self._retry_at is not None and now >= self._retry_at:
            self._start(now)
        elif self._deadline is not None and now >= self._deadline:
            self._fail(*self._overdue, now)
        elif self.state != "starting" and any(now - asked.when > HUNG_S for asked in self._asked.values()):
            self._fail("stall", f"no view for {HUNG_S:g} s", now)
        for asked in self._asked.values():
            if self.settings.live and not asked.told and now - asked.when > LATE_S:
                asked.told = True
                self._none(asked.token, "late")
        if self.state == "online" and now - self._online_since > HEALTHY_S:
            self._delay = FIRST_RETRY_S

    def _start(self, now: float) -> None:
        self._retry_at = None
        settings = self.settings
        try:
            url = with_secrets(settings.detail_url, self.name)
            self.process, self.channel = start_process("personsearch.runtime.cameras.detail_process", threads=1)
            options = settings.model_dump(
                mode="json", include={"transport", "open_timeout_s", "read_timeout_s", "rotate", "detail_within_s"}
            )
            self.channel.send({**options, "url": url})
        except ConfigError as error:
            self._fail("settings", str(error), now)
        except CannotStart as error:
            self._fail("crashed", f"its reader cannot be started ({error})", now)
        except Closed:
            self._fail("crashed", "its reader ended while starting", now)
        else:
            self._expect("crashed", f"its reader did not start within {START_S:g} s", now + START_S)

    def _expect(self, cause: str, otherwise: str, deadline: float) -> None:
        self._overdue, self._deadline = (cause, otherwise), deadline

    def _end_process(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if self.process is not None:
            self._killed.kill(self.process)
            self.process = None
        self._deadline = None
        asked, self._asked = self._asked, {}
        for question in asked.values():
            if not question.told:
                self._none(question.token, "reader")

    def _fail(self, cause: str, reason: str, now: float) -> None:
        self._end_process()
        self._retry_at = now + random.uniform(0.05, self._delay)
        self._delay = min(LAST_RETRY_S, self._delay * 2)
        shown = without_secrets(self.settings.detail_url)
        self._become("offline", cause, redact(reason if shown in reason else f"{shown}: {reason}"))

    def _become(self, state: str, cause: str = "", reason: str = "") -> None:
        changed = (state, cause) != (self.state, self.cause)
        self.state, self.cause, self.reason = state, cause, reason
        if changed:
            level = logging.INFO if state == "online" else logging.WARNING
            words = " ".join(filter(None, (state, cause, reason or "people are described from it")))
            log.log(level, "camera %s: main stream: %s", self.name, words, extra={"camera": self.name})

    def stop(self) -> None:
        self._end_process()
        self._retry_at = None
        for _ in self._killed.wait(1):
            log.warning("camera %s: the reader of its main stream does not end", self.name)

    # --- its messages -----------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Take in everything that the reader has said."""
        now = time.monotonic()
        try:
            for header, payload, _ in self.channel.arrived() if self.channel is not None else ():
                self._hear(header, payload, now)
        except Closed:
            self._fail("crashed", "its reader ended unexpectedly", now)
        except (LookupError, ValueError, TypeError) as error:
            self._fail("crashed", f"its reader sent nonsense ({type(error).__name__})", now)

    def _hear(self, header: dict[str, Any], payload: bytes, now: float) -> None:
        kind, live = header["kind"], self.settings.live
        if kind == "opening":
            limit = self.settings.open_timeout_s if live else max(START_S, self.settings.open_timeout_s)
            self._expect("timeout", f"no answer within {limit:g} s", now + limit)
        elif kind in ("opened", "alive"):
            limit = self.settings.read_timeout_s if live else math.inf
            self._expect("stall", f"no packet for {limit:g} s", now + limit)
            if kind == "opened":
                self.size, self._online_since = tuple(header["size"]), now
                self._become("online")
        elif kind == "closed":
            self._fail(header["cause"], header["reason"], now)
        elif kind == "view":
            self._take(header, payload)

    def _take(self, header: dict[str, Any], payload: bytes) -> None:
        asked, cause = self._asked.pop(header["number"]), header["cause"]
        if cause == "shape":
            self._become("refused", "settings", redact(header["reason"]))
        elif self.state == "refused":
            self._become("online")
        if asked.told:
            return
        if cause:
            self._none(asked.token, cause)
            return
        picture = np.frombuffer(payload, np.uint8).reshape(header["shape"])
        self.counts["given"] += 1
        self.answers.append((asked.token, DetailView(picture, np.array(header["box"], np.float32))))
