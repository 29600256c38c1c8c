"""The places of a camera's frames in memory that is shared with the stream and the inference process.

Each place of a 1080p camera is 6 MB, so only those that are needed take any: what was freed last is used first, and
what was not needed for a while is given back to the machine.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time

import numpy as np

SLOTS = 4  # one being written, one waiting, one or two under analysis
UNUSED_S = 10.0  # after which a slot's memory is given back


class Slots:
    """Taken and written by one thread, freed by another. `generation` is the number of the memory that they lie in:
    larger frames get a new one."""

    def __init__(self) -> None:
        self.generation, self.slot_bytes, self.descriptor = 0, 0, -1
        self._map: mmap.mmap | None = None
        self._free: list[int] = []  # the one freed last is the last
        self._written = [0.0] * SLOTS  # when, on the monotonic clock; 0: takes no memory
        self._changed = threading.Condition()

    def make_room(self, size: int) -> bool:
        """See to it that frames of so many bytes fit. Whether this took a new memory, which the stream has to be told
        of. It has no name, so nothing is left behind when everybody is killed."""
        if size <= self.slot_bytes:
            return False
        slot_bytes = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        descriptor = os.memfd_create("personsearch-frames")
        os.ftruncate(descriptor, slot_bytes * SLOTS)
        with self._changed:
            if self.descriptor >= 0:
                os.close(self.descriptor)
            self._map = mmap.mmap(descriptor, slot_bytes * SLOTS)
            self.descriptor, self.slot_bytes, self.generation = descriptor, slot_bytes, self.generation + 1
            self._free, self._written = list(range(SLOTS)), [0.0] * SLOTS
        return True

    def take(self, wait: bool, seconds: float | None = None) -> int | None:
        """A slot that nobody reads, or None.

        wait     for one to be freed, if need be
        seconds  at most so long; None: for ever
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: bool(self._free), seconds)
            return self._free.pop() if self._free else None

    def free(self, generation: int, slot: int) -> None:
        """Nobody reads it any more; of an older memory this means nothing."""
        with self._changed:
            if generation == self.generation:
                self._free.append(slot)
                self._changed.notify()

    def write(self, slot: int, image: np.ndarray) -> None:
        """image  uint8 (h, w, 3) BGR, into a slot that was taken"""
        assert self._map is not None
        view = np.frombuffer(self._map, np.uint8, image.size, slot * self.slot_bytes)
        np.copyto(view.reshape(image.shape), image)
        self._written[slot] = time.monotonic()

    def give_back(self, now: float) -> None:
        """The memory of free slots that were not written to for a while; it comes back when they are."""
        with self._changed:
            for slot in self._free:
                if self._map is not None and 0 < self._written[slot] <= now - UNUSED_S:
                    self._written[slot] = 0.0
                    with contextlib.suppress(OSError):  # a kernel that cannot: then it keeps its memory
                        self._map.madvise(mmap.MADV_REMOVE, slot * self.slot_bytes, self.slot_bytes)
