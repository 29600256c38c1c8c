"""The capture process of one camera: opens it once, decodes at its rate, and puts frames into shared memory.

Everything that can hang or crash in a decoder hangs or crashes here, and the stream (camera.py) kills and replaces
it. Messages to the stream: opened, memory, frame, closed. From it: the settings first, then `free` for each frame
that is not needed any more. Ends when the stream closes the channel.
"""

from __future__ import annotations

import mmap
import os
import queue
import re
import threading
import time
from typing import Any

import cv2
import numpy as np

from personsearch.runtime.channel import Channel, Closed, channel_of_child
from personsearch.runtime.sources import Source, SourceError, open_source
from personsearch.runtime.urls import kind_of

SLOTS = 4  # one being written, one waiting, one or two under analysis
RATE_WITHOUT_FPS = 25.0
ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
# What FFmpeg says on stderr, since OpenCV tells no reasons. The first that fits is the cause.
CAUSES = (
    ("auth", re.compile(r"\b40[13]\b|unauthorized|forbidden|authorization", re.I)),
    ("not_found", re.compile(r"\b404\b|not found|no such file|name or service not known|failed to resolve", re.I)),
    ("refused", re.compile(r"refused|no route|unreachable|reset by peer", re.I)),
    ("timeout", re.compile(r"timed? ?out|immediate exit", re.I)),
    ("codec", re.compile(r"invalid data|moov atom|unsupported|could not find codec|decod|corrupt", re.I)),
)
BAD_PICTURE = re.compile(r"error while decoding|concealing|corrupt|invalid nal|non-existing|overread|no frame!", re.I)


class Listener:
    """Reads what FFmpeg writes to stderr, in a thread: causes of failures and the number of damaged frames."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self.real = os.dup(2)
        os.dup2(writing, 2)
        os.close(writing)
        self.cause, self.damaged = "", 0
        threading.Thread(target=self._read, args=(reading,), daemon=True).start()

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "r", errors="replace") as lines:
            for line in lines:
                if BAD_PICTURE.search(line):
                    self.damaged += 1
                for cause, pattern in CAUSES:
                    if not self.cause and pattern.search(line):
                        self.cause = cause


class FrameMemory:
    """Slots for frames in anonymous memory (no name, so nothing is left behind when everybody is killed)."""

    def __init__(self, slot_bytes: int) -> None:
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self.descriptor = os.memfd_create("personsearch-frames")
        os.ftruncate(self.descriptor, self.slot_bytes * SLOTS)
        self._map = mmap.mmap(self.descriptor, self.slot_bytes * SLOTS)

    def write(self, slot: int, image: np.ndarray) -> None:
        view = np.frombuffer(self._map, np.uint8, image.size, slot * self.slot_bytes)
        np.copyto(view.reshape(image.shape), image)


class Capture:
    """Reads one source until its end, a failure, or the end of the stream."""

    def __init__(self, channel: Channel, options: dict[str, Any], listener: Listener) -> None:
        self.channel, self.options, self.listener = channel, options, listener
        self.lossless, self.live = options["lossless"], kind_of(options["url"]) in ("network", "webcam")
        self.index = options["first_index"]
        self.memory: FrameMemory | None = None
        self.free: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self.generation = 0
        self.counts = {"captured": 0, "rate": 0, "no_slot": 0, "bad": 0}
        self.last_sent = 0.0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            while (message := self.channel.receive()) is not None:
                self.free.put((message[0]["memory"], message[0]["slot"]))
        except Closed:
            os._exit(0)  # the stream is gone, or wants no more of us; a decoder may hang, so no ceremony

    def run(self, source: Source) -> tuple[str, str]:
        """Gives the cause of the end and a sentence about it."""
        options = self.options
        paced = not self.live and options["pace"] == "source"
        rate = (source.fps or RATE_WITHOUT_FPS) if paced else 0.0
        start, number, unread, bad_in_row, next_kept = time.monotonic(), 0, 0, 0, 0.0
        while True:
            began = time.monotonic()
            grabbed = source.grab()
            if self.live and time.monotonic() - began >= options["read_timeout_s"]:
                return "stall", f"no frame for {options['read_timeout_s']:g} s"
            if not grabbed:
                if not self.live and (not source.frames or number + unread >= source.frames):
                    return "end", ""
                unread += 1
                if unread >= options["bad_frames"]:
                    cause = "end" if not self.live else (self.listener.cause or "end")
                    return cause, f"the stream broke off ({unread} reads in a row gave nothing)"
                continue
            if rate:
                wait = start + number / rate - time.monotonic()
                if wait < -1.0:
                    start -= wait  # we were held up: go on from here, without a burst
                time.sleep(max(0.0, wait))
            number += 1
            now, wall = time.monotonic(), time.time()
            # Reads that gave nothing were damaged frames if a good one follows; else they were the end.
            self.counts["captured"] += 1 + unread
            self.counts["bad"] += unread
            self.index += unread
            unread = 0
            if options["max_fps"] and now < next_kept:
                self.counts["rate"] += 1
                self._tell_now_and_then(now)
            else:
                if options["max_fps"]:
                    next_kept = max(next_kept, now - 0.5 / options["max_fps"]) + 1.0 / options["max_fps"]
                image = source.retrieve()
                if image is None:
                    bad_in_row += 1
                    self.counts["bad"] += 1
                    if bad_in_row >= options["bad_frames"]:
                        return "codec", f"{bad_in_row} frames in a row could not be decoded"
                else:
                    bad_in_row = 0
                    self._offer(image, source, now, wall)
            self.index += 1

    def _offer(self, image: np.ndarray, source: Source, now: float, wall: float) -> None:
        image, offset, scale, picture = prepare(image, self.options)
        if self.memory is None or image.size > self.memory.slot_bytes:
            self._new_memory(image.size)
        slot = self._slot()
        if slot is None:
            self.counts["no_slot"] += 1
            self._tell_now_and_then(now)
            return
        assert self.memory is not None
        self.memory.write(slot, image)
        header = {
            "kind": "frame", "memory": self.generation, "slot": slot, "shape": image.shape, "index": self.index,
            "wall": wall, "monotonic": now, "stream_s": source.stream_s(), "offset": offset, "scale": scale,
            "picture": picture,
        }  # fmt: skip
        self.send(header, now)

    def _slot(self) -> int | None:
        """A slot that nobody reads; lossless captures wait for one."""
        while True:
            try:
                generation, slot = self.free.get(block=self.lossless)
            except queue.Empty:
                return None
            if generation == self.generation:
                return slot

    def _new_memory(self, size: int) -> None:
        self.memory = FrameMemory(size)
        self.generation += 1
        for slot in range(SLOTS):
            self.free.put((self.generation, slot))
        header = {"kind": "memory", "memory": self.generation, "slot_bytes": self.memory.slot_bytes, "descriptors": 1}
        self.channel.send(header, descriptors=[self.memory.descriptor])

    def _tell_now_and_then(self, now: float) -> None:
        """Frames that are not delivered are a sign of life as well."""
        if now - self.last_sent >= 0.25:
            self.send({"kind": "alive"}, now)

    def send(self, header: dict[str, Any], now: float) -> None:
        """Counters travel as differences: whatever the stream has heard of is accounted for."""
        counts = {key: value for key, value in self.counts.items() if value}
        if self.listener.damaged:
            counts["damaged"], self.listener.damaged = self.listener.damaged, 0
        self.counts = dict.fromkeys(self.counts, 0)
        self.last_sent = now
        self.channel.send({**header, "counts": counts})


def prepare(image: np.ndarray, options: dict[str, Any]) -> tuple[np.ndarray, tuple[int, int], float, tuple[int, int]]:
    """Rotate, cut to the region, shrink: the image, the region's corner, the scale, and the upright picture's size."""
    if options["rotate"]:
        image = cv2.rotate(image, ROTATIONS[options["rotate"]])
    height, width = image.shape[:2]
    x, y = 0, 0
    if options["region"]:
        left, top, wide, high = options["region"]
        x, y = min(width - 2, round(left * width)), min(height - 2, round(top * height))
        image = image[y : y + max(2, round(high * height)), x : x + max(2, round(wide * width))]
    scale = 1.0
    if options["max_size"]:
        scale = min(1.0, options["max_size"][0] / image.shape[1], options["max_size"][1] / image.shape[0])
        if scale < 1:
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image, (x, y), scale, (width, height)


def main() -> None:
    cv2.setNumThreads(1)
    channel = channel_of_child()
    first = channel.receive()
    assert first is not None
    listener = Listener()
    options = first[0]
    capture = Capture(channel, options, listener)
    try:
        while True:
            channel.send({"kind": "opening"})
            try:
                source = open_source(options)
            except SourceError as error:
                time.sleep(0.05)  # FFmpeg's last words may still be on their way through the pipe
                live = kind_of(options["url"]) == "network"
                cause = error.cause or listener.cause or ("timeout" if live else "codec")
                channel.send({"kind": "closed", "cause": cause, "reason": str(error)})
                return
            listener.cause = ""
            channel.send({"kind": "opened", "fps": source.fps})
            cause, reason = capture.run(source)
            source.close()
            if cause != "end" or capture.live or options["end"] == "stop":
                capture.send({"kind": "closed", "cause": cause, "reason": reason}, time.monotonic())
                return
    except Closed:
        pass
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
