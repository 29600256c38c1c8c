"""Messages between the stream and its helper processes: a JSON header, raw bytes, and file descriptors, over a
Unix socket. No pickle, no pixels: those lie in shared memory whose descriptor is sent once."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_SIZES = struct.Struct("<II")  # bytes of the header and of the payload
Message = tuple[dict[str, Any], bytes, list[int]]


class Closed(Exception):
    """The other side is gone."""


class Channel:
    """One end of a connected stream socket. `receive` may be used by one thread, `send` by one other."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._descriptors: list[int] = []

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

    def receive(self, wait: bool = True) -> Message | None:
        """The next message; None if `wait` is false and no whole message is there. Raises Closed at the end."""
        while (message := self._whole()) is None:
            self._socket.settimeout(None if wait else 0)
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 16, 4)
            except BlockingIOError:
                return None
            except OSError as error:
                raise Closed(str(error)) from None
            self._descriptors += descriptors
            if not data:
                raise Closed("end")
            self._buffer += data
        return message

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
        self._socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)


def start_process(module: str, threads: int = 0) -> tuple[subprocess.Popen[bytes], Channel]:
    """Run `python -m module FD` with the other end of a channel. The child dies with us: its socket closes.

    threads  processor threads for numerical libraries in the child; 0 leaves the choice to them
    """
    ours, theirs = socket.socketpair()
    environment = dict(os.environ)
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(theirs.fileno())],
        pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment,
        start_new_session=True,  # Ctrl-C goes to the stream alone, which ends its helpers in order
    )  # fmt: skip
    theirs.close()
    return process, Channel(ours)


def channel_of_child() -> Channel:
    """In the child: the channel that `start_process` made."""
    return Channel(socket.socket(fileno=int(sys.argv[1])))
