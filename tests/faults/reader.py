"""Reads with the client library: `reader.py ENDPOINT COUNT TIMEOUT`; prints one JSON line with what it got."""

import json
import sys
import time

from personsearch.runtime.client import Client

with Client(sys.argv[1], since="now") as client:
    numbers, resumed, last = [], 0.0, time.monotonic()
    first_gap = 0.0
    client.receive(1.5)  # joins with the first heartbeat
    print("ready", flush=True)
    while len(numbers) < int(sys.argv[2]):
        # Twice: a first wait may have run out while this process was frozen.
        event = client.receive(float(sys.argv[3])) or client.receive(float(sys.argv[3]))
        if event is None:
            break
        now = time.monotonic()
        if now - last > 2:
            resumed = now  # we were frozen
        last = now
        if resumed and not first_gap and client.status().gaps:
            first_gap = now - resumed
        numbers.append(int(event["reason"]))
    status = client.status()
print(json.dumps({
    "numbers": numbers, "lost": status.lost, "gaps": status.gaps, "replayed": status.replayed,
    "duplicates": status.duplicates, "boots": status.boots, "gap_after_s": first_gap,
}))  # fmt: skip
