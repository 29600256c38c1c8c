#!/usr/bin/env python
"""Print events as they come: `runtime/subscribe.py [--topic match.] [--json] [--connect tcp://127.0.0.1:5556]`.

Nothing is lost while the box still has it: what this program missed is asked for again (`--since kept` begins with
everything that the box has). With encryption: `--key NAME.key_secret --server-key server.key`.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from personsearch.core.commands import command_line, within
from personsearch.core.errors import UserError, run_main
from personsearch.core.text import json_line, printable
from personsearch.runtime.delivery.late_names import NamedEvent

SILENT_S = 5.0  # the box says something once a second
WHY_SILENT = (
    "does the stream run, is this its publish.endpoint (not that of the replay), and are --key and --server-key "
    "right if it encrypts?"
)


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--connect", default="tcp://127.0.0.1:5556", help="where the stream publishes")
    parser.add_argument("--topic", action="append", default=[], help="prefix, for example match.door; repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--since", choices=("now", "kept"), default="now", help="kept: everything the box has, first")
    parser.add_argument("--count", type=within(int, 0), default=0, help="end after so many events")
    parser.add_argument(
        "--timeout", type=within(float, 0), default=0.0, metavar="S", help="end after so long without an event"
    )
    parser.add_argument("--key", default="", help="this subscriber's NAME.key_secret, if the box encrypts")
    parser.add_argument("--server-key", default="", help="the box's server.key, if the box encrypts")
    arguments = parser.parse_args()
    if bool(arguments.key) != bool(arguments.server_key):
        raise UserError("encryption needs both --key and --server-key")
    from personsearch.runtime.client import Client

    with Client(
        arguments.connect, arguments.topic, arguments.since, key=arguments.key, server_key=arguments.server_key
    ) as client:
        number, lost, warned = 0, 0, False
        began = last = time.monotonic()
        while not arguments.timeout or time.monotonic() - last < arguments.timeout:
            event = client.receive(min(0.5, arguments.timeout or 0.5))
            silent_s = min(client.status().silent_s, time.monotonic() - began)
            if silent_s > SILENT_S and not warned:
                print(f"nothing was heard from {arguments.connect} for {SILENT_S:.0f} s; {WHY_SILENT}", file=sys.stderr)
            warned = silent_s > SILENT_S
            if event is None:
                continue
            number, last = number + 1, time.monotonic()
            print(json_line(event) if arguments.json else describe(event), flush=True)
            if (now_lost := client.status().lost) > lost:
                print(f"{now_lost - lost} events were lost: the box keeps them no longer", file=sys.stderr)
                lost = now_lost
            if number == arguments.count:
                break
    return 0


def describe(event: dict[str, Any]) -> str:
    """One readable line; what could act on a terminal is escaped, because the sender may be any program."""
    return printable(_line(event))


def _line(event: dict[str, Any]) -> str:
    if event.get("type") == "sighting":
        return _visit(event)
    if event.get("type") != "match":
        what = event.get("camera") or event.get("type")
        cause = f" ({event['cause']})" if event.get("cause") else ""
        return f"{event.get('time')} {what}: {event.get('state')}{cause} {event.get('reason', '')}".rstrip()
    box = event["bounding_box"]
    return (
        f"{event['time']} {event['camera']}: {_name(event) or event['person']} {event['similarity']:.2f} "
        f"(threshold {event['threshold']:.2f}) track {event['track']} frame {event['frame']['index']} "
        f"at {box['x']:.0f},{box['y']:.0f} {box['w']:.0f}x{box['h']:.0f}"
    )


def _name(event: dict[str, Any]) -> str | None:
    return event["name"] if isinstance(event, NamedEvent) else None


def _visit(event: dict[str, Any]) -> str:
    who = _name(event) or event["person"] or event["stranger"] or "nobody"
    lasted = f" after {event['duration_s']:.1f} s" if event["change"] == "ended" else ""
    before = f", not {event['previous']}" if event.get("previous") else ""
    zones = f" in {', '.join(event['zones'])}" if event["zones"] else ""
    way = " -> ".join(stay["camera"] for stay in event["cameras"])
    return (
        f"{event['time']} {event['camera']}: {who}{before} {event['change']} ({event['reason']}){lasted}{zones} "
        f"{event['sighting']} {way}"
    )


if __name__ == "__main__":
    sys.exit(main())
