"""Segments of a video and the pictures in them. A segment begins at a key frame and ends where the next one begins.

Where exactly is seen by whoever reads it, with one rule: the first key frame at or after the planned time. So segments
are planned from the file's duration alone, and no two workers disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from personsearch.archive.videos import Damaged, Video, opened
from personsearch.runtime.cameras.sources import RATE_WITHOUT_FPS
from personsearch.runtime.history.video_pictures import go_to, picture_of, time_of

BAD_IN_ROW = 30  # packets without a picture after which the rest of a segment is given up, as in a stream
JUMP_S = 1.0  # backwards in a file's own times: it was put together of several


@dataclass(frozen=True)
class Segment:
    """Seconds of the file's own time; the first segment begins at -inf, the last ends at inf."""

    video: Video
    number: int
    begin_s: float
    end_s: float

    @property
    def name(self) -> str:
        return f"{self.video.key}/{self.number:05d}"

    @property
    def seconds(self) -> float:
        """As planned; of a video of unknown length 0."""
        end = self.video.duration_s if math.isinf(self.end_s) else self.end_s
        return max(0.0, end - max(0.0, self.begin_s))


def segments_of(video: Video, length_s: float) -> list[Segment]:
    """About so long each; one, where the video does not say how long it is."""
    count = max(1, round(video.duration_s / length_s))
    edges = [-math.inf, *(number * length_s for number in range(1, count)), math.inf]
    return [Segment(video, number, edges[number], edges[number + 1]) for number in range(count)]


class Pictures:
    """The pictures of one segment, for one pass: `for moment, image in Pictures(...)`, image uint8 (h, w, 3) BGR.

    begin, end  of the segment as its key frames have it, once the pass is over; nan for a segment without a picture
    until       moment of the last picture that was decoded
    decoded, bad  pictures, and packets that gave none
    note        what was wrong, or ""
    """

    def __init__(self, segment: Segment, fps: float, overlap_s: float) -> None:
        """fps        at most so many pictures a second, chosen as a stream's `max_fps` chooses them; 0: all
        overlap_s  so much of the next segment is read as well"""
        self.segment, self.fps, self.overlap_s = segment, fps, overlap_s
        self.begin = self.end = self.until = math.nan
        self.decoded = self.bad = 0
        self.note = ""
        self._before: float | None = None
        self._interval = 1 / (segment.video.fps or RATE_WITHOUT_FPS)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Raises Damaged if there is nothing to read, OSError if the file cannot be reached."""
        with opened(self.segment.video.source) as container:
            for moment, frame in self._frames(container):
                if not self.fps or self._before is None or self._turn(moment) > self._turn(self._before):
                    yield moment, picture_of(frame)
                self._before = moment
        announced = self.segment.video.duration_s
        if math.isinf(self.segment.end_s) and announced and not self.note:
            reached = (0.0 if math.isnan(self.until) else self.until) + self._interval
            if announced - reached > max(3 * self._interval, 0.05 * announced):
                self.note = f"ends after {reached:.1f} s, before the announced {announced:.1f} s"
        if not self.decoded and math.isnan(self.end):
            raise Damaged(self.note or f"nothing can be read from {max(0.0, self.segment.begin_s):.0f} s on")

    def _turn(self, moment: float) -> int:
        """The grid of a stream's `max_fps`, whichever segment asks: the first picture in each place is taken."""
        return math.floor(moment * self.fps - 0.5)

    def _frames(self, container: Any) -> Iterator[tuple[float, Any]]:
        """Decoded pictures from the first key frame on until the overlap's end."""
        import av

        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # workers share the machine
        start = self._seek(container, stream)
        if start is None:
            return
        begin, in_row, latest = start, 0, -math.inf
        self._before = None if math.isinf(begin) else begin - self._interval
        packets = iter(container.demux(stream))
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self.note = f"cannot be read on after {self._reached:.1f} s ({error.strerror})"
                return
            at = time_of(packet, stream)
            if packet.is_keyframe and at is not None and at >= self.segment.end_s and math.isnan(self.end):
                self.end = at
            try:
                frames = packet.decode()
                in_row = 0 if frames else in_row
            except av.FFmpegError as error:
                self.bad, in_row, frames = self.bad + 1, in_row + 1, []
                if in_row >= BAD_IN_ROW:
                    self.note = f"cannot be decoded on after {self._reached:.1f} s ({error.strerror})"
                    return
            for frame in frames:
                moment = time_of(frame, stream)
                if moment is None:
                    moment = max(0.0, latest) + self._interval if self.decoded else max(0.0, begin)
                if moment < latest - JUMP_S:
                    self.note = f"its times jump back at {latest:.1f} s; write it anew, for example with ffmpeg -c copy"
                    return
                latest = max(latest, moment)
                if moment >= self.end + self.overlap_s:
                    return
                if moment < begin:  # pictures in front of the key frame belong to the segment before
                    continue
                self.decoded += 1
                self.begin = moment if math.isnan(self.begin) else self.begin
                self.until = moment
                yield moment, frame

    @property
    def _reached(self) -> float:
        return 0.0 if math.isnan(self.until) else self.until

    def _seek(self, container: Any, stream: Any) -> float | None:
        """Stand in front of the segment's first key frame; gives its time, None if the segment has none."""
        wanted = self.segment.begin_s
        if math.isinf(wanted):
            return -math.inf
        key = first_key(container, stream, wanted)
        if key is None:
            return None
        if key >= self.segment.end_s:  # a group of pictures that is longer than a segment
            self.begin = self.end = key
            return None
        stand_before(container, stream, key)
        return key


class KeyPictures:
    """The key frames of a segment alone: a hundredth of the work."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        import av

        segment = self.segment
        with opened(segment.video.source) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count, stream.codec_context.skip_frame = 1, "NONKEY"
            begin = -math.inf
            if not math.isinf(segment.begin_s):
                key = first_key(container, stream, segment.begin_s)
                if key is None:
                    return
                begin = key
                stand_before(container, stream, key)
            try:
                for packet in container.demux(stream):
                    at = time_of(packet, stream)
                    over = packet.is_keyframe and at is not None and at >= segment.end_s
                    if not packet.is_keyframe and packet.size:
                        continue
                    for frame in stream.codec_context.decode(None if over else packet):
                        moment = time_of(frame, stream)
                        if moment is not None and moment >= begin:
                            yield moment, picture_of(frame)
                    if over:
                        return
            except av.FFmpegError:
                return  # the pass over all pictures will say what is wrong


def first_key(container: Any, stream: Any, wanted: float) -> float | None:
    """Time of the first key frame at or after `wanted` seconds; None if there is none."""
    import av

    stand_before(container, stream, wanted)
    try:
        for packet in container.demux(stream):
            at = time_of(packet, stream)
            if packet.is_keyframe and at is not None and at >= wanted:
                return at
    except av.FFmpegError:
        pass
    return None


def stand_before(container: Any, stream: Any, seconds: float) -> None:
    """So that what is read begins at a key frame at or before that time. Some containers go too far, so it is tried."""
    import av

    for back in (0.0, 2.0, 10.0, 60.0):
        place = max(0.0, seconds - back)
        go_to(container, stream, place)
        try:
            at = next((t for t in (time_of(p, stream) for p in container.demux(stream)) if t is not None), None)
        except av.FFmpegError:
            at = None
        if at is not None and at <= seconds:
            go_to(container, stream, place)
            return
    go_to(container, stream, 0.0)
