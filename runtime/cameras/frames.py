"""One picture of one camera on its way through the runtime, and the shared memory that it lies in."""

from __future__ import annotations

import itertools
import math
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

_numbers = itertools.count(1)


class SharedFrames:
    """A capture process's slots for frames, mapped for reading. `number` is unique in this process."""

    def __init__(self, descriptor: int, slot_bytes: int) -> None:
        self.number, self.descriptor, self.slot_bytes = next(_numbers), descriptor, slot_bytes
        self.size = os.fstat(descriptor).st_size
        self._map = mmap.mmap(descriptor, self.size, prot=mmap.PROT_READ)

    def image(self, slot: int, shape: tuple[int, int, int]) -> np.ndarray:
        position = slot * self.slot_bytes
        size = shape[0] * shape[1] * shape[2]
        if not 0 <= position <= position + size <= self.size:
            raise ValueError(f"a frame of {shape} does not fit slot {slot}")
        return np.frombuffer(self._map, np.uint8, size, position).reshape(shape)

    def __del__(self) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True)
class Shot:
    """Of an analysed image: when it was taken, and which part of the camera's picture it is. By this another stream of
    the camera is asked."""

    clocks: Mapping[str, float]  # seconds by each clock that the streams may share: see stream_times.py
    offset: tuple[float, float]  # as of the `Frame`
    scale: float
    picture_size: tuple[int, int]

    def shares(self, box: np.ndarray) -> np.ndarray:
        """(4,) xyxy in pixels of the image -> float64 shares of the upright picture."""
        return (box / self.scale + np.tile(self.offset, 2)) / np.tile(self.picture_size, 2)


@dataclass
class Frame:
    """`image` lies in memory shared with the capture process and may be overwritten after `release()`."""

    camera: str
    image: np.ndarray  # (h, w, 3) uint8 BGR, as analysed: rotated, cut to the region, reduced to the size limit
    index: int  # 0-based number of the frame within the stream, over reconnections
    wall: float  # seconds since the epoch when it was decoded; may jump when the clock is set
    monotonic: float  # the same instant on the clock that never jumps: for ages and durations
    stream_s: float | None = None  # seconds within the stream as its container tells, where known
    offset: tuple[float, float] = (0.0, 0.0)  # of the region's corner in the upright picture, pixels
    scale: float = 1.0  # upright picture -> image
    picture_size: tuple[int, int] = (0, 0)  # (width, height) of the upright picture
    memory: SharedFrames | None = None  # what the image lies in, and where: for the inference process
    position: int = 0
    release: Callable[[], None] = field(default=lambda: None, repr=False)
    moment: float = math.nan  # seconds on the stream's own clock, strictly growing, for tracks and all that is decided:
    # for files the presentation time, going on over loops and reopenings; for live sources `monotonic`, the default

    clocks: Mapping[str, float] | None = None  # of cameras whose people are described from another stream
    late: bool = False  # it was left out first, see cameras/packets.py: it is older than `monotonic` says, and counts
    look: bool = False  # at a still scene, see cameras/motion.py: frames in which something moves do not wait for it
    # Its way, on the clock of `monotonic`: given to the engine, people found, decided who they are, events handed over.
    submitted: float = math.nan
    analysed: float = math.nan
    decided: float = math.nan
    told: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.moment):
            self.moment = self.monotonic

    @property
    def shot(self) -> Shot | None:
        return None if self.clocks is None else Shot(self.clocks, self.offset, self.scale, self.picture_size)

    def to_picture(self, box: np.ndarray) -> np.ndarray:
        """(..., 4) xyxy in pixels of `image` -> pixels of the upright picture."""
        return box / self.scale + np.tile(np.asarray(self.offset, np.float64), 2)
