"""The capture process of one camera: opens it once, decodes at its rate, and puts frames into shared memory.

Everything that can hang or crash in a decoder hangs or crashes here, and the stream (camera.py) kills and replaces
it. Messages to the stream: opening, opened, decoder, memory, frame, alive, note, closed. From it: the settings first,
then `free` for each frame that is not needed any more, and `motion`: whether frames without motion are left out. Ends
when the stream closes the channel.
"""

from __future__ import annotations

import math
import os
import threading
import time
from typing import Any

import numpy as np

from personsearch.core.stream_clock import StreamClock
from personsearch.core.video_files import SourceError
from personsearch.runtime.cameras.listener import Listener
from personsearch.runtime.cameras.motion import MotionGate
from personsearch.runtime.cameras.preparing import prepare
from personsearch.runtime.cameras.slots import Slots
from personsearch.runtime.cameras.sources import RATE_WITHOUT_FPS, Source, open_source
from personsearch.runtime.cameras.urls import kind_of
from personsearch.runtime.processes.channel import Channel, Closed
from personsearch.runtime.processes.child import run_reader, trim_heap

LATE_WAITS_S = 0.5  # for a slot, with a frame that was left out first
TIDY_S = 10.0  # from one return of unused memory to the next


class Capture:
    """Reads one source until its end, a failure, or the end of the stream."""

    def __init__(self, channel: Channel, options: dict[str, Any], listener: Listener) -> None:
        self.channel, self.options, self.listener = channel, options, listener
        self.lossless, self.live = options["lossless"], kind_of(options["url"]) in ("network", "webcam")
        self.synthetic = kind_of(options["url"]) == "synthetic"
        self.index = options["first_index"]
        self.clock = StreamClock(1 / RATE_WITHOUT_FPS, options["last_moment"])
        self.moment = -math.inf  # of the latest frame
        self.start: float | None = None  # the machine's clock when the file's stood at 0
        self.next_kept = -math.inf  # moment from which a frame is analysed again, at `max_fps`
        self.slots = Slots()
        self.gate = MotionGate(options)
        self.counts = {"captured": 0, "rate": 0, "still": 0, "no_slot": 0, "bad": 0}
        self.last_sent, self.tidied = 0.0, time.monotonic()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            while (message := self.channel.receive()) is not None:
                if message[0].get("kind") == "motion":
                    self.gate.on, self.gate.look_every_s, self.gate.watch_every_s = message[0]["gate"]
                else:
                    self.slots.free(message[0]["memory"], message[0]["slot"])
        except Closed:
            os._exit(0)  # the stream is gone, or wants no more of us; a decoder may hang, so no ceremony

    def run(self, source: Source) -> tuple[str, str]:
        """Gives the cause of the end and a sentence about it. Raises SourceError if it cannot be decoded as set."""
        options, paced = self.options, not self.live and self.options["pace"] == "source"
        interval = 1 / (source.fps or RATE_WITHOUT_FPS)
        self.clock.reopen(interval)
        usable = unread = bad_in_row = 0
        until = 0.0  # where the file was read to, in its own time
        decoder = ""  # as told to the stream
        while True:
            began = time.monotonic()
            self._tidy(began)
            if source.decoder() != decoder:
                decoder = source.decoder()
                self.send({"kind": "decoder", "decoder": decoder}, began)
            if self.gate.quiet(self.moment):
                source.rest(self._stirs)
            else:
                source.wake()
            grabbed = source.grab()
            if self.live and time.monotonic() - began >= options["read_timeout_s"]:
                return "stall", f"no frame for {options['read_timeout_s']:g} s"
            if not grabbed:
                missing = source.announced_s - until > max(3 * interval, 0.05 * source.announced_s)
                unread += 1
                if unread < options["bad_frames"] and (self.live or missing):
                    continue
                if self.live:
                    return self.listener.cause or "end", f"the stream broke off ({unread} reads in a row gave nothing)"
                if not usable:
                    return "codec", "it holds no frame that can be read"
                early = f"it ended after {until:.1f} s, before the announced {source.announced_s:.1f} s: "
                return "end", source.gap or (early + "the file breaks off or is damaged" if missing else "")
            if source.behind:  # it was counted, as still, when it was left out
                moment = self.clock.moment or 0.0
                self.counts["still"] -= 1
            else:
                moment = self.clock.advance(source.stream_s())
                until = (source.stream_s() or until) + interval
                self.counts["captured"] += 1
                if paced:
                    self._wait_until(moment)
            now, wall = time.monotonic(), time.time()
            if self.live or (paced and self.synthetic):
                moment = now
            moment, wall = moment - source.behind_s, wall - source.behind_s
            self.moment = moment
            # Reads that gave nothing were damaged frames if a good one follows; else they were the end.
            self.counts["captured"] += unread
            self.counts["bad"] += unread
            self.index += unread
            usable, unread = usable + 1, 0
            if source.skipped:
                self.counts["still"] += 1
                self._tell_now_and_then(now)
            elif options["max_fps"] and moment < self.next_kept:
                self.counts["rate"] += 1
                self._tell_now_and_then(now)
            else:
                if options["max_fps"]:
                    half = 0.5 / options["max_fps"]
                    self.next_kept = max(self.next_kept, moment - half) + 2 * half
                if self._offer(source, moment, now, wall):
                    bad_in_row = 0
                else:
                    usable -= 1
                    bad_in_row += 1
                    self.counts["bad"] += 1
                    if bad_in_row >= options["bad_frames"]:
                        return "codec", f"{bad_in_row} frames in a row could not be decoded"
            self.index += not source.behind

    def _stirs(self, image: np.ndarray) -> bool:
        return self.gate.stirs(prepare(image, self.options)[0])

    def _wait_until(self, moment: float) -> None:
        """Play a file at its own times. Waiting long for the next frame is our doing, so we show that we live."""
        if self.start is None:
            self.start = time.monotonic() - moment
        late = time.monotonic() - self.start - moment
        if late > 1.0:
            self.start += late  # we were held up: go on from here, without a burst
        longest = max(0.02, min(1.0, self.options["read_timeout_s"] / 4))
        while (wait := self.start + moment - time.monotonic()) > 0:
            time.sleep(min(wait, longest))
            if wait > longest:
                self.send({"kind": "alive"}, time.monotonic())

    def _offer(self, source: Source, moment: float, now: float, wall: float) -> bool:
        """Tell the stream of the frame grabbed last, unless it is left out; False if it cannot be decoded. The picture
        lives no longer than this call: two of 1080p would be 12 MB."""
        image = source.retrieve()
        if image is None:
            return False
        image, offset, scale, picture = prepare(image, self.options)
        if not self.gate.opens(image, moment):
            self.counts["still"] += 1
            self._tell_now_and_then(now)
            return True
        if self.slots.make_room(image.size):
            memory = {"kind": "memory", "memory": self.slots.generation, "slot_bytes": self.slots.slot_bytes}
            self.channel.send({**memory, "descriptors": 1}, descriptors=[self.slots.descriptor])
        # Every frame of a lossless camera counts; a late one is worth a while.
        slot = self.slots.take(self.lossless or source.behind > 0, None if self.lossless else LATE_WAITS_S)
        if slot is None:
            self.counts["no_slot"] += 1
            self._tell_now_and_then(now)
            return True
        self.slots.write(slot, image)
        header = {
            "kind": "frame", "memory": self.slots.generation, "slot": slot, "shape": image.shape,
            "late": source.behind > 0, "index": self.index - source.behind,
            "wall": wall, "monotonic": now, "moment": moment,
            "stream_s": source.stream_s(), "offset": offset, "scale": scale, "picture": picture, "look": self.gate.look,
            "clocks": source.clocks() if self.options["clocks"] else None,
        }  # fmt: skip
        self.send(header, now)
        return True

    def _tidy(self, now: float) -> None:
        """Give back what is not needed: at first everything is used once, and pictures leave holes behind them."""
        if now - self.tidied >= TIDY_S:
            self.tidied = now
            self.slots.give_back(now)
            trim_heap()

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


def main() -> None:
    run_reader("the capture process", lambda channel, options: watch(Capture(channel, options, Listener())))


def watch(capture: Capture) -> None:
    """Open and read the source until it has ended, a looping file again and again."""
    options, listener, send = capture.options, capture.listener, capture.send
    noted = False
    while True:
        send({"kind": "opening"}, time.monotonic())
        try:
            source = open_source(options, lambda: send({"kind": "alive"}, time.monotonic()))
            send({"kind": "opened", "fps": source.fps, "device": source.tries_device}, time.monotonic())
            source.begin()
            listener.cause = ""
            cause, reason = capture.run(source)
        except SourceError as error:
            time.sleep(0.05)  # FFmpeg's last words may still be on their way through the pipe
            live = kind_of(options["url"]) == "network"
            cause = error.cause or listener.cause or ("timeout" if live else "codec")
            send({"kind": "closed", "cause": cause, "reason": str(error)}, time.monotonic())
            return
        source.close()
        if cause != "end" or capture.live or options["end"] == "stop":
            send({"kind": "closed", "cause": cause, "reason": reason}, time.monotonic())
            return
        if reason and not noted:
            noted = True
            send({"kind": "note", "reason": reason}, time.monotonic())


if __name__ == "__main__":
    main()
