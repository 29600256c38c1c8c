"""The life of a process that reads a source for the stream: it takes its options, works, and tells what went wrong."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from typing import Any, NoReturn

import cv2

from personsearch.runtime.processes.channel import Channel, Closed, channel_of_child


def run_reader(name: str, work: Callable[[Channel, dict[str, Any]], None]) -> NoReturn:
    """Ends the process, in whatever way `work` ends; what it raises is the reason of a `closed` message.

    name  what that message calls the process
    """
    cv2.setNumThreads(1)
    channel = channel_of_child()
    try:
        first = channel.receive()
        assert first is not None
        work(channel, first[0])
    except Closed:
        pass
    except Exception as error:  # no memory, no descriptors, no thread, or a bug: the stream tells it
        with contextlib.suppress(Closed):
            reason = f"{type(error).__name__}: {str(error)[:200]}"
            channel.send({"kind": "closed", "cause": "crashed", "reason": f"{name} failed ({reason})"})
    finally:
        os._exit(0)


def trim_heap() -> None:
    """Give empty pages of the heap back to the machine, also those between others. What is used again comes back at the
    price of a page fault, so this is for now and then. Where the C library is not glibc, nothing happens."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
