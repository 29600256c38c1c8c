"""A source that can rest: while nothing moves, only keyframes are decoded, and nothing is lost by it (PyAV).

To decode costs a 1080p camera ten times what it costs to look for motion. H.264 and H.265 can be entered at a keyframe,
one every second or two, and a packet that is not decoded costs next to nothing. So a resting source decodes keyframes,
and keeps the packets since the latest one. If a keyframe shows that something stirs, or the stream wants every frame
again, it catches up: what was kept is decoded as well, and delivered late.

OpenCV, by which all other sources are read, decodes whatever it grabs.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from personsearch.core.redaction import redact
from personsearch.core.video_files import LocalFile, SourceError
from personsearch.runtime.cameras.decoders import Decoder, why_software
from personsearch.runtime.cameras.stream_times import StreamTimes
from personsearch.runtime.cameras.urls import without_secrets

LOOK_S = 0.4  # from one keyframe that is looked at to the next: of motion JPEG every frame is one
MOST_KEPT_S, MOST_KEPT = 10.0, 32 << 20  # seconds and bytes of packets; where keyframes are rarer, resting does not pay
TIRED_S = 600.0  # so long it is not tried again
TURNS = {  # by the angle, counter-clockwise
    90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE,
    -90: cv2.ROTATE_90_CLOCKWISE, -180: cv2.ROTATE_180, -270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}  # fmt: skip
Stirs = Callable[[np.ndarray], bool]


class PacketSource:
    """A `Source` (sources.py). `skipped`: the frame grabbed last was not decoded. `behind`, `behind_s`: it is one of
    those that were left out first, so many frames and seconds before the newest."""

    def __init__(self, target: str, options: dict[str, Any], file: LocalFile | None) -> None:
        import av

        self._container, self._stream = open_video(target, options, file)
        self._errors = (av.FFmpegError, OSError)
        self._decoder, self._wanted = Decoder(self._stream), options.get("decoding", "auto")
        self.tries_device = not why_software(self._wanted)
        rate = float(self._stream.average_rate or 0)
        self.fps = rate if math.isfinite(rate) and 0 < rate <= 240 else 0.0
        duration = self._container.duration
        self.announced_s = duration / av.time_base if duration and file is not None else 0.0
        self.gap = ""
        self.skipped, self.behind, self.behind_s = False, 0, 0.0
        self._packets: Iterator[Any] | None = self._container.demux(self._stream)
        self._frames: deque[Any] = deque()
        self._frame: Any = None
        self._first: float | None = None  # container's time of the first frame
        self._seconds: float | None = None  # of what was grabbed last
        self._stirs: Stirs | None = None
        self._kept: list[Any] = []  # packets since the latest keyframe that was looked at, itself the first
        self._kept_bytes = 0
        self._looked = self._rests_from = -math.inf
        self._backlog: deque[Any] = deque()
        self._late: set[int] = set()  # presentation times of what is delivered late, in the stream's units
        self._newest_s = 0.0  # time of the latest packet that was left out
        self._known: int | None = None  # presentation time of a keyframe that was delivered already
        self._times = None if file is not None else StreamTimes()

    def decoder(self) -> str:
        return str(self._decoder)

    def begin(self) -> None:
        self._decoder.choose(self._wanted)

    # --- resting ------------------------------------------------------------------------------------------------------

    def rest(self, stirs: Stirs) -> None:
        """From the next keyframe on, decode keyframes only.

        stirs  whether a picture (uint8 (h, w, 3) BGR) shows that something has changed since the one before
        """
        if self._stirs is None and self._decoder.may_begin_again and (self._seconds or 0.0) >= self._rests_from:
            self._stirs = stirs

    def wake(self) -> None:
        """Deliver what was left out since the latest keyframe, and from then on everything."""
        self._stirs = None
        if not self._kept:
            return
        key, *rest = self._kept
        self._kept, self._kept_bytes = [], 0
        self._known, self._late = key.pts, {packet.pts for packet in rest}
        self._backlog.extend([key, *rest])

    def _begin(self, key: Any) -> None:
        """This keyframe is delivered as ever; after it the decoder is empty, to be begun again with it."""
        self._frames.extend([*self._decoder.decode(key), *self._decoder.drain()])
        self._look_from(key)

    def _look_from(self, key: Any) -> None:
        self._kept, self._kept_bytes, self._looked = [key], key.size, self._time_of(key)

    def _rest_on(self, packet: Any) -> None:
        """One more packet of a scene in which nothing moves."""
        key, looks = self._kept[0], self._stirs
        if None in (packet.pts, packet.dts):  # not to be put in order: resting was a mistake
            self._rests_from = math.inf
            self.wake()
            self._backlog.append(packet)
            return
        # Packets come in the order of decoding: theirs is the time that grows evenly.
        seconds = self._time_of(key) + float((packet.dts - key.dts) * packet.time_base)
        if packet.is_keyframe and seconds - self._looked >= LOOK_S and looks is not None:
            frames = [*self._decoder.decode(packet), *self._decoder.drain()]
            if frames and not looks(upright(frames[-1], "bgr24")):
                self._frames.extend(frames[-1:])
                self._look_from(packet)
                return
            self.wake()
            self._backlog.append(packet)
            return
        self._kept.append(packet)
        self._kept_bytes += packet.size
        self.skipped, self._seconds, self._newest_s = True, seconds, seconds
        if seconds - self._looked > MOST_KEPT_S or self._kept_bytes > MOST_KEPT:
            self._rests_from = seconds + TIRED_S
            self.wake()

    # --- frames -------------------------------------------------------------------------------------------------------

    def grab(self) -> bool:
        self.skipped, self.behind, self.behind_s, self._frame = False, 0, 0.0, None
        while not self._frames:
            packet = self._next()
            if packet is None:
                return False
            if self._kept:
                if not packet.size:
                    continue  # the end of a file in which nothing moved any more
                self._rest_on(packet)
                if self.skipped:
                    return True
            elif self._stirs is not None and not self._backlog and _begins(packet):
                self._begin(packet)
            else:
                self._frames.extend(f for f in self._decoder.decode(packet) if f.pts is None or f.pts != self._known)
        self._frame = self._frames.popleft()
        self._seconds = self._time_of(self._frame)
        if self._frame.pts in self._late:
            self.behind, self.behind_s = len(self._late), self._newest_s - self._seconds
            self._late.discard(self._frame.pts)
        return True

    def _next(self) -> Any:
        """A packet, first of those that were kept; at the end an empty one, and then None."""
        if self._backlog:
            return self._backlog.popleft()
        if self._packets is None:
            return None
        try:
            packet = next(self._packets)  # PyAV's last packet is empty: it makes the decoder give what it still has
            if self._times is not None:
                self._times.see(packet, time.monotonic())
            return packet
        except StopIteration:
            self._packets = None
        except self._errors:  # the stream broke off
            self._packets = None
        return None

    def _time_of(self, part: Any) -> float:
        """Seconds of a frame or packet since the first one."""
        if part.pts is None:
            return self._seconds or 0.0
        seconds = float(part.pts * (part.time_base or self._stream.time_base))
        if self._first is None:
            self._first = seconds
        return seconds - self._first

    def retrieve(self) -> np.ndarray | None:
        return None if self.skipped or self._frame is None else upright(self._frame, "bgr24")

    def stream_s(self) -> float | None:
        return None if self._seconds is None else round(self._seconds, 3)

    def clocks(self) -> dict[str, float]:
        """When what was grabbed last was taken, by every clock that is known: see stream_times.py. `file` is seconds
        since the file's first frame."""
        if self._seconds is None or self._first is None:
            return {}
        if self._times is None:
            return {"file": self._seconds}
        return {name: self._first + self._seconds + offset for name, offset in self._times.offsets().items()}

    def close(self) -> None:
        self._container.close()


def open_video(target: str, options: dict[str, Any], file: LocalFile | None) -> tuple[Any, Any]:
    """PyAV's container and its video stream. Raises SourceError, without secrets.

    options  the camera's: url (as `target` was made of), transport, open_timeout_s, read_timeout_s
    file     if it is one; None for a network stream"""
    import av

    av.logging.restore_default_callback()  # FFmpeg's words go to stderr, where the capture process reads causes
    given = {}
    if target.lower().startswith("rtsp") and options["transport"] != "auto":
        given["rtsp_transport"] = options["transport"]
    limits = (options["open_timeout_s"] * 2, options["read_timeout_s"] * 2) if file is None else None
    try:
        container = av.open(target, options=given, timeout=limits)
        return container, container.streams.video[0]
    except (av.FFmpegError, IndexError, OSError, ValueError):
        raise SourceError(
            "", f"{redact(without_secrets(options['url']))}: cannot be opened as a video; is it there, and readable?"
        ) from None


def _begins(packet: Any) -> bool:
    """Can a decoder begin with this packet, and is it known when?"""
    return packet.is_keyframe and None not in (packet.pts, packet.dts)


def upright(frame: Any, form: str, turned: int = 0) -> np.ndarray:
    """A frame of PyAV as uint8 (h, w, 3) if `form` is bgr24, (h, w) if it is gray; upright as the file says, then
    turned clockwise by so many degrees."""
    image: np.ndarray = frame.to_ndarray(format=form)
    for angle in (int(getattr(frame, "rotation", 0) or 0), -turned):
        turn = TURNS.get(angle)
        image = image if turn is None else cv2.rotate(image, turn)
    return image
