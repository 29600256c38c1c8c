#!/usr/bin/env python
"""Print events as they come: `runtime/subscribe.py [--topic match.] [--json] [--connect tcp://127.0.0.1:5556]`.

Nothing is lost while the box still has it: what this program missed is asked for again (`--since kept` begins with
everything that the box has). With encryption: `--key NAME.key_secret --server-key server.key`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from personsearch.core.errors import UserError, run_main


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connect", default="tcp://127.0.0.1:5556", help="where the stream publishes")
    parser.add_argument("--topic", action="append", default=[], help="prefix, for example match.door; repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--since", choices=("now", "kept"), default="now", help="kept: everything the box has, first")
    parser.add_argument("--count", type=int, default=0, help="end after so many events")
    parser.add_argument("--timeout", type=float, default=0.0, metavar="S", help="end after so long without an event")
    parser.add_argument("--key", default="", help="this subscriber's NAME.key_secret, if the box encrypts")
    parser.add_argument("--server-key", default="", help="the box's server.key, if the box encrypts")
    arguments = parser.parse_args()
    if bool(arguments.key) != bool(arguments.server_key):
        raise UserError("encryption needs both --key and --server-key")
    from personsearch.runtime.client import Client

    with Client(
        arguments.connect, arguments.topic, arguments.since, key=arguments.key, server_key=arguments.server_key
    ) as client:
        number, lost = 0, 0
        while (event := client.receive(arguments.timeout or None)) is not None:
            number += 1
            print(json.dumps(event, ensure_ascii=False) if arguments.json else describe(event), flush=True)
            if (now_lost := client.status().lost) > lost:
                print(f"{now_lost - lost} events were lost: the box keeps them no longer", file=sys.stderr)
                lost = now_lost
            if number == arguments.count:
                break
    return 0


def describe(event: dict[str, Any]) -> str:
    """One readable line."""
    if event.get("type") != "match":
        what = event.get("camera") or event.get("type")
        cause = f" ({event['cause']})" if event.get("cause") else ""
        return f"{event.get('time')} {what}: {event.get('state')}{cause} {event.get('reason', '')}".rstrip()
    box = event["bounding_box"]
    return (
        f"{event['time']} {event['camera']}: {event['person']} {event['similarity']:.2f} "
        f"(threshold {event['threshold']:.2f}) track {event['track']} frame {event['frame']['index']} "
        f"at {box['x']:.0f},{box['y']:.0f} {box['w']:.0f}x{box['h']:.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
