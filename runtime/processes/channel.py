"""Messages between the stream and its helper processes: a JSON header, raw bytes, and file descriptors, over a
Unix socket. No pickle, no pixels: those lie in shared memory whose descriptor is sent once."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PR_SET_PDEATHSIG = 1  # of Linux
_SIZES = struct.Struct("<II")  # bytes of the header and of the payload
Message = tuple[dict[str, Any], bytes, list[int]]


class Closed(Exception):
    """The other side is gone."""


class CannotStart(Exception):
    """A helper process cannot be started now: descriptors, memory or processes are used up. Says what."""


class Channel:
    """One end of a connected stream socket. `receive` may be used by one thread, `send` by one other."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._closed = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, header: dict[str, Any], payload: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Raises Closed if the other side is gone, or does not read for 5 s."""
        text = json.dumps(header).encode()
        data = _SIZES.pack(len(text), len(payload)) + text + payload
        self._socket.settimeout(5)
        try:
            sent = socket.send_fds(self._socket, [data], list(descriptors)) if descriptors else 0
            self._socket.sendall(data[sent:])
        except OSError as error:
            raise Closed(str(error)) from None

    def receive(self, wait: bool = True, timeout_s: float | None = None) -> Message | None:
        """The next message; None if `wait` is false and no whole message is there, or none came in time. Raises Closed
        at the end."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while (message := self._whole()) is None:
            left = None if end is None else max(0.0, end - time.monotonic())
            self._socket.settimeout(left if wait else 0)
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 16, 4)
            except (BlockingIOError, TimeoutError):
                return None
            except OSError as error:
                raise Closed(str(error)) from None
            self._descriptors += descriptors
            if not data:
                raise Closed("end")
            self._buffer += data
        return message

    def arrived(self) -> Iterator[Message]:
        """Every whole message that is there, without waiting, until `close`. Raises Closed at the end."""
        while not self._closed and (message := self.receive(wait=False)) is not None:
            yield message

    def _whole(self) -> Message | None:
        if len(self._buffer) < _SIZES.size:
            return None
        head, body = _SIZES.unpack_from(self._buffer)
        if len(self._buffer) < _SIZES.size + head + body:
            return None
        begin = _SIZES.size
        header = json.loads(self._buffer[begin : begin + head])
        payload = bytes(self._buffer[begin + head : begin + head + body])
        del self._buffer[: begin + head + body]
        descriptors = self._descriptors[: header.get("descriptors", 0)]
        del self._descriptors[: len(descriptors)]
        return header, payload, descriptors

    def close(self) -> None:
        self._closed = True
        self._socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)


def start_process(
    module: str, threads: int = 0, more: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], Channel]:
    """Run `python -m module FD` with the other end of a channel. The child dies with us: its socket closes.

    threads  processor threads for numerical libraries in the child; 0 leaves the choice to them
    more     variables of its environment besides ours
    Raises CannotStart; nothing is left open then.
    """
    environment = dict(os.environ) | dict(more or {})
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise CannotStart(error.strerror) from None
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment,
            start_new_session=True,  # Ctrl-C goes to the stream alone, which ends its helpers in order
        )  # fmt: skip
    except (OSError, MemoryError) as error:
        ours.close()
        raise CannotStart(getattr(error, "strerror", None) or "no memory") from None
    finally:
        theirs.close()
    return process, Channel(ours)


def channel_of_child() -> Channel:
    """In the child: the channel that `start_process` made. The kernel ends the child when the thread that started it is
    gone: while it loads a model it would not notice that the socket has closed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return Channel(socket.socket(fileno=int(sys.argv[1])))
