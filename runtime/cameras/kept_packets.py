"""A stream of which nothing is decoded until a picture is wanted: the packets since a keyframe are kept (PyAV).

A picture is decoded from the keyframe before it. Who asks for later and later pictures has no frame decoded twice.
All times here are the stream's own presentation times in seconds.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from personsearch.core.video_files import LocalFile
from personsearch.runtime.cameras.decoders import Decoder
from personsearch.runtime.cameras.packets import open_video
from personsearch.runtime.cameras.stream_times import StreamTimes

KEPT_S = 2.0  # of a network stream: analysis is never further behind
MOST_KEPT_S, MOST_KEPT = 12.0, 48 << 20  # seconds of a network stream's packets, and bytes of any
ROUNDING_S = 1e-4  # times of two containers
MOST_DECODED = 96 << 20  # bytes of decoded frames that are at hand for the next question: 30 at 1920x1080
AHEAD_S = 30.0  # of a file: nearer pictures are read on to, further ones are sought


@dataclass(frozen=True)
class Kept:
    number: int  # in the order of decoding
    seconds: float
    packet: Any


class KeptPackets:
    """Packets from a keyframe on, the oldest first. Written by one thread, read by another."""

    def __init__(self, longest_s: float) -> None:
        """longest_s  from the oldest keyframe on; where keyframes are rarer, packets are not kept until the next"""
        self._groups: deque[list[Kept]] = deque()  # each begins with a keyframe
        self._longest_s, self._bytes, self._next = longest_s, 0, 0
        self.changed = threading.Condition()

    def add(self, packet: Any, before: float) -> None:
        """Keep it, once there is a keyframe to begin with; forget what no picture from `before` on needs."""
        if packet.pts is None:
            return
        with self.changed:
            kept = Kept(self._next, float(packet.pts * packet.time_base), packet)
            if packet.is_keyframe:
                self._groups.append([kept])
            elif self._groups:
                self._groups[-1].append(kept)
            else:
                return
            self._next, self._bytes = self._next + 1, self._bytes + packet.size
            while len(self._groups) > 1 and self._groups[1][0].seconds <= before:
                self._drop()
            while self._groups and (
                self._bytes > MOST_KEPT or kept.seconds - self._groups[0][0].seconds > self._longest_s
            ):
                self._drop()
            self.changed.notify_all()

    def _drop(self) -> None:
        self._bytes -= sum(kept.packet.size for kept in self._groups.popleft())

    def clear(self) -> None:
        with self.changed:
            self._groups.clear()
            self._bytes = 0

    @property
    def newest(self) -> float:
        return self._groups[-1][-1].seconds if self._groups else -math.inf

    def key_before(self, seconds: float) -> Kept | None:
        """The latest keyframe at or before that time, else the oldest one."""
        with self.changed:
            keys = [group[0] for group in self._groups]
        return next((key for key in reversed(keys) if key.seconds <= seconds + ROUNDING_S), keys[0] if keys else None)

    def get(self, number: int) -> Kept | None:
        """The packet of that number, if it is kept."""
        with self.changed:
            for group in self._groups:
                if 0 <= number - group[0].number < len(group):
                    return group[number - group[0].number]
        return None


class MainStream:
    """Its pictures on demand. `size` is (width, height) as encoded, `times` of a network stream its clocks."""

    def __init__(self, target: str, options: dict[str, Any], file: LocalFile | None) -> None:
        """As of `open_video`. Raises SourceError."""
        import av

        self._container, self._stream = open_video(target, options, file)
        self._errors = (av.FFmpegError, OSError)
        self._decoder = Decoder(self._stream)
        self._kept = KeptPackets(MOST_KEPT_S if file is None else math.inf)
        self._at: int | None = None  # number of the packet to be decoded next; None: to begin with a keyframe
        self._packets: Iterator[Any] | None = self._container.demux(self._stream)
        self.size = (int(self._stream.codec_context.width), int(self._stream.codec_context.height))
        most = max(4, MOST_DECODED // max(1, self.size[0] * self.size[1] * 3 // 2))
        self._frames: deque[tuple[float, Any]] = deque(maxlen=most)  # decoded last
        self._farthest = 0.4 * most / max(1.0, float(self._stream.average_rate or 25))  # reach for which there is room
        self.times = StreamTimes() if file is None else None
        begin = self._stream.start_time
        self.begin = float(begin * self._stream.time_base) if begin is not None else 0.0

    # --- packets ------------------------------------------------------------------------------------------------------

    def follow(self, came: Callable[[], None]) -> None:
        """Keep what a network stream sends, until it breaks off; `came` is called for each packet. For a thread."""
        assert self.times is not None
        while (packet := self._read()) is not None:
            self.times.see(packet, time.monotonic())
            self._kept.add(packet, self._kept.newest - KEPT_S)
            came()

    def _read(self) -> Any:
        try:
            packet = next(self._packets) if self._packets is not None else None
        except (StopIteration, *self._errors):
            packet = None
        if packet is None or not packet.size:  # PyAV's last one is empty
            self._packets = None
            return None
        return packet

    def _seek(self, seconds: float) -> None:
        self._kept.clear()
        self._begin_anew()
        try:
            self._container.seek(round(seconds / self._stream.time_base), stream=self._stream, backward=True)
        except self._errors:
            self._container.seek(0)
        self._packets = self._container.demux(self._stream)

    # --- frames -------------------------------------------------------------------------------------------------------

    def near(self, seconds: float, reach: float, wait_s: float = 0.0) -> list[tuple[float, Any]]:
        """Frames with their times, at most `reach` seconds from the wanted one (less where that many have no room), and
        in any case the nearest.

        wait_s  for a network stream: so long it is waited for frames that are still to come"""
        reach = min(reach, self._farthest)
        low, high = seconds - reach, seconds + reach
        if self.times is None:
            self._go_to(low)
        else:
            with self._kept.changed:
                self._kept.changed.wait_for(lambda: self._kept.newest >= high, wait_s)
        self._decode(low, high)
        frames = sorted(self._frames, key=lambda item: item[0])
        inside = [item for item in frames if low <= item[0] <= high]
        return inside or sorted(frames, key=lambda item: abs(item[0] - seconds))[:1]

    def _go_to(self, seconds: float) -> None:
        """Of a file: read on, or seek, so that packets from a keyframe before that time on are kept."""
        first = self._kept.key_before(seconds)
        if first is None or not first.seconds - ROUNDING_S <= seconds <= self._kept.newest + AHEAD_S:
            self._seek(seconds)
        while self._kept.newest < seconds and (packet := self._read()) is not None:
            self._kept.add(packet, seconds)

    def _decode(self, low: float, high: float) -> None:
        """Decode until a frame at or after `high`."""
        if self._frames and self._frames[0][0] <= low and self._frames[-1][0] >= high:
            return
        self._begin_with(low)
        while self._at is not None and not (self._frames and self._frames[-1][0] >= high):
            kept = self._kept.get(self._at)
            if kept is not None:
                self._at += 1
                self._take(self._decoder.decode(kept.packet))
            elif self.times is None and (packet := self._read()) is not None:
                self._kept.add(packet, low)
            else:
                break
        if self.times is None and self._packets is None:  # the file's end
            self._take(self._decoder.drain())
            self._at = None

    def _begin_with(self, seconds: float) -> None:
        """Make ready for a frame at that time: with the keyframe before it, or further on if the decoder is there."""
        key = self._kept.key_before(seconds)
        if key is None:
            self._begin_anew()
            return
        passed = bool(self._frames) and self._frames[0][0] > seconds >= key.seconds
        if self._at is None or self._at <= key.number or passed:
            self._begin_anew()
            self._at = key.number

    def _begin_anew(self) -> None:
        if self._at is not None:
            self._decoder.drain()
        self._frames.clear()
        self._at = None

    def _take(self, frames: list[Any]) -> None:
        for frame in frames:
            if frame.pts is not None:
                self._frames.append((float(frame.pts * (frame.time_base or self._stream.time_base)), frame))

    def close(self) -> None:
        self._container.close()
