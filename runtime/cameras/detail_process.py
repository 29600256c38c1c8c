"""The reader of one camera's main stream, of which people are described: answers questions, decodes nothing else.

What can hang or crash does so here, and the stream (detail.py) kills and replaces it. Messages to the stream: opening,
opened, alive, view, closed. From it: the settings first, then `view` for each person. Ends when the stream closes the
channel.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any

import numpy as np

from personsearch.core.video_files import SourceError, find_file
from personsearch.runtime.cameras.detail_views import DetailViews, Question
from personsearch.runtime.cameras.kept_packets import MainStream
from personsearch.runtime.cameras.listener import Listener
from personsearch.runtime.cameras.urls import address_of, kind_of, without_secrets
from personsearch.runtime.processes.channel import Channel, Closed
from personsearch.runtime.processes.child import run_reader

ALIVE_EVERY_S = 0.25


class Reader:
    def __init__(self, channel: Channel, options: dict[str, Any]) -> None:
        """options  the camera's, `url` being the main stream's with its secrets"""
        self._channel, self._options, self._sending = channel, options, threading.Lock()
        self._listener, self._told = Listener(), 0.0

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        with self._sending:
            self._told = time.monotonic()
            self._channel.send(header, payload)

    def run(self) -> None:
        """Until the stream wants no more, or the camera gives no more."""
        self.send({"kind": "opening"})
        try:
            stream = open_main(self._options)
        except SourceError as error:
            time.sleep(0.05)  # FFmpeg's last words may still be on their way through the pipe
            live = kind_of(self._options["url"]) == "network"
            cause = error.cause or self._listener.cause or ("timeout" if live else "codec")
            self.send({"kind": "closed", "cause": cause, "reason": str(error)})
            return
        self.send({"kind": "opened", "size": stream.size})
        self._listener.cause = ""
        if stream.times is not None:
            threading.Thread(target=self._follow, args=(stream,), daemon=True).start()
        views = DetailViews(stream, self._options["detail_within_s"], self._options["rotate"])
        while (message := self._channel.receive()) is not None:
            self._answer(views, *message[:2])

    def _follow(self, stream: MainStream) -> None:
        with contextlib.suppress(Closed):
            stream.follow(self._came)
            time.sleep(0.05)
            self.send({"kind": "closed", "cause": self._listener.cause or "end", "reason": "the stream broke off"})
        os._exit(0)

    def _came(self) -> None:
        if time.monotonic() - self._told >= ALIVE_EVERY_S:
            self.send({"kind": "alive"})

    def _answer(self, views: DetailViews, header: dict[str, Any], payload: bytes) -> None:
        corners, box = (np.array(header[key], np.float64) for key in ("corners", "box"))
        question = Question(header["clocks"], corners, box, tuple(header["size"]))
        found = views.answer(question, np.frombuffer(payload, np.uint8).reshape(header["shape"]))
        answer = {"kind": "view", "number": header["number"], "cause": found.cause, "reason": found.reason}
        if found.view is None:
            self.send(answer)
            return
        picture = found.view.picture
        answer |= {"shape": picture.shape, "box": [float(v) for v in found.view.box]}
        self.send(answer, np.ascontiguousarray(picture).tobytes())


def open_main(options: dict[str, Any]) -> MainStream:
    """Raises SourceError, whose message holds no secrets."""
    url = options["url"]
    if kind_of(url) != "file":
        return MainStream(address_of(url), options, None)
    file = find_file(url)
    if file.fifo or "start_number" in file.options:
        what = "a FIFO" if file.fifo else "numbered pictures"
        raise SourceError("settings", f"{without_secrets(url)}: {what} cannot be a detail_url; a video file can")
    return MainStream(file.target, options, file)


def main() -> None:
    run_reader("the reader", lambda channel, options: Reader(channel, options).run())


if __name__ == "__main__":
    main()
