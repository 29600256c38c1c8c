"""Ask a running stream on this machine for the views of a track: what `enroll.py --track` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zmq

from personsearch.core.errors import UserError
from personsearch.core.json_text import parse_json
from personsearch.runtime.delivery.endpoints import connect, needs_ipv6
from personsearch.runtime.delivery.events import encode_text
from personsearch.runtime.keys import load_key

ANSWER_S = 5.0


def ask_views(
    endpoint: str, camera: str, track: int, key: str | Path = "", server_key: str | Path = ""
) -> tuple[np.ndarray, list[float], str]:
    """Embeddings (N, D) float32 of the track's kept views, their qualities, and the hash of the model that made them.

    endpoint  the stream's replay endpoint
    Raises UserError if nobody answers in time, or the stream gives no views.
    """
    context = zmq.Context()
    try:
        socket = context.socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, needs_ipv6(endpoint))
        if key:
            public, secret = load_key(key, secret=True)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
            socket.setsockopt(zmq.CURVE_SERVERKEY, load_key(server_key)[0])
        connect(socket, endpoint)
        socket.send(encode_text({"request": "views", "camera": camera, "track": track}).encode())
        if not socket.poll(int(ANSWER_S * 1000)):
            raise UserError(
                f"{endpoint}: no answer within {ANSWER_S:g} s; does the stream run, and is this its publish.replay "
                "(by default the port after publish.endpoint)?"
            )
        head, *bodies = socket.recv_multipart()
    finally:
        context.destroy(linger=0)
    try:
        answer = parse_json(head)
        if answer["reply"] != "views":
            raise UserError(f"{endpoint}: the stream gives no views: {answer.get('error', answer['reply'])}")
        rows = (
            np.frombuffer(bodies[0], np.float32).reshape(answer["count"], -1) if answer["count"] else np.zeros((0, 0))
        )
        qualities = [float(quality) for quality in answer["qualities"]]
        if not len(rows) == len(qualities) or not np.isfinite(rows).all():
            raise ValueError
        return rows, qualities, str(answer["model"])
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(
            f"{endpoint}: what answers there is no stream; give its publish.replay with --connect"
        ) from None
