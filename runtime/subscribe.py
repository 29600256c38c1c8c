#!/usr/bin/env python
"""Print events as they come: `runtime/subscribe.py [--topic match.] [--json] [--connect tcp://127.0.0.1:5556]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import zmq

from personsearch.core.errors import UserError, run_main


def main() -> int:
    return run_main(_main)


def events(endpoint: str, topics: list[str], timeout_s: float = 0.0) -> Iterator[dict[str, Any]]:
    """Yield events until `timeout_s` passes without one (0: for ever). Topics are prefixes; none means all."""
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        for topic in topics or [""]:
            socket.setsockopt_string(zmq.SUBSCRIBE, topic)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise UserError(
                f"{endpoint}: not an endpoint to connect to ({error.strerror}); expected tcp://HOST:PORT"
            ) from None
        while socket.poll(round(timeout_s * 1000) or None):
            parts = socket.recv_multipart()
            try:
                event = json.loads(parts[-1])
            except ValueError:
                print(f"skipped a message that is not JSON on topic {parts[0][:60]!r}", file=sys.stderr)
                continue
            if isinstance(event, dict):
                yield event
    finally:
        context.destroy(linger=0)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connect", default="tcp://127.0.0.1:5556", help="where the stream publishes")
    parser.add_argument("--topic", action="append", default=[], help="prefix, for example match.door; repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--count", type=int, default=0, help="end after so many events")
    parser.add_argument("--timeout", type=float, default=0.0, metavar="S", help="end after so long without an event")
    arguments = parser.parse_args()
    for number, event in enumerate(events(arguments.connect, arguments.topic, arguments.timeout), start=1):
        print(json.dumps(event, ensure_ascii=False) if arguments.json else describe(event), flush=True)
        if number == arguments.count:
            break
    return 0


def describe(event: dict[str, Any]) -> str:
    """One readable line."""
    if event.get("type") != "match":
        return f"{event.get('time')} {event.get('camera')}: {event.get('state')} {event.get('reason', '')}".rstrip()
    box = event["bounding_box"]
    return (
        f"{event['time']} {event['camera']}: {event['person']} {event['similarity']:.2f} "
        f"(threshold {event['threshold']:.2f}) track {event['track']} frame {event['frame']['index']} "
        f"at {box['x']:.0f},{box['y']:.0f} {box['w']:.0f}x{box['h']:.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
