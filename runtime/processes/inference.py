"""The inference engine as the pipeline sees it: a process that is started, watched, and replaced when it fails.

One batch is under way at a time. Nothing here blocks; the pipeline's loop calls `read` and `tick`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from personsearch.core.bundle import Manifest
from personsearch.core.engines.compiled_store import VARIABLE
from personsearch.core.records import Detections
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.processes.channel import CannotStart, Channel, Closed, start_process
from personsearch.runtime.processes.killed import Killed
from personsearch.runtime.settings import InferenceSettings

log = logging.getLogger("personsearch.inference")
HEALTHY_S = 60.0  # an engine that worked for so long clears the count of failures
MEMORY_LOOK_S = 0.5
SHORT_OF_SOMETHING_S = 5.0  # longest wait before the next try when descriptors, memory or processes are used up
PROCESS = "personsearch.runtime.processes.inference_process"


@dataclass(frozen=True)
class Found:
    """A batch's frames and the people in each; embeddings have width 0 if people are described on demand."""

    frames: list[Frame]
    detections: list[Detections]


@dataclass(frozen=True)
class Described:
    """Embeddings (N, D) of the people that `describe` was given."""

    embeddings: np.ndarray


class Inference:
    """`state` is one of loading, ready, failed (between two attempts), given_up."""

    def __init__(
        self,
        options: dict[str, Any],
        manifest: Manifest,
        settings: InferenceSettings,
        report: Callable[[str, str, int], None],
    ) -> None:
        """options  bundle, engine, threads
        report   called with the new state, a reason, and the failures in a row"""
        self.settings, self.manifest = settings, manifest
        self._options = {**options, "bundle": str(options["bundle"]), "model": manifest.model_hash}
        self._report = report
        self.state, self.name, self.reason = "loading", "", ""
        self.batch: list[Frame] = []  # under way
        self.orphans: list[Frame] = []  # of engines that failed, for the pipeline to take back
        self.describing = 0  # people under description
        self.described = 0
        self.failures = self.restarts = self.batches = 0
        self.busy_s = self.cpu_s = self.mean_s = 0.0
        self.unusable_at_start = ""
        self.channel: Channel | None = None
        self.process: Any = None
        self._known: set[int] = set()
        self._deadline, self._next_look, self._retry_at = 0.0, 0.0, 0.0
        self._ready_since = 0.0
        self._ever_ready = False
        self._started = False
        self._killed = Killed()
        self._distrusted = False  # compiled networks that were kept: an engine died while it loaded

    @property
    def idle(self) -> bool:
        return self.state == "ready" and not self.batch and not self.describing

    def submit(self, frames: Sequence[Frame], min_score: float | None, now: float) -> None:
        """Send a batch. If the engine is just failing, the next `read` will notice."""
        assert self.channel is not None
        self.batch = list(frames)
        try:
            for frame in frames:
                memory = frame.memory
                if memory is not None and memory.number not in self._known:
                    header = {"kind": "memory", "memory": memory.number, "descriptors": 1}
                    self.channel.send(header, descriptors=[memory.descriptor])
                    self._known.add(memory.number)
            places = [
                {"memory": f.memory.number, "position": f.position, "shape": f.image.shape} for f in frames if f.memory
            ]
            self.channel.send({"kind": "detect", "frames": places, "min_score": min_score})
        except Closed:
            log.debug("the engine is gone")
        self._deadline = now + self.settings.timeout_s

    def describe(self, views: Sequence[tuple[np.ndarray, np.ndarray]], now: float) -> None:
        """Send pictures uint8 (h, w, 3) with a person's box (4,) in each; only to an idle engine."""
        assert self.channel is not None
        self.describing = len(views)
        header = {
            "kind": "describe",
            "shapes": [picture.shape for picture, _ in views],
            "boxes": [[float(v) for v in box] for _, box in views],
        }
        try:
            self.channel.send(header, b"".join(np.ascontiguousarray(picture).data for picture, _ in views))
        except Closed:
            log.debug("the engine is gone")
        self._deadline = now + self.settings.timeout_s

    def forget(self, alive: set[int]) -> None:
        """Let the process unmap memories that no camera has any more."""
        for number in self._known - alive - {f.memory.number for f in self.batch if f.memory}:
            self._known.discard(number)
            if self.channel is not None:
                with contextlib.suppress(Closed):
                    self.channel.send({"kind": "forget", "memory": number})

    def read(self) -> Found | Described | None:
        """The result of the batch or of the description, if it is there."""
        now = time.monotonic()
        try:
            for header, payload, _ in self.channel.arrived() if self.channel is not None else ():
                if header["kind"] == "ready":
                    self.name = header["engine"]
                    self._ready_since, self._ever_ready = now, True
                    self._become("ready", self.name)
                elif header["kind"] == "found":
                    return self._found(header, payload)
                elif header["kind"] == "described":
                    return self._description(header, payload)
                elif header["kind"] == "unusable" and not self._ever_ready:
                    self.unusable_at_start = header["reason"]
                else:
                    self._fail(header.get("reason", "it sent nonsense"), now, counts=not header.get("passing"))
        except Closed:
            code = self._exit_code()
            self._distrusted = self.state == "loading"
            self._fail(f"the process ended unexpectedly ({code})", now)
        except (KeyError, ValueError, TypeError) as error:
            self._fail(f"it sent nonsense ({type(error).__name__})", now)
        return None

    def _exit_code(self) -> str:
        try:
            code = self.process.wait(0.2)
        except subprocess.TimeoutExpired:
            return "still running"
        return f"signal {-code}" if code < 0 else f"status {code}"

    def _description(self, header: dict[str, Any], payload: bytes) -> Described:
        embeddings = np.frombuffer(payload, np.float32).reshape(-1, self.manifest.dimensions)
        if len(embeddings) != self.describing:
            raise ValueError("as many embeddings as people")
        self.described += self.describing
        self.describing = 0
        self._spent(header)
        return Described(embeddings)

    def _spent(self, header: dict[str, Any]) -> None:
        self.busy_s += header["seconds"]
        self.cpu_s += header["cpu_s"]

    def _found(self, header: dict[str, Any], payload: bytes) -> Found:
        dimensions = header["width"]
        if dimensions not in (0, self.manifest.dimensions):
            raise ValueError("embeddings of the bundle's width, or none")
        numbers = np.frombuffer(payload, np.float32)
        results, at = [], 0
        for count in header["counts"]:
            end = at + count * (5 + dimensions)
            part = numbers[at:end]
            boxes, scores = part[: 4 * count].reshape(count, 4), part[4 * count : 5 * count]
            results.append(Detections(boxes, scores, part[5 * count :].reshape(count, dimensions)))
            at = end
        if len(results) != len(self.batch):
            raise ValueError("as many results as frames")
        frames, self.batch = self.batch, []
        self.batches += 1
        self._spent(header)
        self.mean_s = header["seconds"] if self.batches == 1 else 0.9 * self.mean_s + 0.1 * header["seconds"]
        return Found(frames, results)

    # --- supervision --------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Start, restart, or give up waiting."""
        self._killed.reap()
        if self.state == "given_up":
            return
        if self.channel is None:
            if now >= self._retry_at:
                self._start(now)
        elif self.state == "loading" and now >= self._deadline:
            self._fail(f"it did not load within {self.settings.load_timeout_s:g} s", now)
        elif (self.batch or self.describing) and now >= self._deadline:
            self._fail(f"no answer within {self.settings.timeout_s:g} s", now)
        elif self.settings.max_memory_mb and now >= self._next_look:
            self._next_look = now + MEMORY_LOOK_S
            if (used := _resident_mb(self.process.pid)) > self.settings.max_memory_mb:
                self._fail(f"it used {used:.0f} MB of memory, more than {self.settings.max_memory_mb}", now)
        if self.failures and self.state == "ready" and now - self._ready_since > HEALTHY_S:
            self.failures = 0

    def _start(self, now: float) -> None:
        try:
            self.process, self.channel = start_process(
                PROCESS, self._options["threads"], {VARIABLE: "off"} if self._distrusted else None
            )
        except CannotStart as error:
            self._fail(f"its process cannot be started ({error})", now, counts=False)
            return
        self.restarts += self._started
        self._started = True
        self._known = set()
        self._deadline = now + self.settings.load_timeout_s
        self.state = "loading"
        try:
            self.channel.send(self._options)
        except Closed:
            self._fail("it ended while starting", now)

    def _fail(self, reason: str, now: float, counts: bool = True) -> None:
        """counts  False: the machine is short of something, which is no reason to give the engine up"""
        self._end_process()
        self.orphans += self.batch
        self.batch, self.describing = [], 0
        if not counts:
            self._retry_at = now + random.uniform(0.5, SHORT_OF_SOMETHING_S)
            self._become("failed", reason)
            return
        self.failures += 1
        if self.failures >= self.settings.give_up_after:
            self._become("given_up", f"{reason}; {self.failures} failures in a row, no further attempt")
            return
        # The first replacement comes at once; later ones after a short random wait.
        self._retry_at = now + (0.0 if self.failures == 1 else random.uniform(0.0, min(2.0, 0.25 * 2**self.failures)))
        self._become("failed", reason)

    def _become(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason
        self._report(state, reason, self.failures)

    def _end_process(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if self.process is not None:
            self._killed.kill(self.process)

    def close(self) -> None:
        self._end_process()
        for process in self._killed.wait(2):
            log.error("the inference process %d does not end", process.pid)


def _resident_mb(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0
