"""One camera as the pipeline sees it: its capture process is started, watched, killed and replaced here.

Nothing here blocks. The pipeline's loop calls `read` when the channel has messages and `tick` several times a second.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from personsearch.core.errors import ConfigError
from personsearch.core.redaction import redact, remember_url
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.frames import Frame, SharedFrames
from personsearch.runtime.cameras.rhythm import Rhythm
from personsearch.runtime.cameras.urls import with_secrets, without_secrets
from personsearch.runtime.processes.channel import CannotStart, Channel, Closed, start_process
from personsearch.runtime.processes.killed import Killed
from personsearch.runtime.settings import SchedulingSettings

log = logging.getLogger("personsearch.camera")
FIRST_RETRY_S, LAST_RETRY_S, HEALTHY_S = 0.5, 30.0, 60.0
START_S = 15.0  # for a process to begin, or a device for decoding to open; a busy machine takes its time
MOST_HUNG = 2  # processes in a row that such a device took along before their first frame


@dataclass
class Counters:
    """captured = analysed + sum(dropped) + frames that wait or are under analysis, at any moment."""

    captured: int = 0
    analysed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # newer, stale, rate, still, no_slot, bad, engine, end
    damaged: int = 0  # frames that the decoder repaired
    opened: int = 0
    failures: int = 0
    killed: int = 0  # capture processes that had to be killed


class Camera:
    """`state` is one of starting, online, offline, ended; `cause` one of refused, timeout, auth, not_found, codec,
    stall, end, crashed, settings, or empty."""

    def __init__(self, settings: CameraSettings, report: Callable[[Camera, str, str, str], None]) -> None:
        """report  called with the camera, its new state, the cause and a sentence without secrets"""
        self.settings, self.name = settings, settings.name
        self.counters, self.state, self.cause, self.reason = Counters(), "starting", "", ""
        self.pending: deque[Frame] = deque()
        self.last_served = 0.0
        self.rhythm = Rhythm()
        self.decoder = ""  # what decodes its frames, and why
        self.channel: Channel | None = None
        self.process: Any = None
        self._report = report
        remember_url(settings.url)
        self._gate: tuple[bool, float, float] | None = None  # what its process knows: see `leave_out_still`
        self._trying, self._hung = False, 0  # its process tries a device for decoding; how many ended so
        self._rests = False  # the next process may leave frames without motion undecoded
        self._memory: SharedFrames | None = None  # the current one,
        self._generation = 0  # and its number in the capture process
        self._index, self._delay = 0, FIRST_RETRY_S
        self._moment: float | None = None  # of the latest frame, on the stream's own clock
        self._deadline, self._waiting_for = 0.0, ""
        self._retry_at: float | None = 0.0
        self._online_since = 0.0
        self._killed = Killed()

    @property
    def memories(self) -> set[int]:
        """Numbers of the shared memories that are or may be read."""
        return {memory.number for memory in (self._memory, *(f.memory for f in self.pending)) if memory}

    @property
    def _open_s(self) -> float:
        """How long opening may take. A file is waited for by nobody but this machine, which may be busy."""
        return self.settings.open_timeout_s if self.settings.live else max(START_S, self.settings.open_timeout_s)

    @property
    def done(self) -> bool:
        """Ended, and all its frames taken."""
        return self.state == "ended" and not self.pending

    # --- the process --------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Start, restart, or give up waiting."""
        self._killed.reap()
        if self._retry_at is not None and now >= self._retry_at and self.state != "ended":
            self._start(now)
        elif self.settings.lossless and self.pending:
            self._deadline = now + self.settings.read_timeout_s  # its process rightly waits for us
        elif self.channel is not None and now >= self._deadline:
            cause = {"opening": "timeout", "frames": "stall", "process": "crashed"}[self._waiting_for]
            limit = self._open_s if cause == "timeout" else self.settings.read_timeout_s
            what = {
                "timeout": f"no answer within {limit:g} s",
                "stall": f"no frame for {limit:g} s",
                "crashed": f"the capture process did not start within {START_S:g} s",
            }[cause]
            self._fail(cause, what, now)
        if self.state == "online" and now - self._online_since > HEALTHY_S:
            self._delay = FIRST_RETRY_S

    def _start(self, now: float) -> None:
        self._retry_at = None
        try:
            url = with_secrets(self.settings.url, self.name)
        except ConfigError as error:
            self._fail("settings", str(error), now)
            return
        try:
            self.process, self.channel = start_process("personsearch.runtime.cameras.camera_process", threads=1)
        except CannotStart as error:
            self._fail("crashed", f"the capture process cannot be started ({error})", now, again=True)
            return
        options = self.settings.model_dump(mode="json") | {
            "url": url, "lossless": self.settings.lossless, "rests": self._rests,
            "clocks": bool(self.settings.detail_url), "detail_url": "",
        }  # fmt: skip
        if options["decoding"] == "auto" and self._hung >= MOST_HUNG:
            options["decoding"] = "software"
        self._trying = False
        self._expect("process", now + START_S)
        self._gate = None
        try:
            self.channel.send({**options, "first_index": self._index, "last_moment": self._moment})
        except Closed:
            self._fail("crashed", "the capture process ended while starting", now)

    def leave_out_still(self, scheduling: SchedulingSettings, watch_every_s: float) -> None:
        """Tell its process, where that is news, whether frames without motion are left out just now. Never those of a
        lossless camera: all its frames count, and they come as fast as they are taken.

        watch_every_s  see `Tracker.watch_every_s`"""
        on = scheduling.motion and not self.settings.lossless
        self._rests = on and scheduling.rest
        gate = (on, scheduling.look_every_s, watch_every_s if on else math.inf)
        if gate == self._gate or self.channel is None or (self._gate is None and not on):
            return
        try:
            self.channel.send({"kind": "motion", "gate": gate})
            self._gate = gate
        except Closed:
            pass  # `read` will notice

    def _expect(self, what: str, deadline: float) -> None:
        self._waiting_for, self._deadline = what, deadline

    def _end_process(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if self.process is not None:
            self.counters.killed += self._killed.kill(self.process)
            self.process = None

    def _fail(self, cause: str, reason: str, now: float, again: bool = False) -> None:
        """Offline; files end, live sources are tried again after a random part of the delay (full jitter), so that
        cameras behind one switch do not return in step. So are files after an accident of ours, or that shall loop
        and could be opened once.

        again  nothing was lost: try again in any case"""
        self._end_process()
        self.counters.failures += 1
        if self._trying and cause in ("crashed", "stall"):
            self._hung += 1
            if self._hung == MOST_HUNG and self.settings.decoding == "auto":
                log.warning(
                    "camera %s: no device decodes it any more, after %d that hung or crashed", self.name, MOST_HUNG
                )
        shown = without_secrets(self.settings.url)
        text = redact(reason if shown in reason else f"{shown}: {reason}" if reason else shown)
        again |= cause in ("crashed", "stall") and (not self.settings.lossless or self._moment is None)
        again |= self.settings.end == "loop" and self.counters.opened > 0
        if not self.settings.live and not again:
            self._become("ended", cause, text)
            return
        self._retry_at = now + random.uniform(0.05, self._delay)
        self._delay = min(LAST_RETRY_S, self._delay * 2)
        self._become("offline", cause, text)

    def _become(self, state: str, cause: str = "", reason: str = "") -> None:
        changed = (state, cause) != (self.state, self.cause)
        self.state, self.cause, self.reason = state, cause, reason
        if changed:
            self._report(self, state, cause, reason)

    def stop(self) -> None:
        """Kill the process and drop what waits."""
        self._end_process()
        self._retry_at = None
        self._drop_pending("end")
        if self.state != "ended":
            self._become("ended", "end", "stopped")
        for _ in self._killed.wait(1):
            log.warning("camera %s: its capture process does not end", self.name)

    # --- its messages -------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Take in everything that the capture process has said."""
        now = time.monotonic()
        try:
            for header, _, descriptors in self.channel.arrived() if self.channel is not None else ():
                self._hear(header, descriptors, now)
        except Closed:
            code = self.process.poll() if self.process else None
            self._fail("crashed", f"the capture process ended unexpectedly ({code})", now)
        except OSError as error:  # the frames' memory cannot be mapped
            self._fail("crashed", f"no room for its frames ({error.strerror})", now)
        except (LookupError, ValueError, TypeError) as error:
            self._fail("crashed", f"the capture process sent nonsense ({type(error).__name__})", now)

    def _hear(self, header: dict[str, Any], descriptors: list[int], now: float) -> None:
        kind = header["kind"]
        self._count(header.get("counts", {}))
        if kind == "frame":
            self._expect("frames", now + self.settings.read_timeout_s)
            if self.state != "online":
                self._online_since = now
                self._become("online")
            self._trying, self._hung = False, 0
            self._offer(header)
        elif kind == "alive":
            self._expect("frames", now + self.settings.read_timeout_s)
        elif kind == "memory":
            if not descriptors:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # the kernel left it out: we have too many
            self._memory = SharedFrames(descriptors[0], header["slot_bytes"])
            self._generation = header["memory"]
        elif kind == "opening":
            self._expect("opening", now + self._open_s)
        elif kind == "opened":
            self.counters.opened += 1
            self._trying = header["device"]
            self._expect("frames", now + (START_S if self._trying else self.settings.read_timeout_s))
        elif kind == "decoder":
            self._trying = self._trying and not header["decoder"].startswith("software")
            self._expect("frames", now + self.settings.read_timeout_s)
            if header["decoder"] != self.decoder:
                self.decoder = header["decoder"]
                log.info("camera %s: decoder: %s", self.name, self.decoder, extra={"camera": self.name})
        elif kind == "note":
            log.warning("camera %s: %s", self.name, header["reason"], extra={"camera": self.name})
        elif kind == "closed":
            if header["cause"] == "end" and not self.settings.live:
                self._end_process()
                self._become("ended", "end", header["reason"])
            else:
                self._fail(header["cause"], header["reason"], now)

    def _count(self, counts: dict[str, int]) -> None:
        for key, value in counts.items():
            if key == "captured":
                self.counters.captured += value
            elif key == "damaged":
                self.counters.damaged += value
            else:
                self.counters.dropped[key] += value

    def _offer(self, header: dict[str, Any]) -> None:
        """The newest frame wins, unless every frame counts."""
        memory, channel = self._memory, self.channel
        assert memory is not None
        slot = header["slot"]
        free = {"memory": self._generation, "slot": slot}

        def release() -> None:
            try:
                if channel is self.channel and channel is not None:
                    channel.send(free)
            except Closed:
                pass  # its process is gone, and so is its need for slots

        frame = Frame(
            camera=self.name, image=memory.image(slot, tuple(header["shape"])), index=header["index"],
            wall=header["wall"], monotonic=header["monotonic"], stream_s=header["stream_s"],
            offset=tuple(header["offset"]), scale=header["scale"], picture_size=tuple(header["picture"]),
            memory=memory, position=slot * memory.slot_bytes, release=release, moment=header["moment"],
            late=header["late"], look=header["look"], clocks=header["clocks"],
        )  # fmt: skip
        self._index, self._moment = frame.index + 1, frame.moment
        if not frame.late:
            self.rhythm.note(frame.monotonic, frame.look)
        if not self.settings.lossless and not frame.late:
            self._drop_pending("newer")
        self.pending.append(frame)

    def _drop_pending(self, cause: str) -> None:
        waiting, self.pending = self.pending, deque()
        for frame in waiting:
            if frame.late and cause == "newer":
                self.pending.append(frame)
            else:
                self.drop(frame, cause)

    def drop(self, frame: Frame, cause: str) -> None:
        self.counters.dropped[cause] += 1
        frame.release()
