"""Places of frames in shared memory: few are needed, and what is not needed takes no memory."""

import os
import threading
import time

import numpy as np
import pytest

from personsearch.runtime.cameras.slots import SLOTS, UNUSED_S, Slots

IMAGE = np.full((64, 64, 3), 7, np.uint8)


@pytest.fixture
def slots() -> Slots:
    made = Slots()
    assert made.make_room(IMAGE.size)
    return made


def taken_bytes(slots: Slots) -> int:
    return os.fstat(slots.descriptor).st_blocks * 512


def write(slots: Slots) -> int:
    slot = slots.take(wait=False)
    assert slot is not None
    slots.write(slot, IMAGE)
    return slot


def test_the_slot_that_was_freed_last_is_used_first(slots: Slots) -> None:
    first, second = write(slots), write(slots)
    slots.free(slots.generation, first)
    slots.free(slots.generation, second)
    assert write(slots) == second
    assert taken_bytes(slots) == 2 * slots.slot_bytes


def test_what_was_not_needed_for_a_while_is_given_back_and_what_is_read_is_not(slots: Slots) -> None:
    read, free = write(slots), write(slots)
    slots.free(slots.generation, free)
    slots.give_back(time.monotonic())
    assert taken_bytes(slots) == 2 * slots.slot_bytes
    slots.give_back(time.monotonic() + UNUSED_S)
    assert taken_bytes(slots) == slots.slot_bytes
    assert os.pread(slots.descriptor, 3, read * slots.slot_bytes) == b"\7\7\7"
    assert write(slots) == free
    assert os.pread(slots.descriptor, 3, free * slots.slot_bytes) == b"\7\7\7"


def test_larger_frames_get_a_new_memory_and_slots_of_the_old_one_mean_nothing(slots: Slots) -> None:
    old, slot, descriptors = slots.generation, write(slots), len(os.listdir("/proc/self/fd"))
    assert not slots.make_room(IMAGE.size)
    assert slots.make_room(100 * IMAGE.size)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    slots.free(old, slot)
    assert [slots.take(wait=False) for _ in range(SLOTS + 1)].count(None) == 1


def test_a_slot_is_waited_for_only_where_that_is_wanted(slots: Slots) -> None:
    taken = [write(slots) for _ in range(SLOTS)]
    assert slots.take(wait=False) is None
    assert slots.take(wait=True, seconds=0.01) is None
    threading.Timer(0.05, slots.free, (slots.generation, taken[2])).start()
    assert slots.take(wait=True) == taken[2]
